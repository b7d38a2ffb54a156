"""Signs of life while a disk is waited for: what may be said unsynced, and for how long."""

import asyncio
from dataclasses import dataclass, field

import pytest

from swarmkit.raft.contact import PATIENCE_SECONDS, Contact
from swarmkit.raft.messages import Append, Envelope, Reply, SnapshotPart, Vote

PERIOD = 0.25


@dataclass
class Library:
    leading: bool = False
    leader: int | None = 2
    term: int = 7
    passes: int = 0

    def send_appends(self) -> None:
        self.passes += 1


@dataclass
class Box:
    """Holds an append and a vote that wait to leave; hears member 2 in term 7."""

    outbox: list[Envelope] = field(
        default_factory=lambda: [Envelope(1, 3, 7, Append(0, 1, 0)), Envelope(1, 3, 7, Vote())]
    )

    def hears(self, leader: int, term: int) -> bool:
        return (leader, term) == (2, 7)

    def take_early(self) -> list[Envelope]:
        early = [e for e in self.outbox if isinstance(e.message, (Append, SnapshotPart))]
        self.outbox = [e for e in self.outbox if e not in early]
        return early


class Log:
    last_index = 41


@dataclass
class Links:
    sent: list[Envelope] = field(default_factory=list)

    def send(self, envelope: Envelope) -> None:
        self.sent.append(envelope)


def contact(library: Library) -> tuple[Contact, Links]:
    links = Links()
    return Contact(1, library, Log(), Box(), links, PERIOD), links  # type: ignore[arg-type]


async def test_a_short_wait_needs_no_sign() -> None:
    tried, links = contact(Library())
    await tried.during(asyncio.sleep(0.2))
    await asyncio.sleep(1)
    assert links.sent == []


async def test_a_follower_answers_that_it_is_there_and_claims_nothing() -> None:
    tried, links = contact(Library())
    await tried.during(asyncio.sleep(0.6))
    assert links.sent == [Envelope(1, 2, 7, Reply(42))] * 2


@pytest.mark.parametrize("library", [Library(leader=None), Library(leader=3), Library(term=8)])
async def test_a_follower_that_hears_nobody_says_nothing(library: Library) -> None:
    tried, links = contact(library)
    await tried.during(asyncio.sleep(3))
    assert links.sent == []


async def test_a_leader_goes_on_sending_appends_and_nothing_that_needs_the_sync() -> None:
    library = Library(leading=True)
    tried, links = contact(library)
    await tried.during(asyncio.sleep(0.6))
    assert library.passes == 2
    assert links.sent == [Envelope(1, 3, 7, Append(0, 1, 0))]


async def test_a_disk_that_hangs_for_good_is_not_covered_up() -> None:
    library = Library(leading=True)
    tried, _ = contact(library)
    await tried.during(asyncio.sleep(1000))
    assert library.passes == PATIENCE_SECONDS / PERIOD


async def test_the_outcome_of_the_wait_is_passed_on() -> None:
    async def fails() -> int:
        await asyncio.sleep(1)
        raise OSError("disk")

    tried, _ = contact(Library())
    assert await tried.during(asyncio.sleep(1, result=5)) == 5
    with pytest.raises(OSError, match="disk"):
        await tried.during(fails())
