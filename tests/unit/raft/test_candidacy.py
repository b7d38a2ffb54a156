"""contract/pysyncobj-hazards.md, H11, H13, H14: what a node does about its deadlines."""

import random
from dataclasses import dataclass, field

import pytest

from swarmkit.raft.candidacy import Candidacy
from swarmkit.raft.config import RaftConfig
from swarmkit.raft.elections import Elections
from swarmkit.raft.messages import Message, PreVoteRequest, Vote, VoteRequest

CONFIG = RaftConfig()


@dataclass
class Library:
    """A follower in term 3 whose deadline is at 10."""

    leading: bool = False
    term: int = 3
    election_deadline: float = 10.0
    heartbeat_due: float = 0.0
    applied_index: int = 5
    commit_index: int = 5
    last_answer: float = 0.0
    leader: int | None = 2
    did: list[object] = field(default_factory=list)

    def postpone_election(self, seconds: float | None = None) -> None:
        self.did.append(("postpone", seconds))

    def campaign_now(self) -> None:
        self.did.append("campaign")

    def adopt_term(self, peer: int, term: int) -> None:
        self.did.append(("adopt", term))

    def excuse_silence(self, seconds: float) -> None:
        self.did.append(("excuse", seconds))

    def forget_leader(self) -> None:
        self.did.append("forget")


class Log:
    last_index = 5

    def term_at(self, index: int) -> int:
        return 2


@dataclass
class State:
    raft_id: int = 1
    members: frozenset[int] = frozenset({1, 2, 3})
    log: Log = field(default_factory=Log)

    @property
    def peers(self) -> frozenset[int]:
        return self.members - {1}


class Box:
    connected_peers = (2, 7)

    def is_connected(self, peer: int) -> bool:
        return peer in self.connected_peers


class Bench:
    def __init__(self) -> None:
        self.now = 9.9
        self.library = Library()
        self.state = State()
        self.elections = Elections(random.Random(1))
        self.sent: list[tuple[int, Message]] = []
        self.candidacy = Candidacy(
            self.state,  # type: ignore[arg-type]
            self.library,  # type: ignore[arg-type]
            Box(),  # type: ignore[arg-type]
            self.elections,
            lambda: self.now,
            CONFIG,
            lambda peer, message: self.sent.append((peer, message)),
        )

    def look(self, now: float) -> list[object]:
        self.now = now
        self.library.did.clear()
        self.candidacy.look()
        return self.library.did


@pytest.fixture
def bench() -> Bench:
    return Bench()


def test_a_passed_deadline_asks_all_members_and_waits_another_time_out(bench: Bench) -> None:
    assert bench.look(9.95) == []
    assert bench.look(10.05) == ["forget", ("postpone", None)]
    assert [peer for peer, _ in bench.sent] == [2, 3]
    request = bench.sent[0][1]
    assert isinstance(request, PreVoteRequest)
    assert (request.last_index, request.last_term) == (5, 2)


def test_who_is_no_member_is_heard_by_whoever_is_connected_and_asks_for_nothing(bench: Bench) -> None:
    bench.state.members = frozenset()
    assert bench.look(10.05) == ["forget", ("postpone", None)]
    assert bench.sent == [(2, PreVoteRequest(0, 5, 2)), (7, PreVoteRequest(0, 5, 2))]
    for voter in (2, 7):
        bench.elections.granted(voter, 0, 9)
    assert bench.look(10.1) == ["forget", ("postpone", None)]


def test_a_majority_starts_a_campaign_above_the_terms_of_those_who_agreed(bench: Bench) -> None:
    bench.look(10.05)
    request = bench.sent[0][1]
    assert isinstance(request, PreVoteRequest)
    bench.library.election_deadline = 12.0
    bench.elections.granted(3, request.round, 8)
    assert bench.look(10.1) == [("adopt", 8), "campaign"]
    assert bench.candidacy.stamp(VoteRequest(5, 2)) == VoteRequest(5, 2)


def test_only_the_campaign_the_leader_asked_for_is_marked_and_only_for_one_tick(bench: Bench) -> None:
    bench.elections.force(3)
    assert bench.look(9.95) == ["campaign"]
    assert bench.candidacy.stamp(VoteRequest(5, 2)) == VoteRequest(5, 2, transfer=True)
    assert bench.candidacy.stamp(Vote()) == Vote()
    bench.candidacy.ticked()
    assert bench.candidacy.stamp(VoteRequest(5, 2)) == VoteRequest(5, 2)


def test_a_node_that_stood_still_does_not_ask(bench: Bench) -> None:
    assert bench.look(10.6) == [("postpone", None)]
    assert bench.sent == []


def test_entries_to_be_applied_hold_a_candidacy_for_a_moment(bench: Bench) -> None:
    bench.library.commit_index = 6
    assert bench.look(10.05) == ["forget", ("postpone", 0.05)]
    assert bench.sent == []


def test_members_of_a_group_look_once_a_heartbeat(bench: Bench) -> None:
    assert bench.candidacy.due == min(10.0, 9.9 + CONFIG.heartbeat_seconds)
    bench.library.election_deadline = 20.0
    assert bench.candidacy.due == 9.9 + CONFIG.heartbeat_seconds
    bench.library.leading, bench.library.heartbeat_due = True, 11.0
    assert bench.candidacy.due == 11.0


def test_a_lone_member_looks_at_its_deadline_until_it_leads(bench: Bench) -> None:
    bench.state.members = frozenset({1})
    assert bench.candidacy.due == 10.0
    bench.library.leading = True
    assert bench.candidacy.due is None


def test_a_leader_that_stood_still_excuses_its_peers_once_until_one_answers(bench: Bench) -> None:
    library = bench.library
    library.leading, library.last_answer = True, 9.8
    assert bench.look(10.0) == []
    assert bench.look(11.0) == [("excuse", 1.0)]
    assert bench.look(12.0) == []
    library.last_answer = 12.5
    assert bench.look(13.0) == [("excuse", 1.0)]


def test_a_lone_leader_has_nobody_to_excuse(bench: Bench) -> None:
    bench.library.leading, bench.library.last_answer = True, 5.0
    bench.state.members = frozenset({1})
    assert bench.look(20.0) == []


@pytest.mark.parametrize(("own", "wait"), [(1, 1.1), (3, 1.35)])
def test_when_the_leaders_stream_ends_the_others_ask_in_turn_after_the_shortest_time_out(
    bench: Bench, own: int, wait: float
) -> None:
    bench.state.raft_id = own
    bench.elections.heard_leader(8.9)
    bench.now = 9.0
    bench.library.election_deadline = 10.9
    bench.candidacy.link_lost(2)
    assert bench.library.did == [("postpone", pytest.approx(wait - 0.1))]


def test_a_deadline_that_is_nearer_stays_when_the_leaders_stream_ends(bench: Bench) -> None:
    bench.elections.heard_leader(9.9)
    bench.candidacy.link_lost(2)
    assert bench.library.did == []


def test_the_end_of_another_members_stream_is_no_reason_to_ask(bench: Bench) -> None:
    bench.elections.heard_leader(8.9)
    bench.library.election_deadline = 12.0
    bench.candidacy.link_lost(3)
    assert bench.library.did == []


def test_a_leader_does_not_ask_whoever_leaves_it(bench: Bench) -> None:
    bench.library.leading = True
    bench.candidacy.link_lost(2)
    bench.candidacy.outrun()
    assert bench.library.did == []


def test_who_is_asked_by_a_member_whose_log_is_behind_asks_instead_of_it(bench: Bench) -> None:
    bench.candidacy.outrun()
    assert bench.library.did == [("postpone", 0.0)]


def _lines(caplog: pytest.LogCaptureFixture) -> list[dict[str, object]]:
    return [record.fields for record in caplog.records if record.levelname == "WARNING"]  # type: ignore[attr-defined]


def test_a_campaign_says_why_it_is(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    bench.elections.heard_leader(8.65)
    bench.elections.force(3)
    bench.look(9.9)
    bench.look(10.05)
    request = bench.sent[0][1]
    assert isinstance(request, PreVoteRequest)
    bench.elections.granted(3, request.round, 3)
    bench.look(10.1)
    assert _lines(caplog) == [
        {"raft_id": "1", "term": 4, "reason": "the leader asked for it"},
        {"raft_id": "1", "term": 4, "reason": "no leader was heard for 1.450 s"},
    ]


def test_who_leads_no_longer_says_why(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    bench.candidacy.leading_changed(True)
    bench.candidacy.leading_changed(False)
    bench.candidacy.leading_changed(True)
    bench.library.term = 5
    bench.candidacy.leading_changed(False)
    assert _lines(caplog) == [
        {"raft_id": "1", "term": 3, "reason": "no majority answered for a time-out"},
        {"raft_id": "1", "term": 3, "reason": "term 5 has begun"},
    ]
