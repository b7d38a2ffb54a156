import concurrent.futures
import subprocess
import sys
import threading

import pytest

from swarmkit.executors.docker import threads
from swarmkit.executors.docker.threads import DaemonPool


@pytest.fixture
def pool() -> DaemonPool:
    return DaemonPool(2, "test-pool")


def of_pool() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("test-pool")]


def gone() -> bool:
    for thread in of_pool():
        thread.join(5)
    return not of_pool()


def test_calls_return_and_raise_through_their_futures(pool: DaemonPool) -> None:
    assert pool.submit(divmod, 7, 2).result(5) == (3, 1)
    with pytest.raises(ZeroDivisionError):
        pool.submit(divmod, 7, 0).result(5)
    pool.shutdown()
    assert gone()


def test_no_more_threads_than_the_size_and_an_idle_one_is_used_again(pool: DaemonPool) -> None:
    for _ in range(20):
        pool.submit(int).result(5)
    assert len(of_pool()) <= 2
    gate = threading.Event()
    held = [pool.submit(gate.wait, 5) for _ in range(5)]
    assert len(of_pool()) == 2
    gate.set()
    assert concurrent.futures.wait(held, 5).not_done == set()
    pool.shutdown()
    assert gone()


def test_what_was_cancelled_before_its_turn_is_not_called(pool: DaemonPool) -> None:
    gate = threading.Event()
    called: list[int] = []
    begun = threading.Barrier(3)
    for _ in range(2):
        pool.submit(lambda: begun.wait(5) < 3 and gate.wait(5))
    begun.wait(5)
    waiting = pool.submit(called.append, 1)
    assert waiting.cancel()
    gate.set()
    pool.submit(called.append, 2).result(5)
    assert called == [2]
    pool.shutdown()
    assert gone()


def test_shutting_down_cancels_what_waits_refuses_more_and_ends_idle_threads(pool: DaemonPool) -> None:
    gate = threading.Event()
    begun = threading.Barrier(3)
    running = [pool.submit(lambda: begun.wait(5) < 3 and gate.wait(5)) for _ in range(2)]
    begun.wait(5)
    waiting = pool.submit(int)
    pool.shutdown()
    assert waiting.cancelled()
    with pytest.raises(RuntimeError, match="shut down"):
        pool.submit(int)
    gate.set()
    assert all(future.result(5) for future in running)
    assert gone()


def test_threads_without_work_end(pool: DaemonPool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "IDLE_SECONDS", 0.01)
    pool.submit(int).result(5)
    assert gone()
    assert pool.submit(int).result(5) == 0
    pool.shutdown()
    assert gone()


@pytest.mark.slow
def test_a_blocked_call_does_not_keep_the_process_from_ending() -> None:
    program = (
        "import threading\n"
        "from swarmkit.executors.docker.threads import DaemonPool\n"
        "begun = threading.Event()\n"
        "def call(): begun.set(); threading.Event().wait()\n"
        "DaemonPool(1, 'x').submit(call)\n"
        "begun.wait()\n"
    )
    assert subprocess.run([sys.executable, "-c", program], timeout=20, check=False).returncode == 0
