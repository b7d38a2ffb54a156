"""The SDK's client of the moment, which the calls of many threads share.

The SDK closes a client's connections under whoever is about to send over them. So each call holds the client
that it uses, and one that was replaced is closed by the last that holds it.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import docker


class ClosedError(Exception):
    """No client is given out any more."""


class _Shared:
    """A client and what keeps it open; guarded by the lock of ``Clients``."""

    def __init__(self, client: docker.APIClient) -> None:
        self.client = client
        self.holders = 0
        self.replaced = False


class Clients:
    """Makes a client at the first call, and again when asked to. Any thread may call.

    Args:
        make: connects and returns a client; blocks, and raises what the SDK raises.
    """

    def __init__(self, make: Callable[[], docker.APIClient]) -> None:
        self._make = make
        self._lock = threading.Lock()
        self._current: _Shared | None = None
        self._closed = False

    @property
    def current(self) -> docker.APIClient | None:
        """The client in use, None before the first contact and after the end."""
        current = self._current
        return None if current is None else current.client

    @contextmanager
    def hold(self, renew: bool = False) -> Iterator[docker.APIClient]:
        """Lend the client for one call; blocks while one is made.

        Args:
            renew: connect anew, for whoever comes later as well.

        Raises:
            ClosedError: see above.
            Exception: what ``make`` raises.
        """
        shared = None if renew else self._hold_current()
        if shared is None:
            # Outside of the lock: an engine may take its time to say its version.
            shared = self._install(self._make(), renew)
        try:
            yield shared.client
        finally:
            with self._lock:
                shared.holders -= 1
                unused = shared.replaced and not shared.holders
            if unused:
                shared.client.close()

    def close(self) -> None:
        """Give out no client any more; the one in use is closed when the last call has ended."""
        with self._lock:
            self._closed = True
            unused = self._retire()
        if unused is not None:
            unused.close()

    def _hold_current(self) -> _Shared | None:
        with self._lock:
            if self._closed:
                raise ClosedError
            if self._current is not None:
                self._current.holders += 1
            return self._current

    def _install(self, fresh: docker.APIClient, renew: bool) -> _Shared:
        """Make a fresh client the one in use, unless another was quicker; hold the one in use."""
        with self._lock:
            closed = self._closed
            if closed or (self._current is not None and not renew):
                unused: docker.APIClient | None = fresh
            else:
                unused = self._retire()
                self._current = _Shared(fresh)
            used = self._current
            if used is not None:
                used.holders += 1
        if unused is not None:
            unused.close()
        if used is None:
            raise ClosedError
        return used

    def _retire(self) -> docker.APIClient | None:
        """Take the client out of use; return it if nobody holds it, for the caller to close."""
        retired, self._current = self._current, None
        if retired is None:
            return None
        retired.replaced = True
        return None if retired.holders else retired.client
