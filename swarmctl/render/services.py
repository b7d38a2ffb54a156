"""Services as rows and as a block; pure (contract/cli.md, 7)."""

import datetime
from collections.abc import Iterable, Mapping

from swarmctl.render.table import Block, table
from swarmctl.render.tasks import words
from swarmctl.render.text import cpus, duration, memory, relative_time
from swarmkit.api import messages as api

#: Update states in which the service is on its way back to its previous spec.
_ACTIONS = api.UpdateConfig.FailureAction


def instances(service: api.Service) -> str:
    """Return the wanted count, or ``global``."""
    return "global" if service.spec.HasField("global") else str(service.spec.replicated.replicas)


def service_table(
    services: Iterable[api.Service],
    statuses: "Mapping[str, api.ListServiceStatusesResponse.ServiceStatus] | None",
) -> str:
    """Return the table of ``service ls``, ascending by id; with statuses also running counts and updates."""
    titles = ["ID", "Name", "Image", "Instances"]
    if statuses is not None:
        titles += ["Running", "Update"]
    rows = []
    for service in sorted(services, key=lambda service: service.id):
        row = [
            service.id,
            service.spec.annotations.name,
            service.spec.task.container.image,
            instances(service),
        ]
        if statuses is not None:
            status = statuses.get(service.id)
            row.append(f"{status.running_tasks}/{status.desired_tasks}" if status else "")
            row.append(update_state(service))
        rows.append(row)
    return table(titles, rows)


def update_state(service: api.Service) -> str:
    """Return the update's state; empty if there has been none."""
    if not service.HasField("update_status"):
        return ""
    return api.UpdateStatus.UpdateState.Name(service.update_status.state)


def service_block(service: api.Service, now: datetime.datetime, running: int | None = None) -> str:
    """Return the block of ``service inspect``; with ``running`` also counts and the update's state."""
    spec = service.spec
    block = Block()
    block.add("ID", service.id)
    block.add("Name", spec.annotations.name)
    if spec.annotations.labels:
        block.heading("Labels")
        for key, value in sorted(spec.annotations.labels.items()):
            block.add(f"  {key}", value)
    if spec.HasField("global"):
        block.add("Mode", "global")
    else:
        block.add("Instances", instances(service))
    if running is not None:
        block.add("Running", str(running))
        _add_update_status(block, service, now)
    if spec.HasField("update"):
        _add_update(block, "Update", spec.update)
    if spec.HasField("rollback"):
        _add_update(block, "Rollback", spec.rollback)
    block.heading("Template")
    block.heading(" Container")
    _add_container(block, spec.task)
    _add_ports(block, service.endpoint.ports or spec.endpoint.ports)
    _add_mounts(block, spec.task.container.mounts)
    if spec.task.HasField("log_driver"):
        block.section("")
        block.add("  LogDriver", spec.task.log_driver.name)
        for key, value in sorted(spec.task.log_driver.options.items()):
            block.add(f"    {key}", value)
    return block.text()


def _add_update_status(block: Block, service: api.Service, now: datetime.datetime) -> None:
    status = service.update_status
    if not service.HasField("update_status"):
        return
    block.heading("Update Status")
    block.add(" State", update_state(service))
    if status.HasField("started_at"):
        block.add(" Started", relative_time(status.started_at, now))
    if status.state == api.UpdateStatus.COMPLETED and status.HasField("completed_at"):
        block.add(" Completed", relative_time(status.completed_at, now))
    block.add(" Message", status.message)


def _add_update(block: Block, title: str, config: api.UpdateConfig) -> None:
    block.heading(title)
    block.add("  Parallelism", str(config.parallelism) if config.parallelism else "all at once")
    if config.HasField("delay"):
        block.add("  Delay", duration(config.delay))
    block.add("  On failure", _ACTIONS.Name(config.failure_action).lower())
    block.add("  Order", api.UpdateConfig.UpdateOrder.Name(config.order).lower().replace("_", "-"))


def _add_container(block: Block, task: api.TaskSpec) -> None:
    spec = task.container
    block.add("  Image", spec.image)
    block.add("  Command", f'"{" ".join(spec.command)}"' if spec.command else "")
    block.add("  Args", words(spec.args))
    block.add("  Env", words(spec.env))
    block.add("  Hostname", spec.hostname)
    block.add("  Constraints", ", ".join(task.placement.constraints))
    if task.placement.max_replicas:
        block.add("  Replicas per node", task.placement.max_replicas)
    if task.HasField("restart"):
        condition = api.RestartPolicy.RestartCondition.Name(task.restart.condition)
        block.add("  Restart", condition.lower().replace("on_failure", "failure"))
    for title, resources in (
        ("    Reservations:", task.resources.reservations),
        ("    Limits:", task.resources.limits),
    ):
        if resources.nano_cpus or resources.memory_bytes:
            if title == "    Reservations:" or not (
                task.resources.reservations.nano_cpus or task.resources.reservations.memory_bytes
            ):
                block.heading("  Resources")
            block.heading(title)
            block.add("      CPU", cpus(resources.nano_cpus) if resources.nano_cpus else "")
            block.add("      Memory", memory(resources.memory_bytes) if resources.memory_bytes else "")


def _add_ports(block: Block, ports: Iterable[api.PortConfig]) -> None:
    found = list(ports)
    if not found:
        return
    block.section("")
    block.section("Ports:")
    for port in found:
        block.section(f"    - Name             = {port.name}".rstrip())
        block.section(f"      Protocol         = {api.PortConfig.Protocol.Name(port.protocol)}")
        block.section(f"      Port             = {port.target_port}")
        block.section(f"      SwarmPort        = {port.published_port}")


def _add_mounts(block: Block, mounts: Iterable[api.Mount]) -> None:
    found = list(mounts)
    if not found:
        return
    block.section("  Mounts:")
    for mount in found:
        block.section(f"    - target = {mount.target}")
        if mount.source:
            block.section(f"      source = {mount.source}")
        block.section(f"      readonly = {str(mount.readonly).lower()}")
        block.section(f"      type = {api.Mount.Type.Name(mount.type).lower()}")
