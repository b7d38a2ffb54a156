"""Running a node as a process: until a signal, or until it cannot go on."""

import asyncio
import gc
import random

from swarmkit.agent.agent import AgentError
from swarmkit.agent.database import TaskDatabaseError
from swarmkit.aio import cancel_and_wait
from swarmkit.ca.errors import CaError
from swarmkit.clock import SystemClock
from swarmkit.log import get_logger
from swarmkit.manager.leader import SeedError
from swarmkit.net.listen import ListenError
from swarmkit.net.remotes import RemotesError
from swarmkit.node.config import NodeConfig
from swarmkit.node.directory import DirectoryError
from swarmkit.node.identity import IdentityError
from swarmkit.node.lock import LockedError
from swarmkit.node.node import Node, NodeError
from swarmkit.raft.errors import RaftError

log = get_logger(__name__)

#: Failures whose text is for the operator; anything else is a defect and keeps its traceback.
EXPECTED = (
    AgentError,
    CaError,
    DirectoryError,
    IdentityError,
    ListenError,
    LockedError,
    NodeError,
    OSError,
    RaftError,
    RemotesError,
    SeedError,
    TaskDatabaseError,
)


#: Young objects before the cycle collector looks at them. Tables hold many long-lived messages; with the
#: interpreter's default of 700 half of a busy manager's time goes into looking at them again and again.
GC_THRESHOLDS = (50_000, 20, 100)


async def run_node(config: NodeConfig, stop: asyncio.Event, stop_seconds: float) -> int:
    """Run a node until ``stop`` is set or it fails; returns the process's exit code.

    Args:
        config: settings.
        stop: set by signals.
        stop_seconds: longest time for a clean end.
    """
    gc.set_threshold(*GC_THRESHOLDS)
    failures: list[BaseException] = []

    def fatal(error: BaseException) -> None:
        failures.append(error)
        stop.set()

    node = Node(config, SystemClock(), random.SystemRandom(), fatal)
    stopping = asyncio.create_task(stop.wait(), name="stop")
    starting = asyncio.create_task(node.start(), name="start")
    try:
        await asyncio.wait([starting, stopping], return_when=asyncio.FIRST_COMPLETED)
        if starting.done() and starting.exception() is not None:
            fatal(starting.exception() or RuntimeError())
        await stopping
    finally:
        await cancel_and_wait(starting)
        # A node that fails leaves its tasks running, as a crash would: they may be all that still works.
        await _end(node, stop_seconds, leave=not failures)
    for error in failures:
        _say(error)
    return 1 if failures else 0


async def _end(node: Node, seconds: float, leave: bool) -> None:
    try:
        async with asyncio.timeout(seconds):
            await node.stop(leave)
    except TimeoutError:
        log.error("the node did not stop in time; the process ends anyway", seconds=seconds)
    except EXPECTED as error:
        log.error("the node did not stop cleanly", error=_text(error))


def _text(error: BaseException) -> str:
    """Return an error as a sentence; those of the system are known by their file."""
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return str(error)


def _say(error: BaseException) -> None:
    if isinstance(error, EXPECTED):
        log.error(_text(error))
        return
    try:
        raise error
    except BaseException:
        log.exception("swarmd ends because of a defect", error=repr(error))
