"""Many deadlines in one heap: what thousands of heartbeat timers cost is one entry each."""

import heapq


class Deadlines:
    """A deadline per key. Moving one to later, which every heartbeat does, touches no heap.

    Invariant: every key with a deadline has exactly one live heap entry, at or before that deadline.
    """

    def __init__(self) -> None:
        self._due: dict[str, float] = {}
        self._entries: dict[str, float] = {}
        self._heap: list[tuple[float, str]] = []

    def __len__(self) -> int:
        return len(self._due)

    def __contains__(self, key: str) -> bool:
        return key in self._due

    def set(self, key: str, moment: float) -> None:
        """Set or move the deadline of ``key``."""
        self._due[key] = moment
        entry = self._entries.get(key)
        if entry is None or moment < entry:
            self._push(key, moment)

    def discard(self, key: str) -> None:
        """Forget the deadline of ``key``, if it has one."""
        self._due.pop(key, None)

    def next(self) -> float | None:
        """Return the moment at which ``pop_due`` should be called next; None: there is no deadline.

        It may be earlier than the earliest deadline, never later.
        """
        while self._heap:
            moment, key = self._heap[0]
            if key in self._due and self._entries[key] == moment:
                return moment
            self._pop()
        return None

    def pop_due(self, now: float) -> list[str]:
        """Remove and return the keys whose deadline has come, in the order of their deadlines."""
        due_keys: list[tuple[float, str]] = []
        while self._heap and self._heap[0][0] <= now:
            key = self._pop()
            due = self._due.get(key)
            if due is None or key in self._entries:
                continue
            if due <= now:
                del self._due[key]
                due_keys.append((due, key))
            else:
                self._push(key, due)
        return [key for _, key in sorted(due_keys)]

    def check_invariants(self) -> None:
        """Raise AssertionError unless each deadline is covered by its live heap entry."""
        heap = set(self._heap)
        for key, moment in self._due.items():
            assert self._entries[key] <= moment
            assert (self._entries[key], key) in heap

    def _push(self, key: str, moment: float) -> None:
        self._entries[key] = moment
        heapq.heappush(self._heap, (moment, key))

    def _pop(self) -> str:
        moment, key = heapq.heappop(self._heap)
        if self._entries.get(key) == moment:
            del self._entries[key]
        return key
