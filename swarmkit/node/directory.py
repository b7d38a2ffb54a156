"""Is a directory one that a node may take over? Asked before anything in it is made or changed."""

import os
from pathlib import Path

#: What a node keeps in its state directory, and by which it is known (contract/security.md, 5).
_OURS = frozenset(("certificates", "raft", "worker", "state.json"))
#: What a directory may hold that counts as empty: a lock whose daemon failed at once, and a new file system.
_IGNORED = frozenset((".lock", "lost+found"))
#: How many foreign names an error shows.
_SHOWN = 3


class DirectoryError(Exception):
    """The state directory is not one; the text says why and what to do."""


def check_directory(path: Path) -> None:
    """Refuse a directory that holds something else: a node closes its state directory to all other users.

    ``swarmd --state-dir /etc`` would lock everybody out of the machine. Blocks for a moment.

    Raises:
        DirectoryError: it is in use for something else, or cannot be looked at.
    """
    try:
        names = set(os.listdir(path))
    except FileNotFoundError:
        return
    except NotADirectoryError:
        raise DirectoryError(
            f"the state directory {path} is not a directory: --state-dir must name a new one, an empty one,"
            " or one of swarmd"
        ) from None
    except OSError as error:
        raise DirectoryError(
            f"cannot use the state directory {path}: {error.strerror}; swarmd must run as the user who"
            " owns it"
        ) from error
    foreign = names - _IGNORED
    if foreign and not foreign & _OURS:
        shown = ", ".join(sorted(foreign)[:_SHOWN]) + (", ..." if len(foreign) > _SHOWN else "")
        raise DirectoryError(
            f"the directory {path} is in use for something else ({shown}): --state-dir must name a new"
            " one, an empty one, or one of swarmd"
        )
