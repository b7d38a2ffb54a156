"""The orchestrator of replicated services (contract/orchestration.md, 3 and 6)."""

from collections.abc import Mapping

from swarmkit.api import messages as api
from swarmkit.log import get_logger
from swarmkit.manager.orchestrator.loop import Orchestrator, raise_desired_state
from swarmkit.manager.orchestrator.pacing import Pacer
from swarmkit.manager.orchestrator.reads import node_of, tasks_in_slot
from swarmkit.manager.orchestrator.replicated_plan import plan_replicated
from swarmkit.manager.orchestrator.slots import SlotKey
from swarmkit.manager.orchestrator.startup import Repair, repair_of_replicated
from swarmkit.manager.tasks import ended, is_invalid_node, is_replicated, new_task, wanted
from swarmkit.store import Action, Tx, Watch, by

log = get_logger(__name__)


class ReplicatedOrchestrator(Orchestrator):
    """Keeps as many running slots as each replicated service has replicas."""

    name = "replicated orchestrator"

    def _takes(self, service: api.Service | None) -> bool:
        return is_replicated(service)

    def _watches(self) -> tuple[Watch, ...]:
        return (
            Watch(api.Task, {Action.CREATE, Action.UPDATE}, where=wanted),
            Watch(api.Task, {Action.DELETE}),
        )

    def _repair(self, task: api.Task, nodes: Mapping[str, api.Node]) -> Repair:
        return repair_of_replicated(task, nodes)

    def _task_event(self, action: Action, task: api.Task) -> None:
        if action is Action.DELETE:
            self._restarts.cancel(task.id)
            if wanted(task) and task.service_id:
                self._reconciles[task.service_id] = None
        elif ended(task) or (task.node_id and is_invalid_node(node_of(self._store.view(), task))):
            self._restart_queue[task.id] = None

    def _node_event(self, action: Action, node: api.Node) -> None:
        if action is Action.DELETE or is_invalid_node(node):
            self._nodes[node.id] = None

    def _restart(self, tx: Tx, service: api.Service, task: api.Task) -> None:
        self._restarts.restart(tx, service, task)

    async def _reconcile_node(self, node_id: str) -> None:
        tasks = self._store.view().find(api.Task, by.node(node_id))
        self._restart_queue.update((task.id, None) for task in tasks if wanted(task))

    async def _reconcile(self, service_id: str) -> None:
        reader = self._store.view()
        service = reader.get(api.Service, service_id)
        if service is None or not is_replicated(service):
            return
        tasks = reader.find(api.Task, by.service(service_id))
        plan = await Pacer(self._clock).drive(
            plan_replicated(service, tasks, self._restarts.history.should_restart)
        )
        self._updates.update(service, self._cluster, plan.update)
        if plan.create or plan.remove:
            log.info(
                "service scaled",
                service_id=service_id,
                replicas=service.spec.replicated.replicas,
                created=len(plan.create),
                removed=len(plan.remove),
            )
        # What the plan found is looked at again in each transaction: other changes may be in flight.
        await self._each(plan.create, self._create)
        await self._each(plan.remove, self._remove_slot)
        await self._each(plan.forget, self._forget_slot)
        if plan.incomplete:
            self._reconciles[service_id] = None

    def _create(self, tx: Tx, key: SlotKey) -> None:
        service = tx.get(api.Service, key.service_id)
        if service is None or self._restarts.updatable(service, tasks_in_slot(tx, key)):
            return
        task_id = self._new_id()
        tx.create(new_task(task_id, service, self._clock.now(), slot=key.slot, cluster=self._cluster))

    def _remove_slot(self, tx: Tx, key: SlotKey) -> None:
        # PARITY: history goes, too. In the original the newest remaining record of a slot that had been
        # scaled away could count as a running slot later (contract, 16, O6).
        for task in tasks_in_slot(tx, key):
            raise_desired_state(tx, task, api.TaskState.REMOVE)

    def _forget_slot(self, tx: Tx, key: SlotKey) -> None:
        service = tx.get(api.Service, key.service_id)
        tasks = tasks_in_slot(tx, key)
        if service is not None and not self._restarts.updatable(service, tasks):
            for task in tasks:
                tx.delete(api.Task, task.id)
