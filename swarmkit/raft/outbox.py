"""What waits to be sent to one peer: bounded, in order, taken in batches. Pure."""

from collections import deque

#: Messages waiting for one peer at most (contract/raft-store-manager.md, 8).
MAX_MESSAGES = 4096

#: Bytes waiting for one peer at most.
MAX_BYTES = 16 << 20

#: Bytes waiting above which no more entries or pieces should follow.
CONGESTED_BYTES = 1 << 20

#: Bytes that leave in one write. Well below the largest frame (4 MiB), and little enough to pass a slow link
#: before the peer takes the silence for a dead one; only a single longer message is more.
BATCH_BYTES = 256 << 10


class Outbox:
    """Encoded messages from ``put`` until the write that carries them has ended."""

    def __init__(self) -> None:
        self._waiting: deque[bytes] = deque()
        self._bytes = 0
        self._writing = 0

    def put(self, data: bytes) -> bool:
        """Add a message; False: it has no room, and neither would others behind it: all were dropped."""
        if len(self._waiting) >= MAX_MESSAGES or self._bytes + len(data) > MAX_BYTES:
            self._waiting.clear()
            self._bytes = self._writing
            return False
        self._waiting.append(data)
        self._bytes += len(data)
        return True

    def take(self) -> list[bytes]:
        """Take what leaves next; it counts as waiting until ``written``."""
        batch: list[bytes] = []
        size = 0
        while self._waiting and (not batch or size + len(self._waiting[0]) <= BATCH_BYTES):
            data = self._waiting.popleft()
            batch.append(data)
            size += len(data)
        self._writing += size
        return batch

    def written(self) -> None:
        """Note that what was taken is on its way."""
        self._bytes -= self._writing
        self._writing = 0

    @property
    def is_empty(self) -> bool:
        """Whether nothing waits, and no write that was taken."""
        return not self._bytes

    @property
    def is_congested(self) -> bool:
        """Whether nothing should be added that can wait. A write ends only when the peer has room."""
        return self._bytes > CONGESTED_BYTES
