"""When a replacement may start: contract/orchestration.md, 8.4."""

from swarmkit.manager.orchestrator.release_queue import ReleaseQueue


def test_a_release_waits_its_delay() -> None:
    queue = ReleaseQueue()
    queue.schedule("t", 10, delay_seconds=5)
    assert queue.deadline() == 15
    assert queue.advance(14.9) == []
    assert "t" in queue
    assert queue.advance(15) == ["t"]
    assert "t" not in queue
    assert queue.deadline() is None


def test_without_delay_and_old_task_a_release_is_due_at_once() -> None:
    queue = ReleaseQueue()
    queue.schedule("t", 10)
    assert queue.advance(10) == ["t"]


def test_a_release_waits_for_the_end_of_the_old_task_after_its_delay() -> None:
    queue = ReleaseQueue()
    queue.schedule("t", 0, delay_seconds=5, limit_seconds=60, old_id="old", node_id="n1")
    assert queue.advance(5) == []
    queue.task_ended("other", 6)
    assert queue.advance(6) == []
    queue.task_ended("old", 7)
    assert queue.advance(7) == ["t"]


def test_an_end_during_the_delay_does_not_shorten_it() -> None:
    queue = ReleaseQueue()
    queue.schedule("t", 0, delay_seconds=5, limit_seconds=60, old_id="old", node_id="n1")
    queue.task_ended("old", 1)
    assert queue.advance(4.9) == []
    assert queue.advance(5) == ["t"]


def test_the_loss_of_the_node_ends_the_wait() -> None:
    queue = ReleaseQueue()
    queue.schedule("t", 0, limit_seconds=60, old_id="old", node_id="n1")
    assert queue.advance(0) == []
    queue.node_lost("n2", 1)
    assert queue.advance(1) == []
    queue.node_lost("n1", 2)
    assert queue.advance(2) == ["t"]


def test_the_limit_began_with_the_delay_and_a_longer_delay_leaves_no_extra_wait() -> None:
    queue = ReleaseQueue()
    queue.schedule("short", 0, delay_seconds=5, limit_seconds=60, old_id="old")
    queue.schedule("long", 0, delay_seconds=70, limit_seconds=60, old_id="old")
    assert queue.advance(59.9) == []
    assert queue.advance(60) == ["short"]
    assert queue.advance(70) == ["long"]


def test_a_later_schedule_replaces_an_earlier_one_and_keeps_who_waits() -> None:
    queue = ReleaseQueue()
    queue.schedule("t", 0, delay_seconds=5)
    queue.restart_after("t")
    queue.schedule("t", 0, delay_seconds=9)
    assert len(queue) == 1
    assert queue.advance(5) == []
    assert queue.advance(9) == ["t"]
    assert queue.take_restarts() == ["t"]


def test_a_cancelled_release_never_comes_and_wakes_who_waits() -> None:
    queue = ReleaseQueue()
    queue.schedule("t", 0, delay_seconds=5, limit_seconds=60, old_id="old", node_id="n1")
    queue.restart_after("t")
    queue.cancel("t")
    queue.cancel("t")
    queue.task_ended("old", 1)
    queue.node_lost("n1", 1)
    assert queue.advance(100) == []
    assert queue.take_restarts() == ["t"]
    assert queue.take_restarts() == []
    queue.check_invariants()


def test_somebody_waits_at_most_once() -> None:
    queue = ReleaseQueue()
    queue.schedule("t", 0, delay_seconds=5)
    queue.restart_after("t")
    queue.restart_after("t")
    assert queue.take_restarts() == []
    assert queue.advance(5) == ["t"]
    assert queue.take_restarts() == ["t"]


def test_releases_come_in_the_order_of_their_deadlines() -> None:
    queue = ReleaseQueue()
    queue.schedule("b", 0, delay_seconds=2)
    queue.schedule("a", 0, delay_seconds=1)
    assert queue.advance(3) == ["a", "b"]
