"""The cluster as a row and as a block; pure (contract/cli.md, 8)."""

import base64
from collections.abc import Iterable

from swarmctl.render.table import Block, table
from swarmctl.render.text import duration
from swarmkit.api import messages as api


def cluster_table(clusters: Iterable[api.Cluster]) -> str:
    """Return the table of ``cluster ls``."""
    rows = [[cluster.id, cluster.spec.annotations.name] for cluster in clusters]
    return table(["ID", "Name"], rows)


def unlock_key(key: bytes) -> str:
    """Write an unlock key as ``swarmd --unlock-key`` takes it (contract/security.md, 2)."""
    return "SWMKEY-1-" + base64.b64encode(key).decode().rstrip("=")


def unlock_key_line(key: bytes) -> str:
    """Return what ``cluster unlock-key`` says; without a key the managers are not locked."""
    return f"Managers auto-locked.  Unlock key: {unlock_key(key)}" if key else "Managers not auto-locked"


def cluster_block(cluster: api.Cluster) -> str:
    """Return the block of ``cluster inspect``; join tokens are shown, keys never arrive here."""
    spec = cluster.spec
    block = Block()
    block.add("ID", cluster.id)
    block.add("Name", spec.annotations.name)
    if spec.acceptance_policy.policies:
        block.section("Acceptance Policies:")
        for policy in spec.acceptance_policy.policies:
            block.section(f"  Role : {api.NodeRole.Name(policy.role)}")
            block.section(f"    Autoaccept : {str(policy.autoaccept).lower()}")
            if policy.HasField("secret"):
                block.section("    Secret : [REDACTED]")
    block.section("Orchestration settings:")
    block.section(f"  Task history entries: {spec.orchestration.task_history_retention_limit}")
    block.section("Dispatcher settings:")
    block.section(f"  Dispatcher heartbeat period: {duration(spec.dispatcher.heartbeat_period)}")
    block.section("Certificate Authority settings:")
    block.section(f"  Certificate Validity Duration: {duration(spec.ca_config.node_cert_expiry)}")
    block.section("  Join Tokens:")
    block.section(f"    Worker: {cluster.root_ca.join_tokens.worker}")
    block.section(f"    Manager: {cluster.root_ca.join_tokens.manager}")
    block.section("Encryption settings:")
    block.section(f"  Autolock managers: {str(spec.encryption_config.auto_lock_managers).lower()}")
    driver = spec.task_defaults.log_driver
    if driver.name:
        block.section("")
        block.add("Default Log Driver", driver.name)
        for key, value in sorted(driver.options.items()):
            block.add(f"  {key}", value)
    return block.text()
