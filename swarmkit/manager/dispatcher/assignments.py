"""What one node is told to run, and how that changes (contract/dispatcher-agent.md, 3.10).

Pure: ``AssignmentSet`` is fed with the store's state at the start of a stream and then with each event, and
collects the changes of the next message.
"""

import enum
from collections.abc import Iterable, Iterator
from typing import TypeAlias

from swarmkit.api import messages as api
from swarmkit.log import get_logger
from swarmkit.manager.dispatcher.references import References, task_references, volume_references
from swarmkit.store import Reader, by

log = get_logger(__name__)

_UPDATE = api.AssignmentChange.UPDATE
_REMOVE = api.AssignmentChange.REMOVE
_PUBLISH = api.VolumePublishStatus


class _Kind(enum.Enum):
    TASK = "task"
    SECRET = "secret"
    CONFIG = "config"
    VOLUME = "volume"


_Key = tuple[_Kind, str]
_Action: TypeAlias = api.AssignmentChange.AssignmentAction.ValueType


def differs_only_in_status(one: api.Task, other: api.Task) -> bool:
    """Tell whether two versions of a task differ in nothing but ``status`` and ``meta``."""
    return _without_status(one) == _without_status(other)


def _without_status(task: api.Task) -> api.Task:
    bare = api.Task()
    bare.CopyFrom(task)
    bare.ClearField("status")
    bare.ClearField("meta")
    return bare


class AssignmentSet:
    """The tasks, secrets, configs and volumes one node has been sent, and what to send next.

    Holds references to the store's messages, never changes them. Its size is bounded by what the node runs.
    """

    def __init__(self, node_id: str) -> None:
        self._node_id = node_id
        self._tasks: dict[str, api.Task] = {}
        self._volumes: dict[str, api.VolumePublishStatus.State.ValueType] = {}
        self._users: dict[_Key, set[str]] = {}
        self._changes: dict[_Key, api.AssignmentChange] = {}

    def start(self, reader: Reader) -> None:
        """Collect everything the store holds for the node: the contents of a COMPLETE message."""
        for task in reader.find(api.Task, by.node(self._node_id)):
            self.update_task(reader, task)
        for volume in reader.find(api.Volume):
            self.update_volume(reader, volume)

    def take_changes(self) -> list[api.AssignmentChange]:
        """Return the changes collected since the last call, at most one per object."""
        changes = list(self._changes.values())
        self._changes.clear()
        return changes

    def update_task(self, reader: Reader, task: api.Task) -> bool:
        """Take in a task as it now is; tell whether there is something to send."""
        state = task.status.state
        if state < api.TaskState.ASSIGNED:
            return False
        sent = self._tasks.get(task.id)
        self._tasks[task.id] = task
        if sent is None:
            if state <= api.TaskState.RUNNING:
                self._use(reader, task.id, task_references(task))
            self._send_task(task)
            return True
        if state == api.TaskState.ASSIGNED or not differs_only_in_status(sent, task):
            self._send_task(task)
            return True
        return state > api.TaskState.RUNNING and self._release(task.id, task_references(task))

    def delete_task(self, task: api.Task) -> bool:
        """Take in a task's deletion; tell whether there is something to send."""
        if self._tasks.pop(task.id, None) is None:
            return False
        self._put((_Kind.TASK, task.id), api.Assignment(task=api.Task(id=task.id)), _REMOVE)
        self._release(task.id, task_references(task))
        return True

    def update_volume(self, reader: Reader, volume: api.Volume) -> bool:
        """Take in a volume as it now is; tell whether there is something to send."""
        status = next((s for s in volume.publish_status if s.node_id == self._node_id), None)
        last = self._volumes.get(volume.id)
        if status is None or status.state == _PUBLISH.PENDING_UNPUBLISH:
            if last is None:
                return False
            del self._volumes[volume.id]
            return self._release(volume.id, volume_references(volume))
        if status.state in (last, _PUBLISH.PENDING_PUBLISH):
            return False
        if not volume.spec.HasField("driver"):
            # A Go worker dereferences the driver without looking.
            log.debug("volume without driver not assigned", volume_id=volume.id, node_id=self._node_id)
            return False
        self._volumes[volume.id] = status.state
        self._use(reader, volume.id, volume_references(volume))
        action = _REMOVE if status.state == _PUBLISH.PENDING_NODE_UNPUBLISH else _UPDATE
        self._put(
            (_Kind.VOLUME, volume.id), api.Assignment(volume=_volume_assignment(volume, status)), action
        )
        return True

    def check_invariants(self) -> None:
        """Raise AssertionError if a dependency is kept for a user that is gone, or for nobody."""
        for users in self._users.values():
            assert users
            assert users <= self._tasks.keys() | self._volumes.keys()

    def _send_task(self, task: api.Task) -> None:
        self._put((_Kind.TASK, task.id), api.Assignment(task=task), _UPDATE)

    def _put(self, key: _Key, item: api.Assignment, action: _Action) -> None:
        self._changes[key] = api.AssignmentChange(assignment=item, action=action)

    def _use(self, reader: Reader, user: str, references: References) -> None:
        """Record ``user`` with each dependency; send those that are new or may differ between users."""
        for key, always in _keys(references):
            users = self._users.setdefault(key, set())
            if always or not users:
                self._send_dependency(reader, key)
            users.add(user)

    def _send_dependency(self, reader: Reader, key: _Key) -> None:
        kind, object_id = key
        if kind is _Kind.CONFIG:
            config = reader.get(api.Config, object_id)
            if config is not None:
                self._put(key, api.Assignment(config=config), _UPDATE)
                return
        else:
            secret = reader.get(api.Secret, object_id)
            if secret is not None and secret.spec.HasField("driver"):
                log.debug("secret drivers are not supported, secret left out", secret_id=object_id)
                return
            if secret is not None:
                self._put(key, api.Assignment(secret=secret), _UPDATE)
                return
        log.debug("dependency not found, left out", kind=kind.value, id=object_id, node_id=self._node_id)

    def _release(self, user: str, references: References) -> bool:
        """Take ``user`` from each dependency; send the removal of those without one, sent before or not."""
        released = False
        for key, _ in _keys(references):
            users = self._users.get(key, set())
            users.discard(user)
            if users:
                continue
            self._users.pop(key, None)
            self._put(key, _identity(key), _REMOVE)
            released = True
        return released


def _keys(references: References) -> Iterator[tuple[_Key, bool]]:
    """Yield each dependency once, and whether each new user makes it be sent again."""

    def keys(kind: _Kind, ids: Iterable[str]) -> Iterator[_Key]:
        return ((kind, object_id) for object_id in ids)

    for key in keys(_Kind.SECRET, references.own_secrets):
        yield key, True
    for key in keys(_Kind.SECRET, references.shared_secrets):
        yield key, False
    for key in keys(_Kind.CONFIG, references.configs):
        yield key, False


def _identity(key: _Key) -> api.Assignment:
    kind, object_id = key
    if kind is _Kind.SECRET:
        return api.Assignment(secret=api.Secret(id=object_id))
    return api.Assignment(config=api.Config(id=object_id))


def _volume_assignment(volume: api.Volume, status: api.VolumePublishStatus) -> api.VolumeAssignment:
    assignment = api.VolumeAssignment(
        id=volume.id,
        volume_id=volume.volume_info.volume_id,
        driver=volume.spec.driver,
        secrets=volume.spec.secrets,
        volume_context=volume.volume_info.volume_context,
        publish_context=status.publish_context,
    )
    if volume.spec.HasField("access_mode"):
        assignment.access_mode.CopyFrom(volume.spec.access_mode)
    return assignment
