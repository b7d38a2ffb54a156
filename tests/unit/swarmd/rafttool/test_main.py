"""contract/cli.md, 11: swarm-rafttool on state directories made by the real writers."""

import base64
import fcntl
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from swarmd.rafttool.main import main
from swarmkit.ca.tokens import format_unlock_key
from swarmkit.raft.storage import LOG_FOLDER, SNAPSHOT_FOLDER
from tests.fakes.raft_directory import COMMITTED, COVERED, LAST, SECRETS, write_directory

UNLOCK = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ012345"
DUMPS = (
    ["dump-wal"],
    ["dump-snapshot"],
    *(["dump-object", kind] for kind in ("cluster", "config", "service", "resource")),
)


@pytest.fixture
def state(tmp_path: Path) -> Path:
    write_directory(tmp_path / "state")
    return tmp_path / "state"


def content(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def run(state: Path, *words: str, **environment: str) -> Result:
    """Run the tool on a directory, and see that it has changed nothing there."""
    before = content(state)
    result = CliRunner().invoke(main, ["-d", str(state), *words], prog_name="swarm-rafttool", env=environment)
    assert content(state) == before
    return result


def output(state: Path, *words: str) -> str:
    result = run(state, *words)
    assert (result.exit_code, result.stderr) == (0, "")
    return result.stdout


def lines(state: Path, *words: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in output(state, *words, "--format", "json").splitlines()]


def failure(state: Path, *words: str, **environment: str) -> str:
    """Run something that fails; return the sentence."""
    result = run(state, *words, **environment)
    assert result.exit_code == 1
    error = result.stderr.splitlines()[-1]
    assert error.startswith("Error: ")
    assert "Traceback" not in result.stderr
    return error.removeprefix("Error: ")


def segments(state: Path) -> list[Path]:
    return sorted((state / LOG_FOLDER).iterdir())


def flip(path: Path, offset: int) -> None:
    data = bytearray(path.read_bytes())
    data[offset] ^= 1
    path.write_bytes(data)


# -- dump-wal ---------------------------------------------------------------------------------------------


def test_the_log_is_told_record_by_record(state: Path) -> None:
    text = output(state, "dump-wal")
    expected = (
        "written by node node-1, raft id a1, format 1",
        "Batch 1: Commit=2",
        "Entry Index=1, Term=0, Type=NoOp",
        "Entry Index=2, Term=0, Type=EntryConfChange:\nConf change type: ConfChangeAddNode\nNode ID: a1",
        "Term=1, Vote=a1",
        'STORE_ACTION_CREATE node id=node-1 name="alpha"\n  id: "node-1"',
        "ConfChangeUpdateNode",
        "Truncate: entries from Index=11 on are gone",
        "ConfChangeRemoveNode\nNode ID: b2",
        "ConfChangeReset",
        "The log holds entries 1 to 16; Term=2, Vote=b2",
        "Entries up to 15 are known to be committed, those behind it are not",
    )
    position = 0
    for part in expected:
        position = text.index(part, position)


def test_the_log_as_json_is_a_document_a_line(state: Path) -> None:
    found = lines(state, "dump-wal")
    entries = [record for record in found if record["record"] == "entry"]
    # Entry 11 was written twice: between the two it was taken back.
    assert [record["index"] for record in entries] == [*range(1, 12), *range(11, LAST + 1)]
    first = next(record for record in entries if record["type"] == "store")
    cluster, node = first["actions"]
    assert (cluster["action"], cluster["kind"], cluster["id"]) == (
        "STORE_ACTION_CREATE",
        "cluster",
        "cluster-1",
    )
    assert node["object"] == {"id": "node-1", "description": {"hostname": "alpha"}}
    assert found[-1] == {
        "record": "summary",
        "first": 1,
        "last": LAST,
        "term": 2,
        "vote": "b2",
        "commit": COMMITTED,
        "torn": None,
    }
    kinds = {str(record["record"]) for record in found}
    assert kinds == {"segment", "batch", "entry", "term", "truncate", "summary"}


@pytest.mark.parametrize(
    ("words", "indexes"),
    [
        (["--start", "14"], [14, 15, 16]),
        (["--end", "2"], [1, 2]),
        (["--start", "10", "--end", "12"], [10, 11, 11, 12]),
        (["--start", "0", "--end", "0"], [*range(1, 12), *range(11, 17)]),
    ],
)
def test_a_range_bounds_the_entries(state: Path, words: list[str], indexes: list[int]) -> None:
    found = lines(state, "dump-wal", *words)
    assert [record["index"] for record in found if record["record"] == "entry"] == indexes


def test_a_payload_of_an_unknown_type_is_text_in_json(state: Path) -> None:
    (found,) = lines(state, "dump-object", "resource")
    assert "type.example/unknown" in found["object"]["protobuf_text"]


# -- Secrets ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["text", "json"])
@pytest.mark.parametrize("words", DUMPS, ids=" ".join)
def test_no_dump_shows_a_secret_unasked(state: Path, words: list[str], form: str) -> None:
    text = output(state, *words, "--format", form)
    for secret in SECRETS:
        assert secret.decode() not in text
        assert base64.b64encode(secret).decode() not in text


def test_secrets_are_shown_if_asked_for(state: Path) -> None:
    text = output(state, "dump-wal", "--show-secrets")
    assert [secret for secret in SECRETS if secret.decode() not in text] == []


# -- dump-snapshot and dump-object ------------------------------------------------------------------------


def test_the_newest_snapshot_is_told(state: Path) -> None:
    text = output(state, "dump-snapshot")
    assert text.startswith(f"Snapshot Index={COVERED}, Term=1, ")
    assert (
        "Active members:\n NodeID=node-1, RaftID=a1, Addr=10.0.0.1:4242\n"
        " NodeID=node-2, RaftID=b2, Addr=10.0.0.2:4242\n" in text
    )
    assert "Removed members:\n\nObjects:\n" in text
    assert 'image: "nginx:1"' in text
    kinds = [record["record"] for record in lines(state, "dump-snapshot")]
    assert kinds == ["snapshot"] + ["member"] * 3 + ["object"] * 5


def test_without_a_snapshot_none_is_found(state: Path) -> None:
    shutil.rmtree(state / SNAPSHOT_FOLDER)
    assert failure(state, "dump-snapshot") == "no snapshot found"
    assert [record["id"] for record in lines(state, "dump-object", "service")] == ["service-1"]


def test_objects_are_those_after_the_last_committed_entry(state: Path) -> None:
    (service,) = lines(state, "dump-object", "service")
    assert service["object"]["spec"]["task"]["container"]["image"] == "nginx:2"
    # Entry 11, which removed the node, was taken back; 12 removed the secret; 16, not committed, the task.
    assert [record["id"] for record in lines(state, "dump-object", "node")] == ["node-1"]
    assert [record["id"] for record in lines(state, "dump-object", "task")] == ["task-1"]
    assert failure(state, "dump-object", "secret") == "no matching objects found"


@pytest.mark.parametrize(
    ("words", "found"),
    [
        (["--id", "service-1"], True),
        (["--name", "web"], True),
        (["--id", "other", "--name", "WEB"], True),
        (["--id", "service"], False),
    ],
)
def test_objects_are_picked_by_id_or_name(state: Path, words: list[str], found: bool) -> None:
    assert run(state, "dump-object", "service", *words).exit_code == (0 if found else 1)


# -- verify -----------------------------------------------------------------------------------------------


def test_what_is_whole_is_told_file_by_file(state: Path) -> None:
    found = output(state, "verify").splitlines()
    assert [line.split(": ")[0] for line in found[:-2]] == [
        *(str(path) for path in segments(state)),
        *(str(path) for path in (state / SNAPSHOT_FOLDER).iterdir()),
    ]
    assert found[0].endswith("3 batches, 6 records, entries 1 to 5")
    assert found[-3].endswith(f"up to entry {COVERED} of term 1, 3 members, 5 objects")
    assert found[-2:] == [
        f"Entries 1 to {LAST}, the last one of term 2, committed up to {COMMITTED}, current term 2",
        "Everything is whole",
    ]


@pytest.mark.slow
def test_one_flipped_bit_is_found_wherever_it_is(state: Path) -> None:
    paths = [*segments(state), *(state / SNAPSHOT_FOLDER).iterdir()]
    for path in paths:
        size = path.stat().st_size
        for offset in {*range(0, size, 61), size - 1}:
            flip(path, offset)
            result = run(state, "verify")
            assert result.exit_code == 1, (path, offset)
            (line,) = [line for line in result.stdout.splitlines() if line.startswith("DAMAGED")]
            assert f"{path} at byte " in line
            assert result.stderr == "Error: 1 file is damaged\n"
            flip(path, offset)


def test_each_damaged_file_is_named(state: Path) -> None:
    for path in (segments(state)[0], segments(state)[2], *(state / SNAPSHOT_FOLDER).iterdir()):
        flip(path, 300)
    result = run(state, "verify")
    assert result.stdout.count("DAMAGED") == 3
    assert result.stderr == "Error: 3 files are damaged\n"


def test_a_missing_segment_is_damage(state: Path) -> None:
    segments(state)[2].unlink()
    result = run(state, "verify")
    assert result.exit_code == 1
    assert "segment 3 is missing" in result.stdout


def test_a_snapshot_without_a_log_is_damage(state: Path) -> None:
    for path in segments(state):
        path.unlink()
    result = run(state, "verify")
    assert result.exit_code == 1
    assert "there is no raft log" in result.stdout


def test_a_log_that_does_not_reach_back_to_the_snapshot_is_damage(state: Path) -> None:
    for path in segments(state)[:3]:
        path.unlink()
    result = run(state, "verify")
    assert result.exit_code == 1
    assert "begins at entry 13, but the newest snapshot ends at 8" in result.stdout


def test_a_torn_tail_is_told_apart_from_damage(state: Path) -> None:
    path = segments(state)[-1]
    with path.open("ab") as file:
        file.write(path.read_bytes()[:20])
    text = output(state, "verify")
    assert "Torn tail: the last 20 bytes" in text
    assert "Everything is whole" in text
    assert "Torn tail" in output(state, "dump-wal")
    torn = lines(state, "dump-wal")[-1]["torn"]
    assert torn == {
        "file": path.name,
        "offset": path.stat().st_size - 20,
        "bytes": 20,
        "reason": "record cut off",
    }


def test_what_lies_before_the_damage_is_dumped(state: Path) -> None:
    flip(segments(state)[1], 400)
    result = run(state, "dump-wal")
    assert result.exit_code == 1
    assert "Entry Index=5" in result.stdout
    assert f"{segments(state)[1]} at byte " in result.stderr


def test_the_log_of_another_node_is_told(state: Path, tmp_path: Path) -> None:
    write_directory(tmp_path / "other", node_id="node-2")
    shutil.copytree(tmp_path / "other" / "certificates", state / "certificates", dirs_exist_ok=True)
    result = run(state, "verify")
    assert result.exit_code == 1
    assert "the raft log belongs to node node-1, this is node node-2" in result.stdout


# -- Keys and directories ---------------------------------------------------------------------------------


def test_a_locked_manager_needs_its_unlock_key(tmp_path: Path) -> None:
    state = tmp_path / "locked"
    write_directory(state, unlock_key=UNLOCK)
    right, wrong = format_unlock_key(UNLOCK), format_unlock_key(UNLOCK[::-1])
    locked = "node is locked, and needs a valid unlock key"
    assert failure(state, "verify") == locked
    assert failure(state, "verify", "--unlock-key", wrong) == locked
    assert "invalid unlock key" in failure(state, "verify", "--unlock-key", "nonsense")
    assert run(state, "verify", "--unlock-key", right).exit_code == 0
    assert run(state, "verify", SWARM_UNLOCK_KEY=right).exit_code == 0


def test_the_pending_data_key_opens_as_well(tmp_path: Path) -> None:
    state = tmp_path / "rotating"
    write_directory(state, pending_key=b"n" * 32)
    assert output(state, "verify").endswith("Everything is whole\n")


def test_another_managers_key_is_told(state: Path, tmp_path: Path) -> None:
    write_directory(tmp_path / "other", data_key=b"o" * 32)
    shutil.copytree(tmp_path / "other" / "certificates", state / "certificates", dirs_exist_ok=True)
    assert "no known data key decrypts the raft log" in failure(state, "dump-wal")
    assert "no known data key decrypts the snapshot" in failure(state, "dump-snapshot")
    assert run(state, "verify").stdout.count("no known data key decrypts") == len(segments(state)) + 1


def test_a_key_file_that_is_missing_is_told(state: Path) -> None:
    (state / "certificates" / "swarm-node.key").unlink()
    assert "swarm-node.key holds no data key" in failure(state, "verify")


@pytest.mark.parametrize("words", [["dump-wal"], ["dump-snapshot"], ["dump-object", "node"], ["verify"]])
def test_what_is_no_managers_directory_is_told(tmp_path: Path, words: list[str]) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "foreign").mkdir()
    assert "No such file or directory" in failure(tmp_path / "nowhere", *words)
    assert "is not a directory" in failure(tmp_path / "file", *words)
    assert "holds no raft log" in failure(tmp_path / "foreign", *words)


def test_a_running_swarmd_is_mentioned_and_not_disturbed(state: Path) -> None:
    lock = os.open(state / ".lock", os.O_CREAT | os.O_RDWR)
    try:
        assert run(state, "verify").stderr == ""
        fcntl.flock(lock, fcntl.LOCK_EX)
        result = run(state, "verify")
        assert result.exit_code == 0
        assert result.stderr.startswith("Note: a swarmd is using this directory")
    finally:
        os.close(lock)


# -- decrypt ----------------------------------------------------------------------------------------------


def test_a_decrypted_copy_says_the_same_without_any_key(state: Path, tmp_path: Path) -> None:
    copy = tmp_path / "plain"
    assert output(state, "decrypt", "-o", str(copy)) == ""
    for words in (["dump-snapshot"], ["dump-object", "service"], ["dump-wal", "--start", "1"]):
        assert lines(copy, *words) == lines(state, *words)
    assert output(copy, "verify").endswith("Everything is whole\n")
    assert any(b"the content of a secret" in data for data in content(copy).values())
    modes = {path.stat().st_mode & 0o777 for path in copy.rglob("*")}
    assert modes == {0o700, 0o600}


def test_an_earlier_copy_is_kept_aside(state: Path, tmp_path: Path) -> None:
    copy = tmp_path / "plain"
    for _ in range(3):
        output(state, "decrypt", "-o", str(copy))
    assert sorted(path.name for path in copy.iterdir()) == [
        *("snap-decrypted", "snap-decrypted.1", "snap-decrypted.2"),
        *("wal-decrypted", "wal-decrypted.1", "wal-decrypted.2"),
    ]


def test_nothing_is_decrypted_into_the_state_directory(state: Path) -> None:
    assert "lies in the state directory" in failure(state, "decrypt", "-o", str(state / "plain"))


# -- The command line -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "words",
    [
        ["bogus"],
        ["dump-object"],
        ["dump-object", "bogus"],
        ["dump-wal", "extra"],
        ["dump-wal", "--start", "-1"],
        ["dump-wal", "--start", "5", "--end", "4"],
        ["dump-wal", "--format", "xml"],
    ],
    ids=" ".join,
)
def test_misuse_exits_with_2_and_a_sentence(tmp_path: Path, words: list[str]) -> None:
    result = run(tmp_path / "nowhere", *words)
    assert result.exit_code == 2
    assert "\nError: " in result.stderr


def test_an_output_that_takes_nothing_is_a_sentence_and_exit_code_1(state: Path) -> None:
    code = f"from swarmd.rafttool.main import main; main(['-d', {str(state)!r}, 'dump-wal'])"
    with open("/dev/full", "wb") as full:
        done = subprocess.run([sys.executable, "-c", code], stdout=full, stderr=subprocess.PIPE, check=False)
    assert done.returncode == 1
    assert done.stderr == b"Error: cannot write the output: No space left on device\n"


def test_no_word_at_all_asks_for_help() -> None:
    result = CliRunner().invoke(main, [], prog_name="swarm-rafttool")
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout.startswith("Usage: swarm-rafttool")


def test_global_flags_work_behind_the_verb(state: Path) -> None:
    result = CliRunner().invoke(main, ["verify", "-d", str(state)], prog_name="swarm-rafttool")
    assert result.exit_code == 0


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_there_is_a_completion_script(shell: str) -> None:
    result = CliRunner().invoke(main, ["completion", shell], prog_name="swarm-rafttool")
    assert result.exit_code == 0
    assert "_SWARM_RAFTTOOL_COMPLETE" in result.stdout
