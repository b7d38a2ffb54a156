"""Whatever happens in the store, a worker that applies what it is sent holds what the store says."""

import asyncio

from hypothesis import given, settings
from hypothesis import strategies as st

from swarmkit.api import messages as api
from swarmkit.manager.dispatcher.assignments import AssignmentSet
from swarmkit.store import Action, Store, Tx, Watch
from tests.fakes.loop import VirtualClock, VirtualLoop
from tests.unit.manager.dispatcher.received import Received

STATES = sorted(api.TaskState.values())
NAMES = ("a", "b", "c")

task_changes = st.tuples(
    st.sampled_from(("t1", "t2", "t3", "t4")),
    st.sampled_from(("put", "put", "put", "delete")),
    st.sampled_from(STATES),
    st.sets(st.sampled_from(NAMES)),
    st.sets(st.sampled_from(NAMES)),
    st.integers(0, 2),
)
#: Each step is a list of changes that the worker gets in one message.
schedules = st.lists(st.lists(task_changes, max_size=5), max_size=12)


def change(tx: Tx, item: tuple[str, str, int, set[str], set[str], int]) -> None:
    task_id, what, state, secrets, configs, version = item
    stored = tx.get(api.Task, task_id)
    if what == "delete":
        if stored is not None:
            tx.delete(api.Task, task_id)
        return
    task = api.Task()
    if stored is not None:
        task.CopyFrom(stored)
    else:
        # Dependencies are fixed for a task's life; a task reaches its node by an update, not its creation.
        task.id, task.node_id = task_id, "worker"
        for name in sorted(secrets):
            task.spec.container.secrets.add(secret_id=name)
        for name in sorted(configs):
            task.spec.container.configs.add(config_id=name)
        tx.create(task)
        stored = tx.get(api.Task, task_id)
        assert stored is not None
        task.CopyFrom(stored)
    task.status.state = max(state, task.status.state)  # type: ignore[assignment]
    task.desired_state = (api.TaskState.RUNNING, api.TaskState.SHUTDOWN, api.TaskState.REMOVE)[version]
    tx.update(task)


@settings(max_examples=100)
@given(schedules, st.integers(0, 11))
def test_differences_lead_to_what_the_store_says(
    schedule: list[list[tuple[str, str, int, set[str], set[str], int]]], connects_at: int
) -> None:
    async def play() -> None:
        store = Store(VirtualClock())
        for name in NAMES[:2]:  # the third is missing from the store
            secret, config = api.Secret(id=name), api.Config(id=name)
            secret.spec.annotations.name = config.spec.annotations.name = name
            await store.update(lambda tx, secret=secret: tx.create(secret))  # type: ignore[misc]
            await store.update(lambda tx, config=config: tx.create(config))  # type: ignore[misc]
        assigned, received, watcher = AssignmentSet("worker"), Received(), None
        for step, changes in enumerate([*schedule, []]):
            for item in changes:
                await store.update(lambda tx, item=item: change(tx, item))  # type: ignore[misc]
            if watcher is None:
                if step < connects_at and step < len(schedule):
                    continue
                watcher = store.watch(Watch(api.Task, {Action.UPDATE, Action.DELETE}, node_id="worker"))
                assigned.start(store.view())
            while (commit := watcher.next_nowait()) is not None:
                for event in commit.events:
                    assert isinstance(event.object, api.Task)
                    if event.action is Action.DELETE:
                        assigned.delete_task(event.object)
                    else:
                        assigned.update_task(store.view(), event.object)
            received.apply_changes(assigned.take_changes())
            assigned.check_invariants()
            received.check(store.view(), "worker")

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(play())
