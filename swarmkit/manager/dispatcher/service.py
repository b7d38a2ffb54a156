"""The Dispatcher service of the wire contract: identity in, errors out.

What the calls do is in ``tenure`` and ``streams``.
"""

import contextlib
from collections.abc import AsyncGenerator, Iterator

import grpc
from google.protobuf.duration_pb2 import Duration

from swarmkit.api import messages as api
from swarmkit.api.dispatcher_pb2_grpc import DispatcherServicer
from swarmkit.manager.dispatcher.dispatcher import Dispatcher
from swarmkit.manager.dispatcher.errors import (
    DispatcherError,
    DispatcherStoppedError,
    ForeignTaskError,
    MustDisconnectError,
    NodeNotFoundError,
    NodeNotRegisteredError,
    RateLimitError,
    SessionInvalidError,
    StreamCanceledError,
)
from swarmkit.manager.dispatcher.streams import assignment_messages, session_messages, task_messages
from swarmkit.manager.dispatcher.tenure import Tenure
from swarmkit.net.caller import Caller, current_caller
from swarmkit.net.errors import RpcError, permission_denied

_CODES = {
    DispatcherStoppedError: grpc.StatusCode.ABORTED,
    NodeNotRegisteredError: grpc.StatusCode.NOT_FOUND,
    SessionInvalidError: grpc.StatusCode.INVALID_ARGUMENT,
    RateLimitError: grpc.StatusCode.UNAVAILABLE,
    NodeNotFoundError: grpc.StatusCode.UNKNOWN,
    ForeignTaskError: grpc.StatusCode.PERMISSION_DENIED,
    MustDisconnectError: grpc.StatusCode.ABORTED,
    StreamCanceledError: grpc.StatusCode.CANCELLED,
}


class DispatcherService(DispatcherServicer):
    """Serves the six calls of a worker with a ``Dispatcher``."""

    def __init__(self, dispatcher: Dispatcher) -> None:
        self._dispatcher = dispatcher

    async def Session(
        self, request: api.SessionRequest, context: object
    ) -> AsyncGenerator[api.SessionMessage, None]:
        """Register the calling node or resume its session, and tell it about the swarm until it ends."""
        with self._call() as (tenure, caller):
            stream = session_messages(tenure, caller.node_id, caller.ip, request)
            async with contextlib.aclosing(stream) as messages:
                async for message in messages:
                    yield message

    async def Heartbeat(self, request: api.HeartbeatRequest, context: object) -> api.HeartbeatResponse:
        """Keep the calling node's session alive."""
        with self._call() as (tenure, caller):
            period = Duration()
            period.FromNanoseconds(round(tenure.heartbeat(caller.node_id, request.session_id) * 1e9))
            return api.HeartbeatResponse(period=period)

    async def UpdateTaskStatus(
        self, request: api.UpdateTaskStatusRequest, context: object
    ) -> api.UpdateTaskStatusResponse:
        """Take in what became of the calling node's tasks; the answer does not wait for the write."""
        with self._call() as (tenure, caller):
            tenure.nodes.check_session(caller.node_id, request.session_id)
            tenure.report_tasks(caller.node_id, request.updates)
            return api.UpdateTaskStatusResponse()

    async def UpdateVolumeStatus(
        self, request: api.UpdateVolumeStatusRequest, context: object
    ) -> api.UpdateVolumeStatusResponse:
        """Take in which volumes the calling node no longer uses."""
        with self._call() as (tenure, caller):
            tenure.nodes.check_session(caller.node_id, request.session_id)
            tenure.report_volumes(caller.node_id, request.updates)
            return api.UpdateVolumeStatusResponse()

    async def Tasks(
        self, request: api.TasksRequest, context: object
    ) -> AsyncGenerator[api.TasksMessage, None]:
        """Send the calling node its whole task list whenever that changes."""
        with self._call() as (tenure, caller):
            stream = task_messages(tenure, caller.node_id, request.session_id)
            async with contextlib.aclosing(stream) as messages:
                async for message in messages:
                    yield message

    async def Assignments(
        self, request: api.AssignmentsRequest, context: object
    ) -> AsyncGenerator[api.AssignmentsMessage, None]:
        """Send the calling node its assignments: all of them, then the differences."""
        with self._call() as (tenure, caller):
            stream = assignment_messages(tenure, caller.node_id, request.session_id)
            async with contextlib.aclosing(stream) as messages:
                async for message in messages:
                    yield message

    @contextlib.contextmanager
    def _call(self) -> Iterator[tuple[Tenure, Caller]]:
        """Find the present leadership and the caller, and turn the dispatcher's errors into gRPC's."""
        try:
            tenure = self._dispatcher.tenure
            caller = current_caller()
            if caller.anonymous:
                raise permission_denied(
                    "Permission denied: unauthorized peer role: rpc error: code = PermissionDenied "
                    "desc = no client certificates in request"
                )
            with tenure.call():
                yield tenure, caller
        except DispatcherError as error:
            raise RpcError(_CODES[type(error)], str(error)) from error
