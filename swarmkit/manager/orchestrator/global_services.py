"""The orchestrator of global services (contract/orchestration.md, 3 and 7)."""

from collections.abc import Mapping

from swarmkit.api import messages as api
from swarmkit.manager import constraint
from swarmkit.manager.constraint import Constraint
from swarmkit.manager.orchestrator.global_plan import change_of_place, plan_global
from swarmkit.manager.orchestrator.loop import Orchestrator, shut_down
from swarmkit.manager.orchestrator.pacing import Pacer
from swarmkit.manager.orchestrator.reads import node_of, tasks_in_slot
from swarmkit.manager.orchestrator.slots import SlotKey
from swarmkit.manager.orchestrator.startup import Repair, repair_of_global
from swarmkit.manager.tasks import ended, is_global, is_invalid_node, new_task, wanted
from swarmkit.store import Action, Tx, Watch, by


class GlobalOrchestrator(Orchestrator):
    """Keeps one task of each global service on every node that may have one."""

    name = "global orchestrator"

    def _reset(self) -> None:
        super()._reset()
        self._constraints: dict[str, list[Constraint]] = {}

    def _takes(self, service: api.Service | None) -> bool:
        return is_global(service)

    def _watches(self) -> tuple[Watch, ...]:
        return (Watch(api.Task, {Action.UPDATE}, where=lambda task: wanted(task) and ended(task)),)

    def _repair(self, task: api.Task, nodes: Mapping[str, api.Node]) -> Repair:
        return repair_of_global(task, nodes)

    def _service_changed(self, service: api.Service) -> None:
        self._constraints[service.id] = constraint.parse_or_empty(service.spec.task.placement.constraints)
        super()._service_changed(service)

    def _service_deleted(self, service: api.Service) -> None:
        self._constraints.pop(service.id, None)
        super()._service_deleted(service)

    def _task_event(self, action: Action, task: api.Task) -> None:
        if task.service_id in self._constraints:
            self._restart_queue[task.id] = None

    def _restart(self, tx: Tx, service: api.Service, task: api.Task) -> None:
        node = node_of(tx, task)
        if node is None or is_invalid_node(node):
            return  # the event of the node deals with its tasks
        constraints = self._constraints.get(service.id, [])
        if node.spec.availability == api.NodeSpec.PAUSE or not constraint.matches(constraints, node):
            shut_down(tx, task)
        else:
            self._restarts.restart(tx, service, task)

    # Services

    async def _reconcile(self, service_id: str) -> None:
        reader = self._store.view()
        service = reader.get(api.Service, service_id)
        if service is None or service_id not in self._constraints:
            return
        nodes = reader.find(api.Node)
        tasks = reader.find(api.Task, by.service(service_id))
        should_restart = self._restarts.history.should_restart
        plan = await Pacer(self._clock).drive(
            plan_global(service, self._constraints[service_id], nodes, tasks, should_restart)
        )
        await self._each(plan.create, self._create)
        await self._change_tasks(plan.stop, shut_down)
        if plan.update:
            self._updates.update(service, self._cluster, plan.update)

    def _create(self, tx: Tx, key: SlotKey) -> None:
        service = tx.get(api.Service, key.service_id)
        if service is None or self._restarts.updatable(service, tasks_in_slot(tx, key)):
            return
        self._create_on(tx, service, key.node_id)

    def _create_on(self, tx: Tx, service: api.Service, node_id: str) -> None:
        now = self._clock.now()
        tx.create(new_task(self._new_id(), service, now, node_id=node_id, cluster=self._cluster))

    # Nodes

    async def _reconcile_node(self, node_id: str) -> None:
        reader = self._store.view()
        node = reader.get(api.Node, node_id)
        if node is None:
            await self._forget_node(node_id)
            return
        tasks: dict[str, list[api.Task]] = {}
        for task in reader.find(api.Task, by.node(node_id)):
            tasks.setdefault(task.service_id, []).append(task)
        pacer = Pacer(self._clock)
        changing: list[SlotKey] = []
        for service_id, constraints in list(self._constraints.items()):
            service = self._store.view().get(api.Service, service_id)
            members = tasks.get(service_id, [])
            should_restart = self._restarts.history.should_restart
            if service and change_of_place(service, constraints, node, members, should_restart):
                changing.append(SlotKey(service_id, 0, node_id))
            await pacer.pause()
        await self._each(changing, self._change_place)

    def _change_place(self, tx: Tx, key: SlotKey) -> None:
        service = tx.get(api.Service, key.service_id)
        node = tx.get(api.Node, key.node_id)
        if service is None or node is None:
            return
        change = change_of_place(
            service,
            self._constraints.get(service.id, []),
            node,
            tasks_in_slot(tx, key),
            self._restarts.history.should_restart,
        )
        if change.create:
            self._create_on(tx, service, node.id)
        for task in change.stop:
            shut_down(tx, task)

    async def _forget_node(self, node_id: str) -> None:
        self._restarts.history.forget_node(node_id)
        tasks = self._store.view().find(api.Task, by.node(node_id))
        await self._change_tasks(
            [task.id for task in tasks if task.service_id in self._constraints],
            lambda tx, task: tx.delete(api.Task, task.id),
        )
