import asyncio
import random
from pathlib import Path

import pytest

from swarmkit.api import messages as api
from swarmkit.ca.credentials import CredentialsHolder
from swarmkit.net.remotes import NoRemotesError, Remote, Remotes, RemotesFile
from swarmkit.node.broker import LocalConnection, NodeBroker
from tests.fakes.pki import FakeAuthority


class Setting:
    def __init__(self, folder: Path, *known: Remote) -> None:
        self.remotes = Remotes(random.Random(1), known)
        self.file = RemotesFile(folder / "state.json")
        self.local: Path | None = None
        holder = CredentialsHolder(FakeAuthority().issue("n1"))
        self.broker = NodeBroker(self.remotes, self.file, holder, lambda: self.local)


def listed(*addresses: str) -> list[api.WeightedPeer]:
    return [api.WeightedPeer(peer=api.Peer(node_id=f"m-{a}", addr=a), weight=10) for a in addresses]


async def test_without_any_manager_there_is_nothing_to_select(tmp_path: Path) -> None:
    setting = Setting(tmp_path)
    with pytest.raises(NoRemotesError):
        await setting.broker.select()
    await setting.broker.close()


@pytest.mark.real_time
async def test_the_nodes_own_manager_comes_first(tmp_path: Path) -> None:
    setting = Setting(tmp_path, Remote("", "127.0.0.1:1"))
    setting.local = tmp_path / "m.sock"
    connection = await setting.broker.select()
    assert isinstance(connection, LocalConnection)
    assert connection.address == str(setting.local)
    await connection.close(True)
    await setting.broker.close()


@pytest.mark.real_time
async def test_every_end_of_a_session_counts_against_its_manager(tmp_path: Path) -> None:
    remote = Remote("m", "127.0.0.1:1")
    setting = Setting(tmp_path, remote)
    connection = await setting.broker.select()
    assert connection.address == remote.addr
    await connection.close(True)
    assert setting.remotes.weights[remote] < 0
    await setting.broker.close()


async def test_exactly_the_listed_managers_are_known_and_remembered(tmp_path: Path) -> None:
    setting = Setting(tmp_path, Remote("", "127.0.0.1:1"), Remote("gone", "127.0.0.1:2"))
    setting.broker.managers(listed("127.0.0.1:3", "127.0.0.1:4"))
    expected = (Remote("m-127.0.0.1:3", "127.0.0.1:3"), Remote("m-127.0.0.1:4", "127.0.0.1:4"))
    assert setting.remotes.known == expected
    for _ in range(100):
        await asyncio.sleep(0.01)
        if (tmp_path / "state.json").exists():
            break
    await setting.broker.close()
    assert RemotesFile(tmp_path / "state.json").load() == expected


async def test_a_wildcard_address_says_less_than_how_the_manager_was_reached_before(tmp_path: Path) -> None:
    setting = Setting(tmp_path, Remote("m-0.0.0.0:7", "10.0.0.1:4242"))
    setting.broker.managers(listed("0.0.0.0:7", "10.0.0.2:4242"))
    assert {remote.addr for remote in setting.remotes.known} == {"10.0.0.1:7", "10.0.0.2:4242"}
    await setting.broker.close()


async def test_a_node_without_its_manager_does_not_dial_itself(tmp_path: Path) -> None:
    setting = Setting(tmp_path, Remote("n1", "127.0.0.1:1"))
    with pytest.raises(NoRemotesError):
        await setting.broker.select()
    await setting.broker.close()
