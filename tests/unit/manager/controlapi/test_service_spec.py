"""Checks 1 to 12 of services, in order (contract/control-api.md, 4)."""

from collections.abc import Callable
from typing import Any

import pytest
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.duration_pb2 import Duration

from swarmkit.api import messages as api
from swarmkit.manager.controlapi.errors import InvalidError, Refusal, UnsupportedError
from swarmkit.manager.controlapi.service_spec import check_service_spec
from tests.unit.manager.controlapi.specs import HOST, INGRESS, published, service_spec

Edit = Callable[[Any], object]


def check(edit: Edit | None = None, spec: api.ServiceSpec | None = None) -> None:
    spec = spec or service_spec()
    if edit is not None:
        edit(spec)
    check_service_spec(api.CreateServiceRequest(spec=spec))


def secret(name: str, file: str | None, id: str = "id") -> api.SecretReference:
    reference = api.SecretReference(secret_id=id, secret_name=name)
    if file is not None:
        reference.file.name = file
    return reference


def config(name: str, file: str | None, id: str = "id") -> api.ConfigReference:
    reference = api.ConfigReference(config_id=id, config_name=name)
    if file is not None:
        reference.file.name = file
    return reference


def generic(kind: str, payload: AnyMessage | None = None) -> api.ServiceSpec:
    spec = service_spec()
    spec.task.generic.kind = kind
    if payload is not None:
        spec.task.generic.payload.CopyFrom(payload)
    return spec


def with_health(**fields: Any) -> api.ServiceSpec:
    spec = service_spec()
    spec.task.container.healthcheck.CopyFrom(api.HealthConfig(**fields))
    return spec


def test_a_plain_service_passes_and_a_request_without_spec_does_not() -> None:
    check()
    with pytest.raises(InvalidError, match=r"^invalid argument$"):
        check_service_spec(api.CreateServiceRequest())


@pytest.mark.parametrize("field", ["limits", "reservations"])
@pytest.mark.parametrize(
    ("cpu", "memory", "text"),
    [
        (0, 0, None),
        (1_000_000, 4194304, None),
        (999_999, 0, "invalid cpu value 0.000999999: Must be at least 0.001"),
        (100_000, 0, "invalid cpu value 0.0001: Must be at least 0.001"),
        (-1, 0, "invalid cpu value -1e-09"),
        (0, 4194303, "invalid memory value 4194303: Must be at least 4MiB"),
        (0, 512, "invalid memory value 512: Must be at least 4MiB"),
        (0, -1, "invalid memory value -1"),
    ],
)
def test_resources_have_a_least_amount(field: str, cpu: int, memory: int, text: str | None) -> None:
    spec = service_spec()
    getattr(spec.task.resources, field).CopyFrom(api.Resources(nano_cpus=cpu, memory_bytes=memory))
    if text is None:
        check(spec=spec)
    else:
        with pytest.raises(InvalidError, match=text):
            check(spec=spec)


def test_named_generic_resources_cannot_be_asked_for() -> None:
    spec = service_spec()
    spec.task.resources.reservations.generic.add().discrete_resource_spec.kind = "gpu"
    check(spec=spec)
    spec.task.resources.reservations.generic.add().named_resource_spec.kind = "gpu"
    with pytest.raises(InvalidError, match="gpu"):
        check(spec=spec)


def negative(field: str) -> Edit:
    def edit(spec: Any) -> None:
        *path, last = field.split(".")
        for name in path:
            spec = getattr(spec, name)
        getattr(spec, last).CopyFrom(Duration(nanos=-1))

    return edit


@pytest.mark.parametrize(
    ("field", "text"),
    [
        ("task.restart.delay", "TaskSpec: restart-delay cannot be negative"),
        ("task.restart.window", "TaskSpec: restart-window cannot be negative"),
        ("update.delay", "TaskSpec: update-delay cannot be negative"),
        ("update.monitor", "TaskSpec: update-monitor cannot be negative"),
        ("rollback.delay", "TaskSpec: rollback-delay cannot be negative"),
        ("rollback.monitor", "TaskSpec: rollback-monitor cannot be negative"),
    ],
)
def test_durations_are_not_negative(field: str, text: str) -> None:
    with pytest.raises(InvalidError, match=text):
        check(negative(field))


@pytest.mark.parametrize(
    ("constraint", "text"),
    [
        ("node.labels.a!=b", None),
        ("node.labels.a", "constraint expected one operator from ==, !="),
        ("a==b", "key 'a' is invalid"),
        ("node.id==", "value '' is invalid"),
    ],
)
def test_constraints_must_parse(constraint: str, text: str | None) -> None:
    def edit(spec: api.ServiceSpec) -> None:
        spec.task.placement.constraints.append(constraint)

    if text is None:
        check(edit)
    else:
        with pytest.raises(InvalidError, match=text):
            check(edit)


@pytest.mark.parametrize(
    ("references", "text"),
    [
        ([secret("a", "f")], None),
        ([secret("a", "f"), secret("a", "g")], None),
        ([secret("a", "../f"), secret("a", "/f"), secret("a", "sub/f")], None),
        ([secret("", "f")], "^malformed secret reference$"),
        ([secret("a", "f", id="")], "^malformed secret reference$"),
        ([secret("a", None)], "no target provided"),
        ([secret("a", "")], "invalid target file name provided"),
        (
            [secret("a", "f"), secret("b", "f")],
            "secret references 'a' and 'b' have a conflicting target: 'f'",
        ),
        ([secret("a", "f"), secret("a", "f")], "'a' and 'a' have a conflicting target"),
    ],
)
def test_secret_references_are_whole_and_have_files_of_their_own(
    references: list[api.SecretReference], text: str | None
) -> None:
    if text is None:
        check(lambda spec: spec.task.container.secrets.extend(references))
    else:
        with pytest.raises(InvalidError, match=text):
            check(lambda spec: spec.task.container.secrets.extend(references))


def test_config_references_follow_the_same_rules_and_may_have_a_runtime_target() -> None:
    runtime = config("a", None)
    runtime.runtime.SetInParent()
    check(lambda spec: spec.task.container.configs.extend([runtime, runtime, config("b", "f")]))
    with pytest.raises(InvalidError, match="config references 'b' and 'c' have a conflicting target: 'f'"):
        check(lambda spec: spec.task.container.configs.extend([config("b", "f"), config("c", "f")]))
    with pytest.raises(InvalidError, match="malformed config reference, no target"):
        check(lambda spec: spec.task.container.configs.append(config("b", None)))


def test_a_credential_spec_from_a_config_needs_a_reference_with_runtime_target() -> None:
    runtime = config("a", None, id="cid")
    runtime.runtime.SetInParent()
    spec = service_spec()
    spec.task.container.privileges.credential_spec.config = "cid"
    spec.task.container.configs.append(config("a", "f", id="cid"))
    with pytest.raises(InvalidError, match="CredentialSpec references config 'cid', but"):
        check(spec=spec)
    spec.task.container.configs.append(runtime)
    check(spec=spec)


def test_a_runtime_is_set_and_is_no_attachment() -> None:
    with pytest.raises(InvalidError, match="TaskSpec: missing runtime"):
        check(lambda spec: spec.task.ClearField("container"))
    with pytest.raises(UnsupportedError, match="RuntimeSpec: unimplemented runtime in service spec"):
        check(lambda spec: spec.task.attachment.SetInParent())


@pytest.mark.parametrize(
    ("kind", "payload", "text"),
    [
        ("wasm", AnyMessage(type_url="t", value=b"v"), None),
        ("ab", AnyMessage(type_url="t", value=b"v"), 'Generic runtime: Invalid name "ab"'),
        ("Container", AnyMessage(type_url="t", value=b"v"), "is a reserved name"),
        ("ATTACHMENT", AnyMessage(type_url="t", value=b"v"), "is a reserved name"),
        ("wasm", None, "missing payload$"),
        ("wasm", AnyMessage(value=b"v"), "missing payload type"),
        ("wasm", AnyMessage(type_url="t"), "empty payload"),
    ],
)
def test_generic_runtimes(kind: str, payload: AnyMessage | None, text: str | None) -> None:
    if text is None:
        check(spec=generic(kind, payload))
    else:
        with pytest.raises(InvalidError, match=text):
            check(spec=generic(kind, payload))


@pytest.mark.parametrize(
    ("edit", "text"),
    [
        (lambda c: c.ClearField("image"), "ContainerSpec: image reference must be provided"),
        (lambda c: setattr(c, "image", "Bad Image"), '"Bad Image" is not a valid repository/tag'),
        (lambda c: setattr(c, "hostname", "{{.Nothing.here}}"), "expanding hostname failed"),
        (lambda c: c.env.append("A={{.Nothing}}"), "expanding env failed"),
        (lambda c: c.mounts.extend([api.Mount(target="/a")] * 2), "ContainerSpec: duplicate mount point: /a"),
    ],
)
def test_containers(edit: Edit, text: str) -> None:
    with pytest.raises(InvalidError, match=text):
        check(lambda spec: edit(spec.task.container))


def test_templates_are_tried_before_the_image_is_looked_at() -> None:
    def edit(spec: api.ServiceSpec) -> None:
        spec.task.container.image = ""
        spec.task.container.hostname = "{{"

    with pytest.raises(InvalidError, match="expanding hostname failed"):
        check(edit)


def test_a_template_may_use_everything_a_task_will_have() -> None:
    def edit(spec: api.ServiceSpec) -> None:
        spec.annotations.labels["tier"] = "front"
        spec.task.container.hostname = "{{.Service.Name}}-{{.Task.Slot}}-{{.Node.Hostname}}"
        spec.task.container.env.append("TIER={{.Service.Labels.tier}}")

    check(edit)


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"interval": Duration()}, None),
        ({"interval": Duration(nanos=1_000_000)}, None),
        (
            {"interval": Duration(nanos=999_000)},
            "ContainerSpec: Interval in HealthConfig cannot be less than 1ms",
        ),
        ({"timeout": Duration(seconds=-1)}, "Timeout in HealthConfig"),
        ({"start_period": Duration(nanos=1)}, "StartPeriod in HealthConfig"),
        ({"start_interval": Duration(nanos=1)}, "StartInterval in HealthConfig"),
        ({"retries": -1}, "ContainerSpec: Retries in HealthConfig cannot be negative"),
    ],
)
def test_health_checks(fields: dict[str, Any], text: str | None) -> None:
    if text is None:
        check(spec=with_health(**fields))
    else:
        with pytest.raises(InvalidError, match=text):
            check(spec=with_health(**fields))


@pytest.mark.parametrize(
    ("edit", "text"),
    [
        (lambda s: s.ClearField("replicated"), "Unrecognized service mode"),
        (lambda s: setattr(s.replicated, "replicas", 1 << 63), "Number of replicas must be non-negative"),
        (
            lambda s: setattr(s.replicated_job, "max_concurrent", 1 << 63),
            "Maximum concurrent jobs must not be negative",
        ),
        (
            lambda s: setattr(s.replicated_job, "total_completions", 1 << 63),
            "Total completed jobs must not be negative",
        ),
        (
            lambda s: (s.global_job.SetInParent(), s.update.SetInParent()),
            "Jobs may not have an update config",
        ),
        (lambda s: setattr(s.update, "max_failure_ratio", 1.01), "update-maxfailureratio"),
        (lambda s: setattr(s.update, "max_failure_ratio", -0.1), "update-maxfailureratio"),
        (lambda s: setattr(s.update, "max_failure_ratio", float("nan")), "update-maxfailureratio"),
    ],
)
def test_modes_and_updates(edit: Edit, text: str) -> None:
    with pytest.raises(InvalidError, match=text):
        check(edit)


def test_the_largest_values_pass() -> None:
    def edit(spec: api.ServiceSpec) -> None:
        spec.replicated.replicas = (1 << 63) - 1
        spec.update.max_failure_ratio = 1.0

    check(edit)


@pytest.mark.parametrize("mode", ["replicated_job", "global_job"])
def test_jobs_are_refused_with_a_sentence(mode: str) -> None:
    with pytest.raises(UnsupportedError, match="does not run jobs"):
        check(lambda spec: getattr(spec, mode).SetInParent())


def test_cluster_volumes_are_refused_with_a_sentence() -> None:
    mount = api.Mount(type=api.Mount.CLUSTER, source="v", target="/v")
    with pytest.raises(UnsupportedError, match="does not serve cluster volumes"):
        check(lambda spec: spec.task.container.mounts.append(mount))


@pytest.mark.parametrize(
    ("mode", "ports", "text"),
    [
        (api.EndpointSpec.DNSRR, [published(80, HOST)], None),
        (api.EndpointSpec.DNSRR, [published(80, INGRESS)], "can't be used with dnsrr mode"),
        (api.EndpointSpec.VIP, [published(0), published(0)], None),
        (api.EndpointSpec.VIP, [published(53), published(53, protocol=api.PortConfig.UDP)], None),
        (api.EndpointSpec.VIP, [published(53), published(53, HOST)], "duplicate published ports provided"),
    ],
)
def test_endpoints(
    mode: "api.EndpointSpec.ResolutionMode.ValueType", ports: list[api.PortConfig], text: str | None
) -> None:
    def edit(spec: api.ServiceSpec) -> None:
        spec.endpoint.mode = mode
        spec.endpoint.ports.extend(ports)

    if text is None:
        check(edit)
    else:
        with pytest.raises(InvalidError, match=text):
            check(edit)


def test_the_first_broken_rule_is_the_one_reported() -> None:
    """Breaks all rules, then mends one after the other."""
    broken: list[tuple[Edit, Edit, str]] = [
        (
            lambda s: s.annotations.ClearField("name"),
            lambda s: setattr(s.annotations, "name", "w"),
            "meta: name",
        ),
        (
            lambda s: setattr(s.task.resources.limits, "nano_cpus", 1),
            lambda s: s.task.resources.ClearField("limits"),
            "cpu",
        ),
        (negative("task.restart.delay"), lambda s: s.task.ClearField("restart"), "restart-delay"),
        (
            lambda s: s.task.placement.constraints.append("x"),
            lambda s: s.task.placement.ClearField("constraints"),
            "constraint",
        ),
        (
            lambda s: s.task.container.secrets.add(),
            lambda s: s.task.container.ClearField("secrets"),
            "secret",
        ),
        (
            lambda s: s.task.container.configs.add(),
            lambda s: s.task.container.ClearField("configs"),
            "config",
        ),
        (
            lambda s: s.task.container.ClearField("image"),
            lambda s: setattr(s.task.container, "image", "i"),
            "image",
        ),
        (
            lambda s: s.ClearField("replicated"),
            lambda s: s.replicated.SetInParent(),
            "Unrecognized service mode",
        ),
        (negative("update.delay"), lambda s: s.ClearField("update"), "update-delay"),
        (
            lambda s: s.endpoint.ports.extend([published(1)] * 2),
            lambda s: s.ClearField("endpoint"),
            "duplicate",
        ),
    ]
    spec = service_spec()
    for spoil, _, _ in broken:
        spoil(spec)
    for _, mend, text in broken:
        with pytest.raises(Refusal, match=text):
            check(spec=spec)
        mend(spec)
    check(spec=spec)
