"""Controllers of tasks on an engine in memory."""

from typing import Any, cast

from swarmkit.api import messages as api
from swarmkit.executors.docker.controller import DockerController
from swarmkit.executors.docker.pulls import Pulls
from tests.fakes.engine import FakeEngine
from tests.fakes.loop import VirtualClock

NAME = "web.1.t1"


def make(engine: FakeEngine, clock: VirtualClock, **spec: Any) -> DockerController:
    task = api.Task(id="t1", slot=1)
    task.service_annotations.name = "web"
    task.spec.container.CopyFrom(api.ContainerSpec(image=spec.pop("image", "busybox"), **spec))
    return controller_of(task, engine, clock)


def controller_of(task: api.Task, engine: FakeEngine, clock: VirtualClock) -> DockerController:
    fake = cast(Any, engine)
    return DockerController(
        task, task.spec.container, fake, cast(Any, engine.events), Pulls(fake, clock), clock
    )


async def running(controller: DockerController) -> None:
    await controller.prepare()
    await controller.start()
