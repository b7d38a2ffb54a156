"""How a node comes by its identity, and what it refuses to overwrite (contract/security.md, 6.1)."""

import random
from collections.abc import Collection
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from swarmkit.api import messages as api
from swarmkit.ca.certificates import WORKER_ROLE, Subject, new_request
from swarmkit.ca.credentials import Credentials
from swarmkit.ca.enrollment import CaClient, Connect, Enroller
from swarmkit.ca.errors import CallRefusedError, CallUnavailableError, NoSuchNodeError, StateDirError
from swarmkit.ca.keyfile import Kek
from swarmkit.ca.root import NODE_VALIDITY, Root, Signer, make_root
from swarmkit.ca.statedir import StateDir
from swarmkit.ca.tokens import new_join_token, parse_unlock_key
from swarmkit.node.config import NodeConfig
from swarmkit.node.identity import Identity, IdentityError, has_log, obtain_identity
from swarmkit.raft.storage import LOG_FOLDER, SNAPSHOT_FOLDER
from tests.fakes.loop import VirtualClock


class FakeCa:
    """One manager's authority, answering each call with what it is told, or signing."""

    def __init__(self, root: Root) -> None:
        self.root = root
        self.issue_error: Exception | None = None
        self.status_error: Exception | None = None
        self.downloads = 0

    async def connect(self, how: Connect) -> CaClient:
        return self

    async def get_root_ca_certificate(self) -> bytes:
        self.downloads += 1
        return self.root.cert_pem

    async def get_unlock_key(self) -> api.GetUnlockKeyResponse:
        return api.GetUnlockKeyResponse()

    async def issue_node_certificate(
        self, request: api.IssueNodeCertificateRequest
    ) -> api.IssueNodeCertificateResponse:
        if self.issue_error is not None:
            raise self.issue_error
        return api.IssueNodeCertificateResponse(node_id="node-1", node_membership=api.NodeSpec.PENDING)

    async def node_certificate_status(
        self, request: api.NodeCertificateStatusRequest
    ) -> api.NodeCertificateStatusResponse:
        raise self.status_error or CallUnavailableError("gone")

    async def close(self, success: bool) -> None:
        """Nothing is open."""


class Setting:
    def __init__(self, path: Path, clock: VirtualClock) -> None:
        self.clock = clock
        self.state = StateDir(path / "state")
        self.state.prepare()
        self.ca = FakeCa(make_root(clock.now()))
        self.root_file = self.state.path / "certificates" / "swarm-root-ca.crt"

    async def obtain(
        self, token: str = "", join_addr: str = "", managers: Collection[str] = (), **settings: Any
    ) -> Identity:
        config = NodeConfig(self.state.path, join_addr=join_addr, join_token=token, **settings)
        enroller = Enroller(self.ca, self.clock, random.Random(1))
        known = [*managers, *([""] if join_addr else [])]
        logged = has_log(self.state.path)
        return await obtain_identity(config, self.state, enroller, self.clock, logged, known)

    async def join(self, token: str = "") -> Identity:
        return await self.obtain(token, "m:4242")

    def write_log(self) -> None:
        (self.state.path / LOG_FOLDER).mkdir(parents=True)
        (self.state.path / LOG_FOLDER / "0000000000000001-0000000000000001.wal").touch()


@pytest_asyncio.fixture
async def setting(tmp_path: Path, clock: VirtualClock) -> Setting:
    return Setting(tmp_path, clock)


async def test_an_identity_with_its_log_is_resumed(setting: Setting) -> None:
    founded = await setting.obtain()
    setting.write_log()
    resumed = await setting.obtain()
    assert founded.root is not None
    assert resumed == Identity(founded.credentials)


async def test_a_founding_that_left_no_log_is_begun_anew(setting: Setting) -> None:
    first = await setting.obtain()
    second = await setting.obtain()
    assert second.root is not None
    assert second.credentials.organization != first.credentials.organization


async def test_a_manager_without_a_log_that_knows_others_has_yet_to_join_them(setting: Setting) -> None:
    first = await setting.obtain()
    second = await setting.obtain(managers=["another"])
    assert second == Identity(first.credentials)


async def test_an_only_manager_whose_log_is_gone_is_refused(setting: Setting) -> None:
    first = await setting.obtain()
    with pytest.raises(IdentityError, match=r"its raft log is gone.*remove the state directory"):
        await setting.obtain(managers=[first.credentials.node_id])


@pytest.mark.parametrize("founded", [False, True])
async def test_a_swarm_is_brought_back_from_a_manager_s_state_only(setting: Setting, founded: bool) -> None:
    if founded:
        await setting.obtain()
    with pytest.raises(IdentityError, match=r"--force-new-cluster brings .* holds none$"):
        await setting.obtain(force_new_cluster=True)


async def test_an_expired_certificate_is_accepted_to_bring_a_swarm_back(
    setting: Setting, clock: VirtualClock
) -> None:
    founded = await setting.obtain()
    setting.write_log()
    await clock.sleep(91 * 86_400)
    with pytest.raises(StateDirError, match="expired"):
        await setting.obtain()
    assert await setting.obtain(force_new_cluster=True) == Identity(founded.credentials)


async def test_a_swarm_founded_with_autolock_never_has_its_key_in_clear(setting: Setting) -> None:
    identity = await setting.obtain(autolock=True)
    kek = setting.state.key_file.kek
    assert (len(kek.key), kek.version) == (32, 0)
    assert b"ENCRYPTED PRIVATE KEY" in (setting.state.path / "certificates" / "swarm-node.key").read_bytes()
    assert identity.root is not None


async def test_a_locked_founding_that_left_no_log_is_begun_anew_without_its_key(setting: Setting) -> None:
    first = await setting.obtain(autolock=True)
    setting.state = StateDir(setting.state.path)
    second = await setting.obtain()
    assert second.credentials.organization != first.credentials.organization
    assert setting.state.key_file.kek == Kek()


@pytest.mark.parametrize(
    ("key", "advice"),
    [("", "start it with --unlock-key"), ("SWMKEY-1-" + "A" * 43, "the one given is of another time")],
)
async def test_a_locked_manager_needs_its_key_and_nothing_changes_without(
    setting: Setting, key: str, advice: str
) -> None:
    await setting.obtain(autolock=True)
    right = setting.state.key_file.kek.key
    setting.write_log()
    folder = setting.state.path / "certificates"
    kept = {path.name: path.read_bytes() for path in folder.iterdir()}
    setting.state = StateDir(setting.state.path, parse_unlock_key(key) if key else b"")
    with pytest.raises(IdentityError, match=f"^node is locked, and needs a valid unlock key; {advice}"):
        await setting.obtain(unlock_key=key)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == kept

    setting.state = StateDir(setting.state.path, right)
    assert (await setting.obtain()).root is None


@pytest.mark.parametrize("missing", ["swarm-node.key", "swarm-node.crt", "swarm-root-ca.crt"])
@pytest.mark.parametrize("join_addr", ["", "m:4242"])
async def test_where_a_log_is_a_missing_file_of_the_identity_is_never_made_anew(
    setting: Setting, missing: str, join_addr: str
) -> None:
    await setting.obtain()
    setting.write_log()
    folder = setting.state.path / "certificates"
    (folder / missing).unlink()
    kept = {path.name: path.read_bytes() for path in folder.iterdir()}
    setting.state = StateDir(setting.state.path)
    with pytest.raises(IdentityError, match=r"holds a manager's raft log, but certificate, key or root"):
        await setting.obtain(join_addr=join_addr)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == kept


@pytest.mark.parametrize("folder", [LOG_FOLDER, SNAPSHOT_FOLDER])
def test_a_log_is_any_file_in_its_folders_that_was_finished(tmp_path: Path, folder: Path) -> None:
    assert not has_log(tmp_path)
    (tmp_path / folder).mkdir(parents=True)
    assert not has_log(tmp_path)
    (tmp_path / folder / ".tmp-x").touch()
    assert not has_log(tmp_path)
    (tmp_path / folder / "x").touch()
    assert has_log(tmp_path)


def test_a_log_that_cannot_be_seen_is_not_taken_for_none(tmp_path: Path) -> None:
    (tmp_path / LOG_FOLDER).parent.mkdir()
    (tmp_path / LOG_FOLDER).touch()
    with pytest.raises(IdentityError, match="cannot read the raft directory"):
        has_log(tmp_path)


async def test_a_token_of_another_swarm_keeps_nothing(setting: Setting, clock: VirtualClock) -> None:
    other: Root = make_root(clock.now())
    with pytest.raises(
        IdentityError, match=r"not match fingerprint.*; the join token is mistyped, or not of the swarm at m:"
    ):
        await setting.join(new_join_token(other.cert_pem))
    assert not setting.root_file.exists()


async def test_a_refused_token_keeps_nothing_and_says_where_the_right_one_is(setting: Setting) -> None:
    setting.ca.issue_error = CallRefusedError("A valid join token is necessary to join this cluster")
    with pytest.raises(
        IdentityError, match=r"join this cluster; 'swarmctl cluster inspect' on a manager shows the tokens$"
    ):
        await setting.join(new_join_token(setting.ca.root.cert_pem))
    assert not setting.root_file.exists()


async def test_a_node_that_was_rejected_keeps_nothing(setting: Setting) -> None:
    setting.ca.status_error = NoSuchNodeError("NotFound")
    with pytest.raises(IdentityError, match=r"^node node-1 was turned away or removed by an operator$"):
        await setting.join()
    assert not setting.root_file.exists()


async def test_a_root_from_an_earlier_try_is_trusted_kept_and_named(setting: Setting) -> None:
    setting.state.save_root(setting.ca.root.cert_pem)
    setting.ca.issue_error = CallUnavailableError("the manager's certificate is not of this swarm")
    with pytest.raises(IdentityError, match=r"swarm-root-ca.crt is from an earlier try to join: remove it"):
        await setting.join()
    assert setting.ca.downloads == 0
    assert setting.root_file.read_bytes() == setting.ca.root.cert_pem


async def test_a_worker_keeps_its_identity_whatever_the_join_address(
    setting: Setting, clock: VirtualClock
) -> None:
    request, root = new_request(), setting.ca.root
    subject = Subject("node-1", WORKER_ROLE, "swarm")
    signer = Signer(root.cert_pem, root.key_pem)
    certificate = signer.sign(request.csr_pem, subject, clock.now(), NODE_VALIDITY)
    worker = Credentials.from_pem(root.cert_pem, certificate, request.key_pem)
    setting.state.save(worker)
    assert (await setting.join()).credentials == worker
