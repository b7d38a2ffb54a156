from typing import Any

import pytest

from swarmctl.flags.service import FlagError, merge, new_spec
from swarmkit.api import messages as api


def spec(**flags: Any) -> api.ServiceSpec:
    return new_spec({"name": "web", "image": "busybox", **flags})


def test_name_and_image_are_mandatory() -> None:
    with pytest.raises(FlagError, match="--name and --image are mandatory"):
        new_spec({"name": "web"})


def test_a_new_service_is_replicated_once_and_has_no_update_settings() -> None:
    made = spec()
    assert made.replicated.replicas == 1
    assert not made.HasField("update")
    assert not made.HasField("rollback")
    assert not made.task.HasField("restart")


def test_instances_and_replicas_mean_the_same() -> None:
    assert spec(instances=3).replicated.replicas == 3
    assert spec(replicas=3).replicated.replicas == 3
    assert spec(replicas=3, instances=3).replicated.replicas == 3
    with pytest.raises(FlagError, match="give one of them"):
        spec(replicas=3, instances=4)


def test_instances_need_replicated_mode() -> None:
    with pytest.raises(FlagError, match="only be specified in --mode replicated"):
        spec(mode="global", instances=2)


def test_zero_instances_is_a_number_like_others() -> None:
    assert merge(spec(instances=3), {"instances": 0}).replicated.replicas == 0


def test_flags_that_are_not_given_leave_their_field_alone() -> None:
    made = spec(env=("A=1",), args=("x",), label=("a=b",), memory_limit=1 << 26, constraint=("node.id==x",))
    assert merge(made, {"image": None, "env": (), "instances": None}) == made
    changed = merge(made, {"image": "busybox:2"})
    assert changed.task.container.image == "busybox:2"
    changed.task.container.image = "busybox"
    assert changed == made


def test_lists_replace_and_mounts_append() -> None:
    made = spec(env=("A=1",), bind=("/a:/b",))
    changed = merge(made, {"env": ("B=2,C=3",), "bind": ("/c:/d",)})
    assert list(changed.task.container.env) == ["B=2", "C=3"]
    assert [m.target for m in changed.task.container.mounts] == ["/b", "/d"]


def test_the_stored_spec_is_not_changed() -> None:
    made = spec()
    before = made.SerializeToString()
    merge(made, {"image": "x", "label": ("a=b",), "update_parallelism": 2})
    assert made.SerializeToString() == before


def test_a_restart_policy_made_by_a_flag_restarts_on_any_end_unless_told_otherwise() -> None:
    assert spec(restart_delay=1_000_000_000).task.restart.condition == api.RestartPolicy.ANY
    assert spec(restart_condition="none").task.restart.condition == api.RestartPolicy.NONE
    kept = merge(spec(restart_condition="none"), {"restart_max_attempts": 3})
    assert kept.task.restart.condition == api.RestartPolicy.NONE


def test_update_settings_stay_unset_until_a_flag_sets_one() -> None:
    made = merge(spec(), {"update_parallelism": 0})
    assert made.HasField("update")
    assert not made.HasField("rollback")
    paced = merge(spec(), {"update_parallelism": 2, "update_delay": 10_000_000_000})
    assert (paced.update.parallelism, paced.update.delay.seconds) == (2, 10)
    assert merge(paced, {"image": "other"}).update == paced.update


def test_adding_a_capability_takes_it_off_the_drop_list_and_back() -> None:
    dropped = merge(spec(), {"rm_capability": ("CAP_A",)})
    assert list(dropped.task.container.capability_drop) == ["CAP_A"]
    added = merge(dropped, {"add_capability": ("CAP_A", "CAP_A")})
    assert list(added.task.container.capability_add) == ["CAP_A"]
    assert not added.task.container.capability_drop


def test_force_raises_the_counter() -> None:
    assert merge(spec(), {"force": True}).task.force_update == 1
    assert merge(spec(), {"force": False}).task.force_update == 0


def test_log_options_need_a_driver_and_keep_it() -> None:
    with pytest.raises(FlagError, match="--log-opt needs --log-driver"):
        spec(log_opt=("max-size=1m",))
    made = spec(log_driver="json-file", log_opt=("max-size=1m", "flag"))
    assert dict(made.task.log_driver.options) == {"max-size": "1m", "flag": ""}
    assert merge(made, {"image": "x"}).task.log_driver == made.task.log_driver
    assert not merge(made, {"log_driver": "none"}).task.log_driver.options
