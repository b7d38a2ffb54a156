"""Data keys in memory instead of a key file; they outlive the nodes that use them."""

import secrets
from collections.abc import Callable
from dataclasses import replace

from swarmkit.ca.errors import StateDirError
from swarmkit.ca.keyfile import KeyHeaders


class FakeKeys:
    """Implements ``swarmkit.raft.rotation.KeyStore``.

    Attributes:
        stored: what a restart finds.
        writes: what was stored, one after the other.
        broken: nothing can be stored while set.
    """

    def __init__(self, key: bytes | None = None) -> None:
        self.stored = KeyHeaders(key)
        self.writes: list[KeyHeaders] = []
        self.broken = False

    def data_key(self) -> bytes:
        headers = self.update_headers(
            lambda old: old if old.data_key else replace(old, data_key=secrets.token_bytes(32))
        )
        assert headers.data_key is not None
        return headers.data_key

    def headers(self) -> KeyHeaders:
        return self.stored

    def update_headers(self, change: Callable[[KeyHeaders], KeyHeaders]) -> KeyHeaders:
        headers = change(self.stored)
        if headers != self.stored:
            if self.broken:
                raise StateDirError("the key file cannot be written")
            self.writes.append(headers)
            self.stored = headers
        return headers

    def drop_data_keys(self) -> None:
        self.update_headers(lambda _: KeyHeaders())

    def after_kill(self) -> "FakeKeys":
        """Return what the next process finds; what the dying one still stores does not count."""
        survived = FakeKeys()
        survived.stored = self.stored
        return survived

    def mark(self) -> None:
        """Set the flag, as locking the swarm does."""
        self.update_headers(lambda old: replace(old, needs_rotation=True))
