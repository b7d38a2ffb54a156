"""A swarm with several managers, each with a socket and a port of its own."""

import contextlib
import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import grpc

from swarmkit.api import messages as api
from tests.integration.control import Control
from tests.integration.harness import Daemon, Result, Swarm, eventually, invoke
from tests.ports import free_port

REACHABLE = api.RaftMemberStatus.REACHABLE
UNREACHABLE = api.RaftMemberStatus.UNREACHABLE


class Managers(Swarm):
    """Managers ``node-1`` to ``node-N``; ``ctl`` and ``control`` go to the one that is named."""

    def __init__(self, folder: Path, executor: str = "process", flags: str = "") -> None:
        super().__init__(folder, executor)
        self.flags = flags
        self.ports: dict[str, int] = {}
        self._tokens: dict[str, str] = {}

    def path(self, name: str) -> Path:
        """Return the control socket of a node."""
        return self.socket if name == "node-1" else self.folder / f"{name}.sock"

    def grow(self, count: int) -> None:
        """Found the swarm and have managers join until there are ``count``."""
        self.found(flags=self.flags)
        self.ports["node-1"] = self.port
        for number in range(2, count + 1):
            self.join_manager(f"node-{number}").wait_ready()
        self.wait_members(count)

    def token(self, role: str) -> str:
        """Return a join token."""
        if not self._tokens:
            shown = self.ok("cluster inspect default")
            self._tokens = {
                role: match[1]
                for role in ("Worker", "Manager")
                if (match := re.search(rf"{role}: (SWMTKN\S+)", shown))
            }
        return self._tokens[role.capitalize()]

    def join_manager(self, name: str, flags: str = "", through: str = "node-1") -> Daemon:
        """Start a node that joins as a manager."""
        return self._join(name, f"--join-token {self.token('manager')} {flags}", through)

    def join_worker(self, name: str, flags: str = "", through: str = "node-1") -> Daemon:
        """Start a worker that can be promoted beside others on this machine."""
        return self._join(name, f"--join-token {self.token('worker')} {flags}", through)

    def _join(self, name: str, flags: str, through: str) -> Daemon:
        port = self.ports[name] = free_port()
        command = (
            f"swarmd -d {self.folder}/{name} --hostname {name} --executor {self.executor}"
            f" --listen-control-api {self.path(name)} --listen-remote-api 127.0.0.1:{port}"
            f" --join-addr 127.0.0.1:{self.ports[through]} {self.flags} {flags}"
        )
        return self._start(name, command)

    def forget_tokens(self) -> None:
        """Have the next ``token`` look again."""
        self._tokens = {}

    def at(self, name: str) -> Control:
        """Return the control API as one manager serves it."""
        return Control(self.path(name))

    def ctl_at(self, name: str, arguments: str) -> Result:
        """Run swarmctl on one manager's socket."""
        return invoke(arguments, {"SWARM_SOCKET": str(self.path(name))})

    def ok_at(self, name: str, arguments: str) -> str:
        """Run swarmctl on one manager's socket; it must succeed. Return what it printed."""
        result = self.ctl_at(name, arguments)
        assert result.code == 0, f"{result.command} at {name}: {result.err}"
        return result.out.strip()

    def anywhere(self) -> Control:
        """Return the control API of some manager that runs."""
        for name, daemon in self.daemons.items():
            if daemon.running and self.path(name).exists():
                return self.at(name)
        raise AssertionError("no manager runs")

    def standing(self, via: str | None = None) -> dict[str, api.ManagerStatus]:
        """Return the managers' status by host name; of those that are members."""
        control = self.anywhere() if via is None else self.at(via)
        return {
            node.description.hostname: node.manager_status
            for node in control.nodes()
            if node.HasField("manager_status")
        }

    def leader(self, via: str | None = None, timeout: float = 30) -> str:
        """Return the name of the manager that leads, as soon as there is one."""

        def look() -> str:
            leaders = [name for name, status in self.standing(via).items() if status.leader]
            assert len(leaders) == 1, leaders
            return leaders[0]

        return eventually(look, timeout, "a manager leads", 0.05)

    def followers(self, via: str | None = None) -> list[str]:
        """Return the names of the other managers."""
        leader = self.leader(via)
        return [name for name in sorted(self.standing(via)) if name != leader]

    def wait_members(self, count: int, via: str | None = None, timeout: float = 30) -> None:
        """Wait until so many managers are members and all of them can be reached."""

        def look() -> None:
            standing = self.standing(via)
            reachable = [name for name, status in standing.items() if status.reachability == REACHABLE]
            assert len(standing) == len(reachable) == count, standing

        eventually(look, timeout, f"{count} managers are reachable", 0.05)

    def wait_reachability(
        self, name: str, wanted: "api.RaftMemberStatus.Reachability.ValueType", via: str, timeout: float = 30
    ) -> None:
        """Wait until a manager is shown as reachable or not."""

        def look() -> None:
            assert self.standing(via)[name].reachability == wanted

        eventually(look, timeout, f"{name} is {api.RaftMemberStatus.Reachability.Name(wanted)}", 0.05)


@contextlib.contextmanager
def managers(count: int, executor: str = "process", flags: str = "") -> Iterator[Managers]:
    """A swarm of managers whose daemons end with the block, in a folder whose path is short."""
    with contextlib.ExitStack() as stack:
        folder = Path(tempfile.mkdtemp(prefix="swk-", dir="/tmp"))
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        made = Managers(folder, executor, flags)
        stack.callback(made.stop)
        made.grow(count)
        yield made


def code(error: grpc.RpcError) -> grpc.StatusCode:
    """Return the status of a failed call; the library's type for it is not public."""
    status: grpc.StatusCode = error.code()
    return status
