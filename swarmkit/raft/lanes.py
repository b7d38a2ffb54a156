"""The bridge between the loop and the threads in which the disk is waited for."""

import asyncio
import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any, Protocol, TypeVar

T = TypeVar("T")


class Lane(Protocol):
    """Runs blocking calls one after the other, off the loop."""

    async def run(self, call: Callable[[], T]) -> T:
        """Return what ``call`` returns, or raise what it raises."""
        ...

    def close(self) -> None:
        """Take no more calls; does not wait for one that runs."""
        ...


class ThreadLane:
    """One thread of its own. Cancelling ``run`` does not stop a call that has begun.

    Every write passes here. An executor of the standard library would keep a lock and a second future for
    each call, which cost more than the way there and back.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._calls: SimpleQueue[tuple[asyncio.Future[Any], Callable[[], Any]] | None] = SimpleQueue()
        self._thread: threading.Thread | None = None
        self._closed = False

    async def run(self, call: Callable[[], T]) -> T:
        """Run ``call`` in the thread.

        Raises:
            RuntimeError: the lane is closed.
        """
        if self._closed:
            raise RuntimeError(f"the lane {self._name} is closed")
        if self._thread is None:
            # What it does when the interpreter ends is not acknowledged any more: as after a crash.
            self._thread = threading.Thread(target=self._work, name=self._name, daemon=True)
            self._thread.start()
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._calls.put((future, call))
        return await future

    def close(self) -> None:
        """Let the thread end once it is idle."""
        if not self._closed:
            self._closed = True
            self._calls.put(None)

    def _work(self) -> None:
        while (item := self._calls.get()) is not None:
            future, call = item
            try:
                result, error = call(), None
            except BaseException as raised:  # whatever it is, it is the caller's
                result, error = None, raised
            loop = future.get_loop()
            try:
                loop.call_soon_threadsafe(_settle, future, result, error)
            except RuntimeError:
                if not loop.is_closed():
                    raise
            del item, future, call, result, error  # nothing is kept alive by the wait for the next call


def _settle(future: "asyncio.Future[Any]", result: Any, error: BaseException | None) -> None:
    if future.done():
        return  # cancelled
    if error is None:
        future.set_result(result)
    else:
        future.set_exception(error)
