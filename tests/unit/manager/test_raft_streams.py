"""What real streams between managers do when something goes wrong (contract, 13; hazards, 6)."""

import asyncio
import os
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from swarmkit.api import messages as api
from swarmkit.raft import stream
from swarmkit.raft.messages import Append, Envelope
from swarmkit.raft.pipes import CallerPipe, TlsDialler
from swarmkit.raft.records import Entry
from swarmkit.raft.service_pb2 import Hello, RaftFrame
from swarmkit.raft.stream import PipeError
from swarmkit.store.proposer import MAX_PROPOSAL_BYTES
from tests.unit.manager.managers import Managers, Site, until

pytestmark = [pytest.mark.real_time, pytest.mark.slow]


@pytest.fixture
async def managers() -> AsyncIterator[Managers]:
    managers = Managers()
    yield managers
    await managers.close()


def hello(source: int, target: int) -> RaftFrame:
    return RaftFrame(hello=Hello(source=source, target=target))


async def refusal(pipe: CallerPipe, source: int, target: int) -> str:
    """Say hello; return why that was refused."""
    try:
        await pipe.write(hello(source, target))
        await pipe.read()
    except PipeError as error:
        return str(error)
    finally:
        await pipe.close()
    raise AssertionError("it was answered")


async def test_only_the_members_own_node_is_talked_to_at_its_address(managers: Managers) -> None:
    """D22: a manager of the same swarm listens at the address; the certificate tells it is another node."""
    site = await managers.found()
    dialler = TlsDialler(managers.site().holder)
    for node_id, text in (("manager9", "shows no manager's certificate"), ("manager1", "this is member")):
        pipe = dialler.dial(api.RaftMember(raft_id=5, node_id=node_id, addr=site.address))
        assert text in await refusal(pipe, 7, 5)


async def test_a_caller_is_who_its_certificate_says_it_is(managers: Managers) -> None:
    first, second = await managers.group(2)
    impostor = managers.authority.manager("manager7")
    pipe = CallerPipe(first.address, impostor, "manager1")
    text = await refusal(pipe, second.node.raft_id, first.node.raft_id)
    assert "is node manager2 and not node manager7" in text
    worker = managers.authority.worker()
    pipe = CallerPipe(first.address, worker, "manager1")
    assert "unauthorized peer role" in await refusal(pipe, second.node.raft_id, first.node.raft_id)


async def test_a_connection_that_carries_nothing_is_noticed_at_both_ends_and_replaced(
    managers: Managers,
) -> None:
    first, second = await managers.proxied_pair()
    loop = asyncio.get_running_loop()
    for proxy in managers.proxies:
        proxy.flowing.clear()
    began = loop.time()
    for site, other in ((first, second), (second, first)):
        await until(lambda site=site, other=other: not site.node.mailbox.is_connected(other.node.raft_id))  # type: ignore[misc]
    assert 1.4 < loop.time() - began < 8.0
    for proxy in managers.proxies:
        proxy.flowing.set()
    await managers.settled(first, second)


async def test_a_stalled_loop_does_not_end_streams_whose_bytes_wait_unread(managers: Managers) -> None:
    first, second = await managers.group(2)
    # Both have dialled: what crossed the stream that was taken would look, after a stall, as if it
    # had come later.
    await asyncio.sleep(1)
    generations = [
        site.node.mailbox.connected_since(other.node.raft_id) for site, other in pairs(first, second)
    ]
    time.sleep(3)  # noqa: ASYNC251 - the stall
    await asyncio.sleep(1)
    assert generations == [
        site.node.mailbox.connected_since(other.node.raft_id) for site, other in pairs(first, second)
    ]


def pairs(first: Site, second: Site) -> list[tuple[Site, Site]]:
    return [(first, second), (second, first)]


async def test_what_is_too_much_for_a_peer_that_does_not_read_is_dropped_with_its_stream(
    managers: Managers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream, "SILENT_BEATS", 40)  # its silence is not what ends it here
    first, second = await managers.proxied_pair()
    for proxy in managers.proxies:
        proxy.flowing.clear()
    source, target = first.node.raft_id, second.node.raft_id
    append = Append(0, 0, 0, [Entry(bytes(60_000), 1, 1)])
    sent = congested_at = 0
    while first.node.mailbox.is_connected(target) and sent < 1000:
        first.links.send(Envelope(source, target, 1, append))
        sent += 1
        if not congested_at and first.links.is_congested(target):
            congested_at = sent
        await asyncio.sleep(0)
    assert 0 < congested_at < sent - 200
    assert 16 << 20 < sent * 60_000 < 40 << 20  # what waits here, and what the buffers below have taken
    for proxy in managers.proxies:
        proxy.flowing.set()
    await managers.settled(first, second)


async def test_the_largest_entry_crosses_in_both_directions(managers: Managers) -> None:
    first, second = await managers.group(2)
    leader = await managers.settled(first, second)
    value = os.urandom(MAX_PROPOSAL_BYTES)
    for _ in range(2):
        await leader.node.propose(value)
        await until(lambda: all(value in site.machine.values for site in (first, second)))
        for site in (first, second):
            site.machine.entries.clear()
        await leader.node.group.hand_over()
        leader = await managers.settled(*(site for site in (first, second) if site is not leader))


async def test_new_credentials_leave_streams_alone_and_serve_the_next_dial(managers: Managers) -> None:
    first, second = await managers.group(2)
    since = first.node.mailbox.connected_since(second.node.raft_id)
    for site in (first, second):
        site.holder.replace(managers.authority.manager(site.node_id))
    await asyncio.sleep(0.1)
    assert first.node.mailbox.connected_since(second.node.raft_id) == since
    await second.stop()
    await second.restart()
    await managers.settled(first, second)


async def test_the_end_leaves_no_task_and_no_socket(managers: Managers) -> None:
    first, _ = await managers.group(2)
    dead = api.RaftMember(raft_id=9, node_id="manager9", addr="127.0.0.1:1")
    first.links.update_members([*first.node.members(), dead], [])
    await asyncio.sleep(0.3)
    began = asyncio.get_running_loop().time()
    await managers.close()
    assert asyncio.get_running_loop().time() - began < 5  # no grace is waited out
    await until(lambda: not connections())
    ours = [task.get_name() for task in asyncio.all_tasks() if task.get_name().startswith("raft-")]
    assert ours == []
    assert not first.fatal


def connections() -> list[str]:
    """The TCP sockets of this process, by where they lead."""
    inodes = set()
    for entry in Path("/proc/self/fd").iterdir():
        try:
            target = os.readlink(entry)
        except OSError:
            continue  # closed meanwhile
        if target.startswith("socket:["):
            inodes.add(target[8:-1])
    lines = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return [line[2] for line in lines if line[9] in inodes]
