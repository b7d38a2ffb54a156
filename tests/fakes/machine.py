"""A state machine that remembers what it was told: a list of (index, data), and every other call."""

import json
from collections.abc import Callable


class FakeMachine:
    """Implements ``swarmkit.store.proposer.StateMachine``."""

    def __init__(self) -> None:
        self.entries: list[tuple[int, bytes]] = []
        self.calls: list[str] = []
        self.fail_on: bytes | None = None
        self.fail_snapshot = False
        self.restores = 0

    @property
    def values(self) -> list[bytes]:
        return [data for _, data in self.entries]

    def apply(self, index: int, data: bytes) -> None:
        if data == self.fail_on:
            raise ValueError("refused by the test")
        if self.entries and index <= self.entries[-1][0]:
            raise AssertionError(f"entry {index} applied after {self.entries[-1][0]}")
        self.entries.append((index, data))
        self.calls.append(f"apply {index}")

    def leadership_lost(self) -> None:
        self.calls.append("leadership_lost")

    def snapshot(self) -> Callable[[], bytes]:
        pinned = list(self.entries)
        self.calls.append("snapshot")

        def serialize() -> bytes:
            return json.dumps([[index, data.hex()] for index, data in pinned]).encode()

        return serialize

    def prepare(self, data: bytes) -> Callable[[], None]:
        entries = [(index, bytes.fromhex(text)) for index, text in json.loads(data)]

        def replace() -> None:
            self.entries = entries
            self.restores += 1
            self.calls.append("restore")

        return replace
