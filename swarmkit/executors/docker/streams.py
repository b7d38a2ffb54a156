"""An answer of the engine that goes on and on: read in one thread, ended from the event loop.

The bridge between the two: what the thread tells the loop goes through ``tell``.
"""

import asyncio
import contextlib
import json
import threading
from collections.abc import Callable, Generator
from typing import Any

import requests
from docker.errors import create_api_error_from_http_exception

from swarmkit.executors.docker.errors import EngineError, Kind, one_line

Json = dict[str, Any]


class JsonStream:
    """One streaming answer of JSON objects. Made on the event loop."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        # Guards the response: its socket must not be shut down once another request may be using it.
        self._lock = threading.Lock()
        self._response: requests.Response | None = None
        self._ended = False

    def end(self) -> None:
        """Free the reading thread: at once if the engine has begun to answer, otherwise when it does.

        May be called more than once, on the loop, whatever state the stream is in. The engine notices too,
        and gives up what it was doing for us (contract/executor.md, 8, "Cancelling").
        """
        with self._lock:
            self._ended = True
            if self._response is not None:
                # Both: there is no connection any more that could be shut down.
                with contextlib.suppress(OSError, ValueError, RuntimeError):
                    self._response.raw.shutdown()

    def tell(self, function: Callable[..., object], *args: object) -> None:
        """Have the loop call a function soon; for the reading thread."""
        # The loop is closed already when the process ends while the stream stands.
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(function, *args)

    def read(
        self, ask: Callable[[], requests.Response], opened: Callable[[], object]
    ) -> Generator[Json, None, None]:
        """Ask, and yield the objects of the answer until it ends or is ended. Blocks.

        Args:
            ask: makes the request, in streaming form.
            opened: called on the loop when the engine begins to answer.

        Raises:
            EngineError: what came is not JSON.
            docker.errors.APIError: the engine refused.
            requests.RequestException: the stream broke.
        """
        response = ask()
        try:
            with self._lock:
                self._response = response
                if self._ended:
                    return
            try:
                response.raise_for_status()
            except requests.HTTPError as error:
                create_api_error_from_http_exception(error)
            self.tell(opened)
            yield from self._objects(response)
        finally:
            with self._lock:
                self._response = None
            response.close()

    def _objects(self, response: requests.Response) -> Generator[Json, None, None]:
        try:
            for line in response.iter_lines():
                if line.strip():
                    yield _parsed(line)
        except requests.RequestException:
            if not self._ended:
                raise


def _parsed(line: bytes) -> Json:
    try:
        return dict(json.loads(line))
    except (ValueError, TypeError) as error:
        raise EngineError(
            Kind.FATAL, one_line(f"the engine sent something else than JSON: {line!r}")
        ) from error
