"""The bridge between the loop and the threads in which the disk is waited for."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol, TypeVar

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
    """One thread of its own. Cancelling ``run`` does not stop a call that has begun."""

    def __init__(self, name: str) -> None:
        self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix=name)

    async def run(self, call: Callable[[], T]) -> T:
        """Run ``call`` in the thread."""
        return await asyncio.get_running_loop().run_in_executor(self._executor, call)

    def close(self) -> None:
        """Let the thread end once it is idle."""
        self._executor.shutdown(wait=False)
