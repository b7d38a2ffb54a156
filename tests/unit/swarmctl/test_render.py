import datetime

import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from swarmctl.render import text
from swarmctl.render.nodes import manager_status, node_block, node_table
from swarmctl.render.services import service_block, service_table
from swarmctl.render.table import table
from swarmctl.render.tasks import list_table, ordered, task_block, task_table, wanted
from swarmkit.api import messages as api
from swarmkit.api.naming import IMPLEMENTATION_LABEL

NOW = datetime.datetime(2026, 11, 22, 12, 0, tzinfo=datetime.UTC)


def ago(seconds: float) -> Timestamp:
    moment = Timestamp()
    moment.FromDatetime(NOW - datetime.timedelta(seconds=seconds))
    return moment


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (0.9, "now"),
        (1, "1 second ago"),
        (59.9, "59 seconds ago"),
        (60, "1 minute ago"),
        (119, "1 minute ago"),
        (120, "2 minutes ago"),
        (3600, "1 hour ago"),
        (7200, "2 hours ago"),
        (86_400, "1 day ago"),
        (3 * 86_400, "3 days ago"),
        (7 * 86_400, "1 week ago"),
        (15 * 86_400, "2 weeks ago"),
        (31 * 86_400, "1 month ago"),
        (61 * 86_400, "2 months ago"),
        (360 * 86_400, "1 year ago"),
        (540 * 86_400, "2 years ago"),
        (1100 * 86_400, "3 years ago"),
        (38 * 360 * 86_400, "a long while ago"),
        (-5, "5 seconds from now"),
    ],
)
def test_relative_times_read_as_the_contract_has_them(seconds: float, expected: str) -> None:
    assert text.relative_time(ago(seconds), NOW) == expected


@pytest.mark.parametrize(
    ("seconds", "nanos", "expected"),
    [
        (5, 0, "5s"),
        (2160 * 3600, 0, "2160h0m0s"),
        (90, 0, "1m30s"),
        (0, 0, "0s"),
        (1, 500_000_000, "1.5s"),
        (0, 300_000_000, "300ms"),
        (0, 1_500, "1.5µs"),
        (-5, 0, "-5s"),
    ],
)
def test_durations_are_written_as_go_writes_them(seconds: int, nanos: int, expected: str) -> None:
    assert text.duration(Duration(seconds=seconds, nanos=nanos)) == expected


def test_amounts() -> None:
    assert text.memory(4 << 20) == "4.0 MiB"
    assert text.memory(3 << 29) == "1.5 GiB"
    assert text.memory(24 << 30) == "24 GiB"
    assert text.memory(512) == "512 B"
    assert text.cpus(250_000_000) == "0.25"
    assert text.cpus(2_000_000_000) == "2"


def test_absolute_times_drop_trailing_zeros() -> None:
    moment = Timestamp(seconds=1795347735, nanos=399_400_000)
    assert text.absolute_time(moment) == "2026-11-22T11:42:15.3994Z"
    assert text.absolute_time(Timestamp(seconds=1795347735)) == "2026-11-22T11:42:15Z"


def test_tables_align_left_keep_numbers_and_end_without_blanks() -> None:
    printed = table(["ID", "Name", "N"], [["a", "long name", "007"], ["b", "", ""]])
    assert printed.splitlines() == [
        "ID  Name       N",
        "--  ----       -",
        "a   long name  007",
        "b",
    ]


def test_an_empty_table_prints_both_header_lines() -> None:
    assert table(["ID", "Name"], []).splitlines() == ["ID  Name", "--  ----"]


def task(slot: int, created: float, **fields: object) -> api.Task:
    made = api.Task(id=f"t{slot}-{created}", slot=slot, service_id="s", node_id="n", **fields)  # type: ignore[arg-type]
    made.meta.created_at.CopyFrom(ago(created))
    made.service_annotations.name = "web"
    made.spec.container.image = "busybox"
    made.status.timestamp.CopyFrom(ago(created))
    return made


def test_tasks_are_ordered_by_slot_then_newest_first() -> None:
    tasks = [task(2, 5), task(1, 9), task(1, 3)]
    assert [t.id for t in ordered(tasks)] == ["t1-3", "t1-9", "t2-5"]


def test_tasks_no_longer_wanted_are_hidden_unless_all_are_asked_for() -> None:
    tasks = [
        task(1, 1, desired_state=api.TaskState.RUNNING),
        task(1, 2, desired_state=api.TaskState.SHUTDOWN),
    ]
    assert wanted(tasks, False) == tasks[:1]
    assert wanted(tasks, True) == tasks


def test_the_task_table_of_inspects_is_the_tours() -> None:
    made = task(1, 2, desired_state=api.TaskState.RUNNING)
    made.status.state = api.TaskState.RUNNING
    printed = task_table([made], {"n": "node-1"}, NOW)
    assert printed.splitlines() == [
        "Task ID    Service    Instance    Image      Desired State    Last State               Node",
        "-------    -------    --------    -----      -------------    ----------               ----",
        "t1-2       web        1           busybox    RUNNING          RUNNING 2 seconds ago    node-1",
    ]


def test_task_ls_names_a_task_by_service_and_slot_or_node() -> None:
    printed = list_table([task(1, 2), task(0, 3)], {"s": "web"}, {"n": "node-1"}, NOW)
    assert "web.1" in printed
    assert "web.node-1" in printed


def test_task_inspect_shows_exit_codes_only_of_ended_tasks() -> None:
    made = task(1, 2)
    made.status.state = api.TaskState.FAILED
    made.status.container.container_id = "abc"
    made.status.container.exit_code = 3
    made.status.err = "task: non-zero exit (3)"
    printed = task_block(made, "web", "node-1", NOW)
    assert "ExitCode" in printed
    assert "non-zero exit (3)" in printed
    made.status.state = api.TaskState.RUNNING
    assert "ExitCode" not in task_block(made, "web", "node-1", NOW)


def node(**fields: object) -> api.Node:
    return api.Node(id="n", **fields)  # type: ignore[arg-type]


def test_the_manager_column_is_empty_for_workers_and_starred_for_the_leader() -> None:
    assert manager_status(node()) == ""
    leader = node()
    leader.manager_status.reachability = api.RaftMemberStatus.REACHABLE
    leader.manager_status.leader = True
    assert manager_status(leader) == "REACHABLE *"
    joining = node()
    joining.spec.desired_role = api.NodeRole.MANAGER
    assert manager_status(joining) == "UNKNOWN"


def test_node_ls_has_the_columns_of_the_tour() -> None:
    assert node_table([], False).splitlines()[0].split("  ") == [
        "ID",
        "Name",
        "Membership",
        "Status",
        "Availability",
        "Manager status",
    ]


def test_a_member_that_cannot_be_reached_is_shown_as_such() -> None:
    away = node()
    away.manager_status.reachability = api.RaftMemberStatus.UNREACHABLE
    assert manager_status(away) == "UNREACHABLE"


def test_node_inspect_shows_the_role_and_the_wished_one_while_they_differ() -> None:
    promoted = node()
    assert _line(node_block(promoted), "Role") == "WORKER"
    promoted.spec.desired_role = api.NodeRole.MANAGER
    assert _line(node_block(promoted), "Role") == "WORKER, to become MANAGER"


def test_node_inspect_does_not_show_the_mark_of_this_project() -> None:
    marked = node()
    marked.description.engine.labels[IMPLEMENTATION_LABEL] = "0.1.0"
    assert "Engine Labels" not in node_block(marked)
    marked.description.engine.labels["disk"] = "ssd"
    assert _line(node_block(marked), "Engine Labels") == "disk=ssd"


def _line(block: str, title: str) -> str:
    lines = dict(line.split(" : ", 1) for line in block.splitlines() if " : " in line)
    return {key.strip(): value.strip() for key, value in lines.items()}[title]


def test_node_inspect_leaves_out_what_is_not_known() -> None:
    printed = node_block(node())
    assert "Platform" not in printed
    assert "Engine" not in printed
    assert "State" in printed


def test_service_blocks_and_tables_are_the_tours() -> None:
    service = api.Service(id="x" * 25)
    service.spec.annotations.name = "redis"
    service.spec.replicated.replicas = 1
    service.spec.task.container.image = "redis:3.0.5"
    assert [line.rstrip() for line in service_block(service, NOW).splitlines()] == [
        f"ID                : {'x' * 25}",
        "Name              : redis",
        "Instances         : 1",
        "Template",
        " Container",
        "  Image           : redis:3.0.5",
    ]
    assert service_table([service], None).splitlines()[2] == f"{'x' * 25}  redis  redis:3.0.5  1"
    getattr(service.spec, "global").SetInParent()
    assert service_table([service], None).splitlines()[2].endswith("global")
