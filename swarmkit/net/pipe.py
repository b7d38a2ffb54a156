"""Two connections spliced into one: bytes pass both ways with back-pressure, and ends propagate.

The outer one leads to another process, the inner one to the server behind. TLS ends here with
``ssl.SSLObject`` and memory BIOs, not with asyncio's TLS transport: that one drops the alert which tells a
refused client why, cannot half-close, and holds a 256 KiB buffer a connection.
"""

import asyncio
import contextlib
import ssl
from collections.abc import Callable, Mapping
from typing import Any

from swarmkit.net.tls import HTTP2

#: What every HTTP/2 client sends first (RFC 9113, 3.4).
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
#: Largest piece read from a connection at once, in bytes: four full TLS records.
_READ_BYTES = 65536


class NotHttp2Error(Exception):
    """The client's first bytes are not HTTP/2."""


class ClientGoneError(Exception):
    """The client closed the connection before it had sent anything that counts."""


#: What every connection is read into: one read is passed on before the next begins. asyncio's own would take
#: 256 KiB from the system for each read, and give it back.
_BUFFER = memoryview(bytearray(_READ_BYTES))


class PipeEnd(asyncio.BufferedProtocol):
    """One side of a splice; the inner server's is just this. Nothing is read until both are joined."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self.other: PipeEnd | None = None
        self.ended = False  # this side sends no more
        self.lost = False  # this side is closed
        self.full = False  # this side reads more slowly than the other sends
        self.on_change: Callable[[], None] = lambda: None  # one of these three has changed

    @property
    def transport(self) -> asyncio.Transport:
        """The connection; there is one from the moment asyncio hands this object out."""
        assert self._transport is not None, "not connected"
        return self._transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the transport; nothing is read before both sides stand."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        transport.pause_reading()

    def get_buffer(self, sizehint: int) -> memoryview:
        """Return where the next read goes."""
        return _BUFFER

    def buffer_updated(self, nbytes: int) -> None:
        """Take what was read, before anybody else reads."""
        self.data_received(bytes(_BUFFER[:nbytes]))

    def data_received(self, data: bytes) -> None:
        """Pass on what came."""
        self.deliver(data)

    def deliver(self, data: bytes) -> None:
        """Hand plain bytes of this side to the other."""
        assert self.other is not None, "not read before the splice"
        if not self.other.lost:
            self.other.send(data)

    def eof_received(self) -> bool:
        """Pass on the end of this direction; the other direction may go on."""
        if not self.ended:
            self.ended = True
            if self.other is not None:
                self.other.finish()
            self.on_change()
        return True

    def pause_writing(self) -> None:
        """This side reads too slowly: stop reading the other."""
        self.full = True
        if self.other is not None:
            self.other.transport.pause_reading()
        self.on_change()

    def resume_writing(self) -> None:
        """This side has caught up."""
        self.full = False
        if self.other is not None:
            self.other.transport.resume_reading()
        self.on_change()

    def connection_lost(self, exc: Exception | None) -> None:
        """Close the other side once it has been given all that came from this one."""
        self.lost = True
        if self.other is not None:
            self.other.close()
        self.on_change()

    def send(self, data: bytes) -> None:
        """Send plain bytes out on this side."""
        self.transport.write(data)

    def finish(self) -> None:
        """Send no more on this side, and go on reading."""
        self.transport.write_eof()

    def close(self) -> None:
        """Close this side when what is buffered has gone out."""
        self.transport.close()


class OuterEnd(PipeEnd):
    """The side of the other process, a client's. It reads the HTTP/2 preface before anything is passed on.

    Attributes:
        preface: ends when the preface is there, or fails with ``NotHttp2Error`` or ``ClientGoneError``.
        last_data: loop time of the client's last bytes.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__()
        self._loop = loop
        self._expected = PREFACE
        self._head = bytearray()  # at most what one read brings: reading pauses when the preface is there
        self.preface: asyncio.Future[None] = loop.create_future()
        self.last_data = loop.time()

    @property
    def protocol(self) -> str:
        """The protocol that was agreed on by ALPN (RFC 7301); empty if none was."""
        return ""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the transport and read the preface."""
        super().connection_made(transport)
        self.transport.resume_reading()

    def data_received(self, data: bytes) -> None:
        """Take what came, and note when."""
        self.last_data = self._loop.time()
        super().data_received(data)

    def deliver(self, data: bytes) -> None:
        """Collect the preface; later, pass on what came."""
        if self.other is not None:
            super().deliver(data)
            return
        self._head += data
        expected = self._expected
        if not expected.startswith(bytes(self._head[: len(expected)])):
            self.transport.pause_reading()
            self.fail(NotHttp2Error("the client does not speak HTTP/2"))
        elif len(self._head) >= len(expected):
            self.transport.pause_reading()
            if not self.preface.done():
                self.preface.set_result(None)

    def eof_received(self) -> bool:
        """Pass on the end; before the preface, give up."""
        self.fail(ClientGoneError("the client closed the connection before it sent a request"))
        return super().eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        """Close the other side; before the preface, give up."""
        self.fail(ClientGoneError("the client closed the connection before it sent a request"))
        super().connection_lost(exc)

    def join(self, inner: PipeEnd) -> None:
        """Splice: hand ``inner`` what has come so far and let both sides flow."""
        self.other, inner.other = inner, self
        inner.send(bytes(self._head))
        self._head.clear()
        if self.ended:
            inner.finish()
        if self.lost:
            inner.close()
        self.transport.resume_reading()
        inner.transport.resume_reading()

    def fail(self, error: Exception) -> None:
        """End ``preface`` with ``error`` unless it has ended; nobody need be waiting."""
        if not self.preface.done():
            self.preface.set_exception(error)
            self.preface.exception()


class TlsEnd(OuterEnd):
    """The side of the other process when it speaks TLS.

    A failed handshake sends its alert, ends this direction, and reads on without looking: a close with
    unread bytes would reset the connection, and the client might never see the alert.

    Where ALPN has chosen another protocol than HTTP/2, or this side has dialled, no preface is awaited:
    ``preface`` ends with the handshake.

    Args:
        loop: the running one.
        context: for the side that this process is on.
        server_name: what the certificate of the other side must name, which was dialled; by default it is the
            client.

    Attributes:
        trouble: what TLS failed with, if it did.
    """

    def __init__(
        self, loop: asyncio.AbstractEventLoop, context: ssl.SSLContext, server_name: str | None = None
    ) -> None:
        super().__init__(loop)
        self._dialled = server_name is not None
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._tls = context.wrap_bio(
            self._incoming, self._outgoing, server_side=not self._dialled, server_hostname=server_name
        )
        self.trouble: ssl.SSLError | None = None
        self._ready = False
        self._failed = False
        self._finished = False  # this direction has ended: nothing may be written any more

    @property
    def certificate(self) -> Mapping[str, Any]:
        """The client's verified certificate as ``ssl`` describes it; empty if none was shown."""
        return self._tls.getpeercert() or {}

    @property
    def protocol(self) -> str:
        """The protocol that was agreed on by ALPN; empty if the client offered none."""
        return self._tls.selected_alpn_protocol() or ""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the transport; who has dialled speaks first."""
        super().connection_made(transport)
        if self._dialled:
            self._advance()

    def data_received(self, data: bytes) -> None:
        """Decrypt what came and pass it on."""
        if self._failed:
            return
        self.last_data = self._loop.time()
        self._incoming.write(data)
        self._advance()

    def _advance(self) -> None:
        """Go as far as what has come allows."""
        try:
            if not self._ready:
                self._tls.do_handshake()
                self._ready = True
                if self._dialled or self.protocol not in ("", HTTP2):
                    self._expected = b""
                    self.deliver(b"")
            while plain := self._tls.read(_READ_BYTES):
                self.deliver(plain)
        except ssl.SSLWantReadError:
            self._flush()
        except ssl.SSLZeroReturnError:  # close_notify: the client sends no more
            self._flush()
            self.eof_received()
        except ssl.SSLError as error:
            self.trouble = error
            self.fail(error)
            self._flush()
            self._failed = self._finished = True
            self.transport.write_eof()
            if self._ready:
                self.transport.close()
        else:
            self._flush()

    def send(self, data: bytes) -> None:
        """Encrypt and send."""
        if self._finished:
            return
        view = memoryview(data)
        try:
            while view:
                view = view[self._tls.write(view) :]
        except ssl.SSLError:  # the other direction has failed and closes the connection
            return
        self._flush()

    def finish(self) -> None:
        """Send close_notify, then no more."""
        self._say_goodbye()
        self._finished = True
        super().finish()

    def close(self) -> None:
        """Send close_notify and close when it has gone out."""
        self._say_goodbye()
        super().close()

    def _say_goodbye(self) -> None:
        if self._ready and not self._finished and not self.transport.is_closing():
            with contextlib.suppress(ssl.SSLError):  # "want read": we do not wait for the client's own
                self._tls.unwrap()
            self._flush()

    def _flush(self) -> None:
        if self._outgoing.pending and not self._finished:
            self.transport.write(self._outgoing.read())


class Splice:
    """A connection and its inner one, joined for their common life.

    While one side is full the other is not read, so its end would go unnoticed: a side that takes nothing
    for ``stalled_seconds`` counts as gone. When one side or direction has ended, the rest has
    ``closing_seconds`` to do so too.
    """

    def __init__(
        self, outer: OuterEnd, inner: PipeEnd, *, closing_seconds: float, stalled_seconds: float
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._ends: tuple[PipeEnd, PipeEnd] = (outer, inner)
        self._closing_seconds = closing_seconds
        self._stalled_seconds = stalled_seconds
        self._closing: asyncio.TimerHandle | None = None
        self._stalled: asyncio.TimerHandle | None = None
        self.closed: asyncio.Future[None] = self._loop.create_future()
        outer.on_change = inner.on_change = self._update
        outer.join(inner)
        self._update()

    def abort(self) -> None:
        """Cut both sides at once."""
        for end in self._ends:
            end.transport.abort()

    def _update(self) -> None:
        """Act on a change of either side."""
        gone = all(end.lost for end in self._ends)
        self._watch_for_stalling(not gone and any(end.full for end in self._ends))
        if gone:
            if self._closing is not None:
                self._closing.cancel()
            if not self.closed.done():
                self.closed.set_result(None)
            return
        if self._closing is None and any(end.ended or end.lost for end in self._ends):
            self._closing = self._loop.call_later(self._closing_seconds, self.abort)
        if all(end.ended for end in self._ends):
            for end in self._ends:
                end.close()

    def _watch_for_stalling(self, full: bool) -> None:
        if full and self._stalled is None:
            self._stalled = self._loop.call_later(self._stalled_seconds, self.abort)
        elif not full and self._stalled is not None:
            self._stalled.cancel()
            self._stalled = None
