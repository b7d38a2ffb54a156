"""contract/dispatcher-agent.md, 5 and tests 47, 81; contract/security.md, 5."""

import json
import os
import random
import stat
from pathlib import Path

import pytest

from swarmkit.net.remotes import (
    OBSERVATION_WEIGHT,
    NoRemotesError,
    Remote,
    Remotes,
    RemotesFile,
    RemotesFileError,
)

A, B = Remote("a", "10.0.0.1:4242"), Remote("b", "10.0.0.2:4242")


def remotes(*known: Remote) -> Remotes:
    return Remotes(random.Random(7), known)


def test_good_experiences_add_up_and_one_bad_one_undoes_them() -> None:
    known = remotes(A)
    seen = []
    for weight in [OBSERVATION_WEIGHT] * 4 + [-OBSERVATION_WEIGHT]:
        known.observe(A, weight)
        seen.append(known.weights[A])
    assert seen == [5, 8, 9, 10, 0]


def test_weights_are_clipped() -> None:
    known = remotes()
    for _ in range(20):
        known.observe(A, 10**9)
        known.observe(B, -(10**9))
    assert known.weights == {A: 256, B: -255}  # rounded up, as every weight


def test_a_forgotten_manager_is_not_brought_back_by_an_experience_that_comes_late() -> None:
    known = remotes(A)
    known.forget(A, B)
    known.observe_if_known(A, OBSERVATION_WEIGHT)
    assert known.known == ()
    known.observe(A, OBSERVATION_WEIGHT)
    known.observe_if_known(A, OBSERVATION_WEIGHT)
    assert known.weights == {A: 8}


def test_the_same_address_under_another_node_id_is_another_manager() -> None:
    known = remotes(Remote("", A.addr))
    known.observe(A, OBSERVATION_WEIGHT)
    assert known.known == (Remote("", A.addr), A)


def test_with_equal_weights_every_manager_is_chosen_sometimes() -> None:
    known = remotes(A, B)
    assert {known.select() for _ in range(100)} == {A, B}


def test_after_a_bad_experience_the_other_is_chosen_nearly_always() -> None:
    known = remotes(A, B)
    for _ in range(5):
        known.observe(A, OBSERVATION_WEIGHT)
        known.observe(B, OBSERVATION_WEIGHT)
    known.observe(B, -OBSERVATION_WEIGHT)
    assert sum(known.select() == B for _ in range(20_000)) < 20


def test_exclusions_match_node_id_or_address_and_nothing_else() -> None:
    known = remotes(A, B, Remote("", "10.0.0.3:4242"))
    assert known.select("a", "10.0.0.3:4242") == B
    assert known.select("a", "b", "") == Remote("", "10.0.0.3:4242")
    with pytest.raises(NoRemotesError, match=r"^no remote hosts provided$"):
        known.select("a", "b", "10.0.0.3:4242")


def test_no_manager_at_all_is_an_error() -> None:
    with pytest.raises(NoRemotesError):
        remotes().select()


async def test_the_list_survives_in_the_contracts_form(tmp_path: Path) -> None:
    path = tmp_path / "state.json"
    await RemotesFile(path).save([B, A, Remote("", "10.0.0.3:4242")])
    assert json.loads(path.read_text()) == [
        {"addr": "10.0.0.3:4242"},
        {"node_id": "a", "addr": "10.0.0.1:4242"},
        {"node_id": "b", "addr": "10.0.0.2:4242"},
    ]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert RemotesFile(path).load() == (Remote("", "10.0.0.3:4242"), A, B)
    assert os.listdir(tmp_path) == ["state.json"]


async def test_the_file_is_rewritten_only_when_the_set_changes(tmp_path: Path) -> None:
    path = tmp_path / "state.json"
    file = RemotesFile(path)
    await file.save([A, B])
    first = path.stat().st_ino
    await file.save([B, A, A])
    assert path.stat().st_ino == first
    loaded = RemotesFile(path)
    loaded.load()
    await loaded.save([A, B])
    assert path.stat().st_ino == first
    await file.save([A])
    assert path.stat().st_ino != first
    await file.save([])
    assert json.loads(path.read_text()) == []


def test_no_file_is_an_empty_list(tmp_path: Path) -> None:
    assert RemotesFile(tmp_path / "state.json").load() == ()


@pytest.mark.parametrize("text", ["", "{", "{}", "[1]", '[{"node_id": "a"}]', '[{"addr": 1}]', "\x00\x01"])
def test_a_damaged_file_is_a_clear_error_that_says_what_to_do(tmp_path: Path, text: str) -> None:
    path = tmp_path / "state.json"
    path.write_text(text)
    with pytest.raises(RemotesFileError, match=r"state\.json is damaged .*remove it and give a join address"):
        RemotesFile(path).load()


async def test_a_file_that_cannot_be_written_is_a_clear_error_and_the_next_save_tries_again(
    tmp_path: Path,
) -> None:
    path = tmp_path / "missing" / "state.json"
    file = RemotesFile(path)
    with pytest.raises(RemotesFileError, match="cannot write the list of managers"):
        await file.save([A])
    path.parent.mkdir()
    await file.save([A])
    assert RemotesFile(path).load() == (A,)


def test_a_path_that_is_no_file_is_a_clear_error(tmp_path: Path) -> None:
    with pytest.raises(RemotesFileError, match="cannot read"):
        RemotesFile(tmp_path).load()
