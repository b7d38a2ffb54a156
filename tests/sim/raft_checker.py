"""Raft's safety properties, checked against everything that ever happened in a simulation.

After every step of the loop:

- one leader a term;
- log matching: an entry of one index and term is the same everywhere, and so is the one before it;
- leader completeness: who begins to lead has everything that was committed in earlier terms;
- committed entries never change, and no member forgets within a life that they are committed;
- state machines apply the same entries in the same order, none twice; the group is equal at equal indexes;
- what is acknowledged is applied, at the index it was acknowledged with;
- while a leader has a lease, nobody has won a later term;
- a read behind a confirmation of leadership sees all that was acknowledged or read before it began;
- nobody votes for two members in one term, over all its lives.
"""

from dataclasses import dataclass, field
from itertools import pairwise

from swarmkit.raft.entries import store_command
from swarmkit.raft.messages import Envelope, Vote
from tests.fakes.raft import TestNode


class SafetyError(AssertionError):
    """A safety property does not hold."""


@dataclass
class _Seen:
    """What was seen of one life of a member."""

    state: object = None
    term: int = 0
    leading_in: int = 0
    last: tuple[int, int] = (0, 0)
    terms: dict[int, int] = field(default_factory=dict)
    commit: int = 0
    applied: int = 0
    entries: int = 0
    restores: int = 0


class Checker:
    """Looks at all members after each step.

    Attributes:
        leaders: who led each term.
        history: the store's entries in the order in which they were first applied anywhere: (index, data).
        acknowledged: values that clients were told to be written.
        floor: the newest entry that a client knows of, by an acknowledgement or a read.
        reads: how many reads succeeded.
        watches_leases: whether a wrong lease fails at once, and not only when somebody reads by it.
    """

    def __init__(self) -> None:
        self.leaders: dict[int, int] = {}
        self.history: list[tuple[int, bytes]] = []
        self.acknowledged: dict[bytes, int] = {}
        self.floor = 0
        self.reads = 0
        self.watches_leases = True
        self._newest_term = 0
        self._committed: dict[int, tuple[int, bytes]] = {}
        self._committed_in: dict[int, int] = {}
        self._entries: dict[tuple[int, int], tuple[bytes, int | None]] = {}
        self._groups: dict[int, tuple[frozenset[int], frozenset[int]]] = {}
        #: Most entries a member has applied in one step.
        self.most_applied = 0
        self._values: dict[bytes, int] = {}
        self._seen: dict[int, _Seen] = {}
        self._votes: dict[tuple[int, int], int] = {}

    @property
    def successions(self) -> int:
        """How often a term was led by another member than the last one that had a leader."""
        order = [raft_id for _, raft_id in sorted(self.leaders.items())]
        return sum(before != after for before, after in pairwise(order))

    def sent(self, envelope: Envelope) -> None:
        """Check a message that leaves."""
        if isinstance(envelope.message, Vote):
            voter = (envelope.source, envelope.term)
            if self._votes.setdefault(voter, envelope.target) != envelope.target:
                raise SafetyError(f"{envelope.source:x} voted twice in term {envelope.term}")

    def forget(self, node: TestNode) -> None:
        """A member's life is over; what it promised stays."""
        self._seen.pop(id(node), None)

    def acknowledge(self, value: bytes, index: int) -> None:
        """A client was told that ``value`` is written."""
        if self._values.get(value) != index:
            raise SafetyError(f"{value!r} acknowledged at {index}, but applied at {self._values.get(value)}")
        self.acknowledged[value] = index
        self.floor = max(self.floor, index)

    def read(self, node: TestNode, floor: int) -> None:
        """A client reads from a confirmed leader; ``floor`` was the newest known entry when it began."""
        entries = node.machine.entries
        newest = entries[-1][0] if entries else 0
        if newest < floor:
            raise SafetyError(f"{node.raft_id:x} is read at entry {newest}, but {floor} was known before")
        self.floor = max(self.floor, newest)
        self.reads += 1

    def look(self, node: TestNode) -> None:
        """Check one running member; call after each step."""
        driver = node._driver
        if driver is None:
            return
        seen = self._seen.setdefault(id(node), _Seen())
        library = driver.library
        term = library.term
        if term < self._newest_term and self.watches_leases and node.has_lease:
            raise SafetyError(f"{node.raft_id:x} has a lease in term {term}; {self._newest_term} was won")
        state = (term, library.leading, library.commit_index, library.applied_index, driver.log[-1])
        if (state, node.machine.restores, len(node.fatal)) == seen.state:
            return
        seen.state = (state, node.machine.restores, len(node.fatal))
        if term < seen.term:
            raise SafetyError(f"{driver.raft_id:x} went back from term {seen.term} to {term}")
        seen.term = term
        self._look_at_log(node, seen)
        if library.leading and seen.leading_in != term:
            seen.leading_in = term
            self._look_at_leader(node, term)
        self._look_at_commit(node, seen)
        self._look_at_machine(node, seen)
        if node.fatal:
            raise SafetyError(f"{driver.raft_id:x} died: {node.fatal[0]!r}")

    def _look_at_leader(self, node: TestNode, term: int) -> None:
        assert node._driver is not None
        raft_id, log = node.raft_id, node._driver.log
        self._newest_term = max(self._newest_term, term)
        if self.leaders.setdefault(term, raft_id) != raft_id:
            raise SafetyError(f"{raft_id:x} and {self.leaders[term]:x} both lead term {term}")
        for index in range(log.first_index, max(self._committed, default=0) + 1):
            # Elected late in its term, it may lack what a later leader has committed meanwhile.
            if self._committed_in.get(index, term) < term and log.term_at(index) != self._committed[index][0]:
                raise SafetyError(f"leader {raft_id:x} of term {term} lacks committed entry {index}")

    def _look_at_log(self, node: TestNode, seen: _Seen) -> None:
        assert node._driver is not None
        log = node._driver.log
        last = log[-1]
        if (last.index, last.term) == seen.last:
            return
        seen.last = (last.index, last.term)
        index, first = last.index, log.first_index
        while index >= first and seen.terms.get(index) != log.term_at(index):
            entry = log[index - first]
            seen.terms[index] = entry.term
            before = log.term_at(index - 1)
            known = self._entries.setdefault((index, entry.term), (entry.data, before))
            if known[0] != entry.data or (None not in (known[1], before) and known[1] != before):
                raise SafetyError(f"entry {index} of term {entry.term} is not the same on {node.raft_id:x}")
            if known[1] is None:
                self._entries[index, entry.term] = (entry.data, before)
            index -= 1

    def _look_at_commit(self, node: TestNode, seen: _Seen) -> None:
        assert node._driver is not None
        log, commit = node._driver.log, node._driver.library.commit_index
        if commit == seen.commit:
            return
        if commit < seen.commit:
            raise SafetyError(f"{node.raft_id:x} forgot that {seen.commit} is committed; says {commit}")
        for entry in log.between(seen.commit, commit):
            known = self._committed.setdefault(entry.index, (entry.term, entry.data))
            self._committed_in.setdefault(entry.index, seen.term)
            if known != (entry.term, entry.data):
                raise SafetyError(
                    f"{node.raft_id:x} commits entry {entry.index} of term {entry.term}, "
                    f"but that of term {known[0]} was committed"
                )
        seen.commit = commit

    def _look_at_machine(self, node: TestNode, seen: _Seen) -> None:
        assert node._driver is not None
        applied = node._driver.library.applied_index
        restores = node.machine.restores
        if applied == seen.applied and restores == seen.restores:
            return
        entries = node.machine.entries
        start = seen.entries if restores == seen.restores else 0
        if restores == seen.restores:
            self.most_applied = max(self.most_applied, len(entries) - start)
        for position in range(start, len(entries)):
            self._apply(node, position, entries[position])
        seen.entries, seen.applied, seen.restores = len(entries), applied, restores
        membership = node._driver.replica.membership
        group = (membership.ids, membership.removed)
        if self._groups.setdefault(applied, group) != group:
            raise SafetyError(f"{node.raft_id:x} has another group after entry {applied}")

    def _apply(self, node: TestNode, position: int, entry: tuple[int, bytes]) -> None:
        if position < len(self.history):
            if self.history[position] != entry:
                raise SafetyError(f"{node.raft_id:x} applied {entry} instead of {self.history[position]}")
            return
        index, data = entry
        if data in self._values:
            raise SafetyError(f"{data!r} applied at {self._values[data]} and again at {index}")
        if index in self._committed and self._committed[index][1] != store_command(data):
            raise SafetyError(f"{node.raft_id:x} applied {data!r}, which is not the committed entry {index}")
        self.history.append(entry)
        self._values[data] = index

    def check_final(self, nodes: list[TestNode]) -> None:
        """Everything is healed and has come to rest: nothing acknowledged is missing anywhere."""
        for node in nodes:
            values = set(node.machine.values)
            missing = [value for value in self.acknowledged if value not in values]
            if missing:
                raise SafetyError(f"{node.raft_id:x} lacks {len(missing)} acknowledged writes: {missing[:5]}")
            if node.machine.entries != self.history:
                raise SafetyError(f"{node.raft_id:x} has not applied what the others have")
