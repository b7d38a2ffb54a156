"""What a failed connection or call is told as, and how names become objects."""

import socket
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from swarmctl import client
from swarmctl.base import Failure
from swarmctl.client import check_name, check_socket, pick, sentence

Code = grpc.StatusCode


class FailedCall(grpc.RpcError):
    """A call that failed as gRPC tells it."""

    def __init__(self, code: grpc.StatusCode, details: str | None) -> None:
        super().__init__()
        self._code, self._details = code, details

    def code(self) -> grpc.StatusCode:
        return self._code

    def details(self) -> str | None:
        return self._details


LOST = "lost the connection to the manager at /s: whether the command took effect is not known"
FOREIGN = "what listens at /s is not a manager of a swarm"


@pytest.mark.parametrize(
    ("code", "details", "expected"),
    [
        (Code.NOT_FOUND, "service x not found", "service x not found"),
        (Code.NOT_FOUND, "service Socket closed not found", "service Socket closed not found"),
        (Code.DEADLINE_EXCEEDED, "Deadline Exceeded", "the manager at /s did not answer in 30 s"),
        (Code.UNAVAILABLE, "Socket closed", LOST),
        (Code.UNKNOWN, "Stream removed (recvmsg:Connection reset by peer (104))", LOST),
        (Code.UNIMPLEMENTED, "Method not found!", FOREIGN),
        (Code.UNIMPLEMENTED, "unknown service docker.swarmkit.v1.Control", FOREIGN),
        (Code.UNIMPLEMENTED, "this manager does not keep secrets", "this manager does not keep secrets"),
        (Code.INTERNAL, None, "the manager at /s failed without saying why (INTERNAL)"),
    ],
)
def test_a_failed_call_is_the_servers_sentence_or_one_about_the_connection(
    code: grpc.StatusCode, details: str | None, expected: str
) -> None:
    assert sentence(FailedCall(code, details), "/s") == expected


@pytest.fixture
def listener(tmp_path: Path) -> Iterator[tuple[socket.socket, str]]:
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(str(tmp_path / "s"))
        yield made, str(tmp_path / "s")


def test_a_listening_socket_passes(listener: tuple[socket.socket, str]) -> None:
    listener[0].listen()
    check_socket(listener[1])


def test_a_socket_nobody_listens_on(listener: tuple[socket.socket, str]) -> None:
    with pytest.raises(Failure, match=r"nobody listens there; is swarmd running as a manager"):
        check_socket(listener[1])


def test_a_listener_that_never_accepts_is_given_up(
    listener: tuple[socket.socket, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "CONNECT_TIMEOUT", 0.0)
    listener[0].listen(0)
    with socket.socket(socket.AF_UNIX) as waiting:
        waiting.connect(listener[1])
        with pytest.raises(Failure, match="takes no connection within 0 s"):
            check_socket(listener[1])


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("", "is no path of a socket"),
        ("/tmp/\udcff", "is no path of a socket"),
        ("/" + "x" * 200, "is longer than 107 bytes"),
        ("/nonexistent/s", "there is no such socket"),
        ("/dev/null", "it is not a socket"),
        ("/", "it is not a socket"),
        ("/dev/null/s", "Not a directory"),
    ],
)
def test_what_cannot_be_a_managers_socket_is_named(path: str, words: str) -> None:
    with pytest.raises(Failure, match=words):
        check_socket(path)


def test_a_name_wins_over_a_prefix_and_several_of_either_are_ambiguous() -> None:
    assert pick("node", "a", lambda: ["by name"], lambda: ["x", "y"]) == "by name"
    assert pick("node", "a", list, lambda: ["by prefix"]) == "by prefix"
    with pytest.raises(Failure, match=r"^node a is ambiguous \(2 matches found\): use the full id$"):
        pick("node", "a", lambda: ["x", "y"], list)
    with pytest.raises(Failure, match=r"^node a is ambiguous \(3 matches found\)"):
        pick("node", "a", list, lambda: ["x", "y", "z"])
    with pytest.raises(Failure, match=r"^node a not found$"):
        pick("node", "a", list, list)


def test_an_empty_name_is_refused_before_anybody_is_asked() -> None:
    with pytest.raises(Failure, match=r"^service ID missing: the name given is empty$"):
        check_name("service", "")
