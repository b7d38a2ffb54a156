"""The RPCs of tasks (contract/control-api.md, 3)."""

from typing import Any

import grpc
import pytest

from swarmkit.api import messages as api
from tests.unit.manager.controlapi.conftest import Control
from tests.unit.manager.controlapi.specs import service_spec

Code = grpc.StatusCode


async def test_get_and_remove_need_an_id_that_exists(control: Control) -> None:
    await control.put(api.Task(id="t1", slot=3))
    assert (await control.call("GetTask", api.GetTaskRequest(task_id="t1"))).task.slot == 3
    await control.call("RemoveTask", api.RemoveTaskRequest(task_id="t1"))
    for method, request in (("GetTask", api.GetTaskRequest), ("RemoveTask", api.RemoveTaskRequest)):
        await control.refused(method, request(task_id="t1"), Code.NOT_FOUND, "task t1 not found")
        await control.refused(method, request(), Code.INVALID_ARGUMENT, "invalid argument")


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        ({}, ["t1", "t2", "t3"]),
        ({"names": ["web.1.t1"]}, ["t1"]),
        ({"names": ["WEB.1.t1"]}, []),
        ({"names": ["web.n2.t2", "own"]}, ["t2", "t3"]),
        ({"name_prefixes": ["web."]}, ["t1", "t2"]),
        ({"id_prefixes": ["t2"]}, ["t2"]),
        ({"labels": {"tier": "front"}}, ["t1"]),
        ({"service_ids": ["s1", "s2"]}, ["t1", "t2", "t3"]),
        ({"service_ids": ["s1"], "node_ids": ["n2"]}, ["t2"]),
        ({"node_ids": [""]}, ["t3"]),
        ({"desired_states": [api.TaskState.SHUTDOWN]}, ["t2"]),
        ({"runtimes": ["container"]}, ["t1"]),
        ({"up_to_date": True}, ["t1"]),
        ({"up_to_date": True, "node_ids": ["n2"]}, []),
    ],
)
async def test_list_filters(control: Control, wanted: dict[str, Any], expected: list[str]) -> None:
    spec = service_spec()
    await control.put(api.Service(id="s1", spec=spec))
    web = api.Annotations(name="web")
    one = api.Task(id="t1", service_id="s1", node_id="n1", slot=1, service_annotations=web, spec=spec.task)
    one.service_annotations.labels["tier"] = "front"
    two = api.Task(id="t2", service_id="s1", node_id="n2", service_annotations=web)
    two.desired_state = api.TaskState.SHUTDOWN
    three = api.Task(id="t3", service_id="s2", annotations=api.Annotations(name="own"))
    for task in (three, two, one):
        await control.put(task)
    request = api.ListTasksRequest(filters=api.ListTasksRequest.Filters(**wanted))
    response = await control.call("ListTasks", request)
    assert [task.id for task in response.tasks] == expected


async def test_a_long_list_is_whole_and_in_order(control: Control) -> None:
    async with control.store.batch() as batch:
        for number in range(2500):
            batch.update(lambda tx, number=number: tx.create(api.Task(id=f"t{number:04}")))  # type: ignore[misc]
    response = await control.call("ListTasks", api.ListTasksRequest())
    assert [task.id for task in response.tasks] == [f"t{number:04}" for number in range(2500)]
