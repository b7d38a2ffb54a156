"""A Control service on a store without replication, and the raft group it is told of."""

import itertools
from collections.abc import Awaitable
from dataclasses import dataclass, field
from typing import Any, TypeVar

import grpc
import pytest

from swarmkit.api import messages as api
from swarmkit.manager.controlapi import ControlService
from swarmkit.net.errors import RpcError
from swarmkit.store import Store, StoreObject
from tests.fakes.loop import VirtualClock

T = TypeVar("T")


@dataclass
class Control:
    """The service and everything around it that a test sets up."""

    store: Store = field(default_factory=lambda: Store(VirtualClock()))
    members: list[api.RaftMember] = field(default_factory=list)

    def __post_init__(self) -> None:
        ids, tokens = itertools.count(1), itertools.count(1)
        self.service = ControlService(
            self.store,
            VirtualClock(),
            lambda: self.members,
            make_join_token=lambda pem: f"token-{next(tokens)}-{pem.decode()}",
            make_id=lambda: f"id{next(ids):04}",
        )

    async def call(self, method: str, request: Any) -> Any:
        """Call one RPC."""
        return await getattr(self.service, method)(request, None)

    async def refused(self, method: str, request: Any, code: grpc.StatusCode, text: str) -> None:
        """Call one RPC that must end with ``code`` and a text that contains ``text``."""
        await refuses(self.call(method, request), code, text)

    async def put(self, stored: StoreObject) -> Any:
        """Create an object, or put it in the place of the one with its id."""

        def write(tx: Any) -> Any:
            known = tx.get(type(stored), stored.id)
            if known is None:
                return tx.create(stored)
            copy: Any = type(stored)()
            copy.CopyFrom(stored)
            copy.meta.CopyFrom(known.meta)
            return tx.update(copy)

        return await self.store.update(write)

    def member(self, node_id: str, *, reachable: bool = True, leader: bool = False) -> None:
        """Add a member to the raft group."""
        status = api.RaftMemberStatus.REACHABLE if reachable else api.RaftMemberStatus.UNREACHABLE
        self.members.append(
            api.RaftMember(
                raft_id=len(self.members) + 1,
                node_id=node_id,
                addr=f"{node_id}:4242",
                status=api.RaftMemberStatus(leader=leader, reachability=status),
            )
        )


async def refuses(call: Awaitable[Any], code: grpc.StatusCode, text: str) -> None:
    """Await a call that must be refused so."""
    with pytest.raises(RpcError) as raised:
        await call
    assert raised.value.code is code, raised.value.text
    assert text in raised.value.text


@pytest.fixture
async def control() -> Control:
    return Control()
