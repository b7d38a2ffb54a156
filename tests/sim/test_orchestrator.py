"""Services settle on their wanted tasks whatever happens on the way (contract/orchestration.md, 1.4)."""

import random

import pytest

from swarmkit.api import messages as api
from swarmkit.manager.orchestrator import (
    ConstraintEnforcer,
    GlobalOrchestrator,
    ReplicatedOrchestrator,
    TaskReaper,
)
from swarmkit.manager.tasks import is_invalid_node, wanted
from swarmkit.store import Action, Tx, Watch
from tests.fakes.proposer import FakeProposer
from tests.unit.manager.orchestrator.support import Loop, State, Swarm, Worker, make_node, make_service

NODES = ["n1", "n2", "n3", "n4"]


class Observer:
    """Checks every event: desired states only rise, ids are new, placed tasks have a node."""

    def __init__(self, swarm: Swarm) -> None:
        self.swarm = swarm
        self.seen: set[str] = set()

    async def run(self) -> None:
        with self.swarm.store.watch(Watch(api.Task)) as watcher:
            async for commit in watcher:
                for event in commit.events:
                    task, old = event.object, event.old
                    assert isinstance(task, api.Task)
                    assert task.status.state != State.REMOVE
                    assert task.desired_state != State.NEW
                    if State.ASSIGNED <= task.status.state <= State.RUNNING:
                        assert task.node_id
                    if event.action is Action.CREATE:
                        assert task.id not in self.seen
                        self.seen.add(task.id)
                    elif event.action is Action.UPDATE:
                        assert isinstance(old, api.Task)
                        assert task.desired_state >= old.desired_state
                        assert task.status.state >= old.status.state


class Disturber:
    """Does at random what operators and accidents do."""

    def __init__(self, swarm: Swarm, rng: random.Random) -> None:
        self.swarm = swarm
        self.rng = rng

    async def step(self) -> None:
        await self.rng.choice(
            [
                self.fail,
                self.fail,
                self.fail,
                self.scale,
                self.image,
                self.drain,
                self.down,
                self.back,
                self.forget,
                self.label,
            ]
        )()

    def _task(self) -> api.Task | None:
        tasks = [t for t in self.swarm.store.view().find(api.Task) if t.status.state <= State.RUNNING]
        return self.rng.choice(tasks) if tasks else None

    async def fail(self) -> None:
        task = self._task()
        if task is not None and task.status.state >= State.ASSIGNED:
            end = State.REJECTED if task.status.state < State.STARTING else State.FAILED
            await self.swarm.observe(task.id, end)

    async def forget(self) -> None:
        task = self._task()
        if task is not None and task.slot:
            await self.swarm.store.update(lambda tx: self._delete(tx, task.id))

    @staticmethod
    def _delete(tx: Tx, task_id: str) -> None:
        if tx.get(api.Task, task_id) is not None:
            tx.delete(api.Task, task_id)

    async def scale(self) -> None:
        replicas = self.rng.randrange(0, 9)
        await self.swarm.roll_out("svc", lambda s: setattr(s.spec.replicated, "replicas", replicas))

    async def image(self) -> None:
        image = f"v{self.rng.randrange(4)}"
        order = self.rng.choice([api.UpdateConfig.STOP_FIRST, api.UpdateConfig.START_FIRST])

        def change(service: api.Service) -> None:
            service.spec.task.container.image = image
            service.spec.update.parallelism = self.rng.randrange(3)
            service.spec.update.order = order
            service.spec.update.failure_action = self.rng.choice(
                [api.UpdateConfig.CONTINUE, api.UpdateConfig.ROLLBACK]
            )

        await self.swarm.roll_out(self.rng.choice(["svc", "everywhere"]), change)

    async def label(self) -> None:
        value = self.rng.choice(["yes", "no"])
        await self.swarm.edit(
            api.Node,
            self.rng.choice(NODES),
            lambda node: node.spec.annotations.labels.update({"here": value}),
        )

    async def drain(self) -> None:
        await self._availability(api.NodeSpec.DRAIN)

    async def _availability(self, value: api.NodeSpec.Availability.ValueType) -> None:
        await self.swarm.edit(
            api.Node, self.rng.choice(NODES), lambda node: setattr(node.spec, "availability", value)
        )

    async def down(self) -> None:
        await self.swarm.edit(
            api.Node, self.rng.choice(NODES), lambda node: setattr(node.status, "state", api.NodeStatus.DOWN)
        )

    async def back(self) -> None:
        for id in NODES:
            await self.swarm.edit(api.Node, id, _restore)


class Log:
    """Commits what is proposed a little later, some at a time: transactions overlap as they do with raft."""

    def __init__(self, swarm: Swarm, rng: random.Random) -> None:
        self.proposer = FakeProposer(swarm.store, automatic=False)
        self.swarm = swarm
        self.rng = rng
        swarm.store.attach(self.proposer)

    async def run(self) -> None:
        while True:
            await self.swarm.clock.sleep(self.rng.choice([0.001, 0.001, 0.01, 0.05]))
            if self.proposer.waiting:
                self.proposer.commit(self.rng.randint(1, self.proposer.waiting))


def _restore(node: api.Node) -> None:
    node.status.state = api.NodeStatus.READY
    node.spec.availability = api.NodeSpec.ACTIVE


@pytest.mark.parametrize("seed", range(25))
@pytest.mark.parametrize("replicated", [False, True])
async def test_services_settle_on_the_wanted_tasks_once_disturbances_stop(
    seed: int, replicated: bool
) -> None:
    rng = random.Random(seed)
    swarm = Swarm()
    if not replicated:
        await _disturb(swarm, rng, None)
        return
    log = Log(swarm, rng)
    async with swarm.running(log.run):
        await _disturb(swarm, rng, log)


async def _disturb(swarm: Swarm, rng: random.Random, log: Log | None) -> None:
    cluster = api.Cluster(id="cluster")
    cluster.spec.annotations.name = "default"
    cluster.spec.orchestration.task_history_retention_limit = 2
    await swarm.create(cluster, *(make_node(id, labels={"here": "yes"}) for id in NODES))
    everywhere = make_service("everywhere", constraints=["node.labels.here==yes"])
    await swarm.create(make_service(replicas=4), everywhere)
    worker = Worker(swarm, nodes=NODES)
    worker.outcome = lambda task: State.FAILED if rng.random() < 0.1 else State.RUNNING
    observer = Observer(swarm)
    disturber = Disturber(swarm, rng)

    def leader() -> list[Loop]:
        return [
            ReplicatedOrchestrator(swarm.store, swarm.clock, swarm.new_id).run,
            GlobalOrchestrator(swarm.store, swarm.clock, swarm.new_id).run,
            ConstraintEnforcer(swarm.store, swarm.clock).run,
            TaskReaper(swarm.store, swarm.clock).run,
        ]

    async with swarm.running(observer.run, worker.run):
        for _ in range(4):  # leaders come and go
            async with swarm.running(*leader()):
                for _ in range(rng.randrange(15)):
                    await disturber.step()
                    await swarm.settle(rng.choice([0.0, 0.0, 0.001, 0.3, 2.0]))
            while log is not None and log.proposer.waiting:
                await swarm.settle()  # a new leader begins when all of its log is applied
        worker.outcome = lambda task: State.RUNNING
        async with swarm.running(*leader()):
            await disturber.back()
            await swarm.settle(300)
            _assert_settled(swarm)


def _assert_settled(swarm: Swarm) -> None:
    nodes = {node.id: node for node in swarm.store.view().find(api.Node)}
    service = swarm.service()
    live = [task for task in swarm.tasks() if wanted(task)]
    assert all(task.status.state == State.RUNNING for task in live)
    assert len(live) == service.spec.replicated.replicas
    assert len({task.slot for task in live}) == len(live)
    assert all(not is_invalid_node(nodes[task.node_id]) for task in live)
    places = sorted(task.node_id for task in swarm.tasks("everywhere") if wanted(task))
    fitting = [id for id in NODES if nodes[id].spec.annotations.labels["here"] == "yes"]
    assert places == fitting
    for task in swarm.tasks() + swarm.tasks("everywhere"):
        if wanted(task):
            assert task.spec == swarm.service(task.service_id).spec.task
    swarm.store.check_invariants()
