import pytest

from swarmkit.api import messages as api
from swarmkit.manager.scheduler.filters import FILTERS, NO_NODE, PASSES, Refusals, explain, explain_one
from swarmkit.manager.scheduler.nodeinfo import NodeInfo
from swarmkit.manager.scheduler.nodes import NodeSet
from swarmkit.manager.scheduler.profile import Profiles
from tests.unit.manager.scheduler.build import GIB, host_port, info_of, node, pipeline, resources, task

READY, RESOURCES, PLUGINS, CONSTRAINTS, PLATFORM, PORTS, REPLICAS, VOLUMES = range(1, 9)


def verdict(of: api.Task, on: api.Node) -> int:
    return pipeline(of).verdict(info_of(on))


@pytest.mark.parametrize("state", [api.NodeStatus.UNKNOWN, api.NodeStatus.DOWN, api.NodeStatus.DISCONNECTED])
def test_a_node_that_is_not_ready_takes_no_task(state: api.NodeStatus.State.ValueType) -> None:
    assert verdict(task("t"), node("n", state=state)) == READY


@pytest.mark.parametrize("availability", [api.NodeSpec.PAUSE, api.NodeSpec.DRAIN])
def test_a_node_that_is_not_active_takes_no_task(availability: api.NodeSpec.Availability.ValueType) -> None:
    assert verdict(task("t"), node("n", availability=availability)) == READY


def test_a_node_id_without_a_node_has_no_verdict() -> None:
    assert pipeline(task("t")).verdict(NodeInfo("n", 0)) == NO_NODE


def test_reservations_must_fit_and_limits_do_not_matter() -> None:
    small = node("n", cpus=1, memory=GIB)
    assert verdict(task("t", cpus=1, memory=GIB), small) == PASSES
    assert verdict(task("t", cpus=1.1), small) == RESOURCES
    assert verdict(task("t", memory=GIB + 1), small) == RESOURCES
    limited = task("t")
    limited.spec.resources.limits.nano_cpus = 5_000_000_000
    assert verdict(limited, small) == PASSES


def test_an_over_committed_dimension_refuses_a_task_that_reserves_another() -> None:
    nodes = NodeSet()
    nodes.put(node("n", cpus=1, memory=4 * GIB))
    running = task("r", node_id="n", state=api.TaskState.RUNNING, cpus=2)
    nodes.track(running, "n", Profiles().of(running))
    info = nodes.get("n")
    assert info is not None
    assert pipeline(task("t", memory=GIB)).verdict(info) == RESOURCES
    assert pipeline(task("t")).verdict(info) == PASSES


def test_generic_reservations_must_fit_and_a_named_one_never_does() -> None:
    rich = node("n", generic=resources(apple=2, pear="x y"))
    assert verdict(task("t", generic={"apple": 2, "pear": 2}), rich) == PASSES
    assert verdict(task("t", generic={"pear": 3}), rich) == RESOURCES
    assert verdict(task("t", generic={"plum": 0}), rich) == RESOURCES
    by_name = task("t")
    by_name.spec.resources.reservations.generic.extend(resources(pear="x"))
    assert verdict(by_name, rich) == RESOURCES


def plugin_task(*, volume: str = "", network: str = "", log: str | None = None) -> api.Task:
    made = task("t")
    if volume:
        mount = made.spec.container.mounts.add(type=api.Mount.VOLUME, source="v", target="/v")
        mount.volume_options.driver_config.name = volume
    if network:
        made.networks.add().network.driver_state.name = network
    if log is not None:
        made.spec.log_driver.name = log
    return made


@pytest.mark.parametrize(
    ("wanted", "plugin"),
    [
        (plugin_task(volume="nfs"), ("Volume", "nfs")),
        (plugin_task(network="weave"), ("Network", "weave")),
        (plugin_task(log="fluentd"), ("Log", "fluentd")),
    ],
)
def test_a_driver_must_be_among_the_plugins_of_the_engine(wanted: api.Task, plugin: tuple[str, str]) -> None:
    kind, name = plugin
    assert verdict(wanted, node("n", plugins=[plugin])) == PASSES
    assert verdict(wanted, node("n", plugins=[(kind, f"{name}:latest")])) == PASSES
    assert verdict(wanted, node("n", plugins=[(kind, "other"), ("Other", name)])) == PLUGINS
    assert verdict(wanted, node("n", plugins=[(kind.lower(), name), (kind, "x")])) == PLUGINS
    assert verdict(wanted, node("n")) == PASSES, "a node without an engine description cannot tell"


@pytest.mark.parametrize(
    "wanted",
    [plugin_task(volume="local"), plugin_task(log="none"), plugin_task(log=""), plugin_task()],
)
def test_built_in_drivers_need_no_plugin(wanted: api.Task) -> None:
    assert verdict(wanted, node("n", plugins=[("Log", "fluentd")])) == PASSES


def test_an_engine_that_lists_no_log_plugins_takes_any_log_driver() -> None:
    assert verdict(plugin_task(log="fluentd"), node("n", plugins=[("Volume", "nfs")])) == PASSES


def test_a_bind_mount_needs_no_plugin() -> None:
    bound = task("t")
    bound.spec.container.mounts.add(type=api.Mount.BIND, source="/a", target="/b")
    assert verdict(bound, node("n", plugins=[])) == PASSES


def test_constraints_must_all_hold_and_an_unparsable_list_is_off() -> None:
    labelled = node("n", labels={"disk": "ssd"})
    assert verdict(task("t", constraints=["node.labels.disk == SSD"]), labelled) == PASSES
    both = task("t", constraints=["node.labels.disk == ssd", "node.id != n"])
    assert verdict(both, labelled) == CONSTRAINTS
    assert verdict(task("t", constraints=["node.id == x", "nonsense"]), labelled) == PASSES


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        ([("amd64", "linux")], PASSES),
        ([("x86_64", "linux")], PASSES),
        ([("", "linux")], PASSES),
        ([("amd64", "")], PASSES),
        ([("arm64", "linux")], PLATFORM),
        ([("amd64", "windows")], PLATFORM),
        ([("arm64", "linux"), ("amd64", "linux")], PASSES),
        ([("AMD64", "linux")], PLATFORM),
        ([], PASSES),
    ],
)
def test_one_of_the_platforms_must_be_the_nodes(wanted: list[tuple[str, str]], expected: int) -> None:
    placed = task("t")
    for architecture, system in wanted:
        placed.spec.placement.platforms.add(architecture=architecture, os=system)
    assert verdict(placed, node("n", platform=("x86_64", "linux"))) == expected


def test_a_node_without_a_platform_fails_every_platform() -> None:
    placed = task("t")
    placed.spec.placement.platforms.add()
    assert verdict(placed, node("n")) == PLATFORM
    assert verdict(placed, node("n", platform=("", ""))) == PASSES


def test_a_host_port_in_use_refuses_and_other_ports_do_not_matter() -> None:
    nodes = NodeSet()
    nodes.put(node("n"))
    running = task("r", node_id="n", state=api.TaskState.RUNNING, ports=[host_port(58)])
    nodes.track(running, "n", Profiles().of(running))
    info = nodes.get("n")
    assert info is not None
    assert pipeline(task("t", ports=[host_port(58)])).verdict(info) == PORTS
    assert pipeline(task("t", ports=[host_port(58, api.PortConfig.UDP)])).verdict(info) == PASSES
    assert pipeline(task("t", ports=[host_port(0)])).verdict(info) == PASSES
    ingress = api.PortConfig(published_port=58, publish_mode=api.PortConfig.INGRESS)
    assert pipeline(task("t", ports=[ingress])).verdict(info) == PASSES


def test_max_replicas_counts_the_active_tasks_of_the_service_alone() -> None:
    nodes = NodeSet()
    nodes.put(node("n"))
    for made in (
        task("mine", node_id="n", state=api.TaskState.RUNNING),
        task("foreign", "other", node_id="n", state=api.TaskState.RUNNING),
        task("going", node_id="n", state=api.TaskState.RUNNING, desired=api.TaskState.SHUTDOWN),
    ):
        nodes.track(made, "n", Profiles().of(made))
    info = nodes.get("n")
    assert info is not None
    assert pipeline(task("t", max_replicas=1)).verdict(info) == REPLICAS
    assert pipeline(task("t", max_replicas=2)).verdict(info) == PASSES


def test_a_cluster_volume_cannot_be_mounted_anywhere() -> None:
    mounted = task("t")
    mounted.spec.container.mounts.add(type=api.Mount.CLUSTER, source="group:db", target="/db")
    assert verdict(mounted, node("n")) == VOLUMES
    assert "CSI volume mounts" in explain_one(VOLUMES)


def test_a_node_is_charged_to_the_first_filter_it_fails() -> None:
    wanted = task("t", cpus=4, constraints=["node.id == other"], ports=[host_port(80)])
    assert verdict(wanted, node("n", state=api.NodeStatus.DOWN)) == READY
    assert verdict(wanted, node("n", cpus=1)) == RESOURCES
    assert verdict(wanted, node("n", cpus=8)) == CONSTRAINTS


def test_reasons_are_sorted_by_nodes_then_by_the_order_of_the_pipeline() -> None:
    counts = [0] * (len(FILTERS) + 1)
    counts[READY], counts[RESOURCES], counts[CONSTRAINTS] = 1, 3, 1
    assert explain(counts) == (
        "insufficient resources on 3 nodes; 1 node not available for new tasks; "
        "scheduling constraints not satisfied on 1 node"
    )


def test_the_limit_of_replicas_is_explained_without_a_count() -> None:
    counts = [0] * (len(FILTERS) + 1)
    counts[REPLICAS] = 12
    assert explain(counts) == "max replicas per node limit reached"


def test_without_anything_to_explain_the_text_is_bare() -> None:
    assert Refusals().text() == "no suitable node"


def test_refusals_count_each_node_once_by_its_last_verdict() -> None:
    refusals = Refusals()
    for slot in range(3):
        refusals.set(slot, READY)
    assert refusals.text() == "no suitable node (3 nodes not available for new tasks)"
    refusals.set(1, RESOURCES)
    refusals.set(2, NO_NODE)
    refusals.set(0, PASSES)
    assert refusals.text() == "no suitable node (insufficient resources on 1 node)"
