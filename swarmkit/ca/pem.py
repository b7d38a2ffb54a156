"""PEM with headers: reading, writing, normalising (contract/security.md, 3.4 and 5). Pure."""

import base64
import binascii
import re
from collections.abc import Iterable
from dataclasses import dataclass, field

_BLOCK = re.compile(
    rb"^-----BEGIN ([A-Z0-9 ]+)-----[ \t]*\r?\n(.*?)^-----END \1-----[ \t]*\r?$",
    re.MULTILINE | re.DOTALL,
)
_HEADER = re.compile(r"([^:\s][^:]*):(.*)")
_LINE = 64


@dataclass(frozen=True)
class PemBlock:
    """One block.

    Attributes:
        label: what stands behind BEGIN, for example ``CERTIFICATE``.
        data: the decoded bytes; of keys, never shown in a ``repr``.
        headers: ``name: value`` lines, in order.
    """

    label: str
    data: bytes = field(repr=False)
    headers: tuple[tuple[str, str], ...] = field(default=(), repr=False)

    def header(self, name: str) -> str | None:
        """Return the value of a header, or None."""
        return dict(self.headers).get(name)


def decode(text: bytes) -> list[PemBlock]:
    """Return the blocks of ``text``; what stands between them, and what is not base64, is skipped."""
    blocks = []
    for match in _BLOCK.finditer(text):
        block = _decode_body(match[1].decode(), match[2].decode("latin-1"))
        if block is not None:
            blocks.append(block)
    return blocks


def _decode_body(label: str, body: str) -> PemBlock | None:
    headers: list[tuple[str, str]] = []
    lines = body.splitlines()
    while lines and (match := _HEADER.fullmatch(lines[0])):
        headers.append((match[1].strip(), match[2].strip()))
        lines.pop(0)
    try:
        data = base64.b64decode("".join("".join(lines).split()), validate=True)
    except binascii.Error:
        return None
    return PemBlock(label, data, tuple(headers))


def encode(block: PemBlock) -> bytes:
    """Write one block, with its headers and the empty line that ends them."""
    text = base64.b64encode(block.data).decode()
    lines = [f"-----BEGIN {block.label}-----"]
    lines += [f"{name}: {value}" for name, value in block.headers]
    lines += [""] if block.headers else []
    lines += [text[start : start + _LINE] for start in range(0, len(text), _LINE)]
    lines.append(f"-----END {block.label}-----")
    return ("\n".join(lines) + "\n").encode()


def encode_certificates(certificates: Iterable[bytes]) -> bytes:
    """Write DER certificates as a bundle."""
    return b"".join(encode(PemBlock("CERTIFICATE", der)) for der in certificates)


def normalize(text: bytes) -> bytes:
    """Return the blocks of ``text`` alone, without headers and in one form: what equality tests compare.

    Never normalise what a digest covers. Of text without a block nothing is left.
    """
    return b"".join(encode(PemBlock(block.label, block.data)) for block in decode(text))
