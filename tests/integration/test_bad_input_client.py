"""swarmctl in clumsy hands: one sentence and exit code 1 or 2, and nothing changed."""

import contextlib
import os
import shutil
import socket
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from swarmkit.api import messages as api
from tests.integration.bad_input import (
    FAILED,
    MISUSED,
    assert_plain,
    assert_refused,
    assert_sound,
    foreign_grpc,
    garbage,
    greet_and_hang_up,
    hang_up,
    listener,
    many,
    short_directory,
    silent,
    web,
)
from tests.integration.control import Control
from tests.integration.harness import BIN, Result, Swarm, invoke, run, swarm

pytestmark = pytest.mark.slow

CREATE = "service create --name x --image y"
#: Commands that nobody should have to be asked about.
MISUSE = [
    ("bogus", "No such command 'bogus'"),
    ("service bogus", "No such command 'bogus'"),
    ("node inspect", "Missing argument 'NODE'"),
    ("node ls extra", "unexpected extra argument"),
    ("node ls --format xml", "'xml' is not one of"),
    ("service create --name x", "--name and --image are mandatory"),
    (f"{CREATE} --bogus", "No such option '--bogus'"),
    (f"{CREATE} --instances -1", "'-1' is not a whole number"),
    (f"{CREATE} --instances 99999999999999999999", "is not a whole number from 0 to 2^63-1"),
    (f"{CREATE} --instances 1 --replicas 2", "mean the same: give one of them"),
    (f"{CREATE} --mode global --instances 2", "--instances can only be specified in --mode replicated"),
    (f"{CREATE} --mode many", "'many' is not one of"),
    (f"{CREATE} --update-delay 5", "missing unit in duration '5'"),
    (f"{CREATE} --update-delay 9999999999h", "out of range"),
    (f"{CREATE} --memory-limit 5x", "invalid size: '5x'"),
    (f"{CREATE} --memory-limit 9999999p", "out of range"),
    (f"{CREATE} --cpu-limit half", "invalid cpu: half"),
    (f"{CREATE} --cpu-limit 1e999999999", "out of range"),
    (f"{CREATE} --ports 80", "insufficient parameters in port '80'"),
    (f"{CREATE} --label a", "malformed label: a"),
    (f"{CREATE} --env '\"a'", 'unended "'),
    (f"{CREATE} --ulimit files=1", "invalid ulimit type: files"),
    (f"{CREATE} --tmpfs x", "invalid mount spec: x"),
    (f"{CREATE} --log-opt a=b", "--log-opt needs --log-driver"),
    ("cluster update --taskhistory 99999999999999999999", "is not a whole number"),
    ("cluster update --autoaccept nobody", "unrecognized role nobody"),
    ("cluster update --rotate-join-token all", "'all' is not one of"),
    ("completion tcsh", "'tcsh' is not one of"),
]
#: Commands that the manager refuses, and names that it does not know.
REFUSED = [
    ("service create --name 'a b' --image y", "name must be valid as a DNS name component"),
    (f"service create --name {'a' * 64} --image y", "name must be 63 characters or fewer"),
    ("service create --name x --image 'NOT AN IMAGE'", "is not a valid repository/tag"),
    (f"{CREATE} --memory-limit 1", "Must be at least 4MiB"),
    (f"{CREATE} --cpu-limit 0.0001", "Must be at least 0.001"),
    (f"{CREATE} --update-delay=-5s", "update-delay cannot be negative"),
    (f"{CREATE} --constraint 'node.id = 4'", "constraint expected one operator from ==, !="),
    ("service create --name taken --image y", "service taken already exists"),
    ("service update taken --image y --instances 0", "no changes detected"),
    ("service update taken --name other", "renaming services is not supported"),
    ("service inspect nope", "service nope not found"),
    ("service update nope --instances 2", "service nope not found"),
    ("service rm nope", "service nope not found"),
    ("node inspect nope", "node nope not found"),
    ("node drain nope", "node nope not found"),
    ("node accept nope", "node nope not found"),
    ("node rm nope", "node nope not found"),
    ("node activate node-1", "Node node-1 is already active"),
    ("node rm -f node-1", "must be demoted to worker before removal"),
    ("node update node-1", "No change for node node-1"),
    ("task inspect nope", "task nope not found"),
    ("task rm nope", "task nope not found"),
    ("cluster inspect nope", "cluster nope not found"),
    ("cluster update --certexpiry 59m", "minimum certificate expiry time is: 1h0m0s"),
    ("cluster update --heartbeatperiod 0s", "heartbeat time period cannot be zero"),
    ("service inspect ''", "service ID missing"),
]


@pytest.fixture(scope="module")
def tame() -> Iterator[Swarm]:
    """A manager with one service; whatever is asked of it, it is sound in the end."""
    with short_directory() as folder, swarm(folder) as made:
        daemon = made.found()
        made.ok("service create --name taken --image y --instances 0")
        yield made
        assert_sound(daemon)
        assert daemon.stop() == 0


@pytest.fixture
def unchanged(tame: Swarm) -> Iterator[None]:
    """Whatever the test does, the store is the same after it."""

    def state() -> list[bytes]:
        control = Control(tame.socket)
        services = control.ask("ListServices", api.ListServicesRequest()).services
        clusters = control.ask("ListClusters", api.ListClustersRequest()).clusters
        nodes = [node.spec for node in control.nodes()]
        return [message.SerializeToString(deterministic=True) for message in (*services, *clusters, *nodes)]

    before = state()
    yield
    assert state() == before


def test_misuse_is_told_with_exit_code_2(tame: Swarm, unchanged: None) -> None:
    for command, words in MISUSE:
        assert_refused(tame.ctl(command), words, MISUSED)


def test_refusals_and_unknown_names_are_told_with_exit_code_1(tame: Swarm, unchanged: None) -> None:
    for command, words in REFUSED:
        assert_refused(tame.ctl(command), words, FAILED)


def test_equal_host_names_are_ambiguous_and_ids_are_not(tame: Swarm) -> None:
    for name in ("a", "b"):
        tame.join(name, "--hostname twin").wait_ready()
    assert_refused(tame.ctl("node drain twin"), "node twin is ambiguous (2 matches found)", FAILED)
    twins = [node for node in Control(tame.socket).nodes() if node.description.hostname == "twin"]
    assert {node.spec.availability for node in twins} == {api.NodeSpec.ACTIVE}
    tame.ok(f"node drain {twins[0].id}")
    for name in ("a", "b"):
        assert_sound(tame.daemons[name])
        assert tame.daemons[name].stop() == 0


def test_an_id_prefix_of_several_objects_is_ambiguous_and_of_one_is_a_name(tame: Swarm) -> None:
    control = Control(tame.socket)
    made = []
    for number in range(40):  # more than there are first letters: two begin alike
        spec = api.ServiceSpec(annotations=api.Annotations(name=f"many-{number}"))
        spec.task.container.image = "y"
        spec.replicated.SetInParent()
        created = control.ask("CreateService", api.CreateServiceRequest(spec=spec))
        made.append(created.service.id)
    letter, count = Counter(service_id[0] for service_id in made).most_common(1)[0]
    everything = control.ask("ListServices", api.ListServicesRequest()).services
    count = sum(service.id.startswith(letter) for service in everything)
    words = f"service {letter} is ambiguous ({count} matches found): use the full id"
    assert_refused(tame.ctl(f"service update {letter} --instances 3"), words, FAILED)
    assert_refused(tame.ctl(f"service rm {letter}"), words, FAILED)
    assert not any(service.spec.replicated.replicas for service in everything)
    assert tame.ok(f"service rm {made[0][:20]}") == made[0][:20]
    for service_id in made[1:]:
        control.ask("RemoveService", api.RemoveServiceRequest(service_id=service_id))


def node_ls(path: Path) -> Result:
    return run(f"swarmctl -s {path} node ls")


def test_what_is_no_socket_is_named(short_folder: Path) -> None:
    regular = short_folder / "file"
    regular.touch()
    with socket.socket(socket.AF_UNIX) as bound, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as datagram:
        bound.bind(str(short_folder / "bound"))
        datagram.bind(str(short_folder / "datagram"))
        cases = [
            (short_folder / "none", "there is no such socket; is swarmd running as a manager"),
            (regular, "it is not a socket"),
            (short_folder, "it is not a socket"),
            (regular / "below", "Not a directory"),
            (short_folder / "bound", "nobody listens there"),
            (short_folder / "datagram", "Protocol wrong type for socket"),
            (short_folder / ("x" * 100), "is longer than 107 bytes"),
        ]
        for path, words in cases:
            assert_refused(invoke(f"-s {path} node ls", {}), words, FAILED)


def test_a_listener_that_is_no_manager_is_named(short_folder: Path) -> None:
    foreign = "does not answer as a manager of a swarm"
    servers = {
        "silent": (silent, foreign),
        "web": (web, foreign),
        "garbage": (garbage, foreign),
        "hang-up": (hang_up, foreign),
        "greeter": (greet_and_hang_up, "lost the connection to the manager"),
    }
    with contextlib.ExitStack() as stack:
        for name, (serve, _) in servers.items():
            bound = socket.socket(socket.AF_UNIX)
            bound.bind(str(short_folder / name))
            stack.enter_context(listener(bound, serve))
        full = stack.enter_context(socket.socket(socket.AF_UNIX))
        full.bind(str(short_folder / "full"))
        full.listen(0)
        waiting = stack.enter_context(socket.socket(socket.AF_UNIX))
        waiting.connect(str(short_folder / "full"))
        stack.enter_context(foreign_grpc(short_folder / "grpc"))
        cases = [(short_folder / name, words) for name, (_, words) in servers.items()]
        cases.append((short_folder / "full", "takes no connection within 5 s"))
        cases.append((short_folder / "grpc", "is not a manager of a swarm"))
        results = many(lambda case: node_ls(case[0]), cases, len(cases))  # nearly all of it is waiting
        for result, (_, words) in zip(results, cases, strict=True):
            assert_refused(result, words, FAILED)


def test_a_whole_process_tells_the_same(tame: Swarm) -> None:
    results = many(
        lambda words: run(f"swarmctl {words}", {"SWARM_SOCKET": str(tame.socket)}),
        ["service bogus", f"{CREATE} --instances many", "service inspect nope", "node drain nope"],
    )
    for result, code in zip(results, (MISUSED, MISUSED, FAILED, FAILED), strict=True):
        assert_refused(result, "", code)


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0 or shutil.which("setpriv") is None, reason="needs root and setpriv")
def test_the_socket_of_another_user_is_not_permitted(tame: Swarm) -> None:
    tame.folder.chmod(0o755)
    nobody = "env setpriv --reuid=65534 --regid=65534 --clear-groups"
    result = run_anything(f"{nobody} {BIN}/swarmctl -s {tame.socket} node ls")
    assert_refused(result, "permission denied: only the user who runs swarmd, and root", FAILED)


def run_anything(command: str) -> Result:
    """Run a command line whose program is not of this environment."""
    words = command.split()
    words[0] = str(shutil.which(words[0]))
    return run(" ".join(words))


def test_an_output_that_takes_nothing_is_told(tame: Swarm) -> None:
    result = run(f"sh -c '{BIN}/swarmctl -s {tame.socket} node ls > /dev/full'".replace("sh", "/bin/sh", 1))
    assert_refused(result, "cannot write the output: No space left on device", FAILED)


def test_help_is_no_failure(tame: Swarm) -> None:
    for words in ("", "service", "--help", "service create --help"):
        result = tame.ctl(words)
        assert (result.code, result.err) == (0, "")
        assert result.out.startswith("Usage: swarmctl")
        assert_plain(result.out)
