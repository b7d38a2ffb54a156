"""``node promote``, ``demote`` and ``remove`` against a control socket (contract/cli.md, 6)."""

import concurrent.futures
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from click.testing import CliRunner, Result

from swarmctl.main import main
from swarmctl.role_change import Look, look
from swarmkit.api import control_pb2_grpc
from swarmkit.api import messages as api

WORKER, MANAGER = api.NodeRole.WORKER, api.NodeRole.MANAGER
UP, DOWN = api.RaftMemberStatus.REACHABLE, api.RaftMemberStatus.UNREACHABLE


class Swarm(control_pb2_grpc.ControlServicer):
    """Serves nodes; a change of role is carried out after ``delay`` more looks at the node."""

    def __init__(self) -> None:
        self.nodes: dict[str, api.Node] = {}
        self.refusal = ""
        self.delay: int | None = 0
        self.removed: list[tuple[str, bool]] = []
        #: The socket that the manager removes as soon as it is asked for a change; it answers no more then.
        self.closes: Path | None = None

    def add(self, id: str, role: api.NodeRole.ValueType) -> None:
        node = api.Node(id=id, role=role, spec=api.NodeSpec(desired_role=role))
        if role == MANAGER:
            node.manager_status.reachability = UP
        self.nodes[id] = node

    def wish(self, id: str) -> api.NodeRole.ValueType:
        return self.nodes[id].spec.desired_role

    def GetNode(self, request: api.GetNodeRequest, context: Any) -> api.GetNodeResponse:
        node = self.nodes.get(request.node_id)
        if self.closes is not None and not self.closes.exists():
            context.abort(grpc.StatusCode.UNAVAILABLE, "this manager is stopping")
        if node is None:
            context.abort(grpc.StatusCode.NOT_FOUND, f"node {request.node_id} not found")
        assert node is not None
        if node.role != node.spec.desired_role and self.delay is not None:
            self.delay -= 1
            if self.delay < 0:
                self.add(node.id, node.spec.desired_role)
        return api.GetNodeResponse(node=self.nodes[node.id])

    def ListNodes(self, request: api.ListNodesRequest, context: Any) -> api.ListNodesResponse:
        return api.ListNodesResponse()

    def UpdateNode(self, request: api.UpdateNodeRequest, context: Any) -> api.UpdateNodeResponse:
        if self.refusal:
            context.abort(grpc.StatusCode.FAILED_PRECONDITION, self.refusal)
        node = self.nodes[request.node_id]
        node.spec.CopyFrom(request.spec)
        if self.closes is not None:
            self.closes.unlink()
        return api.UpdateNodeResponse(node=node)

    def RemoveNode(self, request: api.RemoveNodeRequest, context: Any) -> api.RemoveNodeResponse:
        self.removed.append((request.node_id, request.force))
        return api.RemoveNodeResponse()


@pytest.fixture
def socket(tmp_path: Path) -> str:
    return str(tmp_path / "s")


@pytest.fixture
def swarm(socket: str) -> Iterator[Swarm]:
    served = Swarm()  # type: ignore[abstract]  # only the stubs call the other methods abstract
    server = grpc.server(concurrent.futures.ThreadPoolExecutor(2))
    control_pb2_grpc.add_ControlServicer_to_server(served, server)
    server.add_insecure_port(f"unix:{socket}")
    server.start()
    for id, role in (("m1", MANAGER), ("m2", MANAGER), ("w1", WORKER), ("w2", WORKER)):
        served.add(id, role)
    yield served
    server.stop(None).wait()


def run(socket: str, *words: str) -> Result:
    return CliRunner().invoke(main, ["-s", socket, "node", *words], prog_name="swarmctl")


def test_several_nodes_are_promoted_in_silence_and_at_once(swarm: Swarm, socket: str) -> None:
    swarm.delay = None
    result = run(socket, "promote", "w1", "w2")
    assert (result.exit_code, result.output) == (0, "")
    assert (swarm.wish("w1"), swarm.wish("w2")) == (MANAGER, MANAGER)


def test_demotion_keeps_the_rest_of_the_spec(swarm: Swarm, socket: str) -> None:
    swarm.nodes["m1"].spec.availability = api.NodeSpec.DRAIN
    result = run(socket, "demote", "m1")
    assert (result.exit_code, result.output) == (0, "")
    assert swarm.nodes["m1"].spec == api.NodeSpec(desired_role=WORKER, availability=api.NodeSpec.DRAIN)


@pytest.mark.parametrize(
    ("verb", "name", "text"),
    [
        ("promote", "m1", "Error: Node m1 is already a manager\n"),
        ("demote", "w1", "Error: Node w1 is already a worker\n"),
        ("promote", "x", "Error: node x not found\n"),
    ],
)
def test_what_cannot_change_fails_with_a_sentence(
    swarm: Swarm, socket: str, verb: str, name: str, text: str
) -> None:
    result = run(socket, verb, name)
    assert (result.exit_code, result.stderr) == (1, text)


def test_a_failure_for_one_node_does_not_keep_the_others_from_changing(swarm: Swarm, socket: str) -> None:
    swarm.delay = None
    result = run(socket, "promote", "m1", "x", "w1")
    assert result.exit_code == 1
    assert result.stderr == "Error: Node m1 is already a manager\nnode x not found\n"
    assert swarm.wish("w1") == MANAGER


def test_the_servers_refusal_is_what_the_user_reads(swarm: Swarm, socket: str) -> None:
    swarm.refusal = "attempting to demote the last manager of the swarm"
    result = run(socket, "demote", "m1")
    assert (result.exit_code, result.stderr) == (1, f"Error: {swarm.refusal}\n")


@pytest.mark.parametrize(("verb", "name", "role"), [("promote", "w1", MANAGER), ("demote", "m1", WORKER)])
def test_waiting_ends_when_the_role_has_changed(
    swarm: Swarm, socket: str, verb: str, name: str, role: int
) -> None:
    swarm.delay = 2
    result = run(socket, verb, "--wait", name)
    assert (result.exit_code, result.output) == (0, "")
    assert swarm.nodes[name].role == role


def test_waiting_ends_with_a_sentence_after_its_limit(swarm: Swarm, socket: str) -> None:
    swarm.delay = None
    result = run(socket, "promote", "--wait", "--wait-timeout", "10ms", "w1")
    assert result.exit_code == 1
    assert (
        result.stderr
        == "Error: node w1 has not changed its role in time: waiting until it joins the managers\n"
    )


def test_a_demoted_manager_that_was_asked_itself_ends_the_wait_with_what_to_do(
    swarm: Swarm, socket: str
) -> None:
    swarm.delay, swarm.closes = None, Path(socket)
    result = run(socket, "demote", "--wait", "m1")
    assert result.exit_code == 1
    assert "has closed its socket" in result.stderr
    assert "'swarmctl node ls' at another manager" in result.stderr


def test_one_node_at_least_is_needed(socket: str) -> None:
    for verb in ("promote", "demote", "remove"):
        assert run(socket, verb).exit_code == 2


@pytest.mark.parametrize(("flags", "force"), [([], False), (["-f"], True), (["--force"], True)])
def test_removal_takes_several_names_and_force(
    swarm: Swarm, socket: str, flags: list[str], force: bool
) -> None:
    result = run(socket, "rm", *flags, "w1", "w2")
    assert (result.exit_code, result.output) == (0, "")
    assert swarm.removed == [("w1", force), ("w2", force)]


def node(role: int, wish: int, reachability: int | None = None) -> api.Node:
    made = api.Node(role=role, spec=api.NodeSpec(desired_role=wish))  # type: ignore[arg-type]
    if reachability is not None:
        made.manager_status.reachability = reachability  # type: ignore[assignment]
    return made


@pytest.mark.parametrize(
    ("seen", "wished", "expected"),
    [
        (node(WORKER, MANAGER), MANAGER, Look(False, missing="waiting until it joins the managers")),
        (node(MANAGER, MANAGER), MANAGER, Look(False, missing="waiting until it joins the managers")),
        (
            node(MANAGER, MANAGER, DOWN),
            MANAGER,
            Look(False, missing="waiting until it can be reached as a manager"),
        ),
        (node(MANAGER, MANAGER, UP), MANAGER, Look(True)),
        (node(MANAGER, WORKER, UP), WORKER, Look(False, missing="waiting until it has left the managers")),
        (node(MANAGER, WORKER), WORKER, Look(False, missing="waiting for its new role")),
        (node(WORKER, WORKER), WORKER, Look(True)),
    ],
)
def test_a_change_of_role_is_done_when_the_raft_group_has_changed_as_well(
    seen: api.Node, wished: api.NodeRole.ValueType, expected: Look
) -> None:
    assert look(seen, wished) == expected


def test_a_wish_that_was_changed_meanwhile_ends_the_wait() -> None:
    assert look(node(WORKER, WORKER), MANAGER).failed
