"""What a commit announces, and what a watcher asks for (contract/raft-store-manager.md, 6)."""

import enum
from collections.abc import Callable, Collection
from dataclasses import KW_ONLY, dataclass
from typing import Any

from swarmkit.store.objects import StoreObject


class Action(enum.Enum):
    """What happened to an object; the values are those of ``StoreActionKind``."""

    CREATE = 1
    UPDATE = 2
    DELETE = 3


@dataclass(frozen=True, slots=True)
class Event:
    """One change of one object.

    Attributes:
        action: what happened.
        object: the object after the change; of a deletion, the last one stored.
        old: of an update, the object before it; None for others and for events replayed from the log.
    """

    action: Action
    object: StoreObject
    old: StoreObject | None = None


@dataclass(frozen=True, slots=True)
class Commit:
    """The changes of one committed transaction that a watcher asked for, in the order they were made.

    Attributes:
        version: the log index of the entry (D7).
        events: never empty.
    """

    version: int
    events: tuple[Event, ...]


@dataclass(frozen=True, slots=True)
class Watch:
    """Asks for events of one kind; all conditions that are given must hold, for the new object alone.

    So an object that leaves the filtered set is not announced. ``ids``, ``node_id`` and ``service_id`` are
    indexed: a commit costs nothing for the watchers of other objects, nodes and services.

    Attributes:
        kind: the message class.
        actions: which actions to announce.
        ids: only these objects.
        node_id: only tasks of this node.
        service_id: only tasks of this service.
        where: only objects for which this is true. If it raises, the watcher ends with that error.
    """

    kind: type[StoreObject]
    actions: Collection[Action] = frozenset(Action)
    _: KW_ONLY
    ids: Collection[str] | None = None
    node_id: str | None = None
    service_id: str | None = None
    where: Callable[[Any], bool] | None = None

    def matches(self, event: Event) -> bool:
        """Tell whether ``event`` is asked for."""
        kind: Any = self.kind
        stored: Any = event.object
        return (
            stored.__class__ is kind
            and event.action in self.actions
            and (self.ids is None or stored.id in self.ids)
            and (self.node_id is None or stored.node_id == self.node_id)
            and (self.service_id is None or stored.service_id == self.service_id)
            and (self.where is None or self.where(stored))
        )
