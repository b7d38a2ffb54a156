"""A snapshot on its way from a leader to a follower: pieces with identity, offset and total (hazards, H28).

Pure bookkeeping. What travels is a snapshot file whose records are not encrypted (each manager has a data key
of its own; the wire is encrypted), so that the receiver checks it exactly as one read from its disk.
"""

from dataclasses import dataclass

#: Bytes in one piece: on a slow link each is answered before the leader doubts that anybody listens.
PIECE_BYTES = 128 << 10


@dataclass(frozen=True)
class Piece:
    """A part of a snapshot.

    Attributes:
        index: last entry of the snapshot; with ``term`` its identity.
        term: the term of that entry.
        offset: where ``data`` belongs.
        total: length of the whole.
        data: the bytes.
    """

    index: int
    term: int
    offset: int
    total: int
    data: bytes

    @property
    def is_last(self) -> bool:
        """Whether nothing comes after it."""
        return self.offset + len(self.data) >= self.total


class Outgoing:
    """One encoded snapshot, and how far each peer was sent it."""

    def __init__(self, index: int, term: int, data: bytes) -> None:
        self.index = index
        self._term = term
        self._data = data
        self._offsets: dict[str, int] = {}

    @property
    def peers(self) -> list[str]:
        """To whom a transfer is under way."""
        return list(self._offsets)

    def next_piece(self, peer: str) -> Piece:
        """Return the next piece for a peer; after the last one a new transfer would begin."""
        offset = self._offsets.get(peer, 0)
        data = self._data[offset : offset + PIECE_BYTES]
        piece = Piece(self.index, self._term, offset, len(self._data), data)
        if piece.is_last:
            self._offsets.pop(peer, None)
        else:
            self._offsets[peer] = offset + len(data)
        return piece

    def cancel(self, peer: str) -> None:
        """Begin anew if this peer is to be sent it again."""
        self._offsets.pop(peer, None)


class Incoming:
    """Puts pieces together: each must continue the one before exactly, or begin a transfer."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._identity: tuple[int, int, int] | None = None
        self._data = bytearray()

    def take(self, piece: Piece) -> bytes | None:
        """Take a piece; return the whole once it is complete. What does not fit ends the transfer."""
        identity = (piece.index, piece.term, piece.total)
        if piece.offset == 0:
            self._identity, self._data = identity, bytearray()
        if identity != self._identity or piece.offset != len(self._data):
            self._drop()
            return None
        if not 0 < len(piece.data) <= piece.total - piece.offset or piece.total > self._max_bytes:
            self._drop()
            return None
        self._data += piece.data
        if len(self._data) < piece.total:
            return None
        whole = bytes(self._data)
        self._drop()
        return whole

    def _drop(self) -> None:
        self._identity, self._data = None, bytearray()
