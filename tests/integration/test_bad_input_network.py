"""Hostile and lost peers: who must not join does not, what is no request harms nobody, certificates count."""

import contextlib
import datetime
import os
import random
import shutil
import socket
import ssl
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from swarmkit.api import ca_pb2_grpc, control_pb2_grpc, dispatcher_pb2_grpc
from swarmkit.api import messages as api
from swarmkit.ca.credentials import Credentials
from swarmkit.ca.root import make_root
from swarmkit.ca.statedir import StateDir
from swarmkit.ca.tokens import new_join_token
from tests.fakes.pki import FakeAuthority
from tests.integration.bad_input import (
    assert_ended,
    assert_refused,
    assert_sound,
    garbage,
    listener,
    many,
    short_directory,
    web,
)
from tests.integration.control import CALL_TIMEOUT, Control
from tests.integration.harness import Daemon, Swarm, eventually, swarm

pytestmark = pytest.mark.slow

#: Connections that one address may hold without a certificate (swarmkit/net/limits.py).
STRANGERS = 128
#: Descriptors of a daemon while strangers hold all they may: three a connection, and its own.
MOST_DESCRIPTORS = 3 * STRANGERS + 200
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
Code = grpc.StatusCode


@pytest.fixture(scope="module")
def besieged() -> Iterator[Swarm]:
    """A manager and a worker; whatever strangers do, both are sound in the end and know each other."""
    with short_directory() as folder, swarm(folder) as made:
        manager = made.found()
        worker = made.join("worker").wait_ready()
        made.ok("service create --name kept --image y --instances 2 --wait")
        yield made
        assert_sound(manager)
        assert_sound(worker)
        states = {node.description.hostname: node.status.state for node in Control(made.socket).nodes()}
        assert states == {"node-1": api.NodeStatus.READY, "worker": api.NodeStatus.READY}
        assert [worker.stop(), manager.stop()] == [0, 0]


def node_ids(swarm: Swarm) -> set[str]:
    return {node.id for node in Control(swarm.socket).nodes()}


def tokens(swarm: Swarm) -> api.JoinTokens:
    """Return the swarm's present join tokens."""
    (cluster,) = Control(swarm.socket).ask("ListClusters", api.ListClustersRequest()).clusters
    found: api.JoinTokens = cluster.root_ca.join_tokens
    return found


# Joining


@contextlib.contextmanager
def foreign_tls(credentials: Credentials, folder: Path, protocols: list[str]) -> Iterator[int]:
    """A TLS server that is no manager of any swarm here; yields its port."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    pair = folder / "pair.pem"
    pair.write_bytes(credentials.cert_pem + credentials.key_pem)
    context.load_cert_chain(pair)
    context.set_alpn_protocols(protocols)
    with foreign(garbage, lambda client: context.wrap_socket(client, server_side=True)) as port:
        yield port


@contextlib.contextmanager
def foreign(
    serve: Callable[[socket.socket], None],
    wrap: Callable[[socket.socket], socket.socket] = lambda client: client,
) -> Iterator[int]:
    """A TCP server that is no manager; yields its port."""
    bound = socket.socket()
    bound.bind(("127.0.0.1", 0))
    port = bound.getsockname()[1]
    with listener(bound, serve, wrap):
        yield port


def other_token() -> str:
    """Return a well-formed token of a swarm that is not here."""
    return new_join_token(make_root(datetime.datetime.now(datetime.UTC)).cert_pem)


def test_who_cannot_join_is_told_why_and_leaves_nothing_behind(besieged: Swarm, short_folder: Path) -> None:
    before = node_ids(besieged)
    right = tokens(besieged)
    mistyped = right.worker[:-1] + ("0" if right.worker[-1] != "0" else "1")
    here = besieged.port
    stranger = FakeAuthority().issue("stranger", role="nobody")
    with contextlib.ExitStack() as stack:
        web_port = stack.enter_context(foreign(web))
        tls_port = stack.enter_context(foreign_tls(stranger, short_folder, ["http/1.1"]))
        http2_port = stack.enter_context(foreign_tls(stranger, short_folder, ["h2"]))
        cases = {
            "mistyped": (here, mistyped, "'swarmctl cluster inspect' on a manager shows the tokens"),
            "other": (here, other_token(), "the join token is mistyped, or not of the swarm at 127.0.0.1:"),
            "nobody": (1, "", "nobody listens there: is the manager running, and is this its address?"),
            "nobody-2": (1, right.worker, "nobody listens there"),
            "web": (web_port, right.worker, "is not a manager: what answers there does not speak TLS"),
            "tls": (tls_port, right.worker, "is not a manager: what answers there does not speak gRPC"),
            "http2": (http2_port, right.worker, "what answers there shows no manager's certificate"),
        }

        def join(name: str) -> None:
            port, token, words = cases[name]
            daemon = Daemon(
                f"swarmd -d {short_folder}/{name} --join-addr 127.0.0.1:{port} --executor process",
                short_folder / f"{name}.log",
                {"SWARM_JOIN_TOKEN": token} if token else {},
            ).start()
            try:
                assert_ended(daemon, words)
            finally:
                daemon.kill()
            assert token not in daemon.log or not token
            assert not any((short_folder / name / "certificates").iterdir())

        many(join, cases, len(cases))  # nearly all of it is waiting
    assert node_ids(besieged) == before


def test_a_node_of_another_swarm_does_not_trust_this_ones_address(
    besieged: Swarm, short_folder: Path
) -> None:
    shutil.copytree(besieged.folder / "worker", short_folder / "state")
    with foreign_tls(FakeAuthority().manager(), short_folder, ["h2"]) as port:
        daemon = Daemon(
            f"swarmd -d {short_folder}/state --join-addr 127.0.0.1:{port} --executor process",
            short_folder / "log",
        ).start()
        try:
            assert_ended(daemon, "its certificate was not issued by the swarm this node belongs to")
        finally:
            daemon.kill()


def test_who_has_no_token_waits_is_accepted_or_turned_away(short_folder: Path) -> None:
    with swarm(short_folder) as made:
        made.found()
        control = Control(made.socket)
        made.ok("cluster update --autoaccept none")

        def pending() -> api.Node:
            found = [node for node in control.nodes() if node.spec.membership == api.NodeSpec.PENDING]
            assert len(found) == 1
            return found[0]

        guest = made.join("guest")
        waiting = eventually(pending, 20, "the node waits")
        listed = made.ok("node ls")
        (row,) = (line.split() for line in listed.splitlines() if line.startswith(waiting.id))
        assert row[1:] == ["PENDING", "UNKNOWN", "ACTIVE"]
        guest.wait_for_log(f"swarmctl node accept {waiting.id}")
        made.ok(f"node accept {waiting.id}")
        guest.wait_for_log("node is ready", 5)
        assert_refused(made.ctl(f"node accept {waiting.id}"), "was already accepted", 1)
        assert_refused(made.ctl(f"node reject {waiting.id}"), "remove it with 'swarmctl node remove'", 1)

        unwanted = made.join("unwanted")
        turned_away = eventually(pending, 20, "the node waits")
        made.ok(f"node reject {turned_away.id}")
        assert_ended(unwanted, f"node {turned_away.id} was turned away or removed by an operator", timeout=10)

        old = tokens(made)
        made.ok("cluster update --rotate-join-token worker")
        new = tokens(made)
        assert (new.manager, new.worker != old.worker) == (old.manager, True)
        late, timely = (
            made.join("late", f"--join-token {old.worker}"),
            made.join("timely", f"--join-token {new.worker}"),
        )
        assert_ended(late, "A valid join token is necessary to join this cluster")
        timely.wait_ready()
        assert len(node_ids(made)) == 3
        for daemon in (timely, guest, made.daemons["node-1"]):
            assert_sound(daemon)
            assert daemon.stop() == 0


# Bytes that are no requests


def descriptors(daemon: Daemon) -> int:
    return len(os.listdir(f"/proc/{daemon.pid}/fd"))


def assert_calm(swarm: Swarm, before: int) -> None:
    """Check that a manager has let go of all that strangers held, and serves."""
    manager = swarm.daemons["node-1"]

    def check() -> None:
        assert descriptors(manager) <= before + 10

    eventually(check, 30, "the manager lets go of strangers")
    assert len(Control(swarm.socket).nodes()) == 2


def nonsense(rng: random.Random) -> bytes:
    """Return what a stranger may send first."""
    return rng.choice(
        [
            rng.randbytes(rng.randint(1, 2000)),
            b"\x16\x03\x01" + rng.randbytes(200),
            b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
            PREFACE[: rng.randint(1, len(PREFACE))],
            PREFACE + rng.randbytes(300),
            b"",
        ]
    )


def throw(connect: Callable[[], socket.socket], count: int, seed: int) -> None:
    """Open connections, say something that means nothing, and leave at once, later or without a word."""
    rng = random.Random(seed)
    held: list[socket.socket] = []
    for _ in range(count):
        with contextlib.suppress(OSError):
            client = connect()
            held.append(client)
            client.sendall(nonsense(rng))
        while held and (len(held) > 50 or rng.random() < 0.7):
            held.pop(rng.randrange(len(held))).close()
    for client in held:
        client.close()


def test_garbage_on_the_port_and_the_socket_harms_nobody(besieged: Swarm) -> None:
    manager = besieged.daemons["node-1"]
    before, lines = descriptors(manager), len(manager.log.splitlines())

    def tcp() -> socket.socket:
        return socket.create_connection(("127.0.0.1", besieged.port), timeout=10)

    def unix() -> socket.socket:
        client = socket.socket(socket.AF_UNIX)
        client.settimeout(10)
        try:
            client.connect(str(besieged.socket))
        except OSError:  # a full backlog
            client.close()
            raise
        return client

    def tls() -> socket.socket:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        context.set_alpn_protocols(["h2"])
        return context.wrap_socket(tcp())

    for connect, count in ((tcp, 2000), (tls, 200), (unix, 2000)):
        throw(connect, count, seed=count)
        # Who may open the socket is trusted: there only the number of descriptors bounds connections.
        assert connect is unix or descriptors(manager) < before + MOST_DESCRIPTORS
        assert_calm(besieged, before)
    # Ten lines a gateway and a minute, whatever comes.
    assert len(manager.log.splitlines()) - lines < 100
    assert_sound(manager)


def test_connections_that_say_nothing_are_bounded_and_cost_nobody_anything(besieged: Swarm) -> None:
    manager = besieged.daemons["node-1"]
    before = descriptors(manager)
    with contextlib.ExitStack() as stack:
        held = []
        for _ in range(2 * STRANGERS):
            client = stack.enter_context(socket.create_connection(("127.0.0.1", besieged.port), timeout=10))
            client.setblocking(False)
            held.append(client)

        def refused() -> int:
            closed = sum(was_closed(client) for client in held)
            assert closed >= STRANGERS
            return closed

        eventually(refused, 10, "connections beyond the limit are closed")
        assert descriptors(manager) < before + MOST_DESCRIPTORS
        besieged.ok("service update kept --instances 3 --wait")
        besieged.ok("service update kept --instances 2 --wait")
    assert_calm(besieged, before)


def was_closed(client: socket.socket) -> bool:
    try:
        return not client.recv(1, socket.MSG_PEEK)
    except BlockingIOError:
        return False
    except OSError:
        return True


# Certificates


def stored(swarm: Swarm, name: str) -> Credentials:
    """Return the identity of a node of this swarm, as a thief of its state directory has it."""
    found = StateDir(swarm.folder / name).load(datetime.datetime.now(datetime.UTC))
    assert found is not None
    return found


@contextlib.contextmanager
def channel(swarm: Swarm, root_pem: bytes, shown: Credentials | None) -> Iterator[grpc.Channel]:
    """A connection to the remote port that trusts a root and shows a certificate, or none."""
    tls = (
        grpc.ssl_channel_credentials(root_pem)
        if shown is None
        else grpc.ssl_channel_credentials(root_pem, shown.key_pem, shown.cert_pem)
    )
    options = [("grpc.ssl_target_name_override", "swarm-manager"), ("grpc.enable_http_proxy", 0)]
    with grpc.secure_channel(f"127.0.0.1:{swarm.port}", tls, options) as made:
        yield made


def refusal(swarm: Swarm, root_pem: bytes, shown: Credentials | None) -> tuple[grpc.StatusCode, str]:
    """Return how Control.ListNodes is refused to whoever shows this certificate."""
    with channel(swarm, root_pem, shown) as opened:
        call = control_pb2_grpc.ControlStub(opened).ListNodes
        with pytest.raises(grpc.RpcError) as caught:
            call(api.ListNodesRequest(), timeout=CALL_TIMEOUT)
    error: Any = caught.value  # the library's type for it is not public
    return error.code(), error.details() or ""


def test_a_certificate_opens_what_its_role_says_and_no_more(besieged: Swarm) -> None:
    manager, worker = stored(besieged, "node-1"), stored(besieged, "worker")
    root = manager.root_pem
    with channel(besieged, root, manager) as opened:
        nodes = control_pb2_grpc.ControlStub(opened).ListNodes(api.ListNodesRequest(), timeout=CALL_TIMEOUT)
        assert len(nodes.nodes) == 2
    code, text = refusal(besieged, root, worker)
    assert code is Code.PERMISSION_DENIED
    assert "unauthorized role, expecting: swarm-manager" in text
    code, text = refusal(besieged, root, None)
    assert code is Code.PERMISSION_DENIED
    assert "no client certificates in request" in text
    with channel(besieged, root, None) as opened:
        request = api.GetRootCACertificateRequest()
        answer = ca_pb2_grpc.CAStub(opened).GetRootCACertificate(request, timeout=CALL_TIMEOUT)
        assert answer.certificate == root
        with pytest.raises(grpc.RpcError, match="no client certificates in request"):
            next(dispatcher_pb2_grpc.DispatcherStub(opened).Session(api.SessionRequest()))


def test_a_certificate_of_another_authority_is_refused_in_the_handshake(besieged: Swarm) -> None:
    root = stored(besieged, "node-1").root_pem
    for shown in (FakeAuthority().manager(), FakeAuthority("other-ca").manager()):
        assert refusal(besieged, root, shown)[0] is Code.UNAVAILABLE
        with pytest.raises(ssl.SSLError, match="ALERT"):
            shake_hands(besieged, root, shown)


def shake_hands(swarm: Swarm, root_pem: bytes, shown: Credentials) -> None:
    """Open a TLS connection; with TLS 1.3 an alert comes when the client thinks that it is through."""
    context = ssl.create_default_context(cadata=root_pem.decode())
    with short_directory() as folder:
        (folder / "pair.pem").write_bytes(shown.cert_pem + shown.key_pem)
        context.load_cert_chain(folder / "pair.pem")
    context.set_alpn_protocols(["h2"])
    with (
        socket.create_connection(("127.0.0.1", swarm.port), timeout=CALL_TIMEOUT) as plain,
        context.wrap_socket(plain, server_hostname="swarm-manager") as client,
    ):
        client.sendall(PREFACE)
        client.recv(1)


def test_a_removed_node_is_locked_out_told_so_and_joins_anew(besieged: Swarm) -> None:
    gone = besieged.join("gone").wait_ready()
    thief = stored(besieged, "gone")
    assert_refused(besieged.ctl(f"node rm {thief.node_id}"), "is not down and can't be removed", 1)
    besieged.ok(f"node rm -f {thief.node_id}")
    gone.wait_for_log("this node was removed from the swarm: to join again, stop it and start it with")
    assert refusal(besieged, thief.root_pem, thief)[0] is Code.PERMISSION_DENIED
    with channel(besieged, thief.root_pem, thief) as opened:
        call = dispatcher_pb2_grpc.DispatcherStub(opened).Heartbeat
        with pytest.raises(grpc.RpcError, match=f"node {thief.node_id} was removed from swarm"):
            call(api.HeartbeatRequest(session_id="x"), timeout=CALL_TIMEOUT)
    assert_sound(gone)
    assert gone.stop(10) == 0
    shutil.rmtree(besieged.folder / "gone")
    again = besieged.restart("gone").wait_ready()
    assert stored(besieged, "gone").node_id != thief.node_id
    assert again.stop(10) == 0
    besieged.ok(f"node rm -f {stored(besieged, 'gone').node_id}")
