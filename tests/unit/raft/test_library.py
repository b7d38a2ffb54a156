"""contract/pysyncobj-hazards.md, 12: the library is the one that was reviewed."""

import hashlib
import inspect
import random
import types
from pathlib import Path

import pysyncobj
import pytest
from pysyncobj import syncobj
from pysyncobj.config import SERIALIZER_STATE

from swarmkit.raft import LibraryError, RaftConfig, library
from swarmkit.raft.log import RaftLog
from swarmkit.raft.scan import LogState
from swarmkit.raft.snapshotter import SnapshotState, Snapshotter

#: The files that were read; those of sockets and the command line are not reached.
DIGESTS = {
    "atomic_replace.py": "43a5252a241939b7f457cbbf39480260c91f0d2035a62b170bf1e1d20d0f9c1d",
    "config.py": "fbbc7ff9f18e4d15a7fd563376e42f5bd192956879d4b810b056d5248b955698",
    "dns_resolver.py": "4b88da2b45e20fbb299fb7a21f2595369b6314700b687fb8858891999bce14e0",
    "encryptor.py": "db20725465efdfc6d7a3b5b2112f53bc5426d36c56312ebdf5fbcf05423a7c19",
    "fast_queue.py": "8477fe5fdf36d9766df933310d3d66ee953d1afc195b1e6482b3a1498fc517bd",
    "journal.py": "9cf1eaf6acc704581a4cf7d3de330a404403913107adc91c929778b7e3f35edf",
    "monotonic.py": "d116df70e1f81bcab1fb89191fe2fe18486bc25187401d73fd6101cfe686e0a3",
    "node.py": "e4a3f027cd8291f558334bb9c977e952f6b6989e7e1fa1588d3005ef0b990e2c",
    "pickle.py": "e9327780738065cec5d600484b936c91e7c13875206cb584d5ff7f5d0dc9c474",
    "pipe_notifier.py": "587d964bfa5d62320f3541cbb283ff3e282cb2db95e1b8cfd888dc3d53af82aa",
    "poller.py": "f69ac749fb410670282fd9520c5805ffc684c8a5f762a927127753d9be8551e6",
    "serializer.py": "4d39fde2f15000ad8f507ec229ebd4f6a86371b6f84d4dc1439a9cccd52857ee",
    "syncobj.py": "e8bdf06797085d734df86e24ab4802fe87893dff77268565ec036f7ad4a1cfe4",
    "transport.py": "0c9d89f9c4781ec9772df8011d7975a1a4a1a5f541357e12eae85a813e92b50b",
    "version.py": "0b8426a8b52ecf874193897d26c4214acbd85335145ea9ff17e27a22b1132943",
}


class NoEvents:
    def apply(self, index: int, command: bytes) -> None:
        raise AssertionError

    def leading_changed(self, leading: bool) -> None:
        raise AssertionError

    def post(self, peer: int, term: int, message: object) -> None:
        raise AssertionError

    def is_congested(self, peer: int) -> bool:
        raise AssertionError


class NoSerializer:
    serialize = checkSerializing = deserialize = None
    getTransmissionData = setTransmissionData = cancelTransmisstion = None


def copy_of_library(old: str, new: str) -> types.ModuleType:
    source = inspect.getsource(syncobj)
    assert old in source
    module = types.ModuleType("pysyncobj.copy")
    module.__package__ = "pysyncobj"
    exec(compile(source.replace(old, new), "copy", "exec"), module.__dict__)
    return module


@pytest.mark.parametrize("name", DIGESTS)
def test_the_librarys_files_are_those_that_were_reviewed(name: str) -> None:
    content = (Path(pysyncobj.__file__).parent / name).read_bytes()
    assert hashlib.sha256(content).hexdigest() == DIGESTS[name]


def test_the_installed_library_passes_the_check() -> None:
    library.check_library()


def test_another_version_is_refused() -> None:
    with pytest.raises(LibraryError, match=r"0\.3\.18 is installed, but 0\.3\.17 is needed"):
        library.check_library(version="0.3.18")


@pytest.mark.parametrize("name", library.METHODS + library.ATTRIBUTES)
def test_each_private_name_that_is_renamed_is_missed(name: str) -> None:
    short = name.removeprefix("_SyncObj")
    with pytest.raises(LibraryError, match=name):
        library.check_library(copy_of_library(f"{short}", f"{short}Renamed"))


def test_the_clock_that_is_replaced_is_missed() -> None:
    with pytest.raises(LibraryError, match="monotonicTime"):
        library.check_library(copy_of_library("monotonicTime", "anotherTime"))


def test_snapshot_states_have_the_librarys_numbers() -> None:
    assert SnapshotState.IDLE == SERIALIZER_STATE.NOT_SERIALIZING
    assert SnapshotState.WRITING == SERIALIZER_STATE.SERIALIZING
    assert SnapshotState.WRITTEN == SERIALIZER_STATE.SUCCESS
    assert SnapshotState.FAILED == SERIALIZER_STATE.FAILED
    for name in library.SERIALIZER_METHODS:
        assert callable(getattr(Snapshotter, name))


async def test_the_log_is_in_place_while_the_library_is_constructed_and_pickles_are_refused() -> None:
    log = RaftLog(None, LogState())  # type: ignore[arg-type]
    made = library.Library(1, [2], log, NoSerializer(), RaftConfig(), NoEvents(), random.Random(0))  # type: ignore[arg-type]

    assert [tuple(entry) for entry in log[:]] == [(b"\x01", 1, 0)]
    assert made.peers == {2}
    for name in library.PICKLE_FUNCTIONS:
        with pytest.raises(LibraryError):
            getattr(pysyncobj.pickle, name)(b"")


def test_nothing_outside_this_module_names_the_library() -> None:
    root = Path(library.__file__).parent.parent
    for path in root.rglob("*.py"):
        if path != Path(library.__file__):
            text = path.read_text()
            assert "_SyncObj__" not in text, path
            assert "import pysyncobj" not in text, path
            assert "from pysyncobj" not in text, path
