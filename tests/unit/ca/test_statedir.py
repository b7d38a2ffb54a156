"""The state directory at start (contract/security.md, 5 and 6.1; cases 29, 39 and 46)."""

import stat
from pathlib import Path

import pytest

from swarmkit.ca.certificates import MANAGER_ROLE, WORKER_ROLE
from swarmkit.ca.credentials import Credentials
from swarmkit.ca.errors import NodeLockedError, StateDirError
from swarmkit.ca.keyfile import Kek
from swarmkit.ca.statedir import StateDir
from tests.unit.ca.builders import DAY, HOUR, NOW, OTHER_ROOT, issue, make, manager

UNLOCK = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ012345"


@pytest.fixture
def state(tmp_path: Path) -> StateDir:
    state = StateDir(tmp_path / "state")
    state.prepare()
    return state


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def certificates(state: StateDir) -> Path:
    return state.path / "certificates"


def test_the_directories_are_made_with_their_modes(state: StateDir) -> None:
    assert mode(state.path) == 0o700
    assert mode(certificates(state)) == 0o755


def test_an_empty_directory_is_tightened(tmp_path: Path) -> None:
    folder = tmp_path / "made"
    folder.mkdir()
    folder.chmod(0o777)
    StateDir(folder).prepare()
    assert mode(folder) == 0o700


def test_a_used_directory_that_others_could_read_is_tightened(state: StateDir) -> None:
    state.path.chmod(0o755)
    state.prepare()
    assert mode(state.path) == 0o700


def test_a_used_directory_that_others_could_write_is_refused(state: StateDir) -> None:
    state.path.chmod(0o770)
    with pytest.raises(StateDirError, match=r"other users may write to .* \(mode 0770\).* chmod 700 "):
        state.prepare()


def test_a_file_in_the_place_of_the_directory_is_refused(tmp_path: Path) -> None:
    (tmp_path / "state").touch()
    with pytest.raises(StateDirError, match="is not a directory"):
        StateDir(tmp_path / "state").prepare()
    with pytest.raises(StateDirError, match="Not a directory"):
        StateDir(tmp_path / "state" / "deeper").prepare()


def test_an_empty_state_directory_has_no_credentials(state: StateDir) -> None:
    assert state.load(NOW) is None
    assert state.load_root(NOW) is None


@pytest.mark.parametrize("role", [MANAGER_ROLE, WORKER_ROLE])
def test_what_was_saved_is_loaded(state: StateDir, role: str) -> None:
    credentials = issue(role)
    state.save(credentials)
    assert StateDir(state.path).load(NOW) == credentials
    assert mode(certificates(state) / "swarm-root-ca.crt") == 0o644
    assert (certificates(state) / "swarm-root-ca.crt").read_bytes() == credentials.root_pem
    names = {path.name for path in certificates(state).iterdir()}
    assert names == {"swarm-root-ca.crt", "swarm-node.crt", "swarm-node.key"}


def test_a_root_alone_is_kept_byte_for_byte_and_no_identity(state: StateDir) -> None:
    bundle = b"a comment\n" + OTHER_ROOT.cert_pem
    state.save_root(bundle)
    assert state.load(NOW) is None
    assert state.load_root(NOW) == bundle


def test_a_broken_root_stops_the_start_even_without_an_identity(state: StateDir) -> None:
    (certificates(state) / "swarm-root-ca.crt").write_bytes(b"garbage")
    with pytest.raises(StateDirError, match=r"swarm-root-ca.crt cannot be used: no certificate"):
        state.load(NOW)


def test_a_root_without_its_node_files_and_a_certificate_without_a_key_are_no_identity(
    state: StateDir,
) -> None:
    state.save(manager())
    (certificates(state) / "swarm-node.key").unlink()
    assert StateDir(state.path).load(NOW) is None


def test_a_certificate_of_another_swarm_stops_the_start(state: StateDir) -> None:
    state.save(manager())
    state.save_root(OTHER_ROOT.cert_pem)
    with pytest.raises(StateDirError, match="mixes two swarms"):
        StateDir(state.path).load(NOW)


def test_an_expired_certificate_stops_the_start_unless_allowed(state: StateDir) -> None:
    credentials = issue(validity=HOUR)
    state.save(credentials)
    later = NOW + 2 * DAY
    with pytest.raises(StateDirError, match=r"has expired: certificate \(1 - .*\) not valid after"):
        StateDir(state.path).load(later)
    assert StateDir(state.path).load(later, allow_expired=True) == credentials


def test_a_certificate_that_is_not_valid_yet_stops_the_start_in_any_case(state: StateDir) -> None:
    state.save(issue(now=NOW + 2 * DAY))
    for allow_expired in (False, True):
        with pytest.raises(StateDirError, match="not valid before"):
            StateDir(state.path).load(NOW, allow_expired=allow_expired)


def test_an_expired_root_stops_the_start_unless_allowed(state: StateDir) -> None:
    root = make(end=HOUR)
    state.save(issue(root=root.root))
    with pytest.raises(StateDirError, match=r"swarm-root-ca.crt cannot be used.*not valid after"):
        StateDir(state.path).load(NOW + DAY)
    assert StateDir(state.path).load(NOW + DAY, allow_expired=True) is not None


def test_a_key_open_to_others_stops_the_start(state: StateDir) -> None:
    state.save(manager())
    (certificates(state) / "swarm-node.key").chmod(0o640)
    with pytest.raises(StateDirError, match=r"open to other users \(mode 0640\).*chmod 600"):
        StateDir(state.path).load(NOW)


def test_a_certificate_without_an_identity_stops_the_start(state: StateDir) -> None:
    root = make("root")
    leaf = make("leaf", root, authority=False)
    state.save_root(root.pem)
    state.key_file.write(leaf.pem, leaf.key_pem)
    with pytest.raises(StateDirError, match="has no role"):
        StateDir(state.path).load(NOW)


def test_a_locked_manager_needs_the_key_and_a_worker_is_always_clear(state: StateDir) -> None:
    state.save(manager(), Kek(UNLOCK, 3))
    with pytest.raises(NodeLockedError):
        StateDir(state.path).load(NOW)
    unlocked = StateDir(state.path, UNLOCK)
    assert unlocked.load(NOW) is not None
    unlocked.save(issue(WORKER_ROLE))
    assert not unlocked.key_file.follow(Kek(UNLOCK, 4))  # its manager may not be gone yet
    loaded = StateDir(state.path).load(NOW)
    assert isinstance(loaded, Credentials)
    assert loaded.role == WORKER_ROLE


def test_a_fips_cluster_is_refused_by_its_certificate(state: StateDir) -> None:
    state.save(issue(cluster="FIPS.abc"))
    with pytest.raises(StateDirError, match="node is not FIPS-enabled but cluster requires FIPS"):
        StateDir(state.path).load(NOW)
    assert StateDir(state.path, fips=True).load(NOW) is not None
