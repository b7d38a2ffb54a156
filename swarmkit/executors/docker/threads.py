"""A bounded pool of daemon threads.

The standard library's pool is joined when the interpreter exits: one call that the engine never answers would
keep the daemon from ending (contract/executor.md, 14, pitfall 2). These threads just end with the process.
"""

import collections
import concurrent.futures
import threading
from collections.abc import Callable
from typing import Any, TypeVar

from swarmkit.log import get_logger

T = TypeVar("T")

#: A thread without work for this long ends, in seconds: a mass shutdown leaves no crowd behind.
IDLE_SECONDS = 30.0

log = get_logger(__name__)


class DaemonPool(concurrent.futures.Executor):
    """Runs calls in at most ``size`` threads, in the order they came.

    What waits for a thread is bounded by its callers: each task has one operation under way.
    """

    def __init__(self, size: int, name: str) -> None:
        self._size = size
        self._name = name
        self._waiting: collections.deque[tuple[concurrent.futures.Future[Any], Callable[[], Any]]] = (
            collections.deque()
        )
        self._changed = threading.Condition()
        self._threads = 0
        self._idle = 0
        self._started = 0
        self._closed = False

    def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> "concurrent.futures.Future[T]":
        """Queue a call; from any thread.

        Raises:
            RuntimeError: the pool is shut down.
        """
        future: concurrent.futures.Future[T] = concurrent.futures.Future()
        with self._changed:
            if self._closed:
                raise RuntimeError(f"the threads {self._name} have been shut down")
            self._waiting.append((future, lambda: fn(*args, **kwargs)))
            if self._idle >= len(self._waiting):
                self._changed.notify()
            elif self._threads < self._size:
                self._threads += 1
                self._started += 1
                threading.Thread(target=self._work, name=f"{self._name}-{self._started}", daemon=True).start()
        return future

    def shutdown(self, wait: bool = False, *, cancel_futures: bool = True) -> None:
        """Take no more calls; idle threads end at once, the others with their call.

        Args:
            wait: not offered: a call may last as long as it likes.
            cancel_futures: cancel what has not begun.
        """
        with self._changed:
            self._closed = True
            dropped = list(self._waiting) if cancel_futures else []
            if cancel_futures:
                self._waiting.clear()
            self._changed.notify_all()
        for future, _ in dropped:
            future.cancel()

    def _work(self) -> None:
        while (item := self._next()) is not None:
            future, call = item
            if future.set_running_or_notify_cancel():
                _settle(future, call)
            # An idle thread keeps nothing of the last call alive.
            del item, future, call

    def _next(self) -> "tuple[concurrent.futures.Future[Any], Callable[[], Any]] | None":
        with self._changed:
            while not self._waiting:
                self._idle += 1
                woken = not self._closed and self._changed.wait(IDLE_SECONDS)
                self._idle -= 1
                if not woken and not self._waiting:
                    self._threads -= 1
                    return None
            return self._waiting.popleft()


def _settle(future: "concurrent.futures.Future[Any]", call: Callable[[], Any]) -> None:
    try:
        result = call()
    except BaseException as error:
        future.set_exception(error)
        # The error holds this frame: without this, both would stay until the garbage is collected.
        del future, call
        return
    future.set_result(result)
