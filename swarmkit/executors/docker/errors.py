"""What an engine's answers mean, by exception, status and text; pure (contract/executor.md, 12).

The SDK raises one NotFound class for containers, images, networks and plugins alike, so the text decides.
"""

import enum

import requests
from docker import errors as sdk
from urllib3.exceptions import HTTPError

from swarmkit.agent.exec import ExecutorError

#: Longest error text kept in a task's status, in characters.
MAX_TEXT = 900
#: What a call of the SDK raises when the engine refuses or is silent; anything else is a bug of ours.
CALL_ERRORS = (sdk.DockerException, requests.exceptions.RequestException, HTTPError, OSError)


class Kind(enum.Enum):
    """The class of an engine's answer."""

    UNREACHABLE = "the engine did not answer; the same call may work later"
    TIMED_OUT = "no answer in time: the outcome is unknown, look by name"
    NO_CONTAINER = "the container does not exist"
    NO_IMAGE = "the image does not exist"
    NAME_IN_USE = "a container of that name exists"
    NOT_RUNNING = "the container does not run"
    REMOVAL_RUNS = "the container is being removed"
    FATAL = "anything else: trying again does not help"


#: The engine said nothing about the request: the same one may succeed later.
AWAY = (Kind.UNREACHABLE, Kind.TIMED_OUT)


class EngineError(ExecutorError):
    """An engine's refusal, or its silence."""

    def __init__(self, kind: Kind, text: str) -> None:
        super().__init__(text)
        self.kind = kind


def one_line(text: object) -> str:
    """Return an engine's text as one line of bounded length."""
    line = " ".join(str(text).split())
    return line if len(line) <= MAX_TEXT else line[: MAX_TEXT - 1] + "…"


def _api_kind(status: int, text: str) -> Kind:
    lower = text.lower()
    if status == 503:
        return Kind.UNREACHABLE
    if status == 404 and "no such container" in lower:
        return Kind.NO_CONTAINER
    if status == 404 and "no such image" in lower:
        return Kind.NO_IMAGE
    if status == 409 and "is already in use" in lower:
        return Kind.NAME_IN_USE
    if status == 409 and "is not running" in lower:
        return Kind.NOT_RUNNING
    if status == 409 and "already in progress" in lower:
        return Kind.REMOVAL_RUNS
    return Kind.FATAL


def classify(error: Exception, url: str) -> EngineError:
    """Return the engine error behind one of ``CALL_ERRORS``.

    Args:
        error: what the SDK or its HTTP library raised.
        url: the engine's address, named in the sentence about one that does not answer.
    """
    if isinstance(error, sdk.APIError):
        text = one_line(error.explanation or error)
        kind = _api_kind(error.status_code or 0, text)
        if kind is not Kind.UNREACHABLE:
            return EngineError(kind, text)
        return EngineError(kind, one_line(f"the Docker engine at {url} is not available: {text}"))
    # A read that times out after the headers came is a ConnectionError, "Read timed out."
    if isinstance(error, TimeoutError | requests.exceptions.ReadTimeout) or "timed out" in str(error).lower():
        return EngineError(Kind.TIMED_OUT, f"the Docker engine at {url} did not answer in time")
    text = one_line(f"the Docker engine at {url} cannot be reached: {reason(error)}")
    return EngineError(Kind.UNREACHABLE, text)


def reason(error: BaseException) -> str:
    """Return the operating system's words at the bottom of a chain of connection errors, if there are any."""
    seen: set[int] = set()
    current: BaseException | None = error
    while current is not None and id(current) not in seen:
        seen.add(id(current))
        if isinstance(current, OSError) and current.strerror:
            return current.strerror
        nested = [arg for arg in current.args if isinstance(arg, BaseException)]
        current = nested[0] if nested else current.__cause__ or current.__context__
    return str(error)
