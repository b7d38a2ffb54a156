"""The lanes of ``make test``: order, outcome, and that an interrupt lets tests clean up."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import pytest

from tools.lanes import Lane, virtual

pytestmark = [pytest.mark.real_time, pytest.mark.slow]

PATIENT = """
import time, pytest

@pytest.fixture
def made():
    yield
    open("{folder}/removing", "w").close()
    time.sleep(0.5)  # a second interrupt would end this
    open("{folder}/removed", "w").close()

def test_waits(made):
    open("{folder}/made", "w").close()
    time.sleep(60)
"""


@pytest.fixture
def output(tmp_path: Path) -> Iterator[IO[bytes]]:
    with (tmp_path / "output").open("w+b") as file:
        yield file


def written(folder: Path, text: str) -> str:
    folder.mkdir()
    (folder / "test_it.py").write_text(text.format(folder=folder))
    return str(folder)


async def exists(path: Path) -> bool:
    return await asyncio.to_thread(path.exists)


async def appears(path: Path) -> None:
    while not await exists(path):  # noqa: ASYNC110 - another process makes it
        await asyncio.sleep(0.02)


async def test_all_steps_run_and_one_that_fails_fails_the_lane(tmp_path: Path, output: IO[bytes]) -> None:
    fails = written(tmp_path / "fails", "def test_it(): assert False")
    passes = written(tmp_path / "passes", "def test_it(): pass")
    assert not await Lane([[fails], [passes]], output).run()
    output.seek(0)
    told = output.read()
    assert b"1 failed" in told
    assert b"1 passed" in told
    assert await Lane([[passes]], output).run()


async def test_an_interrupted_lane_has_its_step_clean_up_and_begins_no_other(
    tmp_path: Path, output: IO[bytes]
) -> None:
    patient, next_one = tmp_path / "patient", tmp_path / "next"
    steps = [[written(patient, PATIENT)], [written(next_one, PATIENT)]]
    lane = Lane(steps, output)
    running = asyncio.create_task(lane.run())
    async with asyncio.timeout(30):
        await appears(patient / "made")
        lane.stop()
        await appears(patient / "removing")
        lane.stop()
        assert not await running
    assert await exists(patient / "removed")
    assert not await exists(next_one / "made")


def test_no_folder_of_tests_is_left_out() -> None:
    assert {"unit", "property", "sim", "contract"} <= set(virtual())
    assert not {"fakes", "fault", "integration", "interop"} & set(virtual())
