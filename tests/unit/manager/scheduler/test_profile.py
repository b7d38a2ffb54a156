import gc

import pytest

from swarmkit.api import messages as api
from swarmkit.manager.scheduler.profile import Profiles
from tests.unit.manager.scheduler.build import host_port, node, task


def test_tasks_that_are_alike_share_a_profile_whatever_their_identity() -> None:
    profiles = Profiles()
    first, second = (
        task("a", "s", cpus=1, ports=[host_port(80)]),
        task("b", "t", cpus=1, ports=[host_port(80)]),
    )
    first.networks.add(addresses=["10.0.0.1/24"]).network.driver_state.name = "overlay"
    second.networks.add(addresses=["10.0.0.2/24"]).network.driver_state.name = "overlay"
    assert profiles.of(first) is profiles.of(second)


@pytest.mark.parametrize(
    "other",
    [
        task("b", cpus=2),
        task("b", cpus=1, constraints=["node.id == x"]),
        task("b", cpus=1, ports=[host_port(80)]),
    ],
)
def test_tasks_that_differ_in_what_a_filter_reads_have_different_profiles(other: api.Task) -> None:
    profiles = Profiles()
    assert profiles.of(task("a", cpus=1)) is not profiles.of(other)


def test_a_profile_that_nobody_uses_is_not_kept() -> None:
    profiles = Profiles()
    profiles.of(task("a", cpus=1))
    gc.collect()
    assert len(profiles._known) == 0


@pytest.mark.parametrize("descriptor", ["node.labels.Zone", "NODE.Labels.Zone"])
def test_a_spread_descriptor_reads_a_node_label_by_its_exact_name(descriptor: str) -> None:
    levels = Profiles().of(task("t", spread=[descriptor])).spread
    assert levels is not None
    assert levels.path(node("n", labels={"Zone": "a"})) == ("a",)
    assert levels.path(node("n", labels={"zone": "a"})) == ("",)


def test_a_spread_descriptor_reads_an_engine_label() -> None:
    levels = Profiles().of(task("t", spread=["engine.labels.rack", "node.labels.rack"])).spread
    assert levels is not None
    placed = node("n", labels={"rack": "node's"}, plugins=[])
    placed.description.engine.labels["rack"] = "engine's"
    assert levels.path(placed) == ("engine's", "node's")
    assert levels.path(node("n")) == ("", "")


@pytest.mark.parametrize("descriptor", ["node.hostname", "", "node.labels.", "engine.labels.", "zone"])
def test_an_unknown_descriptor_adds_no_level(descriptor: str) -> None:
    assert Profiles().of(task("t", spread=[descriptor])).spread is None


def test_profiles_with_the_same_levels_share_them() -> None:
    profiles = Profiles()
    first = profiles.of(task("a", cpus=1, spread=["node.labels.az"]))
    second = profiles.of(task("b", cpus=2, spread=["NODE.labels.az"]))
    assert first is not second
    assert first.spread is second.spread
