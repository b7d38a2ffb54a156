"""Renewals (contract/security.md, 7; cases 41 to 43)."""

import asyncio
import contextlib
import datetime
import random
from collections.abc import AsyncIterator

import pytest

from swarmkit.api import messages as api
from swarmkit.ca.certificates import MANAGER_ROLE, WORKER_ROLE
from swarmkit.ca.credentials import Credentials, CredentialsHolder
from swarmkit.ca.errors import CaError, EnrollmentError
from swarmkit.ca.renewal import DEMAND_PAUSE_SECONDS, Demand, DemandFilter, Renewer, renewal_moment
from tests.fakes.loop import VirtualClock
from tests.unit.ca.builders import HOUR, NOW, issue, make

W, M = api.NodeRole.WORKER, api.NodeRole.MANAGER
MINUTE = datetime.timedelta(minutes=1)


def node(
    wish: api.NodeRole.ValueType = W,
    *,
    role: api.NodeRole.ValueType = W,
    state: str = "ISSUED",
    csr: bytes = b"first",
) -> api.Node:
    made = api.Node(role=role, spec=api.NodeSpec(desired_role=wish))
    made.certificate.csr = csr
    made.certificate.status.state = api.IssuanceStatus.State.Value(state)
    return made


# The moment


def test_all_draws_lie_in_the_window_and_reach_both_ends() -> None:
    rng = random.Random(1)
    draws = {(renewal_moment(NOW, NOW + 2161 * HOUR, rng) - NOW) / MINUTE for _ in range(20_000)}
    assert all(draw == int(draw) for draw in draws)
    assert min(draws) >= 64_830
    assert max(draws) < 103_728
    assert min(draws) < 64_900
    assert max(draws) > 103_600


@pytest.mark.parametrize(("minutes", "moment"), [(2, 1), (1, 0), (0, 0)])
def test_a_window_without_room_is_its_lower_end(minutes: int, moment: int) -> None:
    assert renewal_moment(NOW, NOW + minutes * MINUTE, random.Random(1)) == NOW + moment * MINUTE


# What node objects ask for


def test_a_new_wish_asks_once() -> None:
    demands = DemandFilter(WORKER_ROLE)
    assert demands.observe(node(W)) is None
    assert demands.observe(node(M)) == Demand(MANAGER_ROLE)
    assert demands.observe(node(M)) is None
    assert demands.observe(node(M, role=M)) is None
    assert demands.observe(node(W, role=M)) == Demand(WORKER_ROLE)


def test_a_manager_that_starts_as_one_asks_for_nothing() -> None:
    assert DemandFilter(MANAGER_ROLE).observe(node(M, role=M)) is None


def test_a_wish_that_changed_while_the_node_was_down_is_seen() -> None:
    assert DemandFilter(MANAGER_ROLE).observe(node(W, role=M)) == Demand(WORKER_ROLE)


def test_the_observed_role_alone_asks_for_nothing() -> None:
    assert DemandFilter(WORKER_ROLE).observe(node(W, role=M)) is None


def test_rotate_asks_once_for_each_certificate() -> None:
    demands = DemandFilter(WORKER_ROLE)
    assert demands.observe(node(state="ROTATE")) == Demand()
    assert demands.observe(node(state="ROTATE")) is None
    assert demands.observe(node(state="ROTATE", csr=b"second")) == Demand()
    assert demands.observe(node(state="ISSUED", csr=b"second")) is None
    assert demands.observe(node(state="ROTATE", csr=b"second")) == Demand()
    assert demands.observe(node(M, state="ROTATE", csr=b"third")) == Demand(MANAGER_ROLE)


def test_a_role_of_the_future_asks_for_nothing() -> None:
    unknown = api.Node.FromString(b"\x1a\x02\x10\x07")
    assert unknown.spec.desired_role == 7
    assert DemandFilter(WORKER_ROLE).observe(unknown) is None


# The loop


class Swarm:
    """What the renewer talks to: grants roles, fails when told, and remembers when it was asked."""

    def __init__(self, clock: VirtualClock, current: Credentials) -> None:
        self.clock = clock
        self.role = current.role
        self.failures = 0
        self.asked: list[float] = []
        self.renewed: list[str] = []
        self.errors: list[CaError] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.holder = CredentialsHolder(current)
        self.renewer = Renewer(
            self.holder,
            self.renew,
            clock,
            random.Random(1),
            lambda credentials: self.renewed.append(credentials.role),
            self.errors.append,
        )

    async def renew(self, current: Credentials) -> Credentials:
        assert current is self.holder.current
        self.asked.append(self.clock.monotonic())
        await self.gate.wait()
        if self.failures:
            self.failures -= 1
            raise EnrollmentError("no manager answers")
        return issue(self.role, now=self.clock.now())

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        task = asyncio.create_task(self.renewer.run())
        await asyncio.sleep(0)
        try:
            yield
        finally:
            assert not task.done(), task.exception()
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


def expired() -> Credentials:
    return issue(root=make().root, now=NOW - 3 * HOUR, validity=HOUR)


@pytest.fixture
def swarm(clock: VirtualClock) -> Swarm:
    return Swarm(clock, issue())


async def test_it_renews_within_the_window_and_again_within_the_next(swarm: Swarm) -> None:
    first = swarm.holder.current
    async with swarm.running():
        await asyncio.sleep(1080 * 3600)
        assert len(swarm.asked) in (0, 1)
        await asyncio.sleep(649 * 3600)
        assert len(swarm.asked) == 1
        assert 1079 * 3600 < swarm.asked[0] < 1729 * 3600
        assert swarm.holder.current is not first
        await asyncio.sleep(1729 * 3600)
        assert len(swarm.asked) >= 2
    assert swarm.renewed == [WORKER_ROLE] * len(swarm.asked)


async def test_a_certificate_past_its_window_is_renewed_at_once(clock: VirtualClock) -> None:
    swarm = Swarm(clock, expired())
    async with swarm.running():
        await asyncio.sleep(1)
    assert swarm.asked == [0.0]


async def test_failures_are_told_and_followed_by_growing_pauses(clock: VirtualClock) -> None:
    swarm = Swarm(clock, expired())
    swarm.failures = 12
    async with swarm.running():
        await asyncio.sleep(12 * 3600)
    assert len(swarm.errors) == 12
    assert len(swarm.asked) == 13
    pauses = [later - earlier for earlier, later in zip(swarm.asked, swarm.asked[1:], strict=False)]
    bounds = [min(5 + 5 * 2**n, 3600) for n in range(12)]
    assert all(pause < bound for pause, bound in zip(pauses, bounds, strict=True))
    assert sum(pauses) > 60
    assert swarm.renewed == [WORKER_ROLE]


async def test_a_new_wish_renews_once_after_half_a_second(swarm: Swarm) -> None:
    swarm.role = MANAGER_ROLE
    async with swarm.running():
        for _ in range(3):
            swarm.renewer.observe_node(node(M))
            await asyncio.sleep(10)
    assert swarm.asked == [DEMAND_PAUSE_SECONDS]
    assert swarm.renewed == [MANAGER_ROLE]
    assert swarm.holder.current.role == MANAGER_ROLE


async def test_demands_that_come_together_are_one_renewal(swarm: Swarm) -> None:
    async with swarm.running():
        for _ in range(5):
            swarm.renewer.demand()
            await asyncio.sleep(0.05)
        await asyncio.sleep(10)
    assert len(swarm.asked) == 1


async def test_a_role_not_granted_yet_is_asked_for_again_and_only_the_match_is_told(swarm: Swarm) -> None:
    async with swarm.running():
        swarm.renewer.observe_node(node(M))
        await asyncio.sleep(120)
        assert len(swarm.asked) > 2
        assert swarm.renewed == []
        assert swarm.holder.current.role == WORKER_ROLE
        swarm.role = MANAGER_ROLE
        await asyncio.sleep(600)
        count = len(swarm.asked)
        assert swarm.renewed == [MANAGER_ROLE]
        await asyncio.sleep(600)
        assert len(swarm.asked) == count


async def test_a_wish_taken_back_ends_the_asking(swarm: Swarm) -> None:
    async with swarm.running():
        swarm.renewer.observe_node(node(M))
        await asyncio.sleep(30)
        swarm.renewer.observe_node(node(W))
        await asyncio.sleep(5)
        count = len(swarm.asked)
        assert swarm.renewed == [WORKER_ROLE]
        await asyncio.sleep(600)
        assert len(swarm.asked) == count


async def test_a_demand_ends_a_long_pause(clock: VirtualClock) -> None:
    swarm = Swarm(clock, expired())
    swarm.failures = 100
    async with swarm.running():
        await asyncio.sleep(24 * 3600)
        swarm.failures = 0
        swarm.renewer.demand()
        await asyncio.sleep(1)
        assert swarm.renewed == [WORKER_ROLE]


async def test_a_demand_during_a_renewal_is_followed_by_another_one(swarm: Swarm) -> None:
    swarm.gate.clear()
    async with swarm.running():
        swarm.renewer.demand()
        await asyncio.sleep(5)
        assert len(swarm.asked) == 1
        swarm.renewer.demand()
        await asyncio.sleep(5)
        assert len(swarm.asked) == 1
        swarm.gate.set()
        await asyncio.sleep(5)
    assert len(swarm.asked) == 2
