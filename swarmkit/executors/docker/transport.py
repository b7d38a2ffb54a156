"""The SDK's connections over a unix socket, mended.

The SDK keeps a pool of connections for each URL, so that hardly one is ever used twice, and drops the socket
of a connection that was refused without closing it (contract/executor.md, 14, pitfall 7).
"""

import socket
from typing import Any

from docker.transport.unixconn import UnixHTTPAdapter, UnixHTTPConnection, UnixHTTPConnectionPool


class _Connection(UnixHTTPConnection):
    def connect(self) -> None:
        connecting = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            connecting.settimeout(self.timeout)
            connecting.connect(self.unix_socket)
        except BaseException:
            connecting.close()
            raise
        self.sock = connecting


class _Pool(UnixHTTPConnectionPool):
    def __init__(self, socket_path: str, timeout: int, size: int) -> None:
        super().__init__("http+docker://localhost", socket_path, timeout, size)
        self._connect_timeout = timeout

    # Any: the SDK's stubs and urllib3's disagree on what a connection is.
    def _new_conn(self) -> Any:
        return _Connection(self.base_url, self.socket_path, self._connect_timeout)


class UnixAdapter(UnixHTTPAdapter):
    """Sends requests over one pool of connections to a unix socket; any thread may.

    Args:
        path: the socket.
        timeout: longest silence, in seconds.
        size: how many idle connections are kept.
    """

    def __init__(self, path: str, timeout: int, size: int) -> None:
        super().__init__(path, timeout, max_pool_size=size)
        self._pool = _Pool(path, timeout, size)

    def get_connection(self, url: bytes | str, proxies: object = None) -> UnixHTTPConnectionPool:
        """Return the pool, whatever the URL."""
        return self._pool

    def close(self) -> None:
        """Close the idle connections, and those in use when they come back."""
        super().close()
        self._pool.close()
