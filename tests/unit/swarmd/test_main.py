import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from swarmd.main import STOP_SIGNALS, EarlySignals, main, serve
from swarmkit.node.config import NodeConfig


@pytest.fixture(autouse=True)
def handlers() -> Iterator[None]:
    """Signals mean after a test what they meant before it."""
    before = {number: signal.getsignal(number) for number in STOP_SIGNALS}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def test_grpc_knows_what_it_is_told_to_leave_out() -> None:
    """Another version may have dropped it: it would say so at every start, and calls would be slower."""
    code = "import swarmd.main, os; print(os.environ['GRPC_EXPERIMENTS']); import grpc.aio"
    clean = {name: value for name, value in os.environ.items() if not name.startswith("GRPC_")}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=clean, timeout=60, check=True
    )
    assert (done.stdout, done.stderr) == ("-event_engine_listener\n", "")


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["-d", ""], "--state-dir is empty: it must name a path"),
        (["--listen-control-api", ""], "--listen-control-api is empty"),
        (["--join-addr", "nowhere"], "must be HOST:PORT"),
        (["extra"], "unexpected extra argument"),
        (["--heartbeat-tick", "0"], "--heartbeat-tick is 0: must be a number of seconds above zero"),
        (["--election-tick", "0.5"], "--election-tick is 0.5 s: must be more than three times --heartbeat"),
        (["--force-new-cluster", "--join-addr", "a:1"], "exclude each other"),
    ],
)
def test_misuse_exits_with_2_and_a_sentence(words: list[str], text: str) -> None:
    result = CliRunner().invoke(main, words, prog_name="swarmd")
    assert result.exit_code == 2
    assert text in result.stderr.splitlines()[-1]


def test_a_signal_before_the_loop_listens_is_noted_and_raises_nothing() -> None:
    early = EarlySignals()
    assert not early.came
    signal.raise_signal(signal.SIGINT)
    assert early.came


@pytest.mark.real_time
async def test_a_signal_that_came_early_ends_the_daemon_before_anything_is_made(tmp_path: Path) -> None:
    early = EarlySignals()
    signal.raise_signal(signal.SIGTERM)
    code = await asyncio.wait_for(serve(NodeConfig(state_dir=tmp_path / "state"), early), 5)
    for number in STOP_SIGNALS:
        asyncio.get_running_loop().remove_signal_handler(number)
    assert code == 0
    assert os.listdir(tmp_path) == []
