"""Clusters: read, list, change the spec, rotate join tokens (contract/control-api.md, 6)."""

from swarmkit.api import messages as api
from swarmkit.ca.autolock import follow_autolock
from swarmkit.manager.controlapi import filters
from swarmkit.manager.controlapi.base import ControlBase, handler
from swarmkit.manager.controlapi.blacklist import purge_blacklist
from swarmkit.manager.controlapi.cluster_spec import (
    check_cluster_spec,
    check_supported,
    keep_redacted_secrets,
    shown,
)
from swarmkit.manager.controlapi.errors import invalid_argument, missing
from swarmkit.store import Tx


class ClustersMixin(ControlBase):
    """The RPCs of clusters. There is one, named ``default``."""

    @handler
    async def GetCluster(self, request: api.GetClusterRequest) -> api.GetClusterResponse:
        """Return the cluster without its secrets."""
        if not request.cluster_id:
            raise invalid_argument()
        cluster = self._store.view().get(api.Cluster, request.cluster_id)
        if cluster is None:
            raise missing("cluster", request.cluster_id)
        return api.GetClusterResponse(cluster=shown(cluster))

    @handler
    async def ListClusters(self, request: api.ListClustersRequest) -> api.ListClustersResponse:
        """Return the clusters that pass the filters, without their secrets."""
        wanted = request.filters
        response = api.ListClustersResponse()
        for cluster in self._store.view().find(api.Cluster):
            annotations = cluster.spec.annotations
            if (
                filters.one_of(wanted.names, annotations.name)
                and filters.prefixed(wanted.name_prefixes, annotations.name)
                and filters.prefixed(wanted.id_prefixes, cluster.id)
                and filters.labelled(wanted.labels, annotations.labels)
            ):
                response.clusters.append(shown(cluster))
        return response

    @handler
    async def UpdateCluster(self, request: api.UpdateClusterRequest) -> api.UpdateClusterResponse:
        """Replace the cluster's spec; make new join tokens and a new unlock key as far as that is asked for.

        The unlock key comes with autolock and goes with it; without autolock there is none to be rotated.
        """
        if not request.cluster_id or not request.HasField("cluster_version") or not request.HasField("spec"):
            raise invalid_argument()
        check_cluster_spec(request.spec)

        def update(tx: Tx) -> api.Cluster:
            stored = tx.get(api.Cluster, request.cluster_id)
            if stored is None:
                raise missing("cluster", request.cluster_id)
            check_supported(stored, request.spec)
            cluster = api.Cluster()
            cluster.CopyFrom(stored)
            cluster.meta.version.CopyFrom(request.cluster_version)
            cluster.spec.CopyFrom(request.spec)
            keep_redacted_secrets(stored.spec, cluster.spec)
            purge_blacklist(cluster, self._clock.now())
            self._rotate_tokens(cluster.root_ca, request.rotation)
            follow_autolock(cluster, request.rotation.manager_unlock_key)
            return tx.update(cluster)

        return api.UpdateClusterResponse(cluster=shown(await self._store.update(update)))

    def _rotate_tokens(self, root_ca: api.RootCA, rotation: api.KeyRotation) -> None:
        if rotation.worker_join_token:
            root_ca.join_tokens.worker = self._make_join_token(root_ca.ca_cert)
        if rotation.manager_join_token:
            root_ca.join_tokens.manager = self._make_join_token(root_ca.ca_cert)
