"""Defaults where a spec is silent: contract/orchestration.md, 2."""

import pytest

from swarmkit.api import defaults
from swarmkit.api import messages as api
from swarmkit.manager.orchestrator import settings
from tests.unit.manager.orchestrator.support import make_service


def test_without_a_policy_any_end_is_restarted_after_five_seconds() -> None:
    task = api.Task()
    assert settings.restart_condition(task) == api.RestartPolicy.ANY
    assert settings.restart_delay_seconds(task) == 5.0


def test_a_policy_that_leaves_the_condition_unset_means_none_and_its_delay_falls_back() -> None:
    task = api.Task()
    task.spec.restart.max_attempts = 2
    assert settings.restart_condition(task) == api.RestartPolicy.NONE
    assert settings.restart_delay_seconds(task) == 5.0


def test_a_delay_of_zero_is_a_delay_and_an_invalid_one_is_none() -> None:
    task = api.Task()
    task.spec.restart.delay.SetInParent()
    assert settings.restart_delay_seconds(task) == 0.0
    task.spec.restart.delay.seconds = -1
    assert settings.restart_delay_seconds(task) == 5.0


def test_without_update_options_all_tasks_are_replaced_at_once() -> None:
    service = make_service(replicas=1)
    config = settings.update_config(service)
    assert config.parallelism == 0
    assert config.failure_action == api.UpdateConfig.PAUSE
    assert config.order == api.UpdateConfig.STOP_FIRST
    assert (config.delay.seconds, config.max_failure_ratio) == (0, 0.0)
    assert settings.monitor_seconds(config) == 5.0


def test_a_rollback_uses_its_own_options() -> None:
    service = make_service(replicas=1)
    service.spec.update.parallelism = 1
    service.spec.rollback.parallelism = 2
    assert settings.update_config(service).parallelism == 1
    service.update_status.state = api.UpdateStatus.ROLLBACK_STARTED
    assert settings.update_config(service).parallelism == 2
    service.spec.ClearField("rollback")
    assert settings.update_config(service) == defaults.default_update()


@pytest.mark.parametrize(("seconds", "expected"), [(None, 5.0), (0, 0.0), (7, 7.0)])
def test_the_monitor_period_falls_back_by_itself(seconds: int | None, expected: float) -> None:
    config = api.UpdateConfig(parallelism=1)
    if seconds is not None:
        config.monitor.seconds = seconds
    assert settings.monitor_seconds(config) == expected
