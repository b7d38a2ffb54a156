import pytest
from google.protobuf.duration_pb2 import Duration

from swarmkit.api import messages as api
from swarmkit.executors.docker import container

VERSION = "1.41"


def make_task(**spec: object) -> api.Task:
    task = api.Task(id="t1", service_id="s1", node_id="n1", slot=2)
    task.service_annotations.name = "web"
    task.spec.container.CopyFrom(api.ContainerSpec(image="busybox", **spec))  # type: ignore[arg-type]
    return task


def request(task: api.Task) -> container.Json:
    return container.create_request(task, task.spec.container, VERSION)


@pytest.mark.parametrize(
    ("command", "args", "entrypoint", "cmd"),
    [
        (["a", "b"], ["c"], ["a", "b"], ["c"]),
        (["a"], [], ["a"], None),
        ([], ["c"], None, ["c"]),
        ([], [], None, None),
    ],
)
def test_command_is_the_entry_point_and_args_are_the_command(
    command: list[str], args: list[str], entrypoint: list[str] | None, cmd: list[str] | None
) -> None:
    made = request(make_task(command=command, args=args))
    assert made.get("Entrypoint") == entrypoint
    assert made.get("Cmd") == cmd


def test_system_labels_win_over_task_labels_and_those_over_spec_labels() -> None:
    task = make_task(labels={"a": "spec", "b": "spec", "com.docker.swarm.task.id": "spec"})
    task.annotations.labels["b"] = "task"
    assert container.labels(task) == {
        "a": "spec",
        "b": "task",
        "com.docker.swarm.task": "",
        "com.docker.swarm.task.id": "t1",
        "com.docker.swarm.task.name": "web.2.t1",
        "com.docker.swarm.node.id": "n1",
        "com.docker.swarm.service.id": "s1",
        "com.docker.swarm.service.name": "web",
    }


def test_generic_resources_become_environment_entries_sorted_by_kind() -> None:
    task = make_task(env=["A=1"])
    named = api.NamedGenericResource
    for kind, value in (("gpu", "g2"), ("gpu", "g1")):
        task.assigned_generic_resources.add(named_resource_spec=named(kind=kind, value=value))
    counted = api.DiscreteGenericResource(kind="fpga", value=3)
    task.assigned_generic_resources.add(discrete_resource_spec=counted)
    assert request(task)["Env"] == ["A=1", "DOCKER_RESOURCE_FPGA=3", "DOCKER_RESOURCE_GPU=g2,g1"]


def test_limits_are_given_only_when_set() -> None:
    bare = request(make_task())["HostConfig"]
    assert not {"Memory", "CpuPeriod", "CpuQuota", "PidsLimit", "Init", "OomScoreAdj"} & set(bare)
    task = make_task(pidsLimit=10)
    task.spec.resources.limits.nano_cpus = 500_000_000
    task.spec.resources.limits.memory_bytes = 1 << 26
    host = request(task)["HostConfig"]
    assert (host["CpuPeriod"], host["CpuQuota"]) == (100_000, 50_000)
    assert host["Memory"] == 1 << 26
    assert host["PidsLimit"] == 10


def test_init_is_unset_true_or_false() -> None:
    on, off = make_task(), make_task()
    on.spec.container.init.value = True
    off.spec.container.init.value = False
    assert request(on)["HostConfig"]["Init"] is True
    assert request(off)["HostConfig"]["Init"] is False


def test_the_engines_own_restart_policy_stays_off() -> None:
    assert request(make_task())["HostConfig"]["RestartPolicy"] == {"Name": "no"}


def test_health_checks_carry_all_six_fields_in_nanoseconds_or_are_absent() -> None:
    assert "Healthcheck" not in request(make_task())
    check = api.HealthConfig(
        test=["CMD", "true"],
        interval=Duration(seconds=1),
        timeout=Duration(seconds=2),
        retries=3,
        start_period=Duration(seconds=4),
        start_interval=Duration(nanos=500),
    )
    assert request(make_task(healthcheck=check))["Healthcheck"] == {
        "Test": ["CMD", "true"],
        "Interval": 1_000_000_000,
        "Timeout": 2_000_000_000,
        "StartPeriod": 4_000_000_000,
        "StartInterval": 500,
        "Retries": 3,
    }


def test_hosts_turn_around_and_drop_aliases_and_single_fields() -> None:
    entries = ["1.2.3.4 example.com", "1.2.3.5 a b", "1.2.3.6"]
    assert container.extra_hosts(entries) == ["example.com:1.2.3.4", "a:1.2.3.5"]


def test_only_host_mode_ports_are_published_and_one_target_may_have_several() -> None:
    task = make_task()
    add = task.endpoint.ports.add
    add(target_port=80, published_port=8080, publish_mode=api.PortConfig.HOST)
    add(target_port=80, published_port=8081, publish_mode=api.PortConfig.HOST)
    add(target_port=53, protocol=api.PortConfig.UDP, publish_mode=api.PortConfig.HOST)
    add(target_port=81, published_port=9000, publish_mode=api.PortConfig.INGRESS)
    made = request(task)
    assert made["ExposedPorts"] == {"80/tcp": {}, "53/udp": {}}
    assert made["HostConfig"]["PortBindings"] == {
        "80/tcp": [{"HostPort": "8080"}, {"HostPort": "8081"}],
        "53/udp": [{"HostPort": ""}],
    }


@pytest.mark.parametrize(
    ("hosts", "told"),
    [(("0.0.0.0", "::"), [32768]), (("::", "::1"), [32768, 32769]), (("", ""), [32768, 32769])],
)
def test_a_chosen_port_that_differs_between_ipv4_and_ipv6_is_told_once(
    hosts: tuple[str, str], told: list[int]
) -> None:
    bindings = [{"HostIp": host, "HostPort": str(32768 + n)} for n, host in enumerate(hosts)]
    status = container.port_status({"NetworkSettings": {"Ports": {"80/tcp": bindings}}})
    assert status is not None
    assert [port.published_port for port in status.ports] == told


def test_port_status_lists_each_binding_once_and_survives_null_entries() -> None:
    inspected = {
        "NetworkSettings": {
            "Ports": {
                "80/tcp": [{"HostIp": "0.0.0.0", "HostPort": "8080"}, {"HostIp": "::", "HostPort": "8080"}],
                "81/tcp": None,
            }
        }
    }
    status = container.port_status(inspected)
    assert status is not None
    assert [(p.target_port, p.published_port) for p in status.ports] == [(80, 8080)]
    assert container.port_status({"NetworkSettings": {"Ports": {}}}) is None


@pytest.mark.parametrize(
    ("period", "seconds"),
    [(None, 10), (Duration(), 0), (Duration(seconds=3), 3), (Duration(nanos=500_000_000), 1)],
)
def test_the_grace_period_is_ten_seconds_unless_set_and_rounds_up(
    period: Duration | None, seconds: int
) -> None:
    assert container.grace_seconds(api.ContainerSpec(stop_grace_period=period)) == seconds


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda task: task.spec.container.ClearField("image"), "image required"),
        (lambda task: task.spec.attachment.SetInParent(), "unsupported runtime"),
        (lambda task: task.spec.container.secrets.add(), "secrets or configs"),
        (lambda task: task.networks.add(), "swarm networks"),
    ],
)
def test_a_task_that_would_run_without_what_it_was_promised_is_refused(change, words: str) -> None:  # type: ignore[no-untyped-def]
    task = make_task()
    change(task)
    with pytest.raises(container.UnsupportedTaskError, match=words):
        container.check_supported(task)


def test_security_options() -> None:
    privileges = api.Privileges(no_new_privileges=True)
    privileges.selinux_context.user = "u"
    privileges.seccomp.mode = api.Privileges.SeccompOpts.UNCONFINED
    privileges.apparmor.mode = api.Privileges.AppArmorOpts.DISABLED
    assert container.security_options(privileges) == [
        "label=user:u",
        "seccomp=unconfined",
        "apparmor=unconfined",
        "no-new-privileges",
    ]


def test_health_none_is_no_health_check() -> None:
    assert not container.has_health_check({"Config": {}})
    assert not container.has_health_check({"Config": {"Healthcheck": {"Test": ["NONE"]}}})
    assert not container.has_health_check({"Config": {"Healthcheck": {"Test": []}}})
    assert container.has_health_check({"Config": {"Healthcheck": {"Test": ["CMD", "x"]}}})
