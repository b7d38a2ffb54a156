"""Nodes as rows and as a block; pure (contract/cli.md, 6)."""

from collections.abc import Iterable

from swarmctl.render.table import Block, table
from swarmctl.render.text import memory
from swarmkit.api import messages as api
from swarmkit.api.naming import IMPLEMENTATION_LABEL


def node_name(node: api.Node) -> str:
    """Return the name in the spec, else the host name, else the id."""
    return node.spec.annotations.name or node.description.hostname or node.id


def manager_status(node: api.Node) -> str:
    """Return reachability and the leader's star; empty for workers, UNKNOWN for a manager yet to join."""
    if not node.HasField("manager_status"):
        return "UNKNOWN" if node.spec.desired_role == api.NodeRole.MANAGER else ""
    status = node.manager_status
    reachability = api.RaftMemberStatus.Reachability.Name(status.reachability)
    return f"{reachability} *" if status.leader else reachability


def node_table(nodes: Iterable[api.Node], verbose: bool) -> str:
    """Return the table of ``node ls``, ascending by id; verbose adds address and engine version."""
    titles = ["ID", "Name", "Membership", "Status", "Availability", "Manager status"]
    rows = []
    for node in sorted(nodes, key=lambda node: node.id):
        row = [
            node.id,
            node.spec.annotations.name or node.description.hostname,
            api.NodeSpec.Membership.Name(node.spec.membership),
            api.NodeStatus.State.Name(node.status.state),
            api.NodeSpec.Availability.Name(node.spec.availability),
            manager_status(node),
        ]
        if verbose:
            row += [node.status.addr, node.description.engine.engine_version, node.status.message]
        rows.append(row)
    if verbose:
        titles += ["Address", "Engine", "Message"]
    return table(titles, rows)


def pairs(labels: "dict[str, str]") -> str:
    """Return ``a=1 b=2``, sorted."""
    return " ".join(f"{key}={value}" for key, value in sorted(labels.items()))


def _plugins(plugins: Iterable[api.PluginDescription]) -> dict[str, list[str]]:
    by_type: dict[str, list[str]] = {}
    for plugin in plugins:
        by_type.setdefault(plugin.type, []).append(plugin.name)
    return by_type


def _generic(resources: Iterable[api.GenericResource]) -> dict[str, str]:
    found: dict[str, list[str]] = {}
    for resource in resources:
        if resource.WhichOneof("resource") == "named_resource_spec":
            found.setdefault(resource.named_resource_spec.kind, []).append(resource.named_resource_spec.value)
        else:
            counted = resource.discrete_resource_spec
            found.setdefault(counted.kind, []).append(str(counted.value))
    return {kind: ",".join(values) for kind, values in found.items()}


def _role(node: api.Node) -> str:
    """Return the role, and the wished one while it is another."""
    role, wished = api.NodeRole.Name(node.role), api.NodeRole.Name(node.spec.desired_role)
    return role if role == wished else f"{role}, to become {wished}"


def node_block(node: api.Node) -> str:
    """Return the block of ``node inspect``; parts appear only when known."""
    block = Block()
    block.add("ID", node.id)
    block.add("Name", node.spec.annotations.name)
    block.add("Hostname", node.description.hostname)
    block.add("Node Labels", pairs(dict(node.spec.annotations.labels)))
    block.heading("Status:")
    block.add("  State", api.NodeStatus.State.Name(node.status.state))
    block.add("  Message", node.status.message)
    block.add("  Membership", api.NodeSpec.Membership.Name(node.spec.membership))
    block.add("  Availability", api.NodeSpec.Availability.Name(node.spec.availability))
    block.add("  Role", _role(node))
    block.add("  Address", node.status.addr)
    if node.HasField("manager_status"):
        block.heading("Manager status:")
        block.add("  Address", node.manager_status.addr)
        block.add("  Raft status", api.RaftMemberStatus.Reachability.Name(node.manager_status.reachability))
        block.add("  Leader", "yes" if node.manager_status.leader else "no")
    _add_description(block, node.description)
    if node.certificate.status.state == api.IssuanceStatus.FAILED:
        block.add("Certificate", f"FAILED: {node.certificate.status.err}")
    return block.text()


def _add_description(block: Block, description: api.NodeDescription) -> None:
    if description.HasField("platform"):
        block.heading("Platform:")
        block.add("  Operating System", description.platform.os)
        block.add("  Architecture", description.platform.architecture)
    if description.HasField("resources"):
        block.heading("Resources:")
        block.add("  CPUs", description.resources.nano_cpus // 1_000_000_000)
        block.add("  Memory", memory(description.resources.memory_bytes))
        generic = _generic(description.resources.generic)
        if generic:
            block.heading("  Generic Resources:")
            for kind, value in sorted(generic.items()):
                block.add(f"    {kind}", value)
    plugins = _plugins(description.engine.plugins)
    if plugins:
        block.heading("Plugins:")
        for kind, names in sorted(plugins.items()):
            block.add(f"  {kind}", f"[{' '.join(names)}]")
    block.add("Engine Version", description.engine.engine_version)
    labels = {key: value for key, value in description.engine.labels.items() if key != IMPLEMENTATION_LABEL}
    block.add("Engine Labels", pairs(labels))
