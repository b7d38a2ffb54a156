"""The flags that commands of ``swarm-rafttool`` share."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import click

import swarmctl.base
from swarmctl.base import remember
from swarmkit.node.config import DEFAULT_STATE_DIR


@dataclass
class Settings:
    """The global flags."""

    state_dir: str = str(DEFAULT_STATE_DIR)
    unlock_key: str = ""


def settings(context: click.Context) -> Settings:
    """Return the settings of this invocation."""
    return context.find_root().ensure_object(Settings)


def global_options() -> list[click.Parameter]:
    """Return new copies of the flags that every command takes."""
    return [
        click.Option(
            ["-d", "--state-dir"],
            default=str(DEFAULT_STATE_DIR),
            metavar="PATH",
            show_default=True,
            expose_value=False,
            callback=remember(settings),
            help="State directory of the manager, or what decrypt has written.",
        ),
        click.Option(
            ["--unlock-key"],
            default="",
            metavar="KEY",
            envvar="SWARM_UNLOCK_KEY",
            expose_value=False,
            callback=remember(settings),
            help="Opens a locked manager; other users may see it here  [env: SWARM_UNLOCK_KEY].",
        ),
    ]


class Verb(swarmctl.base.Verb):
    """A command of this program."""

    global_options = staticmethod(global_options)


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
