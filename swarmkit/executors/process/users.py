"""Who a process runs as: names of the spec to numbers of this machine."""

import grp
import os
import pwd
from collections.abc import Iterable

from swarmkit.executors.process.spec import UnsupportedError

#: User id, group id, supplementary groups.
User = tuple[int, int, tuple[int, ...]]


def find_user(user: str, groups: Iterable[str]) -> User | None:
    """Look a user up; None if the process is to run as whoever the daemon is.

    Args:
        user: ``user[:group]``, each by name or number; without a group, the user's own, else 0.
        groups: supplementary groups by name or number.

    Raises:
        UnsupportedError: there is no such user or group, or the daemon may not become it.
    """
    names = tuple(groups)
    if not user and not names:
        return None
    name, _, group = user.partition(":")
    uid, gid = _find_uid(name)
    if group:
        gid = _find_gid(group)
    found = (uid, gid, tuple(_find_gid(each) for each in names))
    if os.geteuid() == 0:
        return found
    if uid == os.geteuid() and gid == os.getegid() and not names:
        return None
    raise UnsupportedError(f"only a daemon that runs as root can start processes as user {user!r}")


def _find_uid(name: str) -> tuple[int, int]:
    if not name:
        return os.geteuid(), os.getegid()
    if name.isdecimal():
        try:
            return int(name), pwd.getpwuid(int(name)).pw_gid
        except KeyError:
            return int(name), 0
    try:
        entry = pwd.getpwnam(name)
    except KeyError:
        raise UnsupportedError(f"unable to find user {name}: no such user on this machine") from None
    return entry.pw_uid, entry.pw_gid


def _find_gid(name: str) -> int:
    if name.isdecimal():
        return int(name)
    try:
        return grp.getgrnam(name).gr_gid
    except KeyError:
        raise UnsupportedError(f"unable to find group {name}: no such group on this machine") from None
