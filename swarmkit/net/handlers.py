"""Generated gRPC handlers, taken apart: their one function, and a form of them that takes and gives bytes."""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import grpc

from swarmkit.net.errors import RpcError

if TYPE_CHECKING:  # the stubs make these generic, the classes are not
    Handler = grpc.RpcMethodHandler[Any, Any]
    Context = grpc.aio.ServicerContext[Any, Any]
#: Serves one call: (request or iterator of requests, context) -> answer, None if the answers are streamed.
Call = Callable[[Any, Any], Awaitable[Any]]


class Collector:
    """Stands in for a server where a generated function registers a servicer."""

    def __init__(self) -> None:
        self.handlers: dict[str, Handler] = {}

    def add_generic_rpc_handlers(self, generic_rpc_handlers: Sequence[grpc.GenericRpcHandler]) -> None:
        """Ignore them: the same handlers come by name."""

    def add_registered_method_handlers(self, service_name: str, method_handlers: Mapping[str, Any]) -> None:
        """Take the handlers of one service."""
        self.handlers |= {f"/{service_name}/{method}": handler for method, handler in method_handlers.items()}


class Methods(grpc.GenericRpcHandler):
    """Full method names to wrapped handlers; a name that is not here is answered UNIMPLEMENTED by gRPC."""

    def __init__(self) -> None:
        self.handlers: dict[str, Handler] = {}

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> "Handler | None":
        """Return the handler of one call."""
        return self.handlers.get(handler_call_details.method)


def behaviour(handler: "Handler") -> Callable[[Any, Any], Any]:
    """Return the one function that a handler holds, whatever its kind."""
    kinds = (handler.unary_unary, handler.unary_stream, handler.stream_unary, handler.stream_stream)
    return next(kind for kind in kinds if kind is not None)


def wrapped(handler: "Handler", serve: Call, *, raw: bool) -> "Handler":
    """Return a handler of the same kind that runs ``serve``; with ``raw`` on unparsed bytes both ways."""
    make = {
        (False, False): grpc.unary_unary_rpc_method_handler,
        (False, True): grpc.unary_stream_rpc_method_handler,
        (True, False): grpc.stream_unary_rpc_method_handler,
        (True, True): grpc.stream_stream_rpc_method_handler,
    }[handler.request_streaming, handler.response_streaming]
    if raw:
        return make(serve)
    return make(serve, handler.request_deserializer, handler.response_serializer)


def message_call(handler: "Handler") -> Call:
    """Return what serves a call on parsed messages."""
    return _streamed(handler, None) if handler.response_streaming else behaviour(handler)


def raw_call(handler: "Handler") -> Call:
    """Return what serves a call on bytes: parses, runs the handler's function, serialises.

    A handler of streamed answers must yield them, not write them to the context itself.
    """
    parse, render, run = handler.request_deserializer, handler.response_serializer, behaviour(handler)
    assert parse is not None
    assert render is not None
    if handler.response_streaming:
        run = _streamed(handler, render)

    async def one(request: bytes, context: "Context") -> Any:
        answer = await run(_parsed(request, parse), context)
        return None if handler.response_streaming else render(answer)

    async def many(requests: AsyncIterator[bytes], context: "Context") -> Any:
        answer = await run((_parsed(request, parse) async for request in requests), context)
        return None if handler.response_streaming else render(answer)

    return many if handler.request_streaming else one


def _parsed(request: bytes, parse: Callable[[bytes], Any]) -> Any:
    try:
        return parse(request)
    except Exception as error:  # each generated class has its own idea of what is wrong
        text = "the request cannot be parsed: it is not what this call takes"
        raise RpcError(grpc.StatusCode.INTERNAL, text) from error


def _streamed(handler: "Handler", render: Callable[[Any], bytes] | None) -> Call:
    """Turn a handler that yields messages into one that writes them, so that its end is under our control."""
    run = behaviour(handler)

    async def call(request: Any, context: "Context") -> None:
        messages = run(request, context)
        if render is None and not isinstance(messages, AsyncIterator):
            await messages  # a handler that writes to the context itself
            return
        try:
            async for message in messages:
                await context.write(message if render is None else render(message))
        finally:
            close = getattr(messages, "aclose", None)
            if close is not None:
                await close()

    return call
