"""The update status of a service: contract/orchestration.md, 1.6."""

import datetime

import pytest

from swarmkit.api import messages as api
from swarmkit.manager.orchestrator import update_status
from tests.fakes.loop import EPOCH
from tests.unit.manager.orchestrator.support import make_service

S = api.UpdateStatus
LATER = EPOCH + datetime.timedelta(seconds=9)


def service_in(state: "api.UpdateStatus.UpdateState.ValueType") -> api.Service:
    service = make_service(replicas=1, image="new", version=8)
    service.update_status.state = state
    service.update_status.started_at.FromDatetime(EPOCH)
    return service


def test_an_update_starts_only_where_there_is_no_status() -> None:
    started = update_status.started(make_service(replicas=1), EPOCH)
    assert started is not None
    assert started.update_status.state == S.UPDATING
    assert started.update_status.started_at.ToDatetime(datetime.UTC) == EPOCH
    assert update_status.started(service_in(S.COMPLETED), EPOCH) is None


@pytest.mark.parametrize(
    ("before", "after"),
    [(S.UPDATING, S.COMPLETED), (S.ROLLBACK_STARTED, S.ROLLBACK_COMPLETED), (S.COMPLETED, S.COMPLETED)],
)
def test_an_end_is_that_of_the_update_or_the_rollback(
    before: "api.UpdateStatus.UpdateState.ValueType", after: "api.UpdateStatus.UpdateState.ValueType"
) -> None:
    completed = update_status.completed(service_in(before), LATER)
    assert completed is not None
    assert completed.update_status.state == after
    assert completed.update_status.started_at.ToDatetime(datetime.UTC) == EPOCH
    assert completed.update_status.completed_at.ToDatetime(datetime.UTC) == LATER


@pytest.mark.parametrize(
    ("before", "after"), [(S.UPDATING, S.PAUSED), (S.ROLLBACK_STARTED, S.ROLLBACK_PAUSED)]
)
def test_a_pause_names_the_task_and_leaves_the_times(
    before: "api.UpdateStatus.UpdateState.ValueType", after: "api.UpdateStatus.UpdateState.ValueType"
) -> None:
    paused = update_status.paused(service_in(before), "task77")
    assert paused is not None
    assert paused.update_status.state == after
    assert "task77" in paused.update_status.message
    assert paused.update_status.started_at.ToDatetime(datetime.UTC) == EPOCH
    assert update_status.is_paused(paused)


def test_a_rollback_restores_spec_and_version_and_clears_the_previous_ones() -> None:
    service = service_in(S.UPDATING)
    old = make_service(replicas=1, image="old")
    service.previous_spec.CopyFrom(old.spec)
    service.previous_spec_version.index = 3
    back = update_status.rolled_back(service, "task77")
    assert back is not None
    assert back.spec == old.spec
    assert back.spec_version.index == 3
    assert not back.HasField("previous_spec")
    assert not back.HasField("previous_spec_version")
    assert back.update_status.state == S.ROLLBACK_STARTED
    assert "task77" in back.update_status.message
    assert back.update_status.started_at.ToDatetime(datetime.UTC) == EPOCH
    assert service.spec.task.container.image == "new"


def test_a_rollback_without_versions_leaves_none() -> None:
    service = service_in(S.UPDATING)
    service.previous_spec.CopyFrom(make_service(replicas=1, image="old").spec)
    back = update_status.rolled_back(service, "t")
    assert back is not None
    assert not back.HasField("spec_version")


def test_without_a_previous_spec_there_is_no_rollback() -> None:
    with pytest.raises(ValueError, match="no previous spec"):
        update_status.rolled_back(service_in(S.UPDATING), "t")


def test_nothing_is_written_once_the_status_was_cleared() -> None:
    service = make_service(replicas=1)
    service.previous_spec.CopyFrom(service.spec)
    assert update_status.completed(service, LATER) is None
    assert update_status.paused(service, "t") is None
    assert update_status.rolled_back(service, "t") is None
