"""When a replacement that waits in READY may start (contract/orchestration.md, 8.4). Pure.

A release first waits its delay, then, if the task it replaces still runs, for that task's end: until it is
seen to end, its node goes DOWN or is deleted, or a time limit passes that began with the delay.
Times are seconds of one monotonic clock.
"""

import heapq
from dataclasses import dataclass


@dataclass(slots=True)
class _Release:
    """One pending release; ``serial`` tells it from an earlier one of the same task in the heap.

    ``waits`` is true while the old task is believed to run.
    """

    task_id: str
    serial: int
    not_before: float
    not_after: float
    old_id: str
    node_id: str
    waits: bool
    restart_after: bool = False


class ReleaseQueue:
    """The pending releases, at most one a task. Bounded by the number of tasks that wait in READY.

    Invariants (``check_invariants``): each pending release that waits for a task or node is found by it, and
    each pending release has an entry in the heap no later than its next deadline.
    """

    def __init__(self) -> None:
        self._pending: dict[str, _Release] = {}
        self._heap: list[tuple[float, int, str]] = []
        self._by_old: dict[str, set[str]] = {}
        self._by_node: dict[str, set[str]] = {}
        self._serial = 0
        self._restarts: list[str] = []

    def __len__(self) -> int:
        return len(self._pending)

    def __contains__(self, task_id: str) -> bool:
        return task_id in self._pending

    def schedule(
        self,
        task_id: str,
        now: float,
        *,
        delay_seconds: float = 0.0,
        limit_seconds: float = 0.0,
        old_id: str = "",
        node_id: str = "",
    ) -> None:
        """Release ``task_id`` after a delay and, if ``old_id`` is given, the end of that task on its node.

        A release of the same task that is pending already is replaced.
        """
        before = self._take(task_id)
        self._serial += 1
        release = _Release(
            task_id=task_id,
            serial=self._serial,
            not_before=now + delay_seconds,
            not_after=now + max(delay_seconds, limit_seconds if old_id else 0.0),
            old_id=old_id,
            node_id=node_id if old_id else "",
            waits=bool(old_id),
            restart_after=before is not None and before.restart_after,
        )
        self._pending[task_id] = release
        if release.old_id:
            self._by_old.setdefault(release.old_id, set()).add(task_id)
        if release.node_id:
            self._by_node.setdefault(release.node_id, set()).add(task_id)
        self._push(release, release.not_before)

    def restart_after(self, task_id: str) -> None:
        """Ask that the task be given to ``take_restarts`` when its pending release is over."""
        self._pending[task_id].restart_after = True

    def cancel(self, task_id: str) -> None:
        """Drop the pending release of a task, if there is one."""
        release = self._take(task_id)
        if release is not None and release.restart_after:
            self._restarts.append(task_id)

    def task_ended(self, task_id: str, now: float) -> None:
        """Note that a task has ended: nothing waits for it any more."""
        self._stop_waiting(self._by_old.get(task_id, ()), now)

    def node_lost(self, node_id: str, now: float) -> None:
        """Note that a node is DOWN or deleted: nothing waits for a task on it any more."""
        self._stop_waiting(self._by_node.get(node_id, ()), now)

    def advance(self, now: float) -> list[str]:
        """Return the tasks to be released by ``now``, in order of their deadlines, and forget them."""
        due: list[str] = []
        while self._heap and self._heap[0][0] <= now:
            _, serial, task_id = heapq.heappop(self._heap)
            release = self._pending.get(task_id)
            if release is None or release.serial != serial:
                continue
            if release.waits and now < release.not_after:
                self._push(release, release.not_after)
                continue
            self._take(task_id)
            due.append(task_id)
            if release.restart_after:
                self._restarts.append(task_id)
        return due

    def deadline(self) -> float | None:
        """Return when ``advance`` is to be called next, or None if nothing is pending."""
        while self._heap:
            moment, serial, task_id = self._heap[0]
            release = self._pending.get(task_id)
            if release is not None and release.serial == serial:
                return moment
            heapq.heappop(self._heap)
        return None

    def take_restarts(self) -> list[str]:
        """Return the tasks whose release is over and that somebody wanted restarted, once."""
        restarts, self._restarts = self._restarts, []
        return restarts

    def _push(self, release: _Release, moment: float) -> None:
        heapq.heappush(self._heap, (moment, release.serial, release.task_id))

    def _stop_waiting(self, task_ids: set[str] | tuple[()], now: float) -> None:
        for task_id in task_ids:
            release = self._pending[task_id]
            if release.waits:
                release.waits = False
                self._push(release, max(now, release.not_before))

    def _take(self, task_id: str) -> _Release | None:
        release = self._pending.pop(task_id, None)
        if release is not None:
            _discard(self._by_old, release.old_id, task_id)
            _discard(self._by_node, release.node_id, task_id)
        return release

    def check_invariants(self) -> None:
        """Assert the invariants of the class."""
        entries = {(serial, task_id): moment for moment, serial, task_id in reversed(self._heap)}
        for task_id, release in self._pending.items():
            assert release.task_id == task_id
            assert not release.old_id or task_id in self._by_old[release.old_id]
            assert not release.node_id or task_id in self._by_node[release.node_id]
            assert entries[release.serial, task_id] <= release.not_after
        assert all(task_id in self._pending for ids in self._by_old.values() for task_id in ids)
        assert all(task_id in self._pending for ids in self._by_node.values() for task_id in ids)


def _discard(index: dict[str, set[str]], key: str, task_id: str) -> None:
    members = index.get(key)
    if members is not None:
        members.discard(task_id)
        if not members:
            del index[key]
