"""How long the scheduler takes for many tasks that arrive at once (contract/scheduler.md, 18).

``python -m benchmarks.scheduler [--json]``: 1,000 nodes and 1,000, 10,000 and 100,000 tasks on a store
without replication. The clock starts when the one transaction that creates them has ended its callback, and
stops when the last task is seen assigned, so one debounce of 50 ms is part of every figure.
"""

import asyncio
import gc
import time

from benchmarks.report import Row, main, row
from swarmkit.api import messages as api
from swarmkit.clock import SystemClock
from swarmkit.identity import new_id
from swarmkit.manager.scheduler import Scheduler
from swarmkit.store import Action, Store, Tx, Watch

NODES = 1_000
#: Tasks, repeats, and what the Go original takes on the same kind of machine.
CASES = ((1_000, 5, "0.154 s"), (10_000, 3, "1.15 s"), (100_000, 1, "14.8 s"))


def create(tx: Tx, nodes: int, tasks: int) -> None:
    """Store the nodes, all of them ready, and the pending tasks, each of them alone in its group."""
    for number in range(nodes):
        node = api.Node(id=new_id())
        node.spec.annotations.name = f"name{number}"
        node.status.state = api.NodeStatus.READY
        node.description.engine.SetInParent()
        if number % 3 == 0:
            node.description.engine.plugins.add(type="Network", name="network")
        tx.create(node)
    for number in range(tasks):
        task = api.Task(id=f"task{number}", desired_state=api.TaskState.RUNNING)
        task.service_annotations.name = task.id
        task.status.state = api.TaskState.PENDING
        tx.create(task)


async def measure(tasks: int) -> float:
    """Return the seconds from the end of the creating callback until all tasks are seen assigned."""
    store = Store(SystemClock())
    running = asyncio.create_task(Scheduler(store, SystemClock()).run())
    await asyncio.sleep(0)
    started = 0.0

    def fill(tx: Tx) -> None:
        nonlocal started
        create(tx, NODES, tasks)
        started = time.perf_counter()

    with store.watch(Watch(api.Task, {Action.UPDATE})) as watcher:
        await store.update(fill)
        seen = 0
        while seen < tasks:
            seen += len((await anext(watcher)).events)
    seconds = time.perf_counter() - started
    running.cancel()
    await asyncio.wait([running])
    check(store, tasks)
    return seconds


def check(store: Store, tasks: int) -> None:
    """Refuse a result in which the tasks are not spread evenly."""
    counts = dict.fromkeys((node.id for node in store.view().find(api.Node)), 0)
    for task in store.view().find(api.Task):
        if task.status.state != api.TaskState.ASSIGNED:
            raise SystemExit(f"task {task.id} was not assigned")
        counts[task.node_id] += 1
    if max(counts.values()) - min(counts.values()) > 1 or sum(counts.values()) != tasks:
        raise SystemExit("the tasks are not spread evenly")


def cases() -> list[Row]:
    """Measure all cases."""
    rows = []
    for tasks, repeats, original in CASES:
        seconds = []
        for _ in range(repeats):
            gc.collect()
            seconds.append(asyncio.run(measure(tasks)))
        rows.append(row(f"schedule {tasks:,} tasks on {NODES:,} nodes", seconds, "s", original=original))
    return rows


if __name__ == "__main__":
    main(cases, __doc__)
