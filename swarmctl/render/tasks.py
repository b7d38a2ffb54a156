"""Tasks as rows and as a block; pure (contract/cli.md, 4 and 8)."""

import datetime
from collections.abc import Iterable, Mapping

from swarmctl.render.table import WIDE_GAP, Block, table
from swarmctl.render.text import absolute_time, relative_time
from swarmkit.api import messages as api

#: Task states in which an exit code says something.
_ENDED = api.TaskState.RUNNING


def state_name(state: "api.TaskState.ValueType") -> str:
    """Return a task state's word."""
    return api.TaskState.Name(state)


def last_state(status: api.TaskStatus, now: datetime.datetime) -> str:
    """Return the observed state and how long it has been so."""
    if not status.HasField("timestamp"):
        return state_name(status.state)
    return f"{state_name(status.state)} {relative_time(status.timestamp, now)}"


def wanted(tasks: Iterable[api.Task], show_all: bool) -> list[api.Task]:
    """Drop the tasks whose desired state is above RUNNING, unless all are asked for."""
    return [task for task in tasks if show_all or task.desired_state <= api.TaskState.RUNNING]


def ordered(tasks: Iterable[api.Task]) -> list[api.Task]:
    """Sort by slot, within a slot newest first."""

    def newest(task: api.Task) -> tuple[int, int]:
        created = task.meta.created_at
        return (-created.seconds, -created.nanos)

    return sorted(sorted(tasks, key=newest), key=lambda task: task.slot)


def task_table(
    tasks: Iterable[api.Task], names: Mapping[str, str], now: datetime.datetime, errors: bool = False
) -> str:
    """Return the table inside inspects; with ``errors`` also what went wrong with each task."""
    titles = ["Task ID", "Service", "Instance", "Image", "Desired State", "Last State", "Node"]
    rows = [
        [
            task.id,
            task.service_annotations.name,
            str(task.slot or ""),
            task.spec.container.image,
            state_name(task.desired_state),
            last_state(task.status, now),
            names.get(task.node_id, task.node_id),
        ]
        for task in ordered(tasks)
    ]
    if errors:
        titles.append("Error")
        for row, task in zip(rows, ordered(tasks), strict=True):
            row.append(task.status.err)
    return table(titles, rows, WIDE_GAP)


def list_table(
    tasks: Iterable[api.Task], services: Mapping[str, str], nodes: Mapping[str, str], now: datetime.datetime
) -> str:
    """Return the table of ``task ls``, ascending by id."""
    rows = [
        [
            task.id,
            display_name(task, services, nodes),
            state_name(task.desired_state),
            last_state(task.status, now),
            nodes.get(task.node_id, task.node_id),
        ]
        for task in sorted(tasks, key=lambda task: task.id)
    ]
    return table(["ID", "Service", "Desired State", "Last State", "Node"], rows)


def display_name(task: api.Task, services: Mapping[str, str], nodes: Mapping[str, str]) -> str:
    """Return ``service.slot``, the node standing in for the slot of a global service's task."""
    service = services.get(task.service_id, task.service_id)
    return f"{service}.{task.slot or nodes.get(task.node_id, task.node_id)}"


def _ports(task: api.Task) -> str:
    return ", ".join(
        f"0.0.0.0:{port.published_port}->{port.target_port}/{api.PortConfig.Protocol.Name(port.protocol).lower()}"
        for port in task.status.port_status.ports
    )


def task_block(task: api.Task, service: str, node: str, now: datetime.datetime) -> str:
    """Return the block of ``task inspect``."""
    block = Block()
    block.add("ID", task.id)
    if task.slot:
        block.add("Instance", task.slot)
    block.add("Service", service)
    block.heading("Status")
    block.add("  Desired State", state_name(task.desired_state))
    block.add("  Last State", state_name(task.status.state))
    if task.status.HasField("timestamp"):
        block.add("  Timestamp", absolute_time(task.status.timestamp))
    block.add("  Message", task.status.message)
    block.add("  Error", task.status.err)
    status = task.status.container
    block.add("  ContainerID:", status.container_id)
    if status.pid:
        block.add("  Pid", status.pid)
    if status.container_id and task.status.state > _ENDED:
        block.add("  ExitCode", status.exit_code)
    block.add("Ports", _ports(task))
    block.add("Node", node)
    block.heading("Spec")
    spec = task.spec.container
    block.add("  Image", spec.image)
    block.add("  Command", f'"{" ".join(spec.command)}"' if spec.command else "")
    block.add("  Args", words(spec.args))
    block.add("  Env", words(spec.env))
    return block.text()


def words(values: Iterable[str]) -> str:
    """Return ``[a, b]``; empty for nothing."""
    found = list(values)
    return f"[{', '.join(found)}]" if found else ""
