"""What this node tells the managers about itself. Pure.

Source: contract/dispatcher-agent.md, 6, "Description refresh"; contract/executor.md, 15 and 16.
"""

from dataclasses import dataclass

from swarmkit import __version__
from swarmkit.api import messages as api
from swarmkit.api.naming import ENGINE_ERROR_LABEL, IMPLEMENTATION_LABEL


@dataclass(frozen=True)
class Overrides:
    """What the daemon adds to the executor's description.

    Attributes:
        hostname: replaces the executor's, if not empty.
        tls_info: root and issuer of this node's certificate; None if not known.
        fips: whether the node runs in FIPS mode.
    """

    hostname: str
    tls_info: api.NodeTLSInfo | None
    fips: bool


def complete(described: api.NodeDescription, overrides: Overrides) -> api.NodeDescription:
    """Return the description to send, marked as that of a node of this project."""
    result = api.NodeDescription()
    result.CopyFrom(described)
    if overrides.hostname:
        result.hostname = overrides.hostname
    if overrides.tls_info is not None:
        result.tls_info.CopyFrom(overrides.tls_info)
    result.fips = overrides.fips
    result.engine.labels[IMPLEMENTATION_LABEL] = __version__
    return result


def without_engine(known: api.NodeDescription, error: str) -> api.NodeDescription:
    """Return what to send while the engine cannot be reached: what is known, and the error.

    A node whose engine never answered names no resources, so nothing that reserves any is placed there.
    """
    result = api.NodeDescription()
    result.CopyFrom(known)
    result.engine.labels[ENGINE_ERROR_LABEL] = error
    return result
