"""Errors that carry a gRPC status. One interceptor (``net/server.py``) maps them for every handler."""

import grpc


class RpcError(Exception):
    """What a handler raises to end its RPC with ``code`` and ``text``."""

    def __init__(self, code: grpc.StatusCode, text: str) -> None:
        super().__init__(text)
        self.code = code
        self.text = text


def invalid_argument(text: str) -> RpcError:
    """The request is wrong, whatever the state."""
    return RpcError(grpc.StatusCode.INVALID_ARGUMENT, text)


def not_found(text: str) -> RpcError:
    """What the request names does not exist."""
    return RpcError(grpc.StatusCode.NOT_FOUND, text)


def failed_precondition(text: str) -> RpcError:
    """The state of the swarm does not allow it; the same request may work later."""
    return RpcError(grpc.StatusCode.FAILED_PRECONDITION, text)


def permission_denied(text: str) -> RpcError:
    """The caller may not do this."""
    return RpcError(grpc.StatusCode.PERMISSION_DENIED, text)


def unimplemented(text: str) -> RpcError:
    """The call or the wish is known and not served."""
    return RpcError(grpc.StatusCode.UNIMPLEMENTED, text)
