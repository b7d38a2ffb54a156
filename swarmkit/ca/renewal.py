"""When a node renews its certificate, and the loop that does it (contract/security.md, 7)."""

import asyncio
import datetime
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from swarmkit.api import messages as api
from swarmkit.ca.backoff import RENEWAL
from swarmkit.ca.certificates import role_name, role_of
from swarmkit.ca.credentials import Credentials, CredentialsHolder
from swarmkit.ca.errors import CaError
from swarmkit.ca.x509util import parse_certificates
from swarmkit.clock import Clock
from swarmkit.log import get_logger

log = get_logger(__name__)

#: Part of a certificate's life after which renewal may begin, and before which it has begun.
WINDOW = (0.5, 0.8)
#: Pause before a renewal on demand, in seconds: the CA may still be writing what the demand comes from.
DEMAND_PAUSE_SECONDS = 0.5
_MINUTE = datetime.timedelta(minutes=1)


def renewal_moment(
    not_before: datetime.datetime, not_after: datetime.datetime, rng: random.Random
) -> datetime.datetime:
    """Draw when to renew: whole minutes after ``not_before``, in [50 %, 80 %) of the validity."""
    minutes = (not_after - not_before) // _MINUTE
    low, high = (int(minutes * part) for part in WINDOW)
    return not_before + (rng.randrange(low, high) if high - low >= 1 else low) * _MINUTE


def pause_until_renewal(cert_pem: bytes, now: datetime.datetime, rng: random.Random) -> float:
    """Return how many seconds to wait before renewing a certificate; 0 if its moment has passed.

    Raises:
        CertificateError: it cannot be read.
    """
    leaf = parse_certificates(cert_pem)[0]
    moment = renewal_moment(leaf.not_valid_before_utc, leaf.not_valid_after_utc, rng)
    return max((moment - now).total_seconds(), 0.0)


@dataclass(frozen=True)
class Demand:
    """What a node object asks of its node.

    Attributes:
        expected_role: the role the next certificate shall have; None: any.
    """

    expected_role: str | None = None


class DemandFilter:
    """Reads from the node objects of Session messages when a renewal is asked for. Pure.

    Args:
        role: the role of the present certificate: what the swarm is taken to have wished last.
    """

    def __init__(self, role: str) -> None:
        self._last_wish = role_of(role)
        self._rotating_csr: bytes | None = None

    def observe(self, node: api.Node) -> Demand | None:
        """Return what a new node object asks for; the same object again asks for nothing.

        The observed role alone triggers nothing. ROTATE asks once for each certificate it is set on.
        """
        demand = None
        wish = node.spec.desired_role
        if wish != self._last_wish and wish in api.NodeRole.values():
            self._last_wish = wish
            demand = Demand(role_name(wish))
        if node.certificate.status.state != api.IssuanceStatus.ROTATE:
            self._rotating_csr = None
        elif self._rotating_csr != node.certificate.csr:
            self._rotating_csr = node.certificate.csr
            demand = demand or Demand()
        return demand


class Renewer:
    """Renews the node's certificate in time and on demand; one renewal at a time.

    Args:
        holder: the node's credentials; replaced after every renewal.
        renew: gets new credentials and writes them to disk (``Enroller.renew`` and ``StateDir.save``).
        clock: time.
        rng: randomness.
        on_renewed: told the new credentials, but not those whose role is not the expected one yet.
        on_error: told what went wrong; the loop goes on.
    """

    def __init__(
        self,
        holder: CredentialsHolder,
        renew: Callable[[Credentials], Awaitable[Credentials]],
        clock: Clock,
        rng: random.Random,
        on_renewed: Callable[[Credentials], None] = lambda _: None,
        on_error: Callable[[CaError], None] = lambda _: None,
    ) -> None:
        self._holder = holder
        self._renew = renew
        self._clock = clock
        self._rng = rng
        self._on_renewed = on_renewed
        self._on_error = on_error
        self._filter = DemandFilter(holder.current.role)
        self._expected: str | None = None
        self._demanded = asyncio.Event()

    def observe_node(self, node: api.Node) -> None:
        """Take the node object of a Session message."""
        demand = self._filter.observe(node)
        if demand is None:
            return
        if demand.expected_role is not None:
            self._expected = demand.expected_role
        self.demand()

    def demand(self) -> None:
        """Renew soon; demands that come before it begins are one."""
        self._demanded.set()

    async def run(self) -> None:
        """Renew until cancelled."""
        failures = 0
        while True:
            await self._wait(RENEWAL.pause(failures, self._rng) if failures else self._pause())
            self._demanded.clear()
            failures = 0 if await self._attempt() else failures + 1

    def _pause(self) -> float:
        return pause_until_renewal(self._holder.current.cert_pem, self._clock.now(), self._rng)

    async def _wait(self, pause: float) -> None:
        """Wait ``pause`` seconds, or until a renewal is demanded."""
        demanded = asyncio.create_task(self._demanded.wait(), name="renewal:demand")
        timer = asyncio.create_task(self._clock.sleep(pause), name="renewal:timer")
        try:
            await asyncio.wait((demanded, timer), return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (demanded, timer):
                task.cancel()
            await asyncio.gather(demanded, timer, return_exceptions=True)
        if self._demanded.is_set():
            await self._clock.sleep(DEMAND_PAUSE_SECONDS)

    async def _attempt(self) -> bool:
        """Renew once; False if it has to be done again, with a pause.

        PARITY: the original retries a renewal that nobody demanded without any pause once 80 % of the
        certificate's life are over; here every failure is followed by the growing pause.
        """
        try:
            credentials = await self._renew(self._holder.current)
        except CaError as error:
            log.warning("the node's certificate was not renewed", error=str(error))
            self._on_error(error)
            return False
        self._holder.replace(credentials)
        if self._expected is not None and credentials.role != self._expected:
            log.info("the swarm has not granted the new role yet", role=credentials.role)
            return False
        self._expected = None
        log.info("the node's certificate was renewed", role=credentials.role)
        self._on_renewed(credentials)
        return True
