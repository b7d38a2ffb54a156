"""Templates in specs: the part of Go's ``text/template`` that specs use (contract/control-api.md, 9).

Understood: text, ``{{pipelines}}`` of fields, variables, literals, parentheses and functions; ``if``,
``with`` and ``range`` with ``else``, comments, and ``{{-`` / ``-}}`` to trim white space. Functions: ``join``
and of the predefined ones ``and or not len index print printf println eq ne lt le gt ge``. What Go has beyond
that (``define``, ``template``, ``block``, ``break``, ``call``, ``html`` …) is refused by name.

A field that does not exist and a map key that is missing are errors.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from swarmkit.api import messages as api
from swarmkit.api.naming import task_name
from swarmkit.api.template_functions import Struct, TemplateError
from swarmkit.api.template_nodes import Evaluation
from swarmkit.api.template_parser import parse

__all__ = ["Context", "TemplateError", "expand"]


@dataclass(frozen=True, slots=True)
class Context:
    """What a template can ask for.

    Attributes:
        task_slot: the slot in decimal, or the node's id for a task without a slot.
    """

    service_id: str = ""
    service_name: str = ""
    service_labels: Mapping[str, str] = field(default_factory=dict)
    node_id: str = ""
    node_hostname: str = ""
    node_architecture: str = ""
    node_os: str = ""
    task_id: str = ""
    task_name: str = ""
    task_slot: str = ""

    @staticmethod
    def of_task(task: api.Task, description: api.NodeDescription | None = None) -> "Context":
        """Return the context of a task on the node that ``description`` describes, as far as it is known."""
        node = description or api.NodeDescription()
        return Context(
            service_id=task.service_id,
            service_name=task.service_annotations.name,
            service_labels=dict(task.service_annotations.labels),
            node_id=task.node_id,
            node_hostname=node.hostname,
            node_architecture=node.platform.architecture,
            node_os=node.platform.os,
            task_id=task.id,
            task_name=task_name(task),
            task_slot=str(task.slot or task.node_id),
        )

    def dot(self) -> Struct:
        """Return the value of ``.`` with the names that templates use."""
        platform = Struct("Platform", {"Architecture": self.node_architecture, "OS": self.node_os})
        service = {"ID": self.service_id, "Name": self.service_name, "Labels": dict(self.service_labels)}
        node = {"ID": self.node_id, "Hostname": self.node_hostname, "Platform": platform}
        task = {"ID": self.task_id, "Name": self.task_name, "Slot": self.task_slot}
        return Struct(
            "Context",
            {
                "Service": Struct("Service", service),
                "Node": Struct("Node", node),
                "Task": Struct("Task", task),
            },
        )


def expand(text: str, context: Context, functions: Mapping[str, Callable[..., object]] | None = None) -> str:
    """Return ``text`` with its templates expanded.

    Args:
        text: any text; one without ``{{`` comes back as it is.
        context: what fields stand for.
        functions: further functions by name, for payloads (``secret``, ``config``, ``env``).

    Raises:
        TemplateError: the syntax is wrong, or a value does not exist.
    """
    if "{{" not in text:
        return text
    extra = dict(functions or {})
    root = parse(text, extra.keys())
    return Evaluation(context.dot(), extra).run(root)
