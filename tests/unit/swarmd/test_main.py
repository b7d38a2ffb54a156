import subprocess
import sys

import pytest
from click.testing import CliRunner, Result

from swarmd.main import main


def run(*words: str) -> Result:
    return CliRunner().invoke(main, list(words), prog_name="swarmd")


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--bogus"], "No such option"),
        (["extra"], "unexpected extra argument"),
        (["--executor", "podman"], "is not one of"),
        (["-l", "loud"], "is not one of"),
        (["--join-addr", "nowhere"], "--join-addr"),
        (["--join-token", "x"], "--join-token needs --join-addr"),
        (["--listen-remote-api", "x"], "--listen-remote-api"),
        (["--hostname", "a b"], "is not a host name"),
    ],
)
def test_misuse_is_told_by_flag_and_exits_with_2(words: list[str], expected: str) -> None:
    result = run(*words)
    assert result.exit_code == 2
    assert expected in result.output


def test_the_version_goes_to_stdout() -> None:
    result = run("--version")
    assert result.exit_code == 0
    assert result.stdout.startswith("swarmd ")


def test_help_names_the_defaults() -> None:
    output = run("--help").output
    for text in ("/var/lib/swarmd", "/var/run/swarmd.sock", "0.0.0.0:4242", "docker"):
        assert text in output


def test_help_and_version_import_neither_grpc_nor_docker() -> None:
    code = (
        "import sys; from swarmd.main import main\n"
        "try: main(['--version'])\nexcept SystemExit: pass\n"
        "assert not {'grpc', 'docker', 'google.protobuf'} & set(sys.modules), 'heavy import'"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
