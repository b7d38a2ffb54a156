"""The managers a node knows, with weights that follow experience, and the file that keeps the list.

Source: contract/dispatcher-agent.md, 5; contract/security.md, 5 (``state.json``).
"""

import asyncio
import json
import math
import os
import random
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

#: What one good experience counts; a bad one counts its negative.
OBSERVATION_WEIGHT = 10
_MAX_WEIGHT = 256
_SMOOTHING = 0.5
#: Lifts every weight, so that a manager without a good name is still tried when there is no better one.
_SELECTION_BIAS = 0.001


class RemotesError(Exception):
    """The known managers cannot be used.

    RemotesError
    ├── NoRemotesError      there is none, or none that was not excluded
    └── RemotesFileError    the file with the list cannot be read or written
    """


class NoRemotesError(RemotesError):
    """There is no manager to choose."""

    def __init__(self) -> None:
        super().__init__("no remote hosts provided")


class RemotesFileError(RemotesError):
    """The list on disk cannot be read or written; the text says what to do."""


@dataclass(frozen=True, order=True)
class Remote:
    """One manager. The pair is its key: the same address under another node id is another manager.

    Attributes:
        node_id: empty for an address that was only given, not yet learnt from the swarm.
        addr: ``host:port``.
    """

    node_id: str
    addr: str


class Remotes:
    """Known managers and their weights; pure but for the random choice. Grows with what is observed only."""

    def __init__(self, rng: random.Random, known: Iterable[Remote] = ()) -> None:
        self._rng = rng
        self._weights: dict[Remote, int] = dict.fromkeys(known, 0)

    @property
    def known(self) -> tuple[Remote, ...]:
        """All managers, sorted."""
        return tuple(sorted(self._weights))

    def ranked(self) -> tuple[Remote, ...]:
        """Return all managers, those with the best name first."""
        return tuple(sorted(self._weights, key=lambda remote: (-self._weights[remote], remote)))

    @property
    def weights(self) -> Mapping[Remote, int]:
        """A copy of the weights."""
        return dict(self._weights)

    def observe(self, remote: Remote, weight: int) -> None:
        """Let an experience count, good or bad; an unknown manager becomes known."""
        seen = _SMOOTHING * _clip(weight) + (1 - _SMOOTHING) * self._weights.get(remote, 0)
        self._weights[remote] = math.ceil(_clip(seen))

    def observe_if_known(self, remote: Remote, weight: int) -> None:
        """Let an experience count unless the manager has meanwhile been forgotten."""
        if remote in self._weights:
            self.observe(remote, weight)

    def forget(self, *remotes: Remote) -> None:
        """Remove managers; unknown ones are ignored."""
        for remote in remotes:
            self._weights.pop(remote, None)

    def select(self, *excluded: str) -> Remote:
        """Choose a manager at random by weight.

        Args:
            excluded: node ids or addresses not to choose.

        Raises:
            NoRemotesError: nobody is left.
        """
        without = set(filter(None, excluded))
        candidates = [r for r in self.known if r.node_id not in without and r.addr not in without]
        if not candidates:
            raise NoRemotesError
        weights = [max(self._weights[remote], 0) + _SELECTION_BIAS for remote in candidates]
        return self._rng.choices(candidates, weights)[0]


class RemotesFile:
    """``state.json``: a JSON array of ``{"node_id", "addr"}``, empty fields left out, mode 0600."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._written: tuple[Remote, ...] | None = None
        self._wanted: tuple[Remote, ...] | None = None
        self._writing: asyncio.Task[None] | None = None

    def load(self) -> tuple[Remote, ...]:
        """Return the list, empty if there is no file. Blocks for one small read: call it while starting.

        Raises:
            RemotesFileError: it cannot be read, or is not what it should be.
        """
        try:
            text = self._path.read_bytes()
        except FileNotFoundError:
            return ()
        except OSError as error:
            raise RemotesFileError(
                f"cannot read the list of managers {self._path}: {error.strerror}"
            ) from error
        try:
            remotes = tuple(sorted({_parse(entry) for entry in _entries(text)}))
        except ValueError as error:
            raise RemotesFileError(
                f"the list of managers {self._path} is damaged ({error}): remove it and give a join address"
            ) from error
        self._written = remotes
        return remotes

    async def save(self, remotes: Iterable[Remote]) -> None:
        """Write the list if it differs from what the file holds; a thread does the blocking.

        Calls may overlap: one write at a time, and the last list wins.

        Raises:
            RemotesFileError: it cannot be written; the old file is still there.
        """
        self._wanted = tuple(sorted(set(remotes)))
        if self._writing is None or self._writing.done():
            self._writing = asyncio.ensure_future(self._write_wanted())
        await asyncio.shield(self._writing)

    async def _write_wanted(self) -> None:
        while self._wanted is not None and self._wanted != self._written:
            remotes = self._wanted
            try:
                await asyncio.to_thread(self._write, remotes)
            except OSError as error:
                reason = error.strerror or str(error)
                raise RemotesFileError(f"cannot write the list of managers {self._path}: {reason}") from error
            self._written = remotes

    def _write(self, remotes: tuple[Remote, ...]) -> None:
        entries = [{key: value for key, value in vars(remote).items() if value} for remote in remotes]
        descriptor, name = tempfile.mkstemp(prefix=".tmp-", dir=self._path.parent)  # mode 0600
        try:
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                json.dump(entries, file)
                file.flush()
                os.fsync(file.fileno())
            os.replace(name, self._path)
        except BaseException:
            os.unlink(name)
            raise


def _entries(text: bytes) -> list[object]:
    try:
        entries = json.loads(text)
    except ValueError:
        raise ValueError("not JSON") from None
    if not isinstance(entries, list):
        raise ValueError("not a JSON array")
    return entries


def _parse(entry: object) -> Remote:
    if not isinstance(entry, dict):
        raise ValueError("an entry is not an object")
    node_id, addr = entry.get("node_id", ""), entry.get("addr", "")
    if not isinstance(node_id, str) or not isinstance(addr, str) or not addr:
        raise ValueError("an entry has no address")
    return Remote(node_id, addr)


def _clip(weight: float) -> float:
    return min(max(weight, -_MAX_WEIGHT), _MAX_WEIGHT)
