"""An orchestrator of replicated services on a store, with workers that do as they are told."""

import contextlib
from collections.abc import AsyncIterator

from swarmkit.api import messages as api
from swarmkit.manager.orchestrator import ReplicatedOrchestrator
from tests.unit.manager.orchestrator.support import Swarm, Worker, make_node


class Bench(Swarm):
    @contextlib.asynccontextmanager
    async def started(self, worker: Worker | None = None) -> AsyncIterator[None]:
        orchestrator = ReplicatedOrchestrator(self.store, self.clock, self.new_id)
        if worker:
            await self.create(*(make_node(id) for id in worker.nodes))
        async with self.running(orchestrator.run, *([worker.run] if worker else [])):
            yield

    async def scale(self, replicas: int) -> None:
        await self.edit(api.Service, "svc", lambda s: setattr(s.spec.replicated, "replicas", replicas))
        await self.settle()

    def slots(self) -> list[int]:
        return sorted(task.slot for task in self.wanted())


def set_image(image: str, service: api.Service) -> None:
    service.spec.task.container.image = image
