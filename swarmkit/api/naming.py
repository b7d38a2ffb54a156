"""Names computed from messages and shown to users (contract/raft-store-manager.md, 1)."""

from swarmkit.api import messages as api

CONTAINER_RUNTIME = "container"
ATTACHMENT_RUNTIME = "attachment"
#: Engine label that carries, in one sentence, why the node's engine cannot be used; absent while it can. The
#: node sends it with its description, and a manager shows it: state DISCONNECTED, with that message.
ENGINE_ERROR_LABEL = "swarmkit.engine.error"
#: Engine label that marks nodes of this project; its value is the version. Nothing else on the wire tells
#: them from Docker Engines and the original's nodes, which cannot be managers here. No foreign peer minds a
#: label: the original stores and prints it, and a constraint may ask for it.
IMPLEMENTATION_LABEL = "swarmkit.python"


def task_name(task: api.Task) -> str:
    """Return the task's own name, or ``<service>.<slot>.<id>`` with the node's id where the slot is zero."""
    if task.annotations.name:
        return task.annotations.name
    return f"{task.service_annotations.name}.{task.slot or task.node_id}.{task.id}"


def runtime_name(spec: api.TaskSpec) -> str | None:
    """Return ``container``, ``attachment`` or the generic kind in lower case; None if no runtime is set."""
    runtime = spec.WhichOneof("runtime")
    return spec.generic.kind.lower() if runtime == "generic" else runtime
