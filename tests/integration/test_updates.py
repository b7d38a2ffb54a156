"""Rolling updates as an operator runs them, on three nodes whose tasks are local processes."""

import pytest

from swarmkit.api import messages as api
from tests.integration.control import Control, describe, ids, runs
from tests.integration.harness import Swarm, eventually, table

SLEEP = "--image local:1 --command sleep,1000 --restart-delay 200ms"
RUNNING = api.TaskState.RUNNING
SHUTDOWN = api.TaskState.SHUTDOWN


def wait_image(control: Control, image: str, count: int, timeout: float = 30) -> list[api.Task]:
    """Wait until all tasks of the service are of an image and run."""
    return control.wait_tasks(
        "web",
        f"{count} tasks of {image} run",
        lambda tasks: (
            len(tasks) == count and all(runs(task) and task.spec.container.image == image for task in tasks)
        ),
        timeout,
    )


def wait_update(control: Control, state: "api.UpdateStatus.UpdateState.ValueType") -> api.Service:
    """Wait until the update of the service is in a state, and return the service."""

    def look() -> api.Service:
        service = control.service("web")
        assert service.HasField("update_status")
        assert service.update_status.state == state, service.update_status
        return service

    return eventually(look, 30, f"the update is {api.UpdateStatus.UpdateState.Name(state)}", 0.05)


def created(task: api.Task) -> float:
    return task.meta.created_at.ToNanoseconds() / 1e9


def reached(task: api.Task) -> float:
    """Return when a task got into its state."""
    return task.status.timestamp.ToNanoseconds() / 1e9


def test_without_options_all_tasks_are_replaced_at_once(trio: Swarm, control: Control) -> None:
    trio.ok(f"service create --name web {SLEEP} --replicas 6")
    before = control.wait_running("web", 6)
    trio.ok("service update web --image local:2")
    after = wait_image(control, "local:2", 6)
    assert not ids(before) & ids(after)
    assert [task.slot for task in after] == [1, 2, 3, 4, 5, 6]
    # One transaction made them all: none waited for another.
    assert len({created(task) for task in after}) == 1
    old = [task for task in control.tasks("web", every=True) if task.id in ids(before)]
    assert {task.status.state for task in old} == {SHUTDOWN}
    unchanged = trio.ctl("service update web --image local:2")
    assert (unchanged.code, unchanged.err.strip()) == (1, "Error: no changes detected")


def test_parallelism_and_delay_pace_an_update(trio: Swarm, control: Control) -> None:
    trio.ok(f"service create --name web {SLEEP} --replicas 4 --update-parallelism 2 --update-delay 1500ms")
    control.wait_running("web", 4)
    trio.ok("service update web --image local:2")
    wait_update(control, api.UpdateStatus.UPDATING)
    (row,) = table(trio.ok("service ls -v"))
    assert row["Update"] == "UPDATING"
    after = wait_image(control, "local:2", 4)
    by_age = sorted(after, key=created)
    first, second = by_age[:2], by_age[2:]
    # The later two begin when the earlier two have run for the delay.
    assert min(map(created, second)) - min(map(reached, first)) >= 1.5
    shown = trio.ok("service inspect web")
    assert "Parallelism" in shown
    assert "Update Status" not in shown
    assert "Update Status" in trio.ok("service inspect -v web")


def test_an_option_that_is_not_given_again_stays(trio: Swarm, control: Control) -> None:
    trio.ok(f"service create --name web {SLEEP} --update-parallelism 1 --update-delay 3s --env A=1")
    trio.ok("service update web --update-order start-first")
    update = control.service("web").spec.update
    assert (update.parallelism, update.delay.seconds) == (1, 3)
    assert update.order == api.UpdateConfig.START_FIRST
    assert list(control.service("web").spec.task.container.env) == ["A=1"]
    assert not control.service("web").HasField("update_status")


def test_start_first_runs_the_new_task_before_the_old_one_stops(trio: Swarm, control: Control) -> None:
    trio.ok(
        f"service create --name web {SLEEP} --replicas 2 --update-parallelism 1 --update-order start-first"
    )
    before = control.wait_running("web", 2)
    trio.ok("service update web --image local:2")
    after = wait_image(control, "local:2", 2)

    def all_stopped() -> list[api.Task]:
        old = [task for task in control.tasks("web", every=True) if task.id in ids(before)]
        assert all(task.status.state == SHUTDOWN for task in old)
        return old

    old = {task.slot: task for task in eventually(all_stopped, 10, "the old tasks stop")}
    for task in after:
        assert reached(task) <= reached(old[task.slot])


def test_force_replaces_tasks_that_are_up_to_date(trio: Swarm, control: Control) -> None:
    trio.ok(f"service create --name web {SLEEP} --replicas 2")
    before = control.wait_running("web", 2)
    trio.ok("service update web --force")
    control.wait_tasks("web", "replaced", lambda tasks: not ids(tasks) & ids(before))
    control.wait_running("web", 2)


def test_labels_and_scale_replace_nothing(trio: Swarm, control: Control) -> None:
    trio.ok(f"service create --name web {SLEEP} --replicas 2")
    before = control.wait_running("web", 2)
    trio.ok("service update web --label a=1 --replicas 3")
    after = control.wait_running("web", 3)
    assert ids(before) < ids(after)
    assert not control.service("web").HasField("update_status")


def test_an_update_that_fails_pauses_and_a_good_one_goes_on(trio: Swarm, control: Control) -> None:
    trio.ok(f"service create --name web {SLEEP} --replicas 3 --update-parallelism 1")
    before = control.wait_running("web", 3)
    trio.ok("service update web --image local:bad --command no-such-program --restart-condition none")
    service = wait_update(control, api.UpdateStatus.PAUSED)
    tasks = control.tasks("web", every=True)
    (bad,) = [task for task in tasks if task.spec.container.image == "local:bad"]
    assert bad.id in service.update_status.message
    assert sum(runs(task) for task in tasks if task.id in ids(before)) == 2
    (row,) = table(trio.ok("service ls -v"))
    assert (row["Running"], row["Update"]) == ("2/3", "PAUSED")
    assert bad.id in trio.ok("service inspect -v web")
    trio.ok("service update web --image local:3 --command sleep,1000 --restart-condition any")
    wait_image(control, "local:3", 3)


def test_an_update_that_fails_is_rolled_back(trio: Swarm, control: Control) -> None:
    trio.ok(f"service create --name web {SLEEP} --replicas 3 --update-parallelism 1")
    before = control.wait_running("web", 3)
    failed = trio.ctl(
        "service update web --image local:bad --command no-such-program --update-on-failure rollback"
        " --wait --wait-timeout 40s",
        timeout=50,
    )
    assert failed.code == 1
    assert "Error: the service does not converge: update rolled back" in failed.err
    after = wait_image(control, "local:1", 3)
    assert len(ids(before) & ids(after)) == 2
    service = wait_update(control, api.UpdateStatus.ROLLBACK_COMPLETED)
    assert list(service.spec.task.container.command) == ["sleep", "1000"]
    assert not service.HasField("previous_spec")
    assert "ROLLBACK_COMPLETED" in trio.ok("service inspect -v web")


def test_an_update_that_goes_on_despite_failures_replaces_all(trio: Swarm, control: Control) -> None:
    trio.ok(f"service create --name web {SLEEP} --replicas 3")
    before = control.wait_running("web", 3)
    trio.ok("service update web --image local:bad --command false --update-on-failure continue")
    tasks = control.wait_tasks("web", "all replaced", lambda found: not ids(found) & ids(before))
    assert {task.spec.container.image for task in tasks} == {"local:bad"}


@pytest.mark.parametrize("parallelism", [0, 1])
def test_a_newer_update_takes_over_from_one_under_way(
    trio: Swarm, control: Control, parallelism: int
) -> None:
    trio.ok(
        f"service create --name web {SLEEP} --replicas 3 --update-parallelism {parallelism}"
        " --update-delay 500ms"
    )
    control.wait_running("web", 3)
    for image in ("local:2", "local:3", "local:4"):
        trio.ok(f"service update web --image {image}")
    after = wait_image(control, "local:4", 3)
    assert [task.slot for task in after] == [1, 2, 3]

    def only_those_run() -> None:
        active = [task for task in control.tasks("web", every=True) if task.status.state <= RUNNING]
        assert ids(active) == ids(after), "\n".join(map(describe, active))

    eventually(only_those_run, 10, "every older task has ended")


def test_global_services_are_updated_node_by_node(trio: Swarm, control: Control) -> None:
    trio.ok(f"service create --name web --mode global {SLEEP} --update-parallelism 1 --update-delay 300ms")
    before = control.wait_running("web", 3)
    trio.ok("service update web --image local:2")
    after = wait_image(control, "local:2", 3)
    assert {task.node_id for task in after} == {task.node_id for task in before}
    assert len({created(task) for task in after}) == 3
