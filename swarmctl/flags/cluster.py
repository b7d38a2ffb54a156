"""Flags onto a cluster spec; pure (contract/cli.md, 8)."""

from collections.abc import Mapping
from typing import Any

from swarmctl.flags import values
from swarmctl.flags.service import FlagError
from swarmkit.api import messages as api

ROLES = {"worker": api.NodeRole.WORKER, "manager": api.NodeRole.MANAGER}


def merge(stored: api.ClusterSpec, flags: Mapping[str, Any]) -> api.ClusterSpec:
    """Return a copy of a spec with the given flags applied; None = not given.

    Raises:
        FlagError: a value is wrong.
    """
    spec = api.ClusterSpec()
    spec.CopyFrom(stored)
    given = {name: value for name, value in flags.items() if value not in (None, ())}
    if "taskhistory" in given:
        spec.orchestration.task_history_retention_limit = given["taskhistory"]
    if "certexpiry" in given:
        spec.ca_config.node_cert_expiry.FromNanoseconds(given["certexpiry"])
    if "heartbeatperiod" in given:
        spec.dispatcher.heartbeat_period.FromNanoseconds(given["heartbeatperiod"])
    if "autolock" in given:
        spec.encryption_config.auto_lock_managers = given["autolock"]
    try:
        if "autoaccept" in given:
            _autoaccept(spec, values.words(given["autoaccept"]))
        _log_driver(spec, given)
    except FlagError:
        raise
    except ValueError as error:
        raise FlagError(str(error)) from error
    return spec


def _autoaccept(spec: api.ClusterSpec, roles: list[str]) -> None:
    wanted = set()
    for word in roles:
        if word.lower() == "none":
            continue
        if word.lower() not in ROLES:
            raise FlagError(f"unrecognized role {word}: use worker, manager or none")
        wanted.add(ROLES[word.lower()])
    policies = {policy.role: policy for policy in spec.acceptance_policy.policies}
    for role in ROLES.values():
        if role not in policies:
            policies[role] = spec.acceptance_policy.policies.add(role=role)
        policies[role].autoaccept = role in wanted


def _log_driver(spec: api.ClusterSpec, given: Mapping[str, Any]) -> None:
    driver, options = given.get("log_driver"), given.get("log_opt")
    if driver is None and options is None:
        return
    stored = spec.task_defaults.log_driver
    if driver is None and not stored.name:
        raise FlagError("--log-opt needs --log-driver: the cluster has no default log driver")
    if driver is not None and driver != stored.name:
        stored.Clear()
        stored.name = driver
    for word in values.words(options or ()):
        key, _, value = word.partition("=")
        stored.options[key] = value
