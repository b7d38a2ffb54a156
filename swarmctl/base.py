"""What every command shares: global flags before or after the verb, nouns loaded when they are used, errors.

Exit codes: 0 done, 1 failed, 2 misused.
"""

import importlib
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import click

DEFAULT_SOCKET = "/var/run/swarmd.sock"
HELP = {"help_option_names": ["-h", "--help"], "max_content_width": 100}


class Failure(click.ClickException):
    """A command failed; the text is printed behind ``Error:`` and the exit code is 1."""


@dataclass
class Settings:
    """The global flags.

    Attributes:
        socket: path of the manager's control socket.
        no_resolve: print ids instead of names.
    """

    socket: str = DEFAULT_SOCKET
    no_resolve: bool = False


def settings(context: click.Context) -> Settings:
    """Return the settings of this invocation."""
    return context.find_root().ensure_object(Settings)


def remember(
    settings_of: Callable[[click.Context], Any],
) -> Callable[[click.Context, click.Parameter, Any], None]:
    """Return the callback of a global flag: it puts the value into the settings, under the flag's name."""

    def callback(context: click.Context, parameter: click.Parameter, value: Any) -> None:
        name = parameter.name or ""
        # After the verb only a flag that was really given counts: defaults must not undo one before it.
        given = context.get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE
        if given or context.parent is None:
            setattr(settings_of(context), name, value)

    return callback


def global_options() -> list[click.Parameter]:
    """Return new copies of the flags that every command takes."""
    return [
        click.Option(
            ["-s", "--socket"],
            envvar="SWARM_SOCKET",
            default=DEFAULT_SOCKET,
            show_default=True,
            show_envvar=True,
            expose_value=False,
            callback=remember(settings),
            help="Socket of the manager.",
        ),
        click.Option(
            ["-n", "--no-resolve"],
            is_flag=True,
            expose_value=False,
            callback=remember(settings),
            help="Print ids instead of names.",
        ),
    ]


def plain_booleans(args: list[str], parameters: list[click.Parameter]) -> list[str]:
    """Rewrite ``--flag=true`` and ``--flag=false`` for the parser; words behind ``--`` stay."""
    flags = {
        name: option
        for option in parameters
        if isinstance(option, click.Option) and option.is_flag
        for name in option.opts
    }
    rewritten: list[str] = []
    for position, word in enumerate(args):
        if word == "--":
            return rewritten + args[position:]
        name, equals, value = word.partition("=")
        if not equals or name not in flags or value.lower() not in ("true", "false"):
            rewritten.append(word)
        elif value.lower() == "true":
            rewritten.append(name)
        else:
            # A flag without a negative form is off when it is not there.
            rewritten += flags[name].secondary_opts[:1]
    return rewritten


def check_words(args: list[str], context: click.Context) -> None:
    """Refuse words that cannot travel: all text on the wire is UTF-8.

    Raises:
        click.UsageError: the shell handed over bytes that are none.
    """
    for word in args:
        if any("\ud800" <= character <= "\udfff" for character in word):
            raise click.UsageError(f"{word!a} is not UTF-8 text", context)


class Verb(click.Command):
    """A command that also takes its program's global flags, and ``--flag=true`` for boolean ones."""

    global_options = staticmethod(global_options)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.params = [*self.params, *self.global_options()]

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse the words behind the verb."""
        check_words(args, ctx)
        return super().parse_args(ctx, plain_booleans(args, self.params))


class Group(click.Group):
    """A command that needs another one behind it."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse the words behind it; none at all is a question for help, not a mistake."""
        if not args and not ctx.resilient_parsing:
            click.echo(ctx.get_help())
            ctx.exit()
        return super().parse_args(ctx, args)


class Noun(Group):
    """A group of verbs; a few of them have a second name."""

    command_class = Verb

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._aliases: dict[str, str] = kwargs.pop("aliases", {})
        super().__init__(*args, **kwargs)
        self.params = [*self.params, *global_options()]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Find a verb by its name or its alias."""
        return super().get_command(ctx, self._aliases.get(cmd_name, cmd_name))


class Program(Group):
    """A program: commands are imported from ``package`` when asked for, so that help comes quickly.

    Args:
        nouns: what is behind the program's name, and a line of help for each.
        package: holds a module for each of them, whose ``command`` it is.
    """

    def __init__(self, *args: Any, nouns: dict[str, str], package: str, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._nouns = nouns
        self._package = package

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the nouns, sorted."""
        return sorted(self._nouns)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import and return a command."""
        if cmd_name not in self._nouns:
            return None
        module = importlib.import_module(f"{self._package}.{cmd_name.replace('-', '_')}")
        command: click.Command = module.command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, self._nouns[name]) for name in self.list_commands(ctx)])

    def main(self, *args: Any, **kwargs: Any) -> Any:
        """Run the program; an output that takes nothing any more is a failure like any other."""
        try:
            return super().main(*args, **kwargs)
        except OSError as error:
            click.echo(f"Error: cannot write the output: {error.strerror}", err=True)
            # What is buffered cannot be written at exit either, and nobody should be told so twice.
            sys.stdout = None
            sys.exit(1)


class Root(Program, Noun):
    """The program ``swarmctl``."""

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import and return a noun, by its name or its alias."""
        return super().get_command(ctx, self._aliases.get(cmd_name, cmd_name))


class Parsed(click.ParamType[Any]):
    """A flag whose text goes through a pure function that raises ``ValueError`` with a sentence."""

    def __init__(self, parse: Callable[[str], Any], name: str) -> None:
        self._parse = parse
        self.name = name

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Parse the text; what is parsed already passes."""
        if not isinstance(value, str):
            return value
        try:
            return self._parse(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


def quiet_option(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add ``-q/--quiet``: ids alone, one a line."""
    return click.option("-q", "--quiet", is_flag=True, help="Print ids only.")(function)


def format_option(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add ``--format``: for people, or the objects as JSON."""
    return click.option(
        "--format",
        "form",
        type=click.Choice(["table", "json"]),
        default="table",
        show_default=True,
        help="For people, or the objects as JSON for scripts.",
    )(function)


def verbose_option(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add ``-v/--verbose``: what newer versions show."""
    return click.option("-v", "--verbose", is_flag=True, help="Show more.")(function)


def all_option(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add ``-a/--all``: also tasks that are no longer wanted."""
    return click.option(
        "-a", "--all", "show_all", is_flag=True, help="Show also tasks that are no longer wanted."
    )(function)
