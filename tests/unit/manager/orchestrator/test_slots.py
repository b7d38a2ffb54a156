"""Which tasks of a slot count: contract/orchestration.md, 6, and O6 of 16."""

import pytest

from swarmkit.api import messages as api
from swarmkit.manager.orchestrator.slots import SlotKey, slot_key, updatable
from tests.unit.manager.orchestrator.support import State, make_service, make_task

SERVICE = make_service(replicas=2)


def never(service: api.Service, task: api.Task) -> bool:
    return False


def always(service: api.Service, task: api.Task) -> bool:
    return True


def test_wanted_tasks_count_and_only_they() -> None:
    wanted = make_task(SERVICE, "a", slot=1, state=State.FAILED, at=1)
    waiting = make_task(SERVICE, "b", slot=1, state=State.READY, desired=State.READY, at=2)
    gone = make_task(SERVICE, "c", slot=1, state=State.SHUTDOWN, desired=State.SHUTDOWN, at=3)
    assert updatable(SERVICE, [wanted, waiting, gone], never) == [wanted, waiting]


def test_without_wanted_tasks_the_newest_counts_if_it_is_not_to_be_restarted() -> None:
    old = make_task(SERVICE, "a", slot=1, state=State.COMPLETE, desired=State.SHUTDOWN, at=1)
    new = make_task(SERVICE, "b", slot=1, state=State.COMPLETE, desired=State.SHUTDOWN, at=2)
    assert updatable(SERVICE, [new, old], never) == [new]
    assert updatable(SERVICE, [new, old], always) == []


def test_during_a_rollback_only_wanted_tasks_count() -> None:
    service = make_service(replicas=2)
    service.update_status.state = api.UpdateStatus.ROLLBACK_STARTED
    done = make_task(service, "a", slot=1, state=State.COMPLETE, desired=State.SHUTDOWN)
    live = make_task(service, "b", slot=1)
    assert updatable(service, [done], never) == []
    assert updatable(service, [done, live], never) == [live]


def test_a_task_to_be_removed_never_counts_nor_does_an_older_one_below_it() -> None:
    history = make_task(SERVICE, "a", slot=1, state=State.COMPLETE, desired=State.SHUTDOWN, at=1)
    removed = make_task(SERVICE, "b", slot=1, state=State.COMPLETE, desired=State.REMOVE, at=2)
    assert updatable(SERVICE, [removed, history], never) == []


def test_an_empty_slot_has_nothing_that_counts() -> None:
    assert updatable(SERVICE, [], never) == []


@pytest.mark.parametrize(("replicas", "expected"), [(1, SlotKey("svc", 4)), (None, SlotKey("svc", 0, "n1"))])
def test_a_place_is_a_number_or_in_global_modes_a_node(replicas: int | None, expected: SlotKey) -> None:
    service = make_service(replicas=replicas)
    assert slot_key(service, make_task(service, "t", slot=4, node="n1")) == expected
