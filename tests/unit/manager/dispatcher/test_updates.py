"""What reports do to objects (contract/dispatcher-agent.md, 3.2, 3.6 to 3.8; cases 18, 20)."""

import datetime

from hypothesis import given
from hypothesis import strategies as st

from swarmkit.api import messages as api
from swarmkit.api.naming import ENGINE_ERROR_LABEL
from swarmkit.clock import timestamp
from swarmkit.manager.dispatcher.updates import (
    NodeUpdate,
    PendingUpdates,
    accept_status,
    orphan,
    release_volume,
    update_node,
)
from tests.unit.manager.dispatcher.bench import node, status, task

NOW = datetime.datetime(2026, 3, 1, tzinfo=datetime.UTC)
STATES = sorted(api.TaskState.values())
DOWN = api.NodeStatus.DOWN
READY = api.NodeStatus.READY


@given(st.sampled_from(STATES), st.sampled_from(STATES))
def test_a_status_is_accepted_unless_it_is_older(stored: int, reported: int) -> None:
    before = task("t", state=stored)
    accepted = accept_status(before, status(reported, "news"), "leader", NOW)
    assert (accepted is not None) == (reported >= stored)
    if accepted is not None:
        assert accepted.status.state == reported
        assert accepted.status.applied_by == "leader"
        assert accepted.status.applied_at == timestamp(NOW)
    assert before == task("t", state=stored)


def test_the_whole_status_is_replaced_and_the_nodes_own_time_kept() -> None:
    before = task("t", state=api.TaskState.RUNNING)
    before.status.err = "old"
    before.status.container.container_id = "c"
    reported = status(api.TaskState.RUNNING, "started")
    reported.timestamp.seconds = 7
    accepted = accept_status(before, reported, "leader", NOW)
    assert accepted is not None
    assert accepted.status.err == ""
    assert not accepted.status.HasField("container")
    assert accepted.status.timestamp.seconds == 7


def test_a_repeated_status_changes_nothing_even_if_it_echoes_who_applied_it() -> None:
    before = task("t", state=api.TaskState.RUNNING)
    before.status.applied_by = "former leader"
    before.status.applied_at.seconds = 3
    repeated = api.TaskStatus()
    repeated.CopyFrom(before.status)
    assert accept_status(before, repeated, "leader", NOW) is None
    repeated.ClearField("applied_at")
    assert accept_status(before, repeated, "leader", NOW) is None


@given(st.sampled_from(STATES))
def test_only_tasks_from_assigned_to_running_are_orphaned_and_only_their_state_changes(state: int) -> None:
    before = task("t", state=state)
    before.status.message = "as the node said"
    orphaned = orphan(before)
    assert (orphaned is not None) == (api.TaskState.ASSIGNED <= state <= api.TaskState.RUNNING)
    if orphaned is not None:
        assert orphaned.status.state == api.TaskState.ORPHANED
        orphaned.status.state = before.status.state
        assert orphaned == before


def test_ready_clears_the_message_and_keeps_what_is_not_given() -> None:
    before = node("n", DOWN)
    before.status.message = "heartbeat failure"
    before.status.addr = "10.1.1.1"
    after = update_node(before, NodeUpdate(READY))
    assert after is not None
    assert (after.status.state, after.status.message, after.status.addr) == (READY, "", "10.1.1.1")
    assert after.description.hostname == "host-n"
    assert update_node(after, NodeUpdate(READY, addr="10.1.1.1")) is None


def test_an_empty_description_is_stored_and_none_is_not() -> None:
    after = update_node(node("n"), NodeUpdate(READY, description=api.NodeDescription()))
    assert after is not None
    assert after.HasField("description")
    assert after.description == api.NodeDescription()


def test_a_node_that_fails_before_its_registration_is_written_keeps_the_new_description() -> None:
    pending = PendingUpdates()
    described = api.NodeDescription(hostname="new")
    pending.put_node("n", NodeUpdate(READY, "", "10.2.2.2", described))
    pending.put_node("n", NodeUpdate(DOWN, "heartbeat failure"))
    assert pending.nodes["n"] == NodeUpdate(DOWN, "heartbeat failure", "10.2.2.2", described)


def test_of_two_reports_on_a_task_the_later_waits_even_if_it_is_lower() -> None:
    pending = PendingUpdates()
    pending.put_task("t", status(api.TaskState.FAILED))
    pending.put_task("t", status(api.TaskState.RUNNING))
    assert pending.tasks["t"].state == api.TaskState.RUNNING
    assert pending.largest() == 1


def test_a_released_volume_waits_to_be_unpublished_from_this_node_alone() -> None:
    volume = api.Volume(id="v")
    for node_id in ("n", "m"):
        volume.publish_status.add(node_id=node_id, state=api.VolumePublishStatus.PUBLISHED)
    released = release_volume(volume, "n")
    assert released is not None
    assert [s.state for s in released.publish_status] == [
        api.VolumePublishStatus.PENDING_UNPUBLISH,
        api.VolumePublishStatus.PUBLISHED,
    ]
    assert release_volume(released, "n") is None
    assert release_volume(volume, "stranger") is None


def test_a_node_that_registers_is_ready() -> None:
    update = NodeUpdate.registered("10.0.0.1", api.NodeDescription(hostname="h"))
    assert (update.state, update.message) == (api.NodeStatus.READY, "")
    assert NodeUpdate.registered("10.0.0.1", None).state == api.NodeStatus.READY


def test_a_node_whose_engine_is_away_is_disconnected_and_says_why() -> None:
    description = api.NodeDescription()
    description.engine.labels[ENGINE_ERROR_LABEL] = "the Docker engine cannot be reached"
    update = NodeUpdate.registered("10.0.0.1", description)
    assert (update.state, update.message) == (
        api.NodeStatus.DISCONNECTED,
        "the Docker engine cannot be reached",
    )
