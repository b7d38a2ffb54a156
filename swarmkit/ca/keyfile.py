"""The node's key file: its key, and in PEM headers the data keys of the raft log (contract/security.md, 5).

All methods block for a few milliseconds: call them in a thread from the event loop. They may be called from
several threads.
"""

import base64
import binascii
import secrets
import threading
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

from swarmkit.ca import files, pem
from swarmkit.ca.certificates import check_pair
from swarmkit.ca.cipher import KEY_BYTES, InvalidKeyError, RecordCipher
from swarmkit.ca.encryption import encrypt_key, load_key, pkcs8_der
from swarmkit.ca.errors import CertificateError, KekConflictError, NodeLockedError, StateDirError
from swarmkit.ca.pem import PemBlock
from swarmkit.ca.x509util import PrivateKey

CERTIFICATE_NAME = "swarm-node.crt"
KEY_NAME = "swarm-node.key"
CERTIFICATE_MODE = 0o644
KEY_MODE = 0o600

_PLAIN = "PRIVATE KEY"
_ENCRYPTED = "ENCRYPTED PRIVATE KEY"
_LEGACY = "EC PRIVATE KEY"
_VERSION = "kek-version"
_DATA_KEY = "raft-dek"
_PENDING = "raft-dek-pending"
_NEEDS_ROTATION = "raft-dek-needs-rotation"
_KNOWN = frozenset({_VERSION, _DATA_KEY, _PENDING, _NEEDS_ROTATION, "Proc-Type", "DEK-Info"})


@dataclass(frozen=True)
class Kek:
    """The key that encrypts the key file.

    Attributes:
        key: the unlock key; empty: the file is in clear.
        version: of the cluster object it comes from; 0: of none.
    """

    key: bytes = field(default=b"", repr=False)
    version: int = 0


def is_news(present: Kek, candidate: Kek) -> bool:
    """Tell whether a candidate from the cluster object takes the place of what encrypts the file.

    Raises:
        KekConflictError: two keys claim to be of the same version of the object.
    """
    if candidate.key == present.key:
        return False
    if candidate.version == present.version:
        raise KekConflictError(present.version)
    return candidate.version > present.version


@dataclass(frozen=True)
class KeyHeaders:
    """What the key file holds for the raft log.

    Attributes:
        data_key: encrypts log and snapshots; None before a manager ran here.
        pending_data_key: the next data key while a rotation runs.
        needs_rotation: a rotation shall begin.
    """

    data_key: bytes | None = field(default=None, repr=False)
    pending_data_key: bytes | None = field(default=None, repr=False)
    needs_rotation: bool = False


@dataclass(frozen=True)
class NodeFiles:
    """A node's certificate chain and key.

    Attributes:
        cert_pem: leaf first.
        key_pem: plain PKCS#8 without headers, as ``ssl.load_cert_chain`` wants it.
    """

    cert_pem: bytes
    key_pem: bytes = field(repr=False)


@dataclass(frozen=True)
class _State:
    """The content of the key file, opened."""

    key: bytes = field(repr=False)  # PKCS#8 DER
    kek: Kek
    headers: KeyHeaders
    foreign: tuple[tuple[str, str], ...] = ()


class KeyFile:
    """Certificate and key of one node, in one directory.

    Args:
        directory: the certificates directory.
        unlock_key: opens an encrypted key file; ignored by one in clear.
        fips: FIPS mode: headers are Fernet, encrypted keys of the legacy form are refused.
    """

    def __init__(self, directory: Path, unlock_key: bytes = b"", *, fips: bool = False) -> None:
        self._certificate = directory / CERTIFICATE_NAME
        self._key = directory / KEY_NAME
        self._next_certificate = directory / f".{CERTIFICATE_NAME}"
        self._old_key = directory / f".{KEY_NAME}"
        self._unlock_key = unlock_key
        self._fips = fips
        self._state: _State | None = None
        self._lockable = True
        # Renewals write in a thread while raft asks for data keys in another.
        self._lock = threading.Lock()

    @property
    def kek(self) -> Kek:
        """What encrypts the file as it was last read or written."""
        return self._state.kek if self._state is not None else Kek()

    def read(self) -> NodeFiles | None:
        """Return certificate and key, or None if one of them is missing.

        Completes an update that a crash interrupted.

        Raises:
            NodeLockedError: the unlock key does not open the key.
            StateDirError: a file cannot be read, or the two do not belong together.
        """
        with self._lock:
            content = self._adopt_old_key()
            if content is None:
                return None
            state = self._open(content)
            certificate = self._matching_certificate(state)
            if certificate is None:
                return None
            self._state = state
            return NodeFiles(certificate, _plain_pem(state))

    def peek(self) -> KeyHeaders | None:
        """Return the data keys as they are on disk, or None if there is no key file. Changes nothing.

        Raises:
            NodeLockedError: the unlock key does not open the key.
            StateDirError: the file cannot be read.
        """
        content = files.read(self._key)
        return None if content is None else self._open(content).headers

    def write(
        self, cert_pem: bytes, key_pem: bytes, kek: Kek | None = None, *, lockable: bool = True
    ) -> None:
        """Put a new pair in place; headers stay.

        A crash at any moment leaves a pair that ``read`` finds: first the certificate under its dot name,
        then the key, then the certificate under its own name.

        Args:
            cert_pem: the chain; written normalised.
            key_pem: the key, in clear.
            kek: encrypts the file from now on, unless it is of an older version of the cluster object than
                the present one; version 0 always does. None: as before.
            lockable: a manager's. A worker's stays in clear, also while its manager is being stopped.

        Raises:
            CertificateError: the two do not belong together.
            StateDirError: a file cannot be written.
        """
        check_pair(cert_pem, key_pem)
        encoded = pkcs8_der(load_key(key_pem, None))
        certificate = pem.normalize(cert_pem)
        with self._lock:
            old = self._state or _State(encoded, Kek(), KeyHeaders())
            if kek is None or 0 < kek.version < old.kek.version:
                kek = old.kek
            state = replace(old, key=encoded, kek=kek, headers=_exposed(old, kek))
            files.write_atomic(self._next_certificate, certificate, CERTIFICATE_MODE)
            self._store(state)
            self._lockable = lockable
            files.rename(self._next_certificate, self._certificate)

    def follow(self, candidate: Kek) -> bool:
        """Encrypt key and headers, in one write, under a candidate of the cluster object that is news.

        Returns:
            Whether that locked a file that lay in clear: its private key could have been read.

        Raises:
            KekConflictError: there is another key of that very version; nothing was changed.
            StateDirError: the file cannot be written; nothing was changed.
        """
        with self._lock:
            state = self._loaded()
            if not self._lockable or not is_news(state.kek, candidate):
                return False
            self._store(replace(state, kek=candidate, headers=_exposed(state, candidate)))
            return not state.kek.key

    def headers(self) -> KeyHeaders:
        """Return the data keys, as last read or written."""
        with self._lock:
            return self._loaded().headers

    def update_headers(self, change: Callable[[KeyHeaders], KeyHeaders]) -> KeyHeaders:
        """Rewrite the file with changed headers; if ``change`` or the write fails, all stays as it was.

        Raises:
            StateDirError: the file cannot be written, or the new headers contradict themselves.
        """
        with self._lock:
            state = self._loaded()
            headers = change(state.headers)
            _check_headers(headers)
            if headers != state.headers:
                self._store(replace(state, headers=headers))
            return headers

    def data_key(self) -> bytes:
        """Return the data key of the raft log; the first call makes it and writes it down.

        Raises:
            StateDirError: it cannot be written.
        """
        headers = self.update_headers(
            lambda old: old if old.data_key else replace(old, data_key=secrets.token_bytes(KEY_BYTES))
        )
        assert headers.data_key is not None
        return headers.data_key

    def drop_data_keys(self) -> None:
        """Forget the data keys: the node is no manager any more, and its log is gone.

        Raises:
            StateDirError: the file cannot be written.
        """
        self.update_headers(lambda _: KeyHeaders())

    def _loaded(self) -> _State:
        if self._state is None:
            raise StateDirError(f"{self._key} was not read or written yet")
        return self._state

    def _store(self, state: _State) -> None:
        files.write_atomic(self._key, self._encode(state), KEY_MODE)
        self._state = state
        self._unlock_key = state.kek.key or self._unlock_key

    # The form on disk

    def _encode(self, state: _State) -> bytes:
        kek = state.kek
        cipher = RecordCipher(kek.key, fips=self._fips)

        def sealed(data: bytes) -> str:
            return base64.b64encode(cipher.seal(data)).decode()

        headers = [(_VERSION, str(kek.version))]
        if state.headers.data_key is not None:
            headers.append((_DATA_KEY, sealed(state.headers.data_key)))
        if state.headers.pending_data_key is not None:
            headers.append((_PENDING, sealed(state.headers.pending_data_key)))
        if state.headers.needs_rotation:
            headers.append((_NEEDS_ROTATION, "true"))
        headers += state.foreign
        if kek.key:
            return pem.encode(PemBlock(_ENCRYPTED, encrypt_key(state.key, kek.key), tuple(headers)))
        return pem.encode(PemBlock(_PLAIN, state.key, tuple(headers)))

    def _open(self, content: bytes) -> _State:
        """Open the content of a key file.

        Raises:
            NodeLockedError: it is encrypted under another key.
            StateDirError: it is damaged.
        """
        block = next((block for block in pem.decode(content) if block.label.endswith(_PLAIN)), None)
        if block is None:
            raise StateDirError(f"{self._key} holds no private key")
        legacy = block.label == _LEGACY and block.header("DEK-Info") is not None
        if legacy and self._fips:
            raise StateDirError("unsupported key format due to FIPS compliance")
        locked = legacy or block.label == _ENCRYPTED
        key = self._unlock_key if locked else b""
        if locked and not key:
            raise NodeLockedError
        try:
            opened = pkcs8_der(_load_block(block, key if locked else None, legacy))
            headers = self._open_headers(block, key)
            version = int(block.header(_VERSION) or "0")
        except CertificateError as error:
            raise StateDirError(f"the key in {self._key} cannot be used: {error}") from error
        except (InvalidKeyError, ValueError, binascii.Error) as error:
            if locked:
                raise NodeLockedError from error
            raise StateDirError(f"the key in {self._key} is damaged") from error
        _check_headers(headers)
        foreign = tuple(header for header in block.headers if header[0] not in _KNOWN)
        return _State(opened, Kek(key, version), headers, foreign)

    def _open_headers(self, block: PemBlock, key: bytes) -> KeyHeaders:
        cipher = RecordCipher(key, fips=self._fips)

        def opened(name: str) -> bytes | None:
            text = block.header(name)
            return None if text is None else cipher.open(base64.b64decode(text, validate=True))

        return KeyHeaders(opened(_DATA_KEY), opened(_PENDING), block.header(_NEEDS_ROTATION) == "true")

    # Recovery

    def _adopt_old_key(self) -> bytes | None:
        """Return the key file's content, after dealing with the dot key that old versions leave behind."""
        content = files.read(self._key)
        leftover = files.read(self._old_key)
        if leftover is None:
            return content
        certificate = files.read(self._certificate)
        try:
            if certificate is None:
                raise CertificateError("there is no certificate")
            check_pair(certificate, _plain_pem(self._open(leftover)))
        except NodeLockedError:
            return content or leftover  # it cannot be judged without the unlock key: the caller will say so
        except (CertificateError, StateDirError):
            files.remove(self._old_key)
            return content
        files.rename(self._old_key, self._key)
        return leftover

    def _matching_certificate(self, state: _State) -> bytes | None:
        """Return the certificate that fits the key: the one in place, or the one a crash kept from it."""
        key_pem = _plain_pem(state)
        certificate = files.read(self._certificate)
        first_error: CertificateError | None = None
        if certificate is not None:
            try:
                check_pair(certificate, key_pem)
            except CertificateError as error:
                first_error = error
            else:
                return certificate
        waiting = files.read(self._next_certificate)
        if waiting is not None:
            try:
                check_pair(waiting, key_pem)
            except CertificateError:
                files.remove(self._next_certificate)
            else:
                files.rename(self._next_certificate, self._certificate)
                return waiting
        if first_error is not None:
            raise StateDirError(f"{self._certificate} cannot be used: {first_error}") from first_error
        return None


def _load_block(block: PemBlock, password: bytes | None, legacy: bool) -> PrivateKey:
    if block.label in (_PLAIN, _ENCRYPTED):
        return load_key(block.data, password, der=True)
    kept = tuple(h for h in block.headers if h[0] in ("Proc-Type", "DEK-Info")) if legacy else ()
    return load_key(pem.encode(PemBlock(block.label, block.data, kept)), password)


def _plain_pem(state: _State) -> bytes:
    return pem.encode(PemBlock(_PLAIN, state.key))


def _exposed(state: _State, kek: Kek) -> KeyHeaders:
    """Return the headers for a file that is to be encrypted under ``kek``.

    A data key that lay in clear and is locked up now could have been read: it is marked to be rotated.
    """
    if kek.key and not state.kek.key and state.headers.data_key is not None:
        return replace(state.headers, needs_rotation=True)
    return state.headers


def _check_headers(headers: KeyHeaders) -> None:
    if headers.pending_data_key is not None and headers.data_key is None:
        raise StateDirError("there is a pending DEK, but no current DEK")
