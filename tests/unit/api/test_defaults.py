"""Defaults fill gaps only (contract/control-api.md, 4, Defaults)."""

from swarmkit.api import messages as api
from swarmkit.api.defaults import service_with_defaults


def test_an_empty_container_spec_gets_everything() -> None:
    spec = api.ServiceSpec(task=api.TaskSpec(container=api.ContainerSpec(image="i")))
    filled = service_with_defaults(spec)
    container = filled.task.container
    assert container.stop_grace_period.seconds == 10
    assert container.HasField("pull_options")
    assert container.HasField("dns_config")
    assert filled.task.HasField("resources")
    assert filled.task.HasField("placement")
    assert filled.task.restart.condition == api.RestartPolicy.ANY
    assert filled.task.restart.delay.seconds == 5
    for config in (filled.update, filled.rollback):
        assert config.monitor.seconds == 5
        assert config.parallelism == 0
        assert config.failure_action == api.UpdateConfig.PAUSE
    assert spec == api.ServiceSpec(task=api.TaskSpec(container=api.ContainerSpec(image="i")))


def test_what_is_there_stays_but_for_delay_and_monitor() -> None:
    spec = api.ServiceSpec(update=api.UpdateConfig(parallelism=3))
    spec.task.restart.condition = api.RestartPolicy.NONE
    spec.task.restart.window.seconds = 7
    spec.rollback.monitor.seconds = 1
    spec.rollback.order = api.UpdateConfig.START_FIRST
    filled = service_with_defaults(spec)
    assert filled.task.restart.condition == api.RestartPolicy.NONE
    assert (filled.task.restart.delay.seconds, filled.task.restart.window.seconds) == (5, 7)
    assert (filled.update.parallelism, filled.update.monitor.seconds) == (3, 5)
    assert (filled.rollback.order, filled.rollback.monitor.seconds) == (api.UpdateConfig.START_FIRST, 1)


def test_a_spec_without_container_gets_no_container() -> None:
    spec = api.ServiceSpec(task=api.TaskSpec(generic=api.GenericRuntimeSpec(kind="wasm")))
    assert service_with_defaults(spec).task.WhichOneof("runtime") == "generic"
