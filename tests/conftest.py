"""Shared fixtures: virtual time for unit, property and simulation tests."""

import asyncio
import functools
import inspect
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

import hypothesis
import pytest

from tests.fakes.loop import VirtualClock, VirtualLoop
from tests.scale import SCALE

VIRTUAL_TIME_FOLDERS = ("tests/unit/", "tests/property/", "tests/sim/")
#: Longest time for a test on the real clock, in seconds: one that hangs is to fail, not to hold up the rest.
REAL_TIME_SECONDS = 180.0

# How long an example takes is the machine's business.
hypothesis.settings.register_profile("shared machine", deadline=None)
hypothesis.settings.load_profile("shared machine")


def is_virtual(item: pytest.Item) -> bool:
    """Tell whether a test runs on virtual time, where waiting for nothing fails at once."""
    return item.nodeid.startswith(VIRTUAL_TIME_FOLDERS) and item.get_closest_marker("real_time") is None


def pytest_collection_modifyitems(items: Sequence[pytest.Item]) -> None:
    """Give every coroutine on the real clock a deadline."""
    for item in items:
        if isinstance(item, pytest.Function) and inspect.iscoroutinefunction(item.obj):
            if not is_virtual(item):
                item.obj = in_time(item.obj)


def in_time(test: Callable[..., Awaitable[None]]) -> Callable[..., Awaitable[None]]:
    """Return the test with a deadline."""

    @functools.wraps(test)
    async def run(*args: Any, **kwargs: Any) -> None:
        async with asyncio.timeout(REAL_TIME_SECONDS * SCALE):
            await test(*args, **kwargs)

    return run


def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Give tests below the virtual-time folders a loop that jumps, unless marked ``real_time``."""
    return {"virtual": VirtualLoop} if is_virtual(item) else {"real": asyncio.new_event_loop}


@pytest.fixture
def clock() -> VirtualClock:
    """A clock that follows the test loop's virtual time."""
    return VirtualClock()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say in one line what was left out, and why."""
    reasons: dict[str, int] = {}
    for report in terminalreporter.stats.get("skipped", []):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        reason = reason.removeprefix("Skipped: ")
        reasons[reason] = reasons.get(reason, 0) + 1
    if reasons:
        parts = [f"{count} tests ({reason})" for reason, count in sorted(reasons.items())]
        terminalreporter.write_line(f"left out: {'; '.join(parts)}")
