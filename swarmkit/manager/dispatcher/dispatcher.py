"""The leader loop that serves the nodes (contract/dispatcher-agent.md, 3)."""

import random

from swarmkit.clock import Clock
from swarmkit.log import get_logger
from swarmkit.manager.dispatcher.config import DispatcherConfig
from swarmkit.manager.dispatcher.errors import DispatcherStoppedError
from swarmkit.manager.dispatcher.tenure import Managers, SubscribeManagers, Surroundings, Tenure
from swarmkit.store import LeadershipLostError, StoppedError, Store

log = get_logger(__name__)


class Dispatcher:
    """Knows which nodes are there, tells them what to run and writes down what they report.

    One instance serves all leaderships of a manager, one after the other; ``service.DispatcherService`` is
    its face to the network.

    Args:
        store: the replicated store.
        clock: time.
        rng: randomness for heartbeat periods.
        node_id: this manager's node id, stamped on every status it accepts.
        managers: returns every member of the raft group with its dialable address; called for each session
            message, so it must be quick.
        subscribe_managers: called with a function that is to be called, on the event loop, whenever the list
            changes; returns a function that ends that.
        config: constants.
    """

    def __init__(
        self,
        store: Store,
        clock: Clock,
        rng: random.Random,
        node_id: str,
        managers: Managers,
        subscribe_managers: SubscribeManagers,
        config: DispatcherConfig | None = None,
    ) -> None:
        self._surroundings = Surroundings(
            store, clock, rng, node_id, managers, subscribe_managers, config or DispatcherConfig()
        )
        self._tenure: Tenure | None = None

    async def run(self) -> None:
        """Serve while this manager leads: until cancelled, or quietly until leadership is lost.

        Reports that were acknowledged and not yet written are lost at the end; the nodes repeat them to the
        next leader.

        Raises:
            RuntimeError: it runs already.
        """
        if self._tenure is not None:
            raise RuntimeError("the dispatcher is running")
        tenure = self._tenure = Tenure(self._surroundings)
        try:
            await tenure.run()
        except* (LeadershipLostError, StoppedError) as errors:
            log.info("dispatcher stops", reason=str(errors.exceptions[0]))
        finally:
            self._tenure = None

    @property
    def tenure(self) -> Tenure:
        """The state of the present leadership.

        Raises:
            DispatcherStoppedError: before and after every RPC of a manager that does not lead.
        """
        if self._tenure is None or not self._tenure.serving:
            raise DispatcherStoppedError
        return self._tenure
