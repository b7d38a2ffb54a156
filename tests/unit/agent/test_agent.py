"""The agent keeps a session and its tasks running (contract/dispatcher-agent.md, 6; cases 41 to 56, 67)."""

import asyncio
import itertools
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from swarmkit.agent.agent import Agent, AgentConfig, AgentError
from swarmkit.agent.exec import TemporaryError
from swarmkit.agent.manager import ManagerError
from swarmkit.agent.notices import NodeChange
from swarmkit.aio import cancel_and_wait
from swarmkit.api import messages as api
from swarmkit.api.naming import ENGINE_ERROR_LABEL
from tests.fakes.agent_executor import FakeController, FakeExecutor, take, until
from tests.fakes.agent_manager import FakeBroker, FakeManager, complete, connect, make_task
from tests.fakes.loop import VirtualClock

State = api.TaskState
LOST = ManagerError("UNAVAILABLE", "connection refused")
UNTRUSTED = ManagerError(
    "UNAVAILABLE", "Ssl handshake failed (TSI_PROTOCOL_FAILURE): SSL_ERROR_SSL: CERTIFICATE_VERIFY_FAILED"
)


class Node:
    """An agent under test, what it needs, and what it told."""

    def __init__(
        self,
        clock: VirtualClock,
        *managers: FakeManager | Exception,
        executor: FakeExecutor | None = None,
        config: AgentConfig | None = None,
    ) -> None:
        self.broker = FakeBroker(*managers)
        self.executor = executor or FakeExecutor()
        self.tls_info = api.NodeTLSInfo(trust_root=b"root")
        self.changes: list[NodeChange] = []
        self.agent = Agent(
            config or AgentConfig(database=None, hostname="node-1"),
            self.executor,
            self.broker,
            lambda: self.tls_info,
            self.changes.append,
            clock,
            random.Random(1),
            connect,
        )
        self.task = asyncio.ensure_future(self.agent.run())


@asynccontextmanager
async def running(node: Node) -> AsyncIterator[Node]:
    try:
        yield node
    finally:
        await cancel_and_wait(node.task)


async def assign(manager: FakeManager, *tasks: api.Task) -> None:
    await until(lambda: bool(manager.assignment_streams))
    manager.assignment_streams[-1].put(complete(*tasks))


async def test_tasks_run_and_their_statuses_are_reported(clock: VirtualClock) -> None:
    manager = FakeManager()
    async with running(Node(clock, manager)) as node:
        await assign(manager, make_task("a"))
        await until(lambda: manager.last_state("a") == State.RUNNING)
        assert node.agent.ready.is_set()
        (request,) = manager.requests
        assert request.description.hostname == "node-1"
        assert request.description.tls_info == node.tls_info


async def test_failing_sessions_are_spaced_by_the_backoff(clock: VirtualClock) -> None:
    async with running(Node(clock, RuntimeError("no remote hosts provided"))) as node:
        await asyncio.sleep(120)
        at = node.broker.selections
        gaps = [later - earlier for earlier, later in itertools.pairwise(at)]
        bounds = [0.1, 0.3, 0.7, 1.5, 3.1, 6.3, *[8.0] * len(gaps)]
        assert all(gap <= bound for gap, bound in zip(gaps, bounds, strict=False))
        assert max(gaps) > 4
        assert len(gaps) > 20


async def test_a_registration_resets_the_backoff(clock: VirtualClock) -> None:
    manager = FakeManager()
    async with running(Node(clock, *[LOST] * 9, manager)) as node:
        await until(lambda: node.agent.ready.is_set(), 120)
        count = len(node.broker.selections)
        manager.sessions.put(ManagerError("ABORTED", "dispatcher is stopped"))
        before = clock.monotonic()
        await until(lambda: len(node.broker.selections) > count, 1)
        assert clock.monotonic() - before <= 0.12


async def test_a_silent_manager_is_given_up_after_five_seconds(clock: VirtualClock) -> None:
    silent, manager = FakeManager(), FakeManager()
    silent.silent = True
    async with running(Node(clock, silent, manager)) as node:
        await until(lambda: node.agent.ready.is_set(), 6)
        assert node.broker.selections[1] >= 5
        assert node.broker.connections[0].closed is False


async def test_a_reconnect_carries_the_last_session_id(clock: VirtualClock) -> None:
    first, second = FakeManager("one"), FakeManager("two")
    async with running(Node(clock, first, second)):
        await until(lambda: bool(first.requests))
        first.sessions.put(ManagerError("ABORTED", "node must disconnect"))
        await until(lambda: bool(second.requests))
        assert [request.session_id for request in (*first.requests, *second.requests)] == ["", "one"]


async def test_a_reconnect_resends_every_stored_status(clock: VirtualClock) -> None:
    first, second = FakeManager("one"), FakeManager("two")
    async with running(Node(clock, first, second)):
        await assign(first, make_task("a"), make_task("b", desired=State.SHUTDOWN))
        await until(
            lambda: first.last_state("a") == State.RUNNING and first.last_state("b") == State.SHUTDOWN
        )
        first.sessions.put(None)
        await until(lambda: len(second.statuses) == 2)
        await asyncio.sleep(5)
        assert {task_id: status.state for task_id, status in second.statuses} == {
            "a": State.RUNNING,
            "b": State.SHUTDOWN,
        }


async def test_a_status_refused_with_not_found_is_dropped_and_others_bounce_the_session(
    clock: VirtualClock,
) -> None:
    first, second = FakeManager("one"), FakeManager("two")
    async with running(Node(clock, first, second)):
        first.status_errors = [ManagerError("NOT_FOUND", "node not registered")]
        await assign(first, make_task("a"))
        await until(lambda: first.last_state("a") == State.RUNNING)
        assert State.ACCEPTED not in [status.state for _, status in first.statuses]
        first.status_errors = [ManagerError("PERMISSION_DENIED", "no")] * 2
        await assign(first, make_task("a"), make_task("b"))
        await until(lambda: second.last_state("b") == State.RUNNING)


async def test_a_changed_description_opens_exactly_one_new_session(clock: VirtualClock) -> None:
    first, second = FakeManager("one"), FakeManager("two")
    async with running(Node(clock, first, second)) as node:
        await asyncio.sleep(50)
        assert len(node.broker.connections) == 1
        node.executor.description.resources.nano_cpus = 7
        await asyncio.sleep(50)
        assert len(node.broker.connections) == 2
        assert node.broker.connections[0].closed is True
        (request,) = second.requests
        assert request.description.resources.nano_cpus == 7
        assert request.session_id == "one"


async def test_new_tls_info_is_told_at_once(clock: VirtualClock) -> None:
    first, second = FakeManager("one"), FakeManager("two")
    async with running(Node(clock, first, second)) as node:
        await asyncio.sleep(1)
        node.tls_info = api.NodeTLSInfo(trust_root=b"new root")
        node.agent.tls_info_changed()
        await until(lambda: bool(second.requests), 1)
        assert second.requests[0].description.tls_info.trust_root == b"new root"


async def test_node_and_root_changes_reach_executor_and_node_layer(clock: VirtualClock) -> None:
    manager = FakeManager()
    async with running(Node(clock, manager)) as node:
        mine = api.Node(id="n", spec=api.NodeSpec(desired_role=api.NodeRole.MANAGER))
        manager.sessions.put(manager.message(node=mine, RootCA=b"new root"))
        manager.sessions.put(manager.message(node=mine, RootCA=b"root"))
        await until(lambda: bool(node.changes))
        await asyncio.sleep(1)
        assert node.changes == [NodeChange(mine, b"new root")]
        assert node.executor.configured == [mine]


async def test_managers_and_keys_are_passed_on(clock: VirtualClock) -> None:
    manager = FakeManager()
    async with running(Node(clock, manager)) as node:
        listed = api.WeightedPeer(peer=api.Peer(node_id="m", addr="10.0.0.1:4242"), weight=10)
        blank = api.WeightedPeer(peer=api.Peer(node_id="x"), weight=10)
        keys = [api.EncryptionKey(subsystem="networking:gossip", lamport_time=4)]
        for _ in range(2):
            manager.sessions.put(manager.message(managers=[listed, blank], network_bootstrap_keys=keys))
        await until(lambda: len(node.broker.lists) == 3)
        assert node.broker.lists == [[], [listed], [listed]]
        assert node.executor.keys == [keys]


async def test_an_executor_that_cannot_be_configured_does_not_end_the_session(clock: VirtualClock) -> None:
    class Refusing(FakeExecutor):
        async def configure(self, node: api.Node) -> None:
            raise RuntimeError("no")

    manager = FakeManager()
    async with running(Node(clock, manager, executor=Refusing())) as node:
        manager.sessions.put(manager.message(node=api.Node(id="n")))
        await until(lambda: bool(node.changes))
        await asyncio.sleep(10)
        assert len(node.broker.connections) == 1


async def test_a_node_without_engine_registers_and_says_so(clock: VirtualClock) -> None:
    executor = FakeExecutor()
    executor.describe_error = TemporaryError("engine unreachable: no such file")
    first, second = FakeManager("one"), FakeManager("two")
    async with running(Node(clock, first, second, executor=executor)):
        await until(lambda: bool(first.requests))
        described = first.requests[0].description
        assert (described.hostname, described.platform.os) == ("node-1", "linux")
        assert not described.HasField("resources")
        assert described.engine.labels[ENGINE_ERROR_LABEL] == "engine unreachable: no such file"
        executor.describe_error = None
        await until(lambda: bool(second.requests), 6)
        assert ENGINE_ERROR_LABEL not in second.requests[0].description.engine.labels


async def test_an_engine_away_for_less_than_a_minute_changes_nothing(clock: VirtualClock) -> None:
    executor = FakeExecutor()
    first, second = FakeManager("one"), FakeManager("two")
    async with running(Node(clock, first, second, executor=executor)):
        await asyncio.sleep(30)
        executor.describe_error = TemporaryError("engine unreachable")
        await asyncio.sleep(50)
        assert not second.requests
        await until(lambda: bool(second.requests), 40)
        described = second.requests[0].description
        assert described.engine.labels[ENGINE_ERROR_LABEL] == "engine unreachable"


async def test_an_untrusted_manager_at_an_explicit_join_address_ends_the_agent(clock: VirtualClock) -> None:
    manager = FakeManager()
    manager.silent = True
    manager.sessions.put(UNTRUSTED)
    config = AgentConfig(database=None, explicit_join=True)
    async with running(Node(clock, manager, config=config)) as node:
        with pytest.raises(
            AgentError, match=r"manager:4242 is not to be trusted: .*issued by .*CERTIFICATE_VERIFY_FAILED"
        ):
            await asyncio.wait_for(node.task, 5)
        assert node.executor.closed == 1


async def test_after_one_good_session_an_untrusted_manager_is_only_retried(clock: VirtualClock) -> None:
    good, bad = FakeManager(), FakeManager()
    bad.silent = True
    config = AgentConfig(database=None, explicit_join=True)
    async with running(Node(clock, good, bad, config=config)) as node:
        await until(node.agent.ready.is_set)
        good.sessions.put(UNTRUSTED)
        bad.sessions.put(UNTRUSTED)
        await until(lambda: len(node.broker.connections) >= 3)
        assert not node.task.done()


async def test_without_an_explicit_join_address_an_untrusted_manager_is_retried(clock: VirtualClock) -> None:
    bad, good = FakeManager(), FakeManager()
    bad.silent = True
    bad.sessions.put(UNTRUSTED)
    async with running(Node(clock, bad, good)) as node:
        await until(node.agent.ready.is_set)


async def test_a_removed_node_is_told_once_what_to_do_and_goes_on_trying(
    clock: VirtualClock, caplog: pytest.LogCaptureFixture
) -> None:
    manager = FakeManager()
    removed = ManagerError("PERMISSION_DENIED", "Permission denied: node x was removed from swarm")
    manager.silent = True
    for _ in range(3):
        manager.sessions.put(removed)
    async with running(Node(clock, manager)) as node:
        await until(lambda: len(node.broker.connections) >= 4)
    told = [record for record in caplog.records if record.levelname == "ERROR"]
    assert len(told) == 1
    assert "this node was removed from the swarm: to join again" in told[0].getMessage()


async def test_leaving_keeps_the_session_until_the_workloads_are_gone(clock: VirtualClock) -> None:
    executor = FakeExecutor(lambda task: FakeController(remove=[take(12)]))
    manager = FakeManager()
    async with running(Node(clock, manager, executor=executor)) as node:
        await assign(manager, make_task("a"))
        await until(lambda: manager.last_state("a") == State.RUNNING)
        beats, reports = len(manager.beats), len(manager.statuses)
        await node.agent.stop(leave=True)
        assert executor.controllers["a"].calls[-2:] == ["remove", "close"]
        assert len(manager.beats) >= beats + 2
        assert len(manager.statuses) == reports
        assert node.broker.connections[-1].closed is not None
        await node.task


async def test_a_plain_stop_leaves_workloads_and_the_next_run_takes_them_up(
    clock: VirtualClock, tmp_path: Path
) -> None:
    config = AgentConfig(database=tmp_path / "worker" / "tasks.db", hostname="node-1")
    manager = FakeManager()
    async with running(Node(clock, manager, config=config)) as node:
        await assign(manager, make_task("a"))
        await until(lambda: manager.last_state("a") == State.RUNNING)
        await node.agent.stop()
        assert "remove" not in node.executor.controllers["a"].calls
    async with running(Node(clock, RuntimeError("no manager anywhere"), config=config)) as again:
        await until(lambda: "a" in again.executor.controllers)
        await until(lambda: again.executor.controllers["a"].calls == ["wait"])


async def test_cancelling_the_agent_closes_everything(clock: VirtualClock) -> None:
    manager = FakeManager()
    async with running(Node(clock, manager)) as node:
        await assign(manager, make_task("a"))
        await until(lambda: manager.last_state("a") == State.RUNNING)
    assert node.executor.closed == 1
    assert node.executor.controllers["a"].calls[-1] == "close"
    assert node.broker.connections[0].closed is False
    assert manager.assignment_streams[0].closed
