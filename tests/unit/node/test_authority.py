import random

import grpc
import grpc.aio
import pytest

from swarmkit.ca.enrollment import Connect
from swarmkit.ca.errors import (
    CallRefusedError,
    CallTimeoutError,
    CallUnavailableError,
    EnrollmentError,
    NoSuchNodeError,
    NotServedError,
)
from swarmkit.net.remotes import Remote, Remotes
from swarmkit.node.authority import AuthorityConnector, call_error

Code = grpc.StatusCode


def failed(code: grpc.StatusCode, details: str) -> grpc.aio.AioRpcError:
    return grpc.aio.AioRpcError(code, grpc.aio.Metadata(), grpc.aio.Metadata(), details)


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (Code.DEADLINE_EXCEEDED, CallTimeoutError),
        (Code.UNAVAILABLE, CallUnavailableError),
        (Code.ABORTED, CallUnavailableError),
        (Code.RESOURCE_EXHAUSTED, CallUnavailableError),
        (Code.NOT_FOUND, NoSuchNodeError),
        (Code.UNIMPLEMENTED, NotServedError),
        (Code.INVALID_ARGUMENT, CallRefusedError),
        (Code.PERMISSION_DENIED, CallRefusedError),
    ],
)
def test_each_status_means_wait_retry_or_give_up(code: grpc.StatusCode, kind: type[Exception]) -> None:
    error = call_error(failed(code, "the manager's words"), "127.0.0.1:1")
    assert type(error) is kind
    assert str(error) == "the manager's words"


async def test_without_a_known_manager_the_text_says_what_to_give() -> None:
    connector = AuthorityConnector(Remotes(random.Random(1)), lambda: None)
    with pytest.raises(EnrollmentError, match="--join-addr"):
        await connector.connect(Connect())


@pytest.mark.real_time
async def test_a_manager_that_does_not_answer_is_asked_less_often() -> None:
    remote = Remote("", "127.0.0.1:1")
    remotes = Remotes(random.Random(1), [remote])
    with pytest.raises(CallUnavailableError, match=r"cannot connect to 127\.0\.0\.1:1"):
        await AuthorityConnector(remotes, lambda: None).connect(Connect())
    assert remotes.weights[remote] < 0
