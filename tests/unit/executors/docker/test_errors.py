import pytest
import requests
from docker import errors as sdk

from swarmkit.executors.docker.errors import MAX_TEXT, Kind, classify, one_line


def api_error(status: int, text: str) -> sdk.APIError:
    response = requests.Response()
    response.status_code = status
    return sdk.APIError("x", response=response, explanation=text)


@pytest.mark.parametrize(
    ("status", "text", "kind"),
    [
        (404, "No such container: web", Kind.NO_CONTAINER),
        (404, "No such image: web:1", Kind.NO_IMAGE),
        (404, 'plugin "x" not found', Kind.FATAL),
        (404, "network x not found", Kind.FATAL),
        (404, "Could not find the file / in container x", Kind.FATAL),
        (409, 'Conflict. The container name "/x" is already in use by container "y".', Kind.NAME_IN_USE),
        (409, "Container x is not running", Kind.NOT_RUNNING),
        (409, "removal of container x is already in progress", Kind.REMOVAL_RUNS),
        (400, "invalid mount config", Kind.FATAL),
        (403, "Address already in use", Kind.FATAL),
        (500, "port is already allocated", Kind.FATAL),
        (503, "unavailable", Kind.UNREACHABLE),
    ],
)
def test_status_and_text_decide_the_class(status: int, text: str, kind: Kind) -> None:
    found = classify(api_error(status, text), "unix:///x")
    assert found.kind is kind
    assert text in str(found)


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (
            requests.exceptions.ConnectionError(ConnectionRefusedError(111, "Connection refused")),
            Kind.UNREACHABLE,
        ),
        (requests.exceptions.ReadTimeout("Read timed out."), Kind.TIMED_OUT),
        (requests.exceptions.ConnectionError("Read timed out."), Kind.TIMED_OUT),
        (requests.exceptions.ChunkedEncodingError("x"), Kind.UNREACHABLE),
        (sdk.DockerException("Error while fetching server API version"), Kind.UNREACHABLE),
        (FileNotFoundError(2, "No such file or directory"), Kind.UNREACHABLE),
        (TimeoutError(), Kind.TIMED_OUT),
    ],
)
def test_silence_and_time_outs_are_told_apart_from_refusals(error: Exception, kind: Kind) -> None:
    assert classify(error, "unix:///x").kind is kind
    assert "the Docker engine at unix:///x " in str(classify(error, "unix:///x"))


def test_texts_are_one_line_of_bounded_length() -> None:
    assert one_line("a\n  b") == "a b"
    assert len(one_line("x" * 5000)) == MAX_TEXT
