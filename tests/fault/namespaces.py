"""Managers in network namespaces of their own, whose links can be cut, in one direction too, or made bad.

Each namespace has one address on a bridge that stands in a namespace of its own, so that nothing they send
leaves them. Control sockets are files, and reachable from outside. All of it is removed with the swarm.
"""

import contextlib
import os
import re
import shutil
import subprocess
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.harness import BIN, Daemon
from tests.integration.managers import Managers

#: The port of every manager's remote API, each in its namespace.
PORT = 4242
#: The namespace of the bridge.
HUB = "hub"


def ip(arguments: str) -> None:
    """Run ``ip`` with arguments."""
    _run(["ip", *arguments.split()])


def _run(words: list[str], given: str = "") -> str:
    done = subprocess.run(words, input=given, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(words)}: {done.stderr}"
    return done.stdout


class Network:
    """Namespaces of hosts, by name, on one bridge."""

    def __init__(self, hosts: list[str]) -> None:
        self._prefix = f"swk-{uuid.uuid4().hex[:8]}"
        self.address = {host: f"10.77.0.{number}" for number, host in enumerate(hosts, 1)}
        self._made: list[str] = []

    def namespace(self, host: str) -> str:
        """Return the name of a host's namespace."""
        return f"{self._prefix}-{host}"

    def create(self) -> None:
        """Make everything; what fails on the way is removed by ``remove``."""
        hub = self._add(HUB)
        ip(f"-n {hub} link add bridge type bridge")
        ip(f"-n {hub} link set bridge up")
        for host, address in self.address.items():
            namespace = self._add(host)
            ip(f"-n {namespace} link add eth0 type veth peer name {host} netns {hub}")
            ip(f"-n {hub} link set {host} master bridge up")
            ip(f"-n {namespace} address add {address}/24 dev eth0")
            ip(f"-n {namespace} link set eth0 up")
            ip(f"-n {namespace} link set lo up")

    def _add(self, host: str) -> str:
        namespace = self.namespace(host)
        ip(f"netns add {namespace}")
        self._made.append(namespace)
        return namespace

    def remove(self) -> None:
        """Remove the namespaces and with them all that is in them."""
        with contextlib.ExitStack() as stack:
            for namespace in self._made:
                stack.callback(ip, f"netns delete {namespace}")

    def within(self, host: str, *words: str, given: str = "") -> str:
        """Run a command in a host's namespace; return what it printed."""
        return _run(["ip", "netns", "exec", self.namespace(host), *words], given)

    def drop(self, sender: str, receiver: str) -> None:
        """Let nothing through from one host to another; the other direction stays as it is."""
        self.within(receiver, "iptables", "-A", "INPUT", "-s", self.address[sender], "-j", "DROP")

    def cut(self, one: str, other: str) -> None:
        """Let nothing through between two hosts."""
        self.drop(one, other)
        self.drop(other, one)

    def isolate(self, host: str) -> None:
        """Cut a host off from all others, in both directions at one moment."""
        rules = "*filter\n-A INPUT ! -i lo -j DROP\n-A OUTPUT ! -o lo -j DROP\nCOMMIT\n"
        self.within(host, "iptables-restore", "--noflush", given=rules)

    def lose(self, host: str, probability: float) -> None:
        """Lose some of what a host is sent."""
        random = ["-m", "statistic", "--mode", "random", "--probability", str(probability)]
        self.within(host, "iptables", "-A", "INPUT", *random, "-j", "DROP")

    def slow_down(self, host: str, rate: str) -> None:
        """Let a host send, and be sent, only so much, such as ``1mbit``."""
        self._queue(host, f"tbf rate {rate} burst 16kb latency 400ms")

    def dropped(self, host: str) -> list[int]:
        """Return how many packets each rule at a host has dropped since it was made."""
        listed = self.within(host, "iptables", "-nvxL")
        return [int(packets) for packets in re.findall(r"^ *(\d+) +\d+ +DROP\b", listed, re.MULTILINE)]

    def held_up(self, host: str) -> list[int]:
        """Return how often what a host sent, and what it was sent, had to wait since it was slowed down."""
        shown = [self.within(at, *f"tc -s qdisc show dev {end}".split()) for at, end in self._ends(host)]
        found = [re.search(r"qdisc tbf .*?overlimits (\d+)", text, re.DOTALL) for text in shown]
        return [int(match[1]) for match in found if match]

    def _queue(self, host: str, kind: str) -> None:
        for at, end in self._ends(host):
            self.within(at, *f"tc qdisc replace dev {end} root {kind}".split())

    def _ends(self, host: str) -> list[tuple[str, str]]:
        """Return where the two ends of a host's link are: what it sends goes into the first."""
        return [(host, "eth0"), (HUB, host)]

    def heal(self) -> None:
        """Let everything through everywhere."""
        for host in self.address:
            self.within(host, "iptables", "-F")
            # A queue that is not there cannot be removed; one of the kernel's own is always put in its place.
            self._queue(host, "pfifo limit 1000")


class SeparateManagers(Managers):
    """Managers each in a namespace of a network."""

    def __init__(self, folder: Path, network: Network) -> None:
        super().__init__(folder, "simulated")
        self.network = network

    def _start(self, name: str, command: str) -> Daemon:
        if not command.startswith("swarmd"):
            return super()._start(name, command)  # again, by ``restart``
        founder = self.network.address["node-1"]
        own = self.network.address[name]
        command = re.sub(r"--listen-remote-api \S+", f"--listen-remote-api {own}:{PORT}", command)
        command = re.sub(r"--join-addr \S+", f"--join-addr {founder}:{PORT}", command)
        enter = f"{shutil.which('nsenter')} --net=/run/netns/{self.network.namespace(name)}"
        return super()._start(name, f"{enter} {BIN}/{command}")


@contextlib.contextmanager
def separate_managers(count: int) -> Iterator[SeparateManagers]:
    """A swarm of managers in namespaces; skips the test where there can be none."""
    tools = ("ip", "nsenter", "iptables", "iptables-restore", "tc")
    if os.geteuid() != 0 or not all(map(shutil.which, tools)):
        pytest.skip(f"needs root and {', '.join(tools)} to make network namespaces")
    with contextlib.ExitStack() as stack:
        folder = Path(tempfile.mkdtemp(prefix="swk-", dir="/tmp"))
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        network = Network([f"node-{number}" for number in range(1, count + 1)])
        stack.callback(network.remove)
        try:
            network.create()
            network.heal()
        except AssertionError as error:
            pytest.skip(f"cannot make network namespaces with filters: {error}")
        made = SeparateManagers(folder, network)
        stack.callback(made.stop)
        made.grow(count)
        yield made
