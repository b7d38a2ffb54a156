"""The update status of a service and the changes an update makes to it (contract/orchestration.md, 1.6).

Pure. Each function returns a changed copy, or None where nothing is to be written.
"""

import datetime

from swarmkit.api import messages as api

_State = api.UpdateStatus


def is_paused(service: api.Service) -> bool:
    """Tell whether an update or a rollback waits for an operator."""
    return service.update_status.state in (_State.PAUSED, _State.ROLLBACK_PAUSED)


def is_rolling_back(service: api.Service) -> bool:
    """Tell whether a rollback is under way."""
    return service.update_status.state == _State.ROLLBACK_STARTED


def is_under_way(service: api.Service) -> bool:
    """Tell whether an update or a rollback is under way."""
    return service.update_status.state in (_State.UPDATING, _State.ROLLBACK_STARTED)


def started(service: api.Service, now: datetime.datetime) -> api.Service | None:
    """Begin an update, unless the service has a status already."""
    if service.HasField("update_status"):
        return None
    copy = _copy(service)
    copy.update_status.state = _State.UPDATING
    copy.update_status.message = "update in progress"
    copy.update_status.started_at.FromDatetime(now)
    return copy


def completed(service: api.Service, now: datetime.datetime) -> api.Service | None:
    """End an update or a rollback; None if somebody cleared the status meanwhile."""
    if not service.HasField("update_status"):
        return None
    rolled_back = is_rolling_back(service)
    copy = _copy(service)
    copy.update_status.state = _State.ROLLBACK_COMPLETED if rolled_back else _State.COMPLETED
    copy.update_status.message = "rollback completed" if rolled_back else "update completed"
    copy.update_status.completed_at.FromDatetime(now)
    return copy


def paused(service: api.Service, task_id: str) -> api.Service | None:
    """Pause an update or a rollback because of a task; None if somebody cleared the status meanwhile."""
    if not service.HasField("update_status"):
        return None
    rolling_back = is_rolling_back(service)
    copy = _copy(service)
    copy.update_status.state = _State.ROLLBACK_PAUSED if rolling_back else _State.PAUSED
    what = "rollback" if rolling_back else "update"
    copy.update_status.message = f"{what} paused due to failure or early termination of task {task_id}"
    return copy


def rolled_back(service: api.Service, task_id: str) -> api.Service | None:
    """Go back to the previous spec because of a task; None if the status was cleared meanwhile.

    Raises:
        ValueError: the service has no previous spec.
    """
    if not service.HasField("update_status"):
        return None
    if not service.HasField("previous_spec"):
        raise ValueError(f"service {service.id} has no previous spec to roll back to")
    copy = _copy(service)
    copy.update_status.state = _State.ROLLBACK_STARTED
    copy.update_status.message = f"update rolled back due to failure or early termination of task {task_id}"
    copy.spec.CopyFrom(service.previous_spec)
    copy.ClearField("spec_version")
    if service.HasField("previous_spec_version"):
        copy.spec_version.CopyFrom(service.previous_spec_version)
    copy.ClearField("previous_spec")
    copy.ClearField("previous_spec_version")
    return copy


def _copy(service: api.Service) -> api.Service:
    copy = api.Service()
    copy.CopyFrom(service)
    return copy
