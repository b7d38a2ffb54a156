"""Beats: pings, and the end of a stream that carries nothing (contract/raft-store-manager.md, 8)."""

from swarmkit.raft.stream import BEAT_SECONDS, SILENT_BEATS, Vigil


def test_who_said_nothing_since_the_last_beat_pings() -> None:
    vigil = Vigil()
    assert vigil.beat() == (False, False)  # it has just been opened
    assert vigil.beat()[0]
    vigil.said = True
    assert not vigil.beat()[0]


def test_the_peer_is_gone_after_the_send_time_out_in_beats_without_anything() -> None:
    assert BEAT_SECONDS * SILENT_BEATS == 2.0
    vigil = Vigil()
    assert [vigil.beat()[1] for _ in range(SILENT_BEATS + 1)] == [False] * SILENT_BEATS + [True]


def test_anything_heard_begins_the_count_anew() -> None:
    vigil = Vigil()
    for _ in range(20):
        assert not any(vigil.beat()[1] for _ in range(SILENT_BEATS))
        vigil.heard = True
