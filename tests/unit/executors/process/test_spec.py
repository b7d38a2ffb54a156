"""What a task becomes as a local process."""

import signal

import pytest
from google.protobuf.duration_pb2 import Duration

from swarmkit.api import messages as api
from swarmkit.executors.process.spec import BASE_ENVIRONMENT, UnsupportedError, read_signal, read_spec
from tests.fakes.agent_manager import make_task


def test_command_and_args_make_the_arguments() -> None:
    task = make_task("t")
    task.spec.container.command.extend(["sh", "-c"])
    task.spec.container.args.append("exit 3")
    assert read_spec(task).argv == ("sh", "-c", "exit 3")


def test_args_alone_are_the_command() -> None:
    task = make_task("t")
    task.spec.container.args.extend(["sleep", "10"])
    assert read_spec(task).argv == ("sleep", "10")


def test_a_task_without_command_has_no_arguments() -> None:
    assert read_spec(make_task("t")).argv == ()


def test_the_environment_is_the_specs_and_nothing_of_the_daemons(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET_OF_THE_DAEMON", "x")
    task = make_task("t")
    task.spec.container.env.extend(["A=1", "B=x=y", "EMPTY=", "HOME"])
    env = read_spec(task).env
    assert env == {"PATH": BASE_ENVIRONMENT["PATH"], "A": "1", "B": "x=y", "EMPTY": ""}


def test_generic_resources_are_in_the_environment_by_kind() -> None:
    task = make_task("t")
    add = task.assigned_generic_resources.add
    add(named_resource_spec=api.NamedGenericResource(kind="gpu", value="UUID1"))
    add(discrete_resource_spec=api.DiscreteGenericResource(kind="apple", value=3))
    add(named_resource_spec=api.NamedGenericResource(kind="gpu", value="UUID2"))
    env = read_spec(task).env
    assert env["DOCKER_RESOURCE_GPU"] == "UUID1,UUID2"
    assert env["DOCKER_RESOURCE_APPLE"] == "3"


def test_grace_defaults_to_ten_seconds_and_zero_is_zero() -> None:
    task = make_task("t")
    assert read_spec(task).grace == 10.0
    task.spec.container.stop_grace_period.CopyFrom(Duration(seconds=0))
    assert read_spec(task).grace == 0.0
    task.spec.container.stop_grace_period.CopyFrom(Duration(nanos=500_000_000))
    assert read_spec(task).grace == 0.5


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", signal.SIGTERM),
        ("SIGINT", signal.SIGINT),
        ("usr1", signal.SIGUSR1),
        ("9", signal.SIGKILL),
    ],
)
def test_a_stop_signal_is_a_name_or_a_number(text: str, expected: signal.Signals) -> None:
    assert read_signal(text) is expected


@pytest.mark.parametrize("text", ["NOPE", "0", "999", "SIG"])
def test_an_unknown_stop_signal_is_refused(text: str) -> None:
    with pytest.raises(UnsupportedError, match=f"invalid stop signal: {text}"):
        read_signal(text)


def test_other_runtimes_are_refused() -> None:
    task = make_task("t")
    task.spec.attachment.container_id = "c"
    with pytest.raises(UnsupportedError, match="exec: unsupported runtime"):
        read_spec(task)


@pytest.mark.parametrize("what", ["secrets", "configs", "mounts"])
def test_what_would_be_missing_in_the_process_is_refused(what: str) -> None:
    task = make_task("t")
    getattr(task.spec.container, what).add()
    with pytest.raises(UnsupportedError, match=what):
        read_spec(task)


@pytest.mark.parametrize("field", ["command", "args", "env", "groups"])
def test_nul_characters_are_refused(field: str) -> None:
    task = make_task("t")
    getattr(task.spec.container, field).append("A=x\0B=y")
    with pytest.raises(UnsupportedError, match="NUL"):
        read_spec(task)


def test_a_variable_without_name_is_refused() -> None:
    task = make_task("t")
    task.spec.container.env.append("=x")
    with pytest.raises(UnsupportedError, match="it has no name"):
        read_spec(task)
