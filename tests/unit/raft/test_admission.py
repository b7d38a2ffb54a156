"""contract/pysyncobj-hazards.md, 6: what the consensus library may see of a peer's message, R1 to R7."""

from dataclasses import dataclass, field, replace

import pytest

from swarmkit.raft.admission import MAX_NUMBER, Admission, Verdict
from swarmkit.raft.log import RaftLog
from swarmkit.raft.messages import (
    Append,
    Envelope,
    Message,
    PreVote,
    PreVoteRequest,
    RemovedNotice,
    Reply,
    SnapshotPart,
    TermNotice,
    TimeoutNow,
    Vote,
    VoteRequest,
)
from swarmkit.raft.records import Entry
from swarmkit.raft.scan import LogState
from swarmkit.raft.transfer import Piece

ME, LEADER, OTHER, STRANGER, GONE = 1, 2, 3, 8, 9
STICKY = 1.0
SIGN_OF_LIFE = SnapshotPart()


def entry(index: int, term: int) -> Entry:
    return Entry(b"\x00%d.%d" % (term, index), index, term)


def log(*terms: int, first: int = 1) -> RaftLog:
    """A log whose entries have these terms, beginning at ``first``."""
    entries = [entry(index, term) for index, term in enumerate(terms, first)]
    return RaftLog(None, LogState(next_index=first + len(terms), entries=entries))  # type: ignore[arg-type]


@dataclass
class Node:
    """Member 1 of three, a follower of 2 in term 3, which it heard long ago."""

    log: RaftLog = field(default_factory=lambda: log(0, 1, 1, 2, 2))
    raft_id: int = ME
    term: int = 3
    leading: bool = False
    campaigning: bool = False
    leader: int | None = LEADER
    commit_index: int = 1
    members: frozenset[int] = frozenset({ME, LEADER, OTHER})
    removed: frozenset[int] = frozenset({GONE})
    matches: dict[int, int] = field(default_factory=dict)
    silence: float = 5.0

    def match_index(self, peer: int) -> int:
        return self.matches.get(peer, 0)

    def leader_silence(self, now: float) -> float:
        return self.silence


def judge(node: Node, message: Message, source: int = LEADER, term: int = 3, target: int = ME) -> Verdict:
    return Admission(node, STICKY).examine(Envelope(source, target, term, message), 100.0)


def append(previous: int, previous_term: int, *terms: int, commit: int = 0) -> Append:
    entries = [entry(index, term) for index, term in enumerate(terms, previous + 1)]
    return Append(commit, previous, previous_term, entries)


# -- R1: who, and whether it makes sense -----------------------------------------------------------------


def test_a_removed_member_is_told_so_whatever_it_says_and_nothing_else_happens() -> None:
    for message in (append(5, 2, 3), VoteRequest(9, 9), PreVoteRequest(1, 9, 3), Vote(), Reply(3)):
        verdict = judge(Node(), message, source=GONE, term=9)
        assert (verdict.deliver, verdict.answer) == (None, RemovedNotice())


def test_two_members_that_each_think_the_other_removed_do_not_answer_for_ever() -> None:
    assert judge(Node(), RemovedNotice(), source=GONE).answer is None


def test_a_message_for_somebody_else_is_ignored() -> None:
    assert judge(Node(), append(5, 2), target=OTHER) == Verdict(refused="meant for another member")


@pytest.mark.parametrize(
    "message", [Vote(), VoteRequest(9, 3), PreVoteRequest(1, 9, 3), Reply(3), TimeoutNow(), TermNotice()]
)
def test_who_is_no_member_is_ignored(message: Message) -> None:
    verdict = judge(Node(campaigning=True), message, source=STRANGER)
    assert (verdict.deliver, verdict.answer, verdict.refused) == (None, None, "sender is no member")


def test_who_is_no_member_may_lead_since_a_change_that_is_not_applied_here() -> None:
    assert judge(Node(), append(5, 2, 3), source=STRANGER).deliver == append(5, 2, 3)
    assert judge(Node(), SIGN_OF_LIFE, source=STRANGER).deliver == SIGN_OF_LIFE


def test_a_joiner_that_knows_nobody_yet_votes() -> None:
    joiner = Node(log=log(0), members=frozenset())
    assert judge(joiner, VoteRequest(9, 3), source=STRANGER).deliver == VoteRequest(9, 3)
    assert judge(joiner, PreVoteRequest(7, 9, 3), source=STRANGER).answer == PreVote(7)


@pytest.mark.parametrize(
    ("message", "source", "term"),
    [
        (append(5, 2), 0, 3),
        (append(5, 2), (1 << 63) + 1, 3),
        (append(5, 2), ME, 3),
        (append(5, 2), LEADER, MAX_NUMBER),
        (append(0, 0), LEADER, 3),
        (append(MAX_NUMBER, 2), LEADER, 3),
        (append(5, 4), LEADER, 3),
        (append(5, 2, commit=MAX_NUMBER), LEADER, 3),
        (append(5, 2, 3, 2), LEADER, 3),
        (append(5, 2, 4), LEADER, 3),
        (append(5, 2, 1), LEADER, 3),
        (Append(0, 5, 2, [entry(7, 3)]), LEADER, 3),
        (Append(0, 5, 2, [Entry(b"", 6, 3)]), LEADER, 3),
        (Append(0, 5, 2, [Entry(b"\x02cposix\nsystem\n", 6, 3)]), LEADER, 3),
        (Append(0, 5, 2, [Entry(b"\x03\x80", 6, 3)]), LEADER, 3),
        (Reply(0), LEADER, 3),
        (Reply(MAX_NUMBER), LEADER, 3),
        (VoteRequest(0, 0), LEADER, 3),
        (VoteRequest(1, 4), LEADER, 3),
        (PreVoteRequest(1, MAX_NUMBER, 1), LEADER, 3),
        (SnapshotPart(Piece(1, 0, 0, 5, b"x")), LEADER, 3),
        (SnapshotPart(Piece(7, 4, 0, 5, b"x")), LEADER, 3),
        (SnapshotPart(Piece(7, 3, MAX_NUMBER, 5, b"x")), LEADER, 3),
    ],
)
def test_nonsense_is_refused_and_worth_a_warning(message: Message, source: int, term: int) -> None:
    verdict = judge(Node(leading=isinstance(message, Reply)), message, source, term)
    assert (verdict.deliver, verdict.answer, verdict.commit) == (None, None, 0)
    assert verdict.alarming


# -- R2, R3: an older term, and what was not compared -----------------------------------------------------


@pytest.mark.parametrize("message", [append(5, 2, 3), SIGN_OF_LIFE, VoteRequest(9, 2)])
def test_the_author_of_a_message_of_an_older_term_is_told_the_present_one(message: Message) -> None:
    verdict = judge(Node(), replace_terms(message), term=2)
    assert (verdict.deliver, verdict.answer) == (None, TermNotice())


def replace_terms(message: Message) -> Message:
    return append(5, 2, 2) if isinstance(message, Append) else message


@pytest.mark.parametrize("message", [append(5, 2, 3), SIGN_OF_LIFE])
def test_a_leader_takes_nothing_from_a_second_one_of_its_term(message: Message) -> None:
    assert judge(Node(leading=True), message).alarming
    newer = judge(Node(leading=True), message, term=4)
    assert newer.deliver == message


# -- R4: nothing the log has is cut off -------------------------------------------------------------------


def test_what_follows_on_the_log_passes_as_it_is() -> None:
    for message in (append(5, 2, 3, 3, commit=4), append(5, 2, commit=4)):
        assert judge(Node(), message) == Verdict(deliver=message)


def test_a_log_that_this_leader_wrote_is_never_shortened() -> None:
    node = Node(log=log(0, 1, 3, 3, 3))
    assert judge(node, append(2, 1, 3, commit=3)).deliver == Append(3, 5, 3, [])
    assert judge(node, append(2, 1, 3, 3, 3, 3, commit=3)).deliver == append(5, 3, 3, commit=3)
    assert judge(node, append(1, 0, commit=3)).deliver == Append(3, 5, 3, [])


def test_known_entries_of_an_earlier_term_are_skipped() -> None:
    assert judge(Node(), append(2, 1, 1, 2, 2, 3)).deliver == append(5, 2, 3)


def test_a_piece_of_the_middle_is_acknowledged_without_touching_what_follows() -> None:
    verdict = judge(Node(), append(1, 0, 1, 1, commit=9))
    assert verdict == Verdict(deliver=SIGN_OF_LIFE, commit=3, answer=Reply(4, success=True))
    verdict = judge(Node(), append(3, 1, commit=2))
    assert verdict == Verdict(deliver=SIGN_OF_LIFE, commit=2, answer=Reply(4, success=True))


def test_a_real_conflict_passes_from_where_it_begins() -> None:
    assert judge(Node(), append(2, 1, 1, 3, 3)).deliver == append(3, 1, 3, 3)


def test_a_gap_is_answered_with_the_end_of_the_log() -> None:
    verdict = judge(Node(), append(9, 3, 3))
    assert (verdict.deliver, verdict.answer) == (SIGN_OF_LIFE, Reply(6, reset=True))


def test_a_foreign_term_is_skipped_in_one_step() -> None:
    node = Node(log=log(0, 1, *[2] * 1000))
    assert judge(node, append(900, 3, 3)).answer == Reply(3, reset=True)
    assert judge(replace(node, commit_index=7), append(900, 3, 3)).answer == Reply(8, reset=True)


def test_a_gap_behind_a_conflict_asks_from_the_conflict_until_something_fits() -> None:
    """The leader sends what is missing in portions and takes the last answer for the truth."""
    admission = Admission(Node(), STICKY)  # terms 0, 1, 1, 2, 2

    def ask(message: Append, term: int = 3) -> Message | None:
        return admission.examine(Envelope(LEADER, ME, term, message), 100.0).answer

    assert ask(append(5, 3, 3)) == Reply(4, reset=True)
    assert ask(append(6, 3, 3)) == Reply(4, reset=True)
    assert ask(append(90, 3, 3)) == Reply(4, reset=True)
    assert ask(append(3, 3, 3)) == Reply(2, reset=True)
    assert ask(append(90, 3, 3)) == Reply(2, reset=True)
    assert ask(append(90, 4, 4), term=4) == Reply(6, reset=True)  # another leader, another log
    assert ask(append(5, 3, 3), term=4) == Reply(4, reset=True)
    assert ask(append(1, 0, 3, 3), term=4) is None
    assert ask(append(90, 4, 4), term=4) == Reply(6, reset=True)


def test_what_begins_before_the_log_is_answered_with_what_is_committed() -> None:
    node = Node(log=log(2, 2, 2, first=100), commit_index=101)
    assert judge(node, append(50, 1, 1)).answer == Reply(102, reset=True)


@pytest.mark.parametrize("message", [append(3, 3, 3), append(1, 0, 1, 3)])
def test_what_contradicts_committed_entries_changes_nothing(message: Append) -> None:
    verdict = judge(Node(commit_index=4), message)
    assert verdict.alarming
    assert (verdict.deliver, verdict.answer) == (None, None)


# -- Snapshots --------------------------------------------------------------------------------------------


def part(index: int, term: int) -> SnapshotPart:
    return SnapshotPart(Piece(index, term, 0, 10, b"x"))


def test_a_snapshot_beyond_the_log_is_taken_and_every_piece_shows_that_somebody_listens() -> None:
    assert judge(Node(), part(50, 3)) == Verdict(deliver=part(50, 3), answer=Reply(6))
    assert judge(Node(), SIGN_OF_LIFE) == Verdict(deliver=SIGN_OF_LIFE, answer=Reply(6))


def test_a_snapshot_the_log_covers_is_not_installed_and_what_follows_stays() -> None:
    verdict = judge(Node(), part(4, 2))
    assert verdict == Verdict(deliver=SIGN_OF_LIFE, commit=4, answer=Reply(5, reset=True, success=True))


def test_a_snapshot_instead_of_a_foreign_end_of_the_log_is_taken() -> None:
    assert judge(Node(), part(4, 3)).deliver == part(4, 3)


def test_a_snapshot_older_than_the_state_is_refused() -> None:
    node = Node(log=log(2, 2, 2, first=100), commit_index=101)
    verdict = judge(node, part(60, 2))
    assert (verdict.deliver, verdict.answer) == (SIGN_OF_LIFE, Reply(102, reset=True))
    assert judge(Node(commit_index=4), part(4, 3)).alarming


# -- R5: replies ------------------------------------------------------------------------------------------


def leader(**changes: object) -> Node:
    return replace(Node(leading=True, leader=ME, matches={OTHER: 3}), **changes)  # type: ignore[arg-type]


def test_a_reply_of_another_term_or_to_a_former_leader_is_dropped() -> None:
    assert judge(leader(), Reply(5, success=True), OTHER).deliver == Reply(5, success=True)
    assert judge(leader(), Reply(5, success=True), OTHER, term=2).deliver is None
    assert judge(leader(), Reply(5, success=True), OTHER, term=4).deliver is None
    assert judge(Node(), Reply(5, success=True), OTHER).deliver is None


def test_a_reply_never_leads_beyond_the_log_nor_before_what_matched() -> None:
    assert judge(leader(), Reply(900, reset=True), OTHER).deliver == Reply(6, reset=True)
    assert judge(leader(), Reply(900, success=True), OTHER).deliver == Reply(6, success=True)
    assert judge(leader(), Reply(1, reset=True), OTHER).deliver == Reply(4, reset=True)
    assert judge(leader(), Reply(5, reset=True), OTHER).deliver == Reply(5, reset=True)


def test_only_who_leads_or_campaigns_heeds_a_newer_term() -> None:
    assert judge(leader(), TermNotice(), OTHER, term=4).deliver == TermNotice()
    assert judge(Node(campaigning=True), TermNotice(), OTHER, term=4).deliver == TermNotice()
    assert judge(Node(), TermNotice(), OTHER, term=4).deliver is None
    assert judge(leader(), TermNotice(), OTHER, term=3).deliver is None


# -- R7: elections ----------------------------------------------------------------------------------------


def test_a_vote_counts_once_a_term_and_only_for_the_present_candidacy() -> None:
    node = Node(campaigning=True)
    admission = Admission(node, STICKY)
    voted = Envelope(OTHER, ME, 3, Vote())
    assert admission.examine(voted, 0.0).deliver == Vote()
    assert admission.examine(voted, 0.0).refused == "voted in this term already"
    assert admission.examine(replace(voted, source=LEADER), 0.0).deliver == Vote()
    assert admission.examine(replace(voted, term=2), 0.0).deliver is None
    node.term = 4
    assert admission.examine(replace(voted, term=4), 0.0).deliver == Vote()
    node.campaigning = False
    assert admission.examine(replace(voted, source=LEADER, term=4), 0.0).deliver is None


def test_nobody_votes_while_a_leader_lives_unless_the_leader_wants_it() -> None:
    loyal = Node(silence=0.9)
    assert judge(loyal, VoteRequest(9, 3), OTHER, term=4).refused == "a leader lives"
    assert judge(loyal, VoteRequest(9, 3, transfer=True), OTHER, term=4).deliver is not None
    assert judge(Node(silence=1.0), VoteRequest(9, 3), OTHER, term=4).deliver is not None


def test_a_leader_heeds_a_candidate_of_a_higher_term_only() -> None:
    assert judge(leader(), VoteRequest(9, 3), OTHER, term=4).deliver is not None
    assert judge(leader(), VoteRequest(9, 3), OTHER, term=3).deliver is None


def test_a_pre_vote_is_given_to_a_log_that_is_not_behind_when_no_leader_lives() -> None:
    assert judge(Node(), PreVoteRequest(7, 5, 2), OTHER).answer == PreVote(7)
    assert judge(Node(), PreVoteRequest(7, 4, 3), OTHER).answer == PreVote(7)
    for behind in (PreVoteRequest(7, 4, 2), PreVoteRequest(7, 9, 1)):
        verdict = judge(Node(), behind, OTHER)
        assert verdict.answer is None
        assert verdict.outrun
    content = judge(Node(silence=0.5), PreVoteRequest(7, 4, 2), OTHER)
    assert content.answer is None
    assert not content.outrun
    assert judge(leader(), PreVoteRequest(7, 9, 3), OTHER).answer is None


def test_a_lower_term_does_not_cost_a_pre_vote() -> None:
    assert judge(Node(term=30), PreVoteRequest(7, 5, 2), OTHER, term=3).answer == PreVote(7)


def test_only_the_present_leader_can_ask_to_take_over() -> None:
    assert judge(Node(), TimeoutNow()).deliver == TimeoutNow()
    assert judge(Node(), TimeoutNow(), OTHER).deliver is None
    assert judge(Node(), TimeoutNow(), term=2).deliver is None
    assert judge(Node(leader=None), TimeoutNow()).deliver is None
