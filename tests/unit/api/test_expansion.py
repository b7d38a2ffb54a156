"""Which fields of a container are templates (contract/executor.md, 5)."""

import pytest

from swarmkit.api import messages as api
from swarmkit.api.expansion import expand_container
from swarmkit.api.template import Context, TemplateError

CONTEXT = Context(service_name="web", task_slot="1")
NAME = "{{.Service.Name}}"


def test_env_values_mounts_volume_options_and_hostname_are_expanded_and_nothing_else() -> None:
    mount = api.Mount(source=NAME, target=f"/{NAME}")
    mount.volume_options.labels[NAME] = NAME
    mount.volume_options.driver_config.name = NAME
    mount.volume_options.driver_config.options["o"] = NAME
    spec = api.ContainerSpec(
        image=NAME,
        hostname=f"{NAME}-{{{{.Task.Slot}}}}",
        env=[f"{NAME}=a={NAME}", f"plain{NAME}"],
        args=[NAME],
        command=[NAME],
        user=NAME,
        dir=NAME,
        mounts=[mount],
    )
    spec.labels["label"] = NAME
    before = api.ContainerSpec()
    before.CopyFrom(spec)
    expanded = expand_container(spec, CONTEXT)
    assert spec == before
    assert list(expanded.env) == [f"{NAME}=a=web", f"plain{NAME}"]
    assert expanded.hostname == "web-1"
    assert (expanded.mounts[0].source, expanded.mounts[0].target) == ("web", "/web")
    assert dict(expanded.mounts[0].volume_options.labels) == {NAME: "web"}
    assert expanded.mounts[0].volume_options.driver_config.name == NAME
    assert dict(expanded.mounts[0].volume_options.driver_config.options) == {"o": "web"}
    assert [expanded.image, expanded.args[0], expanded.command[0], expanded.user, expanded.dir] == [NAME] * 5
    assert expanded.labels["label"] == NAME


def test_no_options_appear_where_none_were() -> None:
    assert (
        not expand_container(api.ContainerSpec(mounts=[api.Mount()]), CONTEXT)
        .mounts[0]
        .HasField("volume_options")
    )


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (api.ContainerSpec(env=["A={{.X}}"]), 'expanding env failed: expanding env "A={{.X}}": '),
        (
            api.ContainerSpec(mounts=[api.Mount(source="{{.X}}")]),
            "expanding mounts failed: expanding mount source",
        ),
        (
            api.ContainerSpec(mounts=[api.Mount(target="{{.X}}")]),
            "expanding mounts failed: expanding mount target",
        ),
        (api.ContainerSpec(hostname="{{.X}}"), "expanding hostname failed: "),
    ],
)
def test_the_error_names_the_field(spec: api.ContainerSpec, message: str) -> None:
    with pytest.raises(TemplateError) as raised:
        expand_container(spec, CONTEXT)
    assert str(raised.value).startswith(message)
