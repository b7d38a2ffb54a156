import asyncio
import gc
from collections.abc import Iterator
from pathlib import Path

import pytest

from swarmd.serve import _text, run_node
from swarmkit.node.config import NodeConfig

pytestmark = pytest.mark.real_time


@pytest.fixture(autouse=True)
def collector() -> Iterator[None]:
    """The cycle collector works after a test as it did before it."""
    before = gc.get_threshold()
    yield
    gc.set_threshold(*before)


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (OSError(28, "No space left on device", "/state/.lock"), "/state/.lock: No space left on device"),
        (OSError(28, "No space left on device"), "No space left on device"),
        (OSError("something else"), "something else"),
        (ValueError("a sentence"), "a sentence"),
    ],
)
def test_errors_are_told_without_numbers(error: Exception, text: str) -> None:
    assert _text(error) == text


async def test_what_an_operator_can_mend_is_one_sentence_and_exit_code_1(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").touch()
    code = await asyncio.wait_for(run_node(NodeConfig(state_dir=tmp_path / "file"), asyncio.Event(), 5), 10)
    (record,) = caplog.records
    assert code == 1
    assert record.levelname == "ERROR"
    assert not record.exc_info
    assert "is not a directory: --state-dir must name" in record.getMessage()


async def test_a_stop_that_was_asked_for_already_is_exit_code_0(tmp_path: Path) -> None:
    stop = asyncio.Event()
    stop.set()
    config = NodeConfig(state_dir=tmp_path / "state", executor="simulated", join_addr="127.0.0.1:1")
    assert await asyncio.wait_for(run_node(config, stop, 5), 10) == 0
