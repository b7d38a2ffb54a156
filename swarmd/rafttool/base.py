"""The flags that commands of ``swarm-rafttool`` share."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import click

from swarmctl.base import plain_booleans
from swarmkit.node.config import DEFAULT_STATE_DIR


@dataclass
class Settings:
    """The global flags."""

    state_dir: str = str(DEFAULT_STATE_DIR)
    unlock_key: str = ""


def settings(context: click.Context) -> Settings:
    """Return the settings of this invocation."""
    return context.find_root().ensure_object(Settings)


def _remember(context: click.Context, parameter: click.Parameter, value: Any) -> None:
    source = context.get_parameter_source(parameter.name or "")
    # After the verb only a flag that was really given counts: defaults must not undo one before it.
    if context.parent is None or source is click.core.ParameterSource.COMMANDLINE:
        setattr(settings(context), parameter.name or "", value)


def global_options() -> list[click.Parameter]:
    """Return new copies of the flags that every command takes."""
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
        self.params = [*self.params, *global_options()]

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse the words behind the verb."""
        return super().parse_args(ctx, plain_booleans(args, self.params))


def format_option(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add ``--format``."""
    return click.option(
        "--format",
        "form",
        type=click.Choice(["text", "json"]),
        default="text",
        show_default=True,
        help="For people, or one JSON document a line for scripts.",
    )(function)


def redact_option(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add ``--redact``, which is on, and ``--show-secrets``."""
    return click.option(
        "--redact/--show-secrets",
        default=True,
        show_default=True,
        help="Leave out keys, join tokens, contents of secrets and configs, environments, credentials.",
    )(function)
