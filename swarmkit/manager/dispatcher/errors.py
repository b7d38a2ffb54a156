"""Why the dispatcher turns a call away (contract/dispatcher-agent.md, 3.5); ``service.py`` maps it to gRPC.

DispatcherError
├── DispatcherStoppedError   this manager does not lead, or is about to stop leading
├── NodeNotRegisteredError   no entry in the table: expired, or registered with another leader
├── SessionInvalidError      an entry, but another (or no) session id
├── RateLimitError           too many registrations in a short time
├── NodeNotFoundError        the node is not in the store
├── ForeignTaskError         a status for a task of another node
├── MustDisconnectError      the end of a session stream when the dispatcher stops
└── StreamCanceledError      the end of a task or assignment stream when the dispatcher stops
"""


class DispatcherError(Exception):
    """Base of what the dispatcher raises towards a worker."""


class DispatcherStoppedError(DispatcherError):
    """The dispatcher is not running; the worker looks for the leader again."""

    def __init__(self) -> None:
        super().__init__("dispatcher is stopped")


class NodeNotRegisteredError(DispatcherError):
    """The node has no session with this leader."""

    def __init__(self) -> None:
        super().__init__("node not registered")


class SessionInvalidError(DispatcherError):
    """The session id is not the node's present one."""

    def __init__(self) -> None:
        super().__init__("session invalid")


class RateLimitError(DispatcherError):
    """The node registers too often."""

    def __init__(self, node_id: str) -> None:
        super().__init__(f"node {node_id} exceeded rate limit count of registrations")


class NodeNotFoundError(DispatcherError):
    """The caller's node is not in the store."""

    def __init__(self) -> None:
        super().__init__("node not found")


class ForeignTaskError(DispatcherError):
    """A status was reported for a task that runs on another node."""

    def __init__(self, task_id: str) -> None:
        super().__init__(f"cannot report status of task {task_id}: it is assigned to another node")


class MustDisconnectError(DispatcherError):
    """The dispatcher stops; the session ends after its last message."""

    def __init__(self) -> None:
        super().__init__("node must disconnect")


class StreamCanceledError(DispatcherError):
    """The dispatcher stops; the stream ends."""

    def __init__(self) -> None:
        super().__init__("context canceled")
