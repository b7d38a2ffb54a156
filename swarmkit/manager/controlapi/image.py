"""What a valid image reference is: ``[host[:port]/]path[:tag][@digest]``, as the Docker Engine reads it."""

import re

_PART = r"(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9])"
_HOST = re.compile(rf"(?:{_PART}(?:\.{_PART})*|\[[a-fA-F0-9:]+\])(?::[0-9]+)?")
_PATH = re.compile(r"[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
_DIGEST_LENGTHS = {"sha256": 64, "sha384": 96, "sha512": 128}
_HEX = re.compile(r"[a-f0-9]+")
_MAX_NAME = 255
_DEFAULT_HOST = "docker.io"


def is_image_reference(text: str) -> bool:
    """Tell whether ``text`` names an image."""
    name, at, digest = text.partition("@")
    if at and not _is_digest(digest):
        return False
    path, colon, tag = name.rpartition(":")
    if colon and "/" not in tag:
        if not _TAG.fullmatch(tag):
            return False
        name = path
    return _is_name(name)


def _is_digest(text: str) -> bool:
    algorithm, _, value = text.partition(":")
    return len(value) == _DIGEST_LENGTHS.get(algorithm, 0) and _HEX.fullmatch(value) is not None


def _is_name(name: str) -> bool:
    first, slash, rest = name.partition("/")
    if slash and ("." in first or ":" in first or first == "localhost" or first != first.lower()):
        host, path = first, rest
    else:
        # 64 hexadecimal digits are an image id, not a name.
        if len(name) == 64 and _HEX.fullmatch(name):
            return False
        host, path = _DEFAULT_HOST, name if slash else f"library/{name}"
    return (
        _HOST.fullmatch(host) is not None
        and len(host) + 1 + len(path) <= _MAX_NAME
        and all(_PATH.fullmatch(part) for part in path.split("/"))
    )
