"""What a worker holds after the assignment messages it got, by the worker's rules (contract, 8)."""

from swarmkit.api import messages as api
from swarmkit.store import Reader, by

_UPDATE = api.AssignmentChange.UPDATE


class Received:
    """Applies assignment messages and checks that they form one chain."""

    def __init__(self) -> None:
        self.tasks: dict[str, api.Task] = {}
        self.secrets: dict[str, api.Secret] = {}
        self.configs: dict[str, api.Config] = {}
        self._results_in = ""

    def apply(self, message: api.AssignmentsMessage) -> None:
        if message.type == api.AssignmentsMessage.COMPLETE:
            assert message.applies_to == ""
            self.tasks, self.secrets, self.configs = {}, {}, {}
        else:
            assert message.applies_to == self._results_in != ""
            assert message.changes
        self._results_in = message.results_in
        self.apply_changes(list(message.changes))

    def apply_changes(self, changes: list[api.AssignmentChange]) -> None:
        tables = {"task": self.tasks, "secret": self.secrets, "config": self.configs}
        seen = set()
        for change in changes:
            kind = change.assignment.WhichOneof("item")
            assert kind is not None
            item = getattr(change.assignment, kind)
            assert (kind, item.id) not in seen
            seen.add((kind, item.id))
            if change.action == _UPDATE:
                tables[kind][item.id] = item  # type: ignore[index]
            else:
                tables[kind].pop(item.id, None)  # type: ignore[attr-defined]

    def check(self, reader: Reader, node_id: str) -> None:
        """Compare with what the store says this node should hold."""
        stored = {
            task.id: task
            for task in reader.find(api.Task, by.node(node_id))
            if task.status.state >= api.TaskState.ASSIGNED
        }
        assert self.tasks.keys() == stored.keys()
        for task_id, task in stored.items():
            assert essence(self.tasks[task_id]) == essence(task)
        for kind, held in ((api.Secret, self.secrets), (api.Config, self.configs)):
            needed = set()
            allowed = set()
            for task in stored.values():
                named = _named(task, kind)
                allowed |= named
                if task.status.state <= api.TaskState.RUNNING:
                    needed |= named
            assert {id for id in needed if reader.get(kind, id) is not None} <= set(held) <= allowed


def _named(task: api.Task, kind: type[api.Secret] | type[api.Config]) -> set[str]:
    container = task.spec.container
    if kind is api.Secret:
        return {reference.secret_id for reference in container.secrets}
    return {reference.config_id for reference in container.configs}


def essence(task: api.Task) -> api.Task:
    """Return a task without what the node itself reports."""
    bare = api.Task()
    bare.CopyFrom(task)
    bare.ClearField("status")
    bare.ClearField("meta")
    return bare
