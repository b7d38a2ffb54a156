"""Nodes: read, list, change the spec, remove (contract/control-api.md, 2)."""

from swarmkit.api import messages as api
from swarmkit.clock import timestamp
from swarmkit.manager.controlapi import filters
from swarmkit.manager.controlapi.base import ControlBase, fill, handler
from swarmkit.manager.controlapi.blacklist import blacklist_node, purge_blacklist
from swarmkit.manager.controlapi.errors import PreconditionError, invalid_argument, missing
from swarmkit.manager.controlapi.membership import find_member, manager_status
from swarmkit.manager.controlapi.role_changes import check_demotion, check_promotion
from swarmkit.store import ProposalTooLargeError, Tx, by

_CLUSTER_NAME = "default"
_DELETED_MESSAGE = "Task belonged to a node that has been deleted"


class NodesMixin(ControlBase):
    """The RPCs of nodes."""

    @handler
    async def GetNode(self, request: api.GetNodeRequest) -> api.GetNodeResponse:
        """Return one node; its manager status is that of this moment."""
        if not request.node_id:
            raise invalid_argument()
        node = self._store.view().get(api.Node, request.node_id)
        if node is None:
            raise missing("node", request.node_id)
        response = api.GetNodeResponse(node=node)
        self._show_member(response.node)
        return response

    @handler
    async def ListNodes(self, request: api.ListNodesRequest) -> api.ListNodesResponse:
        """Return the nodes that pass the filters."""
        wanted = request.filters
        selectors = filters.narrowest(
            [by.name(name) for name in wanted.names],
            [by.id_prefix(prefix) for prefix in wanted.id_prefixes],
            [by.name_prefix(prefix) for prefix in wanted.name_prefixes],
        )

        def keep(node: api.Node) -> bool:
            named = node.HasField("description") or not (wanted.names or wanted.name_prefixes)
            hostname = node.description.hostname
            return (
                named
                and filters.one_of(wanted.names, hostname)
                and filters.prefixed(wanted.name_prefixes, hostname)
                and filters.prefixed(wanted.id_prefixes, node.id)
                and filters.labelled(wanted.labels, node.description.engine.labels)
                and filters.labelled(wanted.node_labels, node.spec.annotations.labels)
                and filters.one_of(wanted.memberships, node.spec.membership)
                and filters.one_of(wanted.roles, node.role)
            )

        response = api.ListNodesResponse()
        await fill(response.nodes, self._store.view().find(api.Node, *selectors), keep)
        for node in response.nodes:
            self._show_member(node)
        return response

    def _show_member(self, node: api.Node) -> None:
        member = find_member(self._raft_members(), node.id)
        if member is None:
            node.ClearField("manager_status")
        else:
            node.manager_status.CopyFrom(manager_status(member))

    @handler
    async def UpdateNode(self, request: api.UpdateNodeRequest) -> api.UpdateNodeResponse:
        """Replace a node's spec; changes of role follow later, by the role manager."""
        if not request.node_id or not request.HasField("node_version") or not request.HasField("spec"):
            raise invalid_argument()

        def update(tx: Tx) -> api.Node:
            stored = tx.get(api.Node, request.node_id)
            if stored is None:
                raise missing("node", request.node_id)
            self._check_role(tx, stored, request.spec)
            node = api.Node()
            node.CopyFrom(stored)
            node.spec.CopyFrom(request.spec)
            _reopen_request(stored, node)
            node.meta.version.CopyFrom(request.node_version)
            return tx.update(node)

        response = api.UpdateNodeResponse(node=await self._store.update(update))
        self._show_member(response.node)
        return response

    def _check_role(self, tx: Tx, stored: api.Node, spec: api.NodeSpec) -> None:
        match stored.spec.desired_role, spec.desired_role:
            case api.NodeRole.WORKER, api.NodeRole.MANAGER:
                check_promotion(stored, spec)
            case api.NodeRole.MANAGER, api.NodeRole.WORKER:
                managers = tx.find(api.Node, by.role(api.NodeRole.MANAGER))
                check_demotion(stored, managers, self._raft_members())

    @handler
    async def RemoveNode(self, request: api.RemoveNodeRequest) -> api.RemoveNodeResponse:
        """Turn a node out: its certificate opens no door any more, its tasks are lost."""
        if not request.node_id:
            raise invalid_argument()
        try:
            await self._store.update(lambda tx: self._remove(tx, request))
        except ProposalTooLargeError:
            # More tasks than one log entry takes: they go ahead, and the node with what is left.
            await self._orphan_first(request)
            await self._store.update(lambda tx: self._remove(tx, request))
        return api.RemoveNodeResponse()

    def _check_removal(self, tx: Tx, request: api.RemoveNodeRequest) -> api.Node:
        node = tx.get(api.Node, request.node_id)
        if node is None:
            raise missing("node", request.node_id)
        if (
            node.spec.desired_role == api.NodeRole.MANAGER
            and find_member(self._raft_members(), node.id) is not None
        ):
            raise PreconditionError(
                f"node {node.id} is a cluster manager and is a member of the raft cluster."
                " It must be demoted to worker before removal"
            )
        if not request.force and node.status.state == api.NodeStatus.READY:
            raise PreconditionError(f"node {node.id} is not down and can't be removed")
        return node

    def _remove(self, tx: Tx, request: api.RemoveNodeRequest) -> None:
        node = self._check_removal(tx, request)
        now = self._clock.now()
        for stored in tx.find(api.Cluster, by.name(_CLUSTER_NAME)):
            cluster = api.Cluster()
            cluster.CopyFrom(stored)
            purge_blacklist(cluster, now)
            blacklist_node(cluster, node, now)
            tx.update(cluster)
        for task in tx.find(api.Task, by.node(node.id)):
            self._orphan(tx, task)
        tx.delete(api.Node, node.id)

    async def _orphan_first(self, request: api.RemoveNodeRequest) -> None:
        ids = [task.id for task in self._store.view().find(api.Task, by.node(request.node_id))]
        async with self._store.batch() as batch:
            batch.update(lambda tx: self._check_removal(tx, request))
            for id in ids:
                batch.update(lambda tx, id=id: self._orphan(tx, tx.get(api.Task, id)))  # type: ignore[misc]

    def _orphan(self, tx: Tx, stored: api.Task | None) -> None:
        if stored is None or stored.status.state >= api.TaskState.COMPLETE:
            return
        task = api.Task()
        task.CopyFrom(stored)
        task.status.state = api.TaskState.ORPHANED
        task.status.message = _DELETED_MESSAGE
        task.status.timestamp.CopyFrom(timestamp(self._clock.now()))
        tx.update(task)


def _reopen_request(stored: api.Node, node: api.Node) -> None:
    """Let a node that was turned away and is now accepted be signed (contract/security.md, 12)."""
    if (
        stored.spec.membership != api.NodeSpec.ACCEPTED
        and node.spec.membership == api.NodeSpec.ACCEPTED
        and node.certificate.status.state == api.IssuanceStatus.FAILED
    ):
        node.certificate.status.CopyFrom(api.IssuanceStatus(state=api.IssuanceStatus.PENDING))
