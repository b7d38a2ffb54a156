"""Shared fixtures: virtual time for unit, property and simulation tests."""

import asyncio
from collections.abc import Callable, Mapping

import pytest

from tests.fakes.loop import VirtualClock, VirtualLoop

VIRTUAL_TIME_FOLDERS = ("tests/unit/", "tests/property/", "tests/sim/")


def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Give tests below the virtual-time folders a loop that jumps, unless marked ``real_time``."""
    virtual = item.nodeid.startswith(VIRTUAL_TIME_FOLDERS) and item.get_closest_marker("real_time") is None
    return {"virtual": VirtualLoop} if virtual else {"real": asyncio.new_event_loop}


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
