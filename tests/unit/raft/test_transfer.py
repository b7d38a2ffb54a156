"""contract/pysyncobj-hazards.md, H28: pieces of a snapshot."""

from dataclasses import replace

import pytest

from swarmkit.raft.transfer import PIECE_BYTES, Incoming, Outgoing, Piece

WHOLE = bytes(range(256)) * (PIECE_BYTES // 100)


def pieces(data: bytes = WHOLE) -> list[Piece]:
    outgoing = Outgoing(7, 2, data)
    result = [outgoing.next_piece("a")]
    while not result[-1].is_last:
        result.append(outgoing.next_piece("a"))
    assert outgoing.peers == []
    return result


def test_pieces_make_the_whole_again() -> None:
    incoming = Incoming(1 << 30)
    parts = pieces()
    assert len(parts) == 3
    assert [incoming.take(piece) for piece in parts] == [None, None, WHOLE]


def test_each_peer_is_served_from_its_own_offset_and_a_cancelled_one_from_the_start() -> None:
    outgoing = Outgoing(7, 2, WHOLE)
    assert outgoing.next_piece("a").offset == 0
    assert outgoing.next_piece("b").offset == 0
    assert outgoing.next_piece("a").offset == PIECE_BYTES
    outgoing.cancel("a")
    assert outgoing.next_piece("a").offset == 0
    assert sorted(outgoing.peers) == ["a", "b"]


@pytest.mark.parametrize(
    "spoil",
    [
        lambda p: [p[0], p[2]],
        lambda p: [p[0], p[1], p[1], p[2]],
        lambda p: [p[1], p[2]],
        lambda p: [p[0], replace(p[1], index=8), p[2]],
        lambda p: [p[0], replace(p[1], term=3), p[2]],
        lambda p: [p[0], p[1], replace(p[2], data=p[2].data + b"x")],
        lambda p: [p[0], p[1], replace(p[2], data=b"")],
        lambda p: [replace(p[0], total=1 << 40), p[1], p[2]],
    ],
    ids=["lost", "doubled", "begun in the middle", "other index", "other term", "too long", "empty", "huge"],
)
def test_what_does_not_fit_ends_the_transfer_and_a_new_one_succeeds(spoil) -> None:  # type: ignore[no-untyped-def]
    incoming = Incoming(1 << 30)
    assert [incoming.take(piece) for piece in spoil(pieces())].count(None) == len(spoil(pieces()))
    assert [incoming.take(piece) for piece in pieces()][-1] == WHOLE
