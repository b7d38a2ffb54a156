"""Tasks: read, list, remove (contract/control-api.md, 3)."""

from swarmkit.api import messages as api
from swarmkit.api.naming import runtime_name, task_name
from swarmkit.manager.controlapi import filters
from swarmkit.manager.controlapi.base import ControlBase, fill, handler
from swarmkit.manager.controlapi.errors import invalid_argument, missing
from swarmkit.manager.orchestrator.dirty import is_task_dirty
from swarmkit.store import NotExistError, by


class TasksMixin(ControlBase):
    """The RPCs of tasks."""

    @handler
    async def GetTask(self, request: api.GetTaskRequest) -> api.GetTaskResponse:
        """Return one task."""
        if not request.task_id:
            raise invalid_argument()
        task = self._store.view().get(api.Task, request.task_id)
        if task is None:
            raise missing("task", request.task_id)
        return api.GetTaskResponse(task=task)

    @handler
    async def RemoveTask(self, request: api.RemoveTaskRequest) -> api.RemoveTaskResponse:
        """Delete the record of a task; for one that is still wanted another will be made."""
        if not request.task_id:
            raise invalid_argument()
        try:
            await self._store.update(lambda tx: tx.delete(api.Task, request.task_id))
        except NotExistError as error:
            raise missing("task", request.task_id) from error
        return api.RemoveTaskResponse()

    @handler
    async def ListTasks(self, request: api.ListTasksRequest) -> api.ListTasksResponse:
        """Return the tasks that pass the filters."""
        wanted = request.filters
        selectors = filters.narrowest(
            [by.service(id) for id in wanted.service_ids],
            [by.node(id) for id in wanted.node_ids],
            [by.name(name) for name in wanted.names],
            [by.id_prefix(prefix) for prefix in wanted.id_prefixes],
            [by.name_prefix(prefix) for prefix in wanted.name_prefixes],
            [by.desired_state(state) for state in wanted.desired_states],
        )

        def keep(task: api.Task) -> bool:
            return (
                filters.one_of(wanted.names, task_name(task))
                and filters.prefixed(wanted.name_prefixes, task_name(task))
                and filters.prefixed(wanted.id_prefixes, task.id)
                and filters.labelled(wanted.labels, task.service_annotations.labels)
                and filters.one_of(wanted.service_ids, task.service_id)
                and filters.one_of(wanted.node_ids, task.node_id)
                and filters.one_of(wanted.desired_states, task.desired_state)
                and filters.one_of(wanted.runtimes, runtime_name(task.spec))
                and (not wanted.up_to_date or self._is_up_to_date(task))
            )

        response = api.ListTasksResponse()
        await fill(response.tasks, self._store.view().find(api.Task, *selectors), keep)
        return response

    def _is_up_to_date(self, task: api.Task) -> bool:
        reader = self._store.view()
        service = reader.get(api.Service, task.service_id)
        return service is not None and not is_task_dirty(service, task, reader.get(api.Node, task.node_id))
