import subprocess
import sys

import pytest
from click.testing import CliRunner

from swarmctl.main import main


def run(*words: str):  # type: ignore[no-untyped-def]
    return CliRunner().invoke(main, list(words), prog_name="swarmctl")


@pytest.mark.parametrize(
    "words",
    [
        ["bogus"],
        ["service", "bogus"],
        ["node", "inspect"],
        ["node", "ls", "extra"],
        ["service", "create", "--no"],
    ],
)
def test_misuse_exits_with_2_and_says_how_to_get_help(words: list[str]) -> None:
    result = run(*words)
    assert result.exit_code == 2
    assert "Error" in result.output
    assert "Traceback" not in result.output


@pytest.mark.parametrize("words", [[], ["service"]])
def test_no_word_at_all_asks_for_help(words: list[str]) -> None:
    result = run(*words)
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout.startswith("Usage: swarmctl")


def test_words_that_are_not_utf_8_are_misuse() -> None:
    result = run("service", "create", "--name", "a", "--image", "b", "--label", "a=\udcff")
    assert result.exit_code == 2
    assert "'a=\\udcff' is not UTF-8 text" in result.stderr


def test_an_output_that_takes_nothing_is_a_sentence_and_exit_code_1() -> None:
    code = "from swarmctl.main import main; main(['version'])"
    with open("/dev/full", "wb") as full:
        done = subprocess.run([sys.executable, "-c", code], stdout=full, stderr=subprocess.PIPE, check=False)
    assert done.returncode == 1
    assert done.stderr == b"Error: cannot write the output: No space left on device\n"


def test_a_missing_socket_is_a_sentence_and_exit_code_1() -> None:
    result = run("-s", "/nonexistent/x.sock", "node", "ls")
    assert result.exit_code == 1
    assert "there is no such socket" in result.output


def test_global_flags_work_before_and_after_noun_and_verb() -> None:
    for words in (["-s", "/a", "node", "ls"], ["node", "-s", "/a", "ls"], ["node", "ls", "-s", "/a"]):
        assert "cannot connect to /a" in run(*words).output


def test_the_environment_replaces_the_socket_flag_and_loses_against_it() -> None:
    env = {"SWARM_SOCKET": "/from-env"}
    runner = CliRunner()
    assert "/from-env" in runner.invoke(main, ["node", "ls"], env=env).output
    assert "/flag" in runner.invoke(main, ["-s", "/flag", "node", "ls"], env=env).output
    assert "/flag" in runner.invoke(main, ["node", "ls", "-s", "/flag"], env=env).output


def test_an_alias_is_the_same_noun() -> None:
    assert run("svc", "--help").exit_code == 0
    assert "Usage: swarmctl" in run("svc", "rm", "--help").output


def test_booleans_take_true_and_false() -> None:
    output = run("service", "create", "--name", "a", "--image", "b", "--tty=false", "-s", "/x").output
    assert "cannot connect to /x" in output


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts_name_the_program(shell: str) -> None:
    result = run("completion", shell)
    assert result.exit_code == 0
    assert "swarmctl" in result.output


def test_version_imports_neither_grpc_nor_the_wire_contract() -> None:
    code = (
        "import sys; from swarmctl.main import main\n"
        "try: main(['version'])\nexcept SystemExit: pass\n"
        "assert not {'grpc', 'google.protobuf', 'tabulate'} & set(sys.modules), 'heavy import'"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("swarmctl ")
