"""Keeping the event loop free: passes that pause, and waits that a deadline or an event ends."""

import asyncio
from typing import Any, TypeVar

from swarmkit.aio import cancel_and_wait
from swarmkit.clock import Clock
from swarmkit.manager import pacing
from swarmkit.manager.orchestrator.steps import Steps
from swarmkit.store import Commit, StoppedError, Watcher

T = TypeVar("T")


class Pacer(pacing.Pacer):
    """A pacer that also runs computations of type ``Steps``. One per pass."""

    async def drive(self, steps: Steps[T]) -> T:
        """Run a computation to its end, pausing between its pieces where due, and return its result."""
        try:
            while True:
                try:
                    next(steps)
                except StopIteration as end:
                    result: T = end.value
                    return result
                await self.pause()
        finally:
            steps.close()


async def next_commit(watcher: Watcher, clock: Clock, deadline: float | None) -> Commit | None:
    """Return the next commit, or None if the monotonic ``deadline`` (None: never) comes first.

    Cancellation loses no commit.

    Raises:
        StoppedError: the stream has ended: the store is closed.
    """
    commit = watcher.next_nowait()
    if commit is not None:
        return commit
    if deadline is None:
        return await _anext(watcher)
    seconds = deadline - clock.monotonic()
    if seconds <= 0:
        return None
    waiter = asyncio.get_running_loop().create_task(_anext(watcher))
    await _wait_for_first(waiter, clock, seconds)
    return None if waiter.cancelled() else waiter.result()


async def _anext(watcher: Watcher) -> Commit:
    try:
        return await anext(watcher)
    except StopAsyncIteration:
        raise StoppedError from None


async def wait_for_event(event: asyncio.Event, clock: Clock, deadline: float | None) -> None:
    """Wait until ``event`` is set or the monotonic ``deadline`` (None: never) has come, then clear the event.

    Cancellation leaves nothing behind.
    """
    if not event.is_set():
        if deadline is None:
            await event.wait()
        else:
            await _wait_bounded(event, clock, deadline - clock.monotonic())
    event.clear()


async def _wait_bounded(event: asyncio.Event, clock: Clock, seconds: float) -> None:
    if seconds > 0:
        await _wait_for_first(asyncio.get_running_loop().create_task(event.wait()), clock, seconds)


async def _wait_for_first(task: "asyncio.Task[Any]", clock: Clock, seconds: float) -> None:
    """Wait for ``task`` or for ``seconds``; what is not done then is cancelled and has ended on return."""
    timer = asyncio.get_running_loop().create_task(clock.sleep(seconds))
    try:
        await asyncio.wait([task, timer], return_when=asyncio.FIRST_COMPLETED)
    finally:
        await cancel_and_wait(task)
        await cancel_and_wait(timer)
