"""Clients of all managers at once, who record what they saw."""

import contextlib
import itertools
import random
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import grpc

from swarmkit.api import control_pb2_grpc
from swarmkit.api import messages as api
from swarmkit.store.store import Store
from tests.fault.history import NOTHING, History, Operation, Outcome
from tests.integration.harness import eventually
from tests.scale import SCALE

#: The label of a service that is the value of a register.
LABEL = "value"
#: Longest wait for an answer, in seconds.
CALL_SECONDS = 6.0
#: How long is tried again what has to succeed: no fault lasts then, but the last one may not be got over yet.
RETRY_SECONDS = 15.0
#: What says that a write has not had and will not have an effect.
_REFUSALS = {
    grpc.StatusCode.ABORTED: "update out of sequence",
    grpc.StatusCode.ALREADY_EXISTS: "already exists",
}
#: The same, whatever the status: it was never sent, or never found a leader.
_NEVER_RAN = ("failed to connect to all addresses", "The swarm does not have a leader")
_CHANNEL_OPTIONS = [
    ("grpc.default_authority", "localhost"),
    # All services in one answer are more than gRPC takes by itself.
    ("grpc.max_receive_message_length", -1),
    # Each client has a connection of its own, as clients in several processes have.
    ("grpc.use_local_subchannel_pool", 1),
    # A manager that is back must be found at once, whatever its last life was like.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 200),
]


def outcome_of(error: grpc.RpcError) -> Outcome:
    """Tell what the failure of a write says about its effect."""
    details = error.details() or ""
    if details.startswith(_NEVER_RAN):
        return Outcome.REFUSED
    refusal = _REFUSALS.get(error.code())
    return Outcome.REFUSED if refusal is not None and refusal in details else Outcome.UNKNOWN


def values_in(store: Store) -> dict[str, str]:
    """Return what registers hold in a manager's own objects."""
    found = (service.spec.annotations for service in store.view().find(api.Service))
    return {annotations.name: annotations.labels[LABEL] for annotations in found}


@dataclass(frozen=True)
class Held:
    """What a register was seen to hold: its value, and the service that is the register, if there is one."""

    value: str
    service: api.Service | None


class Client:
    """One client of one manager; every call is recorded."""

    def __init__(self, via: str, socket: Path, history: History) -> None:
        self.via = via
        self._history = history
        self._channel = grpc.insecure_channel(f"unix:{socket}", _CHANNEL_OPTIONS)
        self._stub = control_pb2_grpc.ControlStub(self._channel)

    def connect(self) -> None:
        """Connect now: what is called from now on reaches the manager's socket, even if it does not run."""
        grpc.channel_ready_future(self._channel).result(CALL_SECONDS)

    def close(self) -> None:
        """Close the connection."""
        self._channel.close()

    def read(self, register: str) -> Held | None:
        """Return what a register holds; None if there is no answer."""
        called = time.monotonic()
        try:
            filters = api.ListServicesRequest.Filters(names=[register])
            request = api.ListServicesRequest(filters=filters)
            services = list(self._stub.ListServices(request, timeout=CALL_SECONDS).services)
        except grpc.RpcError as error:
            self._record(register, None, NOTHING, called, Outcome.UNKNOWN, error)
            return None
        # Two of one name is a value that nobody wrote.
        value = " and ".join(service.spec.annotations.labels[LABEL] for service in services)
        self._record(register, None, value, called, Outcome.OK)
        return Held(value, services[0] if services else None)

    def read_all(self, registers: Collection[str]) -> None:
        """Read several registers in one call, which has to be answered; each try is recorded.

        Raises:
            AssertionError: it was not, for ``RETRY_SECONDS``.
        """

        def answered() -> None:
            failure = self._try_to_read_all(registers)
            assert failure is None, str(failure)

        eventually(answered, RETRY_SECONDS, f"{self.via} tells what all registers hold")

    def _try_to_read_all(self, registers: Collection[str]) -> Operation | None:
        """Read several registers in one call; return how it failed, if it did."""
        called = time.monotonic()
        try:
            services = list(self._stub.ListServices(api.ListServicesRequest(), timeout=CALL_SECONDS).services)
        except grpc.RpcError as error:
            # A read without an answer says nothing about any register: one of them stands for all.
            return self._record(next(iter(registers)), None, NOTHING, called, Outcome.UNKNOWN, error)
        held = dict.fromkeys(registers, NOTHING)
        for service in services:
            name, value = service.spec.annotations.name, service.spec.annotations.labels[LABEL]
            if name in held:
                held[name] = f"{held[name]} and {value}" if held[name] else value
        for register, value in held.items():
            self._record(register, None, value, called, Outcome.OK)
        return None

    def provide(self, register: str) -> None:
        """Create a register, which has to succeed; each try is recorded.

        Raises:
            AssertionError: it did not, for ``RETRY_SECONDS``.
        """
        tries = itertools.count(1)

        def provided() -> None:
            # No value twice: a creation without an answer may have happened, or happen yet.
            if not self.create(register, f"{register}-first-{next(tries)}"):
                found = self.read(register)
                assert found is not None
                assert found.service is not None

        eventually(provided, RETRY_SECONDS, f"{self.via} creates {register}")

    def create(self, register: str, value: str) -> bool:
        """Create a register; tell whether that was acknowledged."""
        spec = api.ServiceSpec()
        spec.annotations.name = register
        spec.annotations.labels[LABEL] = value
        spec.task.container.image = "local:1"
        spec.replicated.replicas = 0
        called = time.monotonic()
        try:
            self._stub.CreateService(api.CreateServiceRequest(spec=spec), timeout=CALL_SECONDS)
        except grpc.RpcError as error:
            self._record(register, NOTHING, value, called, outcome_of(error), error)
            return False
        self._record(register, NOTHING, value, called, Outcome.OK)
        return True

    def write(self, register: str, found: Held, value: str) -> bool:
        """Put a value in place of the one that was found; tell whether that was acknowledged."""
        assert found.service is not None
        spec = api.ServiceSpec()
        spec.CopyFrom(found.service.spec)
        spec.annotations.labels[LABEL] = value
        request = api.UpdateServiceRequest(
            service_id=found.service.id, service_version=found.service.meta.version, spec=spec
        )
        called = time.monotonic()
        try:
            self._stub.UpdateService(request, timeout=CALL_SECONDS)
        except grpc.RpcError as error:
            self._record(register, found.value, value, called, outcome_of(error), error)
            return False
        self._record(register, found.value, value, called, Outcome.OK)
        return True

    def _record(
        self,
        register: str,
        expected: str | None,
        value: str,
        called: float,
        outcome: Outcome,
        error: grpc.RpcError | None = None,
    ) -> Operation:
        answer = "" if error is None else f"{error.code().name}: {error.details()}"
        ended = time.monotonic()
        operation = Operation(register, expected, value, called, ended, outcome, self.via, answer[:200])
        self._history.add(operation)
        return operation


class Clients:
    """Clients in threads of their own, each of one manager after the other, from ``start`` to ``stop``.

    They read and write a few registers that they share, and create others that are theirs alone.

    Args:
        name: begins all values that they write, and the names of what they create.
        sockets: control sockets by manager.
        history: what they record.
        registers: those that they share.
        count: how many clients.
        seed: of what each of them does.
        pause: longest time that each waits between two operations, in seconds.
        creates: which share of what they do is to create something; the rest begins with a read.
    """

    def __init__(
        self,
        name: str,
        sockets: Mapping[str, Path],
        history: History,
        registers: Sequence[str],
        count: int,
        seed: int,
        pause: float,
        creates: float,
    ) -> None:
        self._name = name
        self._sockets = sockets
        self._history = history
        self._registers = registers
        self._count = count
        self._seed = seed
        self._pause = pause
        self._creates = creates
        self._end = threading.Event()
        self._failures: list[BaseException] = []
        self._acted: set[int] = set()
        self._opened = contextlib.ExitStack()
        self._clients: list[list[Client]] = []
        self._threads: list[threading.Thread] = []

    def connect(self) -> None:
        """Connect all to their managers, who have to run, before ``start``."""
        self._open()
        for client in itertools.chain(*self._clients):
            client.connect()

    def start(self) -> None:
        """Begin; end with ``stop``, also if this fails."""
        self._open()
        for number in range(self._count):
            thread = threading.Thread(target=self._run, args=(number,), daemon=True)
            thread.start()
            self._threads.append(thread)

    def stop(self) -> None:
        """End; what a client failed with is raised here."""
        self._end.set()
        for thread in self._threads:
            thread.join()
        self._opened.close()
        if self._failures:
            raise self._failures[0]

    def check_all_acted(self) -> None:
        """Check that every client has done something, now that all have ended."""
        idle = set(range(self._count)) - self._acted
        assert not idle, f"clients {sorted(idle)} of {self._name} never did anything"

    def _open(self) -> None:
        for _ in range(self._count - len(self._clients)):
            clients = [Client(via, socket, self._history) for via, socket in sorted(self._sockets.items())]
            for client in clients:
                self._opened.callback(client.close)
            self._clients.append(clients)

    def _run(self, number: int) -> None:
        rng = random.Random(f"{self._seed} {self._name} {number}")
        try:
            count = 0
            while not self._end.wait(rng.random() * self._pause):
                count += 1
                self._act(rng, rng.choice(self._clients[number]), f"{self._name}-{number}-{count}")
                self._acted.add(number)
        except BaseException as error:
            self._failures.append(error)

    def _act(self, rng: random.Random, client: Client, value: str) -> None:
        if rng.random() < self._creates:
            client.create(value, value)
            return
        register = rng.choice(self._registers)
        found = client.read(register)
        if found is not None and found.service is not None and rng.random() < 0.7:
            client.write(register, found, value)


class Trial:
    """The clients of one test and all that they saw.

    Args:
        name: begins the names of all that is created; another one for each test of a swarm.
        sockets: control sockets by manager.
        seed: of what the clients do.
        diagnose: tells how the managers are when the clients have waited in vain.
    """

    def __init__(
        self, name: str, sockets: Mapping[str, Path], seed: int = 1, diagnose: Callable[[], str] = str
    ) -> None:
        self.history = History()
        self._name = name
        self._diagnose = diagnose
        self._sockets = dict(sockets)
        self._seed = seed
        self._registers = [f"{name}-r{number}" for number in range(3)]
        via, socket = next(iter(sockets.items()))
        with contextlib.closing(Client(via, socket, self.history)) as client:
            for register in self._registers:
                client.provide(register)

    @contextlib.contextmanager
    def clients(
        self,
        name: str = "c",
        via: Collection[str] = (),
        count: int = 6,
        pause: float = 0.04,
        creates: float = 0.3,
        held: bool = False,
    ) -> Iterator[Clients]:
        """Have clients of some managers, or of all, at work for the length of the block.

        ``held`` ones are connected at its beginning and wait for their ``start``.
        """
        sockets = {manager: path for manager, path in self._sockets.items() if not via or manager in via}
        working = Clients(
            f"{self._name}-{name}", sockets, self.history, self._registers, count, self._seed, pause, creates
        )
        try:
            working.connect() if held else working.start()
            yield working
        finally:
            working.stop()
        working.check_all_acted()

    def acknowledged(self, via: Collection[str] = ()) -> list[Operation]:
        """Return the writes that were acknowledged, by some managers or by all."""
        return [
            op
            for op in self.history.operations
            if not op.is_read and op.outcome is Outcome.OK and (not via or op.via in via)
        ]

    def reads(self, called_after: float, called_before: float, via: str) -> list[Operation]:
        """Return the reads at a manager that were called between two moments and answered at some time."""
        return [
            op
            for op in self.history.operations
            if op.is_read
            and op.outcome is Outcome.OK
            and op.via == via
            and called_after < op.called < called_before
        ]

    def created(self) -> dict[str, str]:
        """Return the values of the registers whose creation was acknowledged and that nobody else writes."""
        return {
            op.register: op.value
            for op in self.acknowledged()
            if op.expected == NOTHING and op.register not in self._registers
        }

    def wait_for_write(self, moment: float, within: float = 30, via: Collection[str] = ()) -> None:
        """Wait until a write that was called after ``moment`` is acknowledged, ``within`` seconds of it."""

        def look() -> None:
            ended = [op.ended for op in self.acknowledged(via) if op.called > moment]
            assert ended
            assert min(ended) - moment <= within * SCALE, f"after {min(ended) - moment:.1f} s"

        self._wait(look, within, "a write is acknowledged")

    def wait_for_changes(self, moment: float, within: float = 30, via: Collection[str] = ()) -> None:
        """Wait until a write to every shared register that was called after ``moment`` is acknowledged."""

        def look() -> None:
            changed = {op.register for op in self.acknowledged(via) if op.called > moment}
            assert changed.issuperset(self._registers), changed.intersection(self._registers)

        self._wait(look, within, "all registers are changed")

    def wait_for_work(self, count: int = 40) -> None:
        """Wait until so many more writes are acknowledged: the clients are in the midst of their work."""
        so_far = len(self.acknowledged())

        def look() -> None:
            assert len(self.acknowledged()) - so_far >= count

        self._wait(look, 30, f"{count} writes are acknowledged")

    def rate(self, since: float, via: Collection[str] = ()) -> float:
        """Return how many writes a second were acknowledged from ``since`` to now."""
        count = sum(op.ended > since for op in self.acknowledged(via))
        return count / (time.monotonic() - since)

    def check_undisturbed(self, since: float, most: float) -> None:
        """Check that from ``since`` to now writes were acknowledged, with no pause of ``most`` seconds."""
        moments = sorted(op.ended for op in self.acknowledged() if op.ended > since)
        longest = max(b - a for a, b in itertools.pairwise([since, *moments, time.monotonic()]))
        with self._diagnosed():
            assert longest <= most * SCALE, f"no write was acknowledged for {longest:.1f} s"

    def _wait(self, look: Callable[[], None], within: float, what: str) -> None:
        with self._diagnosed():
            eventually(look, within, what, 0.02)

    @contextlib.contextmanager
    def _diagnosed(self) -> Iterator[None]:
        try:
            yield
        except AssertionError as error:
            error.add_note(self._diagnose())
            raise

    def audit(self) -> None:
        """Read everything on every manager, and check the whole history with that.

        Raises:
            NotLinearizableError: something acknowledged is missing, or something else is wrong.
        """
        registers = {op.register for op in self.history.operations}
        for via, socket in self._sockets.items():
            with contextlib.closing(Client(via, socket, self.history)) as client:
                client.read_all(registers)
        self.history.check()

    def check_store(self, store: Store) -> None:
        """Check that a manager's own objects are what the registers may hold now."""
        held = values_in(store)
        assert held.keys() >= set(self._registers), "the registers are missing"
        wrong = {
            name: (held.get(name, NOTHING), possible)
            for name, possible in self.history.check().items()
            if held.get(name, NOTHING) not in possible
        }
        assert not wrong, wrong
