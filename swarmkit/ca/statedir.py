"""The node's state directory: identity on disk and what must hold of it (contract/security.md, 5 and 6.1).

``StateDir`` blocks for a few milliseconds a call: from the event loop, call it in a thread.
"""

import datetime
import os
import stat
from pathlib import Path

from swarmkit.ca import files
from swarmkit.ca.certificates import MANAGER_ROLE
from swarmkit.ca.chain import verify_chain
from swarmkit.ca.credentials import Credentials, CredentialsError
from swarmkit.ca.errors import (
    CertificateError,
    ExpiredError,
    StateDirError,
    UnknownAuthorityError,
)
from swarmkit.ca.keyfile import KEY_NAME, Kek, KeyFile
from swarmkit.ca.root import check_roots

CERTIFICATES = "certificates"
ROOT_NAME = "swarm-root-ca.crt"
DIRECTORY_MODE = 0o700
CERTIFICATES_MODE = 0o755
ROOT_MODE = 0o644
FIPS_PREFIX = "FIPS."


class StateDir:
    """The part of a state directory that holds the node's identity.

    Args:
        path: the state directory.
        unlock_key: opens an encrypted key file.
        fips: the node runs in FIPS mode.
    """

    def __init__(self, path: Path, unlock_key: bytes = b"", *, fips: bool = False) -> None:
        self.path = path
        self._certificates = path / CERTIFICATES
        self._root = self._certificates / ROOT_NAME
        self._fips = fips
        self.key_file = KeyFile(self._certificates, unlock_key, fips=fips)

    def prepare(self) -> None:
        """Make the directories, or check those that are there.

        Raises:
            StateDirError: one cannot be made or used, or others could have changed what is in it.
        """
        _prepare(self.path, DIRECTORY_MODE)
        _prepare(self._certificates, CERTIFICATES_MODE)

    def load_root(self, now: datetime.datetime, *, allow_expired: bool = False) -> bytes | None:
        """Return the trusted root bundle, byte for byte, or None if there is none.

        Raises:
            StateDirError: it is there and cannot be used.
        """
        bundle = files.read(self._root)
        if bundle is None:
            return None
        try:
            check_roots(bundle, now)
        except ExpiredError as error:
            if not allow_expired:
                raise StateDirError(f"{self._root} cannot be used: {error}") from error
        except CertificateError as error:
            raise StateDirError(f"{self._root} cannot be used: {error}") from error
        return bundle

    def load(self, now: datetime.datetime, *, allow_expired: bool = False) -> Credentials | None:
        """Return the node's credentials, or None if it has none yet.

        Args:
            now: the present.
            allow_expired: accept an expired certificate: only for ``--force-new-cluster``.

        Raises:
            NodeLockedError: the key needs another unlock key.
            StateDirError: something is there and cannot be used.
        """
        root = self.load_root(now, allow_expired=allow_expired)
        if root is None:
            return None
        self._check_key_mode()
        pair = self.key_file.read()
        if pair is None:
            return None
        try:
            verify_chain(pair.cert_pem, root, now, allow_expired=allow_expired)
            credentials = Credentials.from_pem(root, pair.cert_pem, pair.key_pem)
        except UnknownAuthorityError as error:
            raise StateDirError(
                f"{self._certificates} mixes two swarms: the node's certificate was not signed by the root"
                " certificate beside it; use another state directory, or remove this one and join again"
            ) from error
        except ExpiredError as error:
            raise StateDirError(
                f"the node's identity in {self._certificates} has expired: {error};"
                " a worker gets a new one by removing that directory and joining again"
            ) from error
        except (CertificateError, CredentialsError) as error:
            raise StateDirError(f"the certificate in {self._certificates} cannot be used: {error}") from error
        check_fips(credentials.organization, fips=self._fips)
        return credentials

    def save_root(self, root_pem: bytes) -> None:
        """Write the trusted root bundle, byte for byte.

        Raises:
            StateDirError: it cannot be written.
        """
        files.write_atomic(self._root, root_pem, ROOT_MODE)

    def save(self, credentials: Credentials, kek: Kek | None = None) -> None:
        """Write root, certificate and key; the key file's headers stay.

        Args:
            credentials: what to write.
            kek: encrypts the key file from now on; None: as before. A worker's key is always in clear.

        Raises:
            CertificateError: certificate and key do not belong together.
            StateDirError: a file cannot be written.
        """
        if files.read(self._root) != credentials.root_pem:
            self.save_root(credentials.root_pem)
        lockable = credentials.role == MANAGER_ROLE
        if not lockable:
            kek = Kek()
        self.key_file.write(credentials.cert_pem, credentials.key_pem, kek, lockable=lockable)

    def _check_key_mode(self) -> None:
        key = self._certificates / KEY_NAME
        try:
            mode = stat.S_IMODE(key.stat().st_mode)
        except FileNotFoundError:
            return
        except OSError as error:
            raise StateDirError(f"cannot read {key}: {error.strerror}") from error
        if mode & 0o077:
            raise StateDirError(
                f"the private key {key} is open to other users (mode {mode:04o}); if none of them can have"
                f" read it, run: chmod 600 {key}"
            )


def check_fips(organization: str, *, fips: bool) -> None:
    """Refuse a cluster that demands FIPS mode on a node without it.

    Raises:
        StateDirError: it does.
    """
    if organization.startswith(FIPS_PREFIX) and not fips:
        raise StateDirError("node is not FIPS-enabled but cluster requires FIPS")


def _prepare(directory: Path, mode: int) -> None:
    """Make a directory, or see to it that nobody else can write to the one that is there."""
    try:
        directory.mkdir(mode=mode, parents=True, exist_ok=True)
        found = directory.stat()
        wanted = stat.S_IMODE(found.st_mode) & mode
        if wanted != stat.S_IMODE(found.st_mode):
            if found.st_mode & 0o022 and any(directory.iterdir()):
                raise StateDirError(
                    f"other users may write to {directory} (mode {stat.S_IMODE(found.st_mode):04o});"
                    f" if none of them has, run: chmod {mode:o} {directory}"
                )
            directory.chmod(wanted)
        writable = os.access(directory, os.R_OK | os.W_OK | os.X_OK)
    except FileExistsError as error:
        raise StateDirError(f"{directory} is not a directory") from error
    except OSError as error:
        raise StateDirError(f"cannot use the state directory {directory}: {error.strerror}") from error
    if not writable:
        raise StateDirError(
            f"cannot use the state directory {directory}: this user may not read, write and search it"
            f" (mode {stat.S_IMODE(found.st_mode):04o}, owner {found.st_uid}, this user {os.geteuid()})"
        )
