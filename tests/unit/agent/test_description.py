"""What the node tells the managers (contract/dispatcher-agent.md, 6; contract/executor.md, 15)."""

from swarmkit import __version__
from swarmkit.agent.description import Overrides, complete, without_engine
from swarmkit.api import messages as api
from swarmkit.api.naming import ENGINE_ERROR_LABEL, IMPLEMENTATION_LABEL


def test_hostname_tls_info_and_fips_are_filled_in() -> None:
    tls = api.NodeTLSInfo(trust_root=b"root")
    result = complete(api.NodeDescription(hostname="engine"), Overrides("node-1", tls, True))
    assert (result.hostname, result.tls_info, result.fips) == ("node-1", tls, True)


def test_without_overrides_the_description_stays_but_for_the_mark() -> None:
    described = api.NodeDescription(hostname="engine")
    described.engine.labels["disk"] = "ssd"
    result = complete(described, Overrides("", None, False))
    assert dict(result.engine.labels) == {"disk": "ssd", IMPLEMENTATION_LABEL: __version__}
    del result.engine.labels[IMPLEMENTATION_LABEL]
    assert result == described


def test_a_node_without_engine_is_marked_as_well() -> None:
    unknown = without_engine(api.NodeDescription(), "engine unreachable")
    assert IMPLEMENTATION_LABEL in complete(unknown, Overrides("", None, False)).engine.labels


def test_no_csi_list_equals_an_empty_one() -> None:
    assert api.NodeDescription(hostname="a") == api.NodeDescription(hostname="a", csi_info=[])


def test_without_an_engine_the_last_description_stays_and_says_why() -> None:
    last = api.NodeDescription(hostname="node", resources=api.Resources(nano_cpus=5))
    last.engine.engine_version = "20.10.24"
    result = without_engine(last, "engine unreachable: no such file")
    assert result.engine.labels[ENGINE_ERROR_LABEL] == "engine unreachable: no such file"
    del result.engine.labels[ENGINE_ERROR_LABEL]
    assert result == last
    assert not last.engine.labels
