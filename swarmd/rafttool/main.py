"""``swarm-rafttool``: the command line (contract/cli.md, 11). Exit codes: 0 done, 1 failed, 2 misused.

PARITY: ``downgrade-key`` and ``renew-certs`` of the original are not offered. Both write to the state
directory: the first for versions older than any of this project, the second against expired certificates,
which ``swarmd --force-new-cluster`` accepts and renews. Dumps are redacted unless ``--show-secrets`` is
given, and there is ``verify``.
"""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from swarmctl.base import HELP, Failure, Program, plain_booleans
from swarmctl.commands.completion import SHELLS, script
from swarmd.rafttool import render
from swarmd.rafttool.decrypt import decrypt as write_plain
from swarmd.rafttool.folder import (
    RaftFolder,
    ToolError,
    latest_state,
    newest_snapshot,
    open_folder,
    parse_snapshot,
)
from swarmd.rafttool.verify import Verification
from swarmd.rafttool.walk import Item, Summary, walk_log
from swarmkit import __version__
from swarmkit.ca.errors import CaError
from swarmkit.ca.tokens import parse_unlock_key
from swarmkit.node.config import DEFAULT_STATE_DIR
from swarmkit.raft.errors import RaftError
from swarmkit.raft.records import Entry, Replace, Truncate
from swarmkit.store.errors import DivergenceError
from swarmkit.store.objects import SCHEMAS_BY_TABLE, StoreObject

#: Failures whose text is for the operator; anything else is a defect.
EXPECTED = (CaError, DivergenceError, RaftError, ToolError)


@dataclass
class Settings:
    """The global flags."""

    state_dir: str = str(DEFAULT_STATE_DIR)
    unlock_key: str = ""


def _remember(context: click.Context, parameter: click.Parameter, value: Any) -> None:
    source = context.get_parameter_source(parameter.name or "")
    # After the verb only a flag that was really given counts: defaults must not undo one before it.
    if context.parent is None or source is click.core.ParameterSource.COMMANDLINE:
        setattr(context.find_root().ensure_object(Settings), parameter.name or "", value)


def _global_options() -> list[click.Parameter]:
    return [
        click.Option(
            ["-d", "--state-dir"],
            default=str(DEFAULT_STATE_DIR),
            metavar="PATH",
            show_default=True,
            expose_value=False,
            callback=_remember,
            help="State directory of the manager, or what decrypt has written.",
        ),
        click.Option(
            ["--unlock-key"],
            default="",
            metavar="KEY",
            envvar="SWARM_UNLOCK_KEY",
            expose_value=False,
            callback=_remember,
            help="Opens a locked manager; other users may see it here  [env: SWARM_UNLOCK_KEY].",
        ),
    ]


class Verb(click.Command):
    """A command that also takes the global flags, and ``--flag=true`` for boolean ones."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.params = [*self.params, *_global_options()]

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse the words behind the verb."""
        return super().parse_args(ctx, plain_booleans(args, self.params))


class Tool(Program):
    """The program."""

    command_class = Verb

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.params = [*self.params, *_global_options()]


@contextmanager
def _opened() -> Iterator[RaftFolder]:
    """Open the folder of this invocation, and turn what goes wrong with it into a sentence."""
    settings = click.get_current_context().find_root().ensure_object(Settings)
    try:
        key = parse_unlock_key(settings.unlock_key) if settings.unlock_key else b""
        folder = open_folder(Path(settings.state_dir), key)
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


def _format_option(function: Callable[..., Any]) -> Callable[..., Any]:
    return click.option(
        "--format",
        "form",
        type=click.Choice(["text", "json"]),
        default="text",
        show_default=True,
        help="For people, or one JSON document a line for scripts.",
    )(function)


def _redact_option(function: Callable[..., Any]) -> Callable[..., Any]:
    return click.option(
        "--redact/--show-secrets",
        default=True,
        show_default=True,
        help="Leave out keys, join tokens, contents of secrets and configs, environments, credentials.",
    )(function)


@click.group(cls=Tool, context_settings=HELP)
@click.version_option(__version__, "-v", "--version", message="swarm-rafttool swarmkit %(version)s")
def main() -> None:
    """Look at a manager's raft log and snapshots.

    Works on the state directory of a manager, best while its swarmd is stopped, and never writes to it.
    """


@main.command("dump-wal")
@click.option(
    "--start", type=click.IntRange(0), default=0, metavar="INDEX", help="First entry; 0: the oldest."
)
@click.option("--end", type=click.IntRange(0), default=0, metavar="INDEX", help="Last entry; 0: the newest.")
@_format_option
@_redact_option
def dump_wal(start: int, end: int, form: str, redact: bool) -> None:
    """Print the records of the log, the oldest first.

    With --start or --end only the entries between them, and what took such entries back.
    """
    if end and end < start:
        raise click.UsageError(f"--end {end} lies before --start {start}")
    show = render.show_as(redact)
    found = False
    with _opened() as folder:
        for item in walk_log(folder):
            found = True
            if (start or end) and not _touches(item, start, end):
                continue
            if form == "json":
                click.echo(json.dumps(render.record_data(item, show)))
            else:
                click.echo(render.record_text(item, show))
        if not found:
            raise ToolError(f"there is no raft log: {folder.log}")


def _touches(item: Item, start: int, end: int) -> bool:
    if isinstance(item, Entry):
        return item.index >= start and (not end or item.index <= end)
    if isinstance(item, Truncate):
        return not end or item.index <= end
    return isinstance(item, Replace | Summary)


@main.command("dump-snapshot")
@_format_option
@_redact_option
def dump_snapshot(form: str, redact: bool) -> None:
    """Print the newest snapshot: members, removed raft ids, objects."""
    show = render.show_as(redact)
    with _opened() as folder:
        image = newest_snapshot(folder)
        if image is None:
            raise ToolError("no snapshot found")
        payload, store = parse_snapshot(image)
        if form == "json":
            for data in render.snapshot_data(image, payload.membership, store, show):
                click.echo(json.dumps(data))
        else:
            for paragraph in render.snapshot_text(image, payload.membership, store, show):
                click.echo(paragraph)


@main.command("dump-object")
@click.argument("kind", metavar="KIND", type=click.Choice(render.KINDS))
@click.option("--id", "ids", metavar="ID", multiple=True, help="Only the object of this id; repeatable.")
@click.option("--name", "names", metavar="NAME", multiple=True, help="Only objects of this name; repeatable.")
@_format_option
@_redact_option
def dump_object(kind: str, ids: tuple[str, ...], names: tuple[str, ...], form: str, redact: bool) -> None:
    """Print the objects of a kind as they are after the newest snapshot and all committed entries.

    KIND is node, service, task, network, cluster, secret, config, resource, extension or volume. With --id
    and --name those that fit one of them.
    """
    show = render.show_as(redact)
    with _opened() as folder:
        stored: list[StoreObject] = latest_state(folder).view().find(SCHEMAS_BY_TABLE[kind].kind)
        wanted = {name.lower() for name in names}
        found = [
            one
            for one in stored
            if not (ids or names) or one.id in ids or render.name_of(kind, one).lower() in wanted
        ]
        if not found:
            raise ToolError("no matching objects found")
        for one in found:
            if form == "json":
                click.echo(json.dumps(render.object_data(kind, one, show)))
            else:
                click.echo(render.object_text(kind, one, show))


@main.command("verify")
def verify() -> None:
    """Check and decrypt every record of the log and of all snapshots, and whether they fit together.

    Exit code 1 if a swarmd would not start on them. A torn tail, which a power cut leaves, is no damage.
    """
    with _opened() as folder:
        verification = Verification(folder)
        for line in verification.lines():
            click.echo(line)
        count = len(verification.problems)
        if count:
            raise ToolError(f"{count} {'file is' if count == 1 else 'files are'} damaged")
        click.echo("Everything is whole")


@main.command("decrypt")
@click.option(
    "-o",
    "--output-dir",
    default="plaintext_raft",
    metavar="PATH",
    show_default=True,
    help="Where the copies go.",
)
def decrypt(output_dir: str) -> None:
    """Write log and snapshots in clear, all secrets included; -d reads what it has written."""
    state_dir = click.get_current_context().find_root().ensure_object(Settings).state_dir
    with _opened() as folder:
        write_plain(folder, Path(state_dir), Path(output_dir))


@main.command("completion")
@click.argument("shell", type=click.Choice(SHELLS))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Print the completion script of a shell.

    For bash: swarm-rafttool completion bash > /etc/bash_completion.d/swarm-rafttool
    """
    click.echo(script(context, shell, "swarm-rafttool"))
