"""How late the loop is: measured, summed up, and logged at a bounded rate."""

import asyncio
import logging
from typing import Any

import pytest

from swarmkit.lag import LOG_SECONDS, PERIOD_SECONDS, RECENT_SECONDS, LagSummary, LagWatch
from tests.fakes.loop import VirtualClock


class LateClock(VirtualClock):
    """Wakes sleepers as much later as the test says, once each, and uses as much processor time."""

    def __init__(self) -> None:
        self.late: list[tuple[float, float]] = []
        self.used = 0.0

    async def sleep(self, seconds: float) -> None:
        late, used = self.late.pop(0) if self.late else (0.0, 0.0)
        await super().sleep(seconds + late)
        self.used += used


class Bench:
    def __init__(self) -> None:
        self.clock = LateClock()
        self.watch = LagWatch(self.clock, cpu_seconds=lambda: self.clock.used)

    async def run(self, seconds: float) -> LagSummary:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(self.watch.run(), seconds)
        return self.watch.summary()


@pytest.fixture
def bench() -> Bench:
    return Bench()


def lines(caplog: pytest.LogCaptureFixture) -> list[dict[str, Any]]:
    return [record.fields for record in caplog.records if record.levelno == logging.WARNING]  # type: ignore[attr-defined]


async def test_a_loop_in_time_has_no_lag(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    assert bench.watch.summary() == LagSummary(0, 0, 0.0, 0.0, 0.0)
    found = await bench.run(10.1)
    assert found.count == 10 / PERIOD_SECONDS
    assert found.over == 0
    assert found.max_seconds == pytest.approx(0, abs=1e-9)
    assert lines(caplog) == []


async def test_the_worst_of_the_last_minute_and_of_all_time_are_kept_apart(bench: Bench) -> None:
    bench.clock.late = [(0.4, 0.0)]
    assert (await bench.run(10)).recent_max_seconds == pytest.approx(0.4)
    found = await bench.run(RECENT_SECONDS)
    assert found.max_seconds == pytest.approx(0.4)
    assert found.recent_max_seconds == pytest.approx(0.0, abs=1e-9)
    assert found.over == 0


async def test_the_ninety_ninth_percentile_leaves_one_look_in_a_hundred_out(bench: Bench) -> None:
    bench.clock.late = [(0.4, 0.0)] * 2 + [(0.1, 0.0)] * 10
    found = await bench.run(RECENT_SECONDS)
    assert found.recent_max_seconds == pytest.approx(0.4)
    assert found.recent_p99_seconds == pytest.approx(0.1)


async def test_a_lag_that_brings_elections_near_is_logged_with_what_the_process_did(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    bench.clock.late = [(0.5, 0.0), (0.8, 0.7)]
    found = await bench.run(5)
    assert found.over == 1
    assert lines(caplog) == [
        {
            "seconds": "0.800",
            "cpu_seconds": "0.700",
            "cause": "this process was busy",
            "unlogged": None,
        }
    ]


async def test_a_machine_that_stood_still_is_told_from_a_busy_loop(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    bench.clock.late = [(3.0, 0.01)]
    await bench.run(5)
    assert "the machine stood still" in lines(caplog)[0]["cause"]


async def test_lines_are_few_and_count_those_in_between(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    bench.clock.late = [(0.75, 0.0)] * 30
    found = await bench.run(30.5)
    assert found.over == 30
    assert [line["unlogged"] for line in lines(caplog)] == [None, 9, 9]
    assert LOG_SECONDS == 10


async def test_the_end_of_the_watch_sums_it_up_in_the_log(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    bench.clock.late = [(0.8, 0.7)]
    found = await bench.run(5)
    (record,) = [record for record in caplog.records if record.levelno == logging.INFO]
    assert record.fields == {  # type: ignore[attr-defined]
        "looks": found.count,
        "over_threshold": 1,
        "max_seconds": "0.800",
        "last_minute_max_seconds": "0.800",
        "last_minute_p99_seconds": "0.800",
    }


async def test_what_is_kept_is_bounded(bench: Bench) -> None:
    found = await bench.run(3600)
    assert found.count > 10_000
    assert len(bench.watch._recent) <= RECENT_SECONDS / PERIOD_SECONDS


@pytest.mark.real_time
async def test_a_loop_that_is_held_is_seen() -> None:
    watch = LagWatch(VirtualClock())
    task = asyncio.create_task(watch.run())
    await asyncio.sleep(0.05)
    loop = asyncio.get_running_loop()
    held = loop.time() + 0.4
    while loop.time() < held:
        pass
    await asyncio.sleep(0.01)
    task.cancel()
    assert watch.summary().max_seconds > 0.1
