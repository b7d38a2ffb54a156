"""The three streams to a worker (contract/dispatcher-agent.md, 3.3, 3.9, 3.10)."""

import asyncio
from collections.abc import AsyncGenerator, Callable

from swarmkit.api import messages as api
from swarmkit.manager.dispatcher.assignments import AssignmentSet, differs_only_in_status
from swarmkit.manager.dispatcher.errors import MustDisconnectError, NodeNotFoundError
from swarmkit.manager.dispatcher.source import EventSource
from swarmkit.manager.dispatcher.tenure import Tenure
from swarmkit.store import Action, Event, Watch, by

#: Events taken in one after the other; then other tasks get their turn.
SLICE = 200


async def session_messages(
    tenure: Tenure, node_id: str, ip: str, request: api.SessionRequest
) -> AsyncGenerator[api.SessionMessage, None]:
    """Open the node's session, then yield a message at once and after everything the node should know.

    Raises:
        MustDisconnectError: the dispatcher stopped; the last message has been sent.
        NodeNotRegisteredError: the node expired; the message showing it DOWN has been sent.
        SessionInvalidError: the node registered anew.
        DispatcherError: what ``Tenure.open_session`` raises.
    """
    description = request.description if request.HasField("description") else None
    session_id = await tenure.open_session(node_id, ip, request.session_id, description)
    node = tenure.store.view().get(api.Node, node_id)
    if node is None:
        raise NodeNotFoundError
    with tenure.hub.open(node) as feed:
        while True:
            last = tenure.stopped
            # A deleted node is shown as it last was: its streams go on until its certificate is refused.
            feed.node = tenure.store.view().get(api.Node, node_id) or feed.node
            yield tenure.hub.message(session_id, feed.node)
            if last:
                raise MustDisconnectError
            tenure.nodes.check_session(node_id, session_id)
            if not tenure.stopped:
                await feed.alarm.wait()


async def assignment_messages(
    tenure: Tenure, node_id: str, session_id: str
) -> AsyncGenerator[api.AssignmentsMessage, None]:
    """Yield everything assigned to the node, then the differences, in an unbroken chain.

    Raises:
        DispatcherError: the session is not valid (any more), or the dispatcher stopped.
    """
    tenure.nodes.check_session(node_id, session_id)
    assigned = AssignmentSet(node_id)
    tasks = Watch(api.Task, {Action.UPDATE, Action.DELETE}, node_id=node_id)
    async with tenure.source(node_id, tasks) as source:
        assigned.start(tenure.store.view())
        kind, number = api.AssignmentsMessage.COMPLETE, 1
        while True:
            yield api.AssignmentsMessage(
                type=kind,
                applies_to=str(number - 1) if number > 1 else "",
                results_in=str(number),
                changes=assigned.take_changes(),
            )
            tenure.nodes.check_session(node_id, session_id)
            await _gather(tenure, source, lambda event: _take(tenure, assigned, event))
            kind, number = api.AssignmentsMessage.INCREMENTAL, number + 1


async def task_messages(
    tenure: Tenure, node_id: str, session_id: str
) -> AsyncGenerator[api.TasksMessage, None]:
    """Yield the full list of the node's tasks, then again after changes: for workers without Assignments.

    Raises:
        DispatcherError: the session is not valid (any more), or the dispatcher stopped.
    """
    tenure.nodes.check_session(node_id, session_id)
    async with tenure.source(node_id, Watch(api.Task, node_id=node_id)) as source:
        while True:
            tasks = tenure.store.view().find(api.Task, by.node(node_id))
            yield api.TasksMessage(tasks=[t for t in tasks if t.status.state >= api.TaskState.ASSIGNED])
            await _gather(tenure, source, _changes_list)
            tenure.nodes.check_session(node_id, session_id)


async def _gather(tenure: Tenure, source: EventSource, take: Callable[[Event], bool]) -> None:
    """Take events until there is something to send: changes, and then none for a while, or very many."""
    changes = events = 0
    send_at: float | None = None
    while changes < tenure.config.max_changes:
        event = await source.next(None if send_at is None else send_at - tenure.clock.monotonic())
        if event is None:
            return
        if take(event):
            changes += 1
            send_at = tenure.clock.monotonic() + tenure.config.quiet_seconds
        events += 1
        if events % SLICE == 0:
            await asyncio.sleep(0)


def _take(tenure: Tenure, assigned: AssignmentSet, event: Event) -> bool:
    reader = tenure.store.view()
    if isinstance(event.object, api.Volume):
        # The event may be older than the read this stream began with: the volume as it is now counts.
        return assigned.update_volume(reader, reader.get(api.Volume, event.object.id) or event.object)
    if not isinstance(event.object, api.Task):
        raise TypeError(f"not watched: {type(event.object).__name__}")
    if event.action is Action.DELETE:
        return assigned.delete_task(event.object)
    return assigned.update_task(reader, event.object)


def _changes_list(event: Event) -> bool:
    """Tell whether an event is news for a worker that gets whole lists."""
    task, old = event.object, event.old
    if not isinstance(task, api.Task):
        return False
    known = isinstance(old, api.Task) and differs_only_in_status(old, task)
    return not known or task.status.state <= api.TaskState.ASSIGNED
