"""What the orchestrators look up in the store."""

from swarmkit.api import messages as api
from swarmkit.manager.orchestrator.slots import SlotKey
from swarmkit.store import Reader, by

#: The one cluster object of a swarm.
DEFAULT_CLUSTER_NAME = "default"


def tasks_in_slot(reader: Reader, key: SlotKey) -> list[api.Task]:
    """Return all tasks of a slot, whatever their state."""
    if not key.node_id:
        return reader.find(api.Task, by.slot(key.service_id, key.slot))
    tasks = reader.find(api.Task, by.node(key.node_id))
    return [task for task in tasks if task.service_id == key.service_id]


def node_of(reader: Reader, task: api.Task) -> api.Node | None:
    """Return the record of the node a task is on, None if it has no node or the record is gone."""
    return reader.get(api.Node, task.node_id) if task.node_id else None


def default_cluster(reader: Reader) -> api.Cluster | None:
    """Return the swarm's cluster object, None while there is not exactly one."""
    clusters = reader.find(api.Cluster, by.name(DEFAULT_CLUSTER_NAME))
    return clusters[0] if len(clusters) == 1 else None
