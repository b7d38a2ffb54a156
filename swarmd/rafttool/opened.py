"""The raft directory that an invocation is about, and what can be wrong with it as sentences."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from swarmctl.base import Failure
from swarmd.rafttool.base import settings
from swarmd.rafttool.folder import RaftFolder, ToolError, open_folder
from swarmkit.ca.errors import CaError
from swarmkit.ca.tokens import parse_unlock_key
from swarmkit.raft.errors import RaftError
from swarmkit.store.errors import DivergenceError

#: Failures whose text is for the operator; anything else is a defect.
EXPECTED = (CaError, DivergenceError, RaftError, ToolError)


@contextmanager
def opened_folder() -> Iterator[RaftFolder]:
    """Open the folder of this invocation, and turn what goes wrong with it into a sentence."""
    given = settings(click.get_current_context())
    try:
        key = parse_unlock_key(given.unlock_key) if given.unlock_key else b""
        folder = open_folder(Path(given.state_dir), key)
        if folder.in_use:
            click.echo(
                "Note: a swarmd is using this directory: the newest records may be missing or look torn.",
                err=True,
            )
        yield folder
    except EXPECTED as error:
        raise Failure(str(error)) from error
    except FileNotFoundError as error:
        raise Failure(f"{error.filename} has just been deleted: a swarmd is running; try again") from error
    except OSError as error:
        if error.filename is None:
            raise  # the output, not the directory
        raise Failure(f"{error.filename}: {error.strerror}") from error
