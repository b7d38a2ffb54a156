"""The loop of the scheduler: watches, decides by the pure modules beside it, writes.

See ``README.md`` for the vocabulary and the order of calls, contract/scheduler.md for the behaviour.
"""

import asyncio
import functools
import itertools

from swarmkit.api import messages as api
from swarmkit.clock import Clock, timestamp
from swarmkit.log import get_logger
from swarmkit.manager.pacing import Pacer
from swarmkit.manager.scheduler.debounce import Debounce
from swarmkit.manager.scheduler.decisions import Assignment, Decision, Outcome, write
from swarmkit.manager.scheduler.placing import Placing
from swarmkit.manager.scheduler.state import State
from swarmkit.store import (
    Batch,
    LeadershipLostError,
    ProposalError,
    Reader,
    StoppedError,
    Store,
    Watch,
    Watcher,
)

log = get_logger(__name__)


class Scheduler:
    """Gives nodes to pending tasks. Runs on the leader only, one at a time on a store."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._state = State()
        self._debounce = Debounce()

    async def run(self) -> None:
        """Schedule until cancelled, or until this manager does not lead any more.

        All that is known is built anew from the store, so it may be run again after it ended.
        """
        self._state = State()
        self._debounce = Debounce()
        pacer = Pacer(self._clock)
        (nodes, tasks), watcher = self._store.view_and_watch(_snapshot, Watch(api.Task), Watch(api.Node))
        with watcher:
            try:
                await self._load(nodes, tasks, pacer)
                self._state.tick_wanted = True
                await self._schedule(pacer)
                await self._follow(watcher, pacer)
            except (LeadershipLostError, StoppedError) as error:
                log.info("scheduler stops", reason=str(error))

    async def _load(self, nodes: list[api.Node], tasks: list[api.Task], pacer: Pacer) -> None:
        items: list[api.Node | api.Task] = [*nodes, *tasks]
        for item in items:
            try:
                self._state.load(item)
            except Exception as error:  # one bad object must not keep all others from being scheduled
                log.exception("cannot take in an object", object_id=item.id, error=str(error))
            await pacer.pause()

    async def _follow(self, watcher: Watcher, pacer: Pacer) -> None:
        """Follow the events and schedule after bursts of them; ends when the store closes the watcher."""
        while True:
            try:
                async with asyncio.timeout(self._until_deadline()):
                    commit = await anext(watcher, None)
            except TimeoutError:
                self._debounce.expire()
                await self._schedule(pacer)
                continue
            if commit is None:
                return
            for event in commit.events:
                try:
                    self._state.handle(event, self._clock.monotonic())
                except Exception as error:  # one bad object must not keep all others from being scheduled
                    log.exception("cannot handle an event", object_id=event.object.id, error=str(error))
                await pacer.pause()
            if self._debounce.changed(self._clock.monotonic()):
                await self._schedule(pacer)

    def _until_deadline(self) -> float | None:
        deadline = self._debounce.deadline
        return None if deadline is None else deadline - self._clock.monotonic()

    async def _schedule(self, pacer: Pacer) -> None:
        """Decide about the preassigned tasks and, if something asked for it, the unassigned; commit."""
        moment = timestamp(self._clock.now())
        placing = Placing(self._state, self._clock.monotonic(), moment, self._service)
        decisions: list[Decision] = []
        passes = [placing.confirm()]
        if self._state.tick_wanted:
            self._state.tick_wanted = False
            passes.append(placing.place())
        for decision in itertools.chain.from_iterable(passes):
            if decision is not None:
                decisions.append(decision)
            await pacer.pause()
        if decisions:
            await self._commit(decisions, pacer)

    def _service(self, service_id: str) -> api.Service | None:
        return self._store.view().get(api.Service, service_id)

    async def _commit(self, decisions: list[Decision], pacer: Pacer) -> None:
        try:
            async with self._store.batch() as batch:
                for decision in decisions:
                    self._write(batch, decision)
                    await pacer.pause()
        except (LeadershipLostError, StoppedError):
            raise
        except ProposalError as error:
            log.error("decisions of the scheduler were not committed", error=str(error))
            self._take_back(decisions)

    def _write(self, batch: Batch, decision: Decision) -> None:
        task = decision.task
        try:
            outcome, stored = batch.update(functools.partial(write, decision))
        except ProposalError:
            raise
        except Exception as error:  # one bad task must not keep all others from being scheduled
            log.exception("cannot write a decision of the scheduler", task_id=task.id, error=str(error))
            outcome, stored = Outcome.CONFLICT, task
        if outcome in (Outcome.GONE, Outcome.CONFLICT):
            self._state.undo(decision, stored)
        elif isinstance(decision, Assignment):
            log.debug("task assigned", task_id=task.id, node_id=decision.node.id, service_id=task.service_id)

    def _take_back(self, decisions: list[Decision]) -> None:
        """Undo what did not reach the store (D10); the events of what did are on their way."""
        view = self._store.view()
        for decision in decisions:
            stored = view.get(api.Task, decision.task.id)
            if stored is None or stored.meta.version.index == decision.task.meta.version.index:
                self._state.undo(decision, stored)
        self._state.tick_wanted = True


def _snapshot(reader: Reader) -> tuple[list[api.Node], list[api.Task]]:
    return reader.find(api.Node), reader.find(api.Task)
