"""Start and stop (contract/dispatcher-agent.md, 3.1; case 15)."""

import asyncio

import grpc
import pytest

from swarmkit.api import messages as api
from swarmkit.net.errors import RpcError
from swarmkit.store import LeadershipLostError
from tests.unit.manager.dispatcher.bench import Bench, status, task


async def test_a_second_start_while_running_is_an_error(bench: Bench) -> None:
    with pytest.raises(RuntimeError):
        await bench.dispatcher.run()
    assert bench.serving


async def test_on_stop_sessions_end_aborted_after_a_last_message_others_canceled(
    bench: Bench,
) -> None:
    worker = await bench.worker()
    session = await worker.register()
    assignments, tasks = worker.assignments(), worker.tasks()
    await assignments.next()
    await tasks.next()
    await bench.stop()

    error = await session.end()
    assert error is not None
    assert (error.code, error.text) == (grpc.StatusCode.ABORTED, "node must disconnect")
    assert len(session.received) == 2
    assert session.received[1] == session.received[0]
    for stream in (assignments, tasks):
        error = await stream.end()
        assert error is not None
        assert error.code == grpc.StatusCode.CANCELLED
    with pytest.raises(RpcError, match="dispatcher is stopped") as caught:
        await worker.heartbeat()
    assert caught.value.code == grpc.StatusCode.ABORTED


async def test_stopping_waits_for_the_last_words_of_every_stream(bench: Bench) -> None:
    sessions = [await (await bench.worker(f"n{n}")).register() for n in range(20)]
    before = bench.clock.monotonic()
    await bench.stop()
    assert all(session.ended.is_set() for session in sessions)
    assert bench.clock.monotonic() == before


async def test_stopping_does_not_wait_for_a_stream_whose_worker_reads_nothing(bench: Bench) -> None:
    worker = await bench.worker()
    await worker.register()
    before = bench.clock.monotonic()
    with bench.dispatcher.tenure.call():
        await bench.stop()
    assert bench.clock.monotonic() - before == pytest.approx(5.0)


async def test_a_registration_that_waits_for_its_write_is_aborted_on_stop(bench: Bench) -> None:
    worker = await bench.worker()
    session = worker.open_session()
    await asyncio.sleep(0.05)
    await bench.stop()
    error = await session.end()
    assert error is not None
    assert (error.code, error.text) == (grpc.StatusCode.ABORTED, "dispatcher is stopped")


async def test_nothing_happens_to_nodes_after_stop(bench: Bench) -> None:
    await (await bench.worker()).register()
    await bench.stop()
    version = bench.store.version
    await asyncio.sleep(48 * 3600)
    assert bench.store.version == version
    assert len(bench.store._hub) == 0


async def test_a_new_leadership_knows_no_session_of_the_last(bench: Bench) -> None:
    worker = await bench.worker()
    await worker.register()
    await bench.stop()
    await bench.start()
    with pytest.raises(RpcError) as caught:
        await worker.heartbeat()
    assert caught.value.code == grpc.StatusCode.INVALID_ARGUMENT
    old = worker.session_id
    await worker.register(old)
    assert worker.session_id != old
    await worker.heartbeat()


class _Deposed:
    """A proposer whose leader has just been deposed."""

    may_propose = False

    def next_index(self) -> int:
        return 1_000_000

    def propose(self, data: bytes) -> "asyncio.Future[int]":
        raise LeadershipLostError

    def changes_since(self, index: int) -> None:
        return None


async def test_lost_leadership_ends_the_dispatcher_quietly_and_all_streams(bench: Bench) -> None:
    worker = await bench.worker()
    session = await worker.register()
    await bench.create(task("t"))
    bench.store.attach(_Deposed())
    await worker.report(("t", status(api.TaskState.RUNNING)))
    assert bench._running is not None
    await bench._running
    error = await session.end()
    assert error is not None
    assert error.text == "node must disconnect"
    assert not bench.serving


async def test_leadership_lost_before_the_start_is_done_ends_quietly_too(idle_bench: Bench) -> None:
    worker = await idle_bench.worker()
    idle_bench.store.attach(_Deposed())
    await idle_bench.dispatcher.run()
    error = await worker.open_session().end()
    assert error is not None
    assert error.text == "dispatcher is stopped"
