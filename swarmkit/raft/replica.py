"""What the log is applied to: the store's state machine and the membership of the group."""

from collections.abc import Callable

from swarmkit.api import messages as api
from swarmkit.raft.entries import read_command
from swarmkit.raft.log_pb2 import SnapshotPayload
from swarmkit.raft.membership import Membership
from swarmkit.raft.snapshots import Image
from swarmkit.store.proposer import StateMachine


class Replica:
    """Applies commands, and turns both states into a snapshot and back."""

    def __init__(self, machine: StateMachine) -> None:
        self.machine = machine
        self.membership = Membership()

    def apply(self, index: int, command: bytes) -> bool:
        """Apply a committed command; tell whether the membership changed.

        Raises:
            MembershipError: an invalid change of the group, on all members alike; nothing was changed.
            Exception: a divergence; the node must stop.
        """
        entry = read_command(command)
        if entry is None:
            return False
        if entry.WhichOneof("content") == "store":
            self.machine.apply(index, entry.store)
            return False
        self.membership.apply(entry.membership)
        return True

    def pin(self) -> Callable[[], bytes]:
        """Pin the present state; the returned function serialises it and may run in a thread."""
        membership = self.membership.snapshot()
        store = self.machine.snapshot()

        def payload() -> bytes:
            content = SnapshotPayload(version=api.Snapshot.V0, membership=membership, store=store())
            return content.SerializeToString()

        return payload

    def check(self, image: Image) -> None:
        """Refuse a snapshot that cannot be restored here.

        Raises:
            ValueError: its payload is of a kind that is not known.
            DecodeError: it is no payload at all.
        """
        read_payload(image)

    def prepare(self, image: Image) -> Callable[[], None]:
        """Read a snapshot; the returned function puts it in the place of both states.

        As ``StateMachine.prepare``, this may run in a thread.

        Raises:
            ValueError, DecodeError: as ``check``.
        """
        payload = read_payload(image)
        replace_objects = self.machine.prepare(payload.store)

        def replace() -> None:
            self.membership.restore(payload.membership)
            replace_objects()

        return replace

    def restore(self, image: Image) -> None:
        """Replace both states by a snapshot's, at once.

        Raises:
            ValueError, DecodeError: as ``check``; nothing was changed.
        """
        self.prepare(image)()


def read_payload(image: Image) -> SnapshotPayload:
    """Return what a snapshot carries.

    Raises:
        ValueError: its payload is of a kind that is not known.
        DecodeError: it is no payload at all.
    """
    payload = SnapshotPayload.FromString(image.payload)
    if payload.version != api.Snapshot.V0:
        raise ValueError(f"snapshot of version {payload.version} is not known")
    return payload
