"""The agent over the process executor: the same process before and after a restart of the agent."""

import asyncio
import random
import sys
from pathlib import Path

import pytest

from swarmkit.agent.agent import Agent, AgentConfig
from swarmkit.api import messages as api
from swarmkit.clock import SystemClock
from swarmkit.executors.process import ProcessExecutor
from swarmkit.executors.process.process import Identity
from tests.fakes.agent_executor import until
from tests.fakes.agent_manager import FakeBroker, FakeManager, complete, connect, make_task

pytestmark = [
    pytest.mark.real_time,
    pytest.mark.skipif(sys.platform != "linux", reason="the process executor needs Linux"),
]

State = api.TaskState


def agent(directory: Path, manager: FakeManager) -> Agent:
    clock = SystemClock()
    return Agent(
        AgentConfig(database=directory / "worker" / "tasks.db"),
        ProcessExecutor(directory / "processes", clock),
        FakeBroker(manager),
        lambda: None,
        lambda change: None,
        clock,
        random.Random(1),
        connect,
    )


async def test_a_restarted_agent_keeps_the_process_and_a_leaving_one_ends_it(tmp_path: Path) -> None:
    task = make_task("t")
    first = FakeManager()
    before = agent(tmp_path, first)
    running = asyncio.ensure_future(before.run())
    await until(lambda: bool(first.assignment_streams), 10)
    first.assignment_streams[0].put(complete(task))
    await until(lambda: first.last_state("t") == State.RUNNING, 10)
    await before.stop()
    await running

    second = FakeManager()
    after = agent(tmp_path, second)
    running = asyncio.ensure_future(after.run())
    await until(lambda: second.last_state("t") == State.RUNNING, 10)
    container = first.statuses[-1][1].container
    assert second.statuses[-1][1].container == container
    await until(lambda: bool(second.assignment_streams), 10)
    second.assignment_streams[0].put(complete(task))
    await asyncio.sleep(0.1)
    process = Identity.of(container.pid)
    assert process is not None

    await after.stop(leave=True)
    await running
    assert not process.alive
    assert list((tmp_path / "processes").iterdir()) == []
