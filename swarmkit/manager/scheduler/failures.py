"""Which nodes keep failing the tasks of a service (contract/scheduler.md, 11)."""

#: Failures older than this many seconds are forgotten; also the pause between two clean-ups.
WINDOW_SECONDS = 300.0
#: From this many failures in the window on, a node is chosen after the others.
FAULTY_FROM = 5

#: (service id, index of its spec version, 0 if the task has none): an update starts with a clean record.
FailureKey = tuple[str, int]


class FailureLog:
    """Counts the failures of tasks by service version and node.

    Bounded by the clean-up: what is kept happened in the last two windows, on nodes that exist.
    """

    def __init__(self) -> None:
        self._failures: dict[FailureKey, dict[str, list[float]]] = {}
        self._cleaned = 0.0

    def record(self, key: FailureKey, node_id: str, now: float) -> int:
        """Note a failure and return how many the window holds now."""
        nodes = self._failures.setdefault(key, {})
        recent = [moment for moment in nodes.get(node_id, ()) if now - moment < WINDOW_SECONDS]
        recent.append(now)
        nodes[node_id] = recent
        return len(recent)

    def faulty(self, key: FailureKey, now: float) -> dict[str, int]:
        """Return the number of failures of each node that has at least ``FAULTY_FROM`` of them."""
        nodes = self._failures.get(key)
        if not nodes:
            return {}
        counts = {
            node_id: sum(now - moment < WINDOW_SECONDS for moment in moments)
            for node_id, moments in nodes.items()
        }
        return {node_id: count for node_id, count in counts.items() if count >= FAULTY_FROM}

    def drop_node(self, node_id: str) -> None:
        """Forget the failures of a node that was deleted."""
        for nodes in self._failures.values():
            nodes.pop(node_id, None)

    def clean(self, now: float) -> None:
        """Forget what is out of the window; does nothing if the last clean-up is less than a window ago."""
        if now - self._cleaned < WINDOW_SECONDS:
            return
        self._cleaned = now
        for key, nodes in list(self._failures.items()):
            for node_id, moments in list(nodes.items()):
                if now - moments[-1] >= WINDOW_SECONDS:
                    del nodes[node_id]
            if not nodes:
                del self._failures[key]
