"""What the handlers of all kinds share: dependencies, statuses, long lists."""

import asyncio
import functools
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any, TypeVar

import grpc

from swarmkit.api import messages as api
from swarmkit.ca.tokens import new_join_token
from swarmkit.clock import Clock
from swarmkit.identity import new_id
from swarmkit.manager.controlapi.errors import (
    InvalidError,
    MissingError,
    PreconditionError,
    Refusal,
    TakenError,
    UnsupportedError,
)
from swarmkit.net.errors import RpcError
from swarmkit.store import (
    ExistsError,
    NameConflictError,
    NotExistError,
    ProposalError,
    SequenceError,
    Store,
    StoreError,
    StoreObject,
)

#: Objects looked at without a pause: well under 20 ms.
_CHUNK = 1000

# PARITY: the original answers UNKNOWN for most of these; clients match the texts, and the contract calls the
# more precise codes safe. A proposal that was not confirmed stays UNKNOWN, for that is what its outcome is.
_CODES: dict[type[Exception], grpc.StatusCode] = {
    InvalidError: grpc.StatusCode.INVALID_ARGUMENT,
    MissingError: grpc.StatusCode.NOT_FOUND,
    TakenError: grpc.StatusCode.ALREADY_EXISTS,
    PreconditionError: grpc.StatusCode.FAILED_PRECONDITION,
    UnsupportedError: grpc.StatusCode.UNIMPLEMENTED,
    SequenceError: grpc.StatusCode.ABORTED,
    NameConflictError: grpc.StatusCode.ALREADY_EXISTS,
    ExistsError: grpc.StatusCode.ALREADY_EXISTS,
    NotExistError: grpc.StatusCode.NOT_FOUND,
}

ServicerT = TypeVar("ServicerT")
RequestT = TypeVar("RequestT")
ResponseT = TypeVar("ResponseT")


def handler(
    method: Callable[[ServicerT, RequestT], Awaitable[ResponseT]],
) -> Callable[[ServicerT, RequestT, object], Awaitable[ResponseT]]:
    """Make a gRPC handler of a method that takes a request and raises refusals and errors of the store."""

    @functools.wraps(method)
    async def handle(self: ServicerT, request: RequestT, context: object) -> ResponseT:
        try:
            return await method(self, request)
        except (Refusal, StoreError, ProposalError) as error:
            raise RpcError(_CODES.get(type(error), grpc.StatusCode.UNKNOWN), str(error)) from error

    return handle


class ControlBase:
    """Holds what the handlers work with."""

    def __init__(
        self,
        store: Store,
        clock: Clock,
        raft_members: Callable[[], Sequence[api.RaftMember]],
        *,
        make_join_token: Callable[[bytes], str] = new_join_token,
        make_id: Callable[[], str] = new_id,
    ) -> None:
        """Take what serving needs.

        Args:
            store: the swarm's objects.
            clock: for times in objects.
            raft_members: returns the present members of the raft group with their status.
            make_join_token: returns a new join token for a root bundle in PEM.
            make_id: returns ids of new objects.
        """
        self._store = store
        self._clock = clock
        self._raft_members = raft_members
        self._make_join_token = make_join_token
        self._make_id = make_id


async def fill(field: Any, found: Iterable[StoreObject], keep: Callable[[Any], bool]) -> None:
    """Copy the objects that ``keep`` accepts into a repeated field, ascending by id.

    Pauses now and then: a list of all tasks must not hold up the loop.
    """
    ordered = sorted(found, key=lambda stored: stored.id)
    for start in range(0, len(ordered), _CHUNK):
        if start:
            await asyncio.sleep(0)
        field.extend(stored for stored in ordered[start : start + _CHUNK] if keep(stored))
