"""Task ownership: every background task belongs to a ``TaskOwner`` whose ``close`` ends it."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from swarmkit.log import get_logger

log = get_logger(__name__)


class TaskOwner:
    """Starts background tasks, keeps hold of them, and on ``close`` cancels and awaits what still runs.

    A task that raises is a programming error or a failure its author chose not to handle: it is logged with
    its traceback and handed to ``on_failure`` (for example the daemon's "stop with this error").
    """

    def __init__(self, name: str, on_failure: Callable[[BaseException], None] | None = None) -> None:
        self._name = name
        self._on_failure = on_failure
        self._tasks: set[asyncio.Task[Any]] = set()
        self._closed = False

    def spawn(self, coroutine: Coroutine[Any, Any, Any], name: str) -> asyncio.Task[Any]:
        """Run ``coroutine`` in the background and return its task.

        Raises:
            RuntimeError: the owner is closed; the coroutine is closed unrun.
        """
        if self._closed:
            coroutine.close()
            raise RuntimeError(f"{self._name} is closed")
        task = asyncio.get_running_loop().create_task(coroutine, name=f"{self._name}:{name}")
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    def _done(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if task.cancelled():
            return
        error = task.exception()
        if error is None:
            return
        try:
            raise error
        except BaseException:
            log.exception("background task failed", task=task.get_name(), error=str(error))
        if self._on_failure is not None:
            self._on_failure(error)

    async def close(self) -> None:
        """Cancel all tasks and wait until each has ended. May be called twice, and from one of them."""
        self._closed = True
        current = asyncio.current_task()
        tasks = [task for task in self._tasks if task is not current]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.gather(*tasks, return_exceptions=True)


async def cancel_and_wait(task: "asyncio.Task[Any] | None") -> None:
    """Cancel one task, if there is one, and wait until it has ended; its outcome is dropped."""
    if task is None or task.done():
        return
    task.cancel()
    await asyncio.wait([task])
