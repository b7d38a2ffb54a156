"""Templates: the nodes of a parsed one, and their evaluation."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

from swarmkit.api.template_functions import FUNCTIONS, Struct, TemplateError, text_of, truth

#: Bounds of one expansion, so that nested loops in a spec cannot keep a manager or a worker busy.
_MAX_STEPS = 20_000
_MAX_OUTPUT = 1 << 20


@dataclass(frozen=True, slots=True)
class Literal:
    """A string, number, boolean or nil."""

    value: object


@dataclass(frozen=True, slots=True)
class Variable:
    """``$name``; ``$`` is the context, ``.`` the value at hand."""

    name: str


@dataclass(frozen=True, slots=True)
class Name:
    """A function."""

    name: str


@dataclass(frozen=True, slots=True)
class Chain:
    """Fields of a value, one of the other."""

    base: "Operand"
    fields: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Command:
    """A value, or a function with its arguments."""

    operands: tuple["Operand", ...]


@dataclass(frozen=True, slots=True)
class Pipe:
    """Commands, each given the value of the one before as its last argument; and what to do with the result.

    Attributes:
        names: variables that take the value.
        declares: whether these are new ones.
        commands: at least one.
        source: the text, for errors.
    """

    names: tuple[str, ...]
    declares: bool
    commands: tuple[Command, ...]
    source: str


Operand: TypeAlias = Literal | Variable | Name | Chain | Pipe


@dataclass(frozen=True, slots=True)
class Text:
    """Plain text."""

    text: str


@dataclass(frozen=True, slots=True)
class Output:
    """A pipeline whose value is written, unless it goes to a variable."""

    pipe: Pipe


@dataclass(frozen=True, slots=True)
class Branch:
    """``if``, ``with`` or ``range``."""

    word: str
    pipe: Pipe
    body: "Block"
    otherwise: "Block"


@dataclass(frozen=True, slots=True)
class Block:
    """What stands between ``if`` and ``end``; also a whole template."""

    nodes: tuple["Node", ...]


Node: TypeAlias = Text | Output | Branch


class Evaluation:
    """One expansion: the value at hand, the variables, and what was written so far."""

    def __init__(self, dot: Struct, functions: Mapping[str, Callable[..., object]]) -> None:
        self._functions = {**FUNCTIONS, **functions}
        self._variables: list[tuple[str, object]] = [("$", dot)]
        self._dot: object = dot
        self._written: list[str] = []
        self._size = 0
        self._steps = 0

    def run(self, block: Block) -> str:
        """Return the text that a template expands to.

        Raises:
            TemplateError: a value does not exist, or the template exceeds the bounds.
        """
        self._block(block)
        return "".join(self._written)

    def _block(self, block: Block) -> None:
        known = len(self._variables)
        for node in block.nodes:
            self._steps += 1
            if self._steps > _MAX_STEPS:
                raise TemplateError(f"takes more than {_MAX_STEPS} steps")
            match node:
                case Text(text):
                    self._write(text)
                case Output(pipe):
                    value = self._pipe(pipe)
                    if not pipe.names:
                        self._write(text_of(value))
                case Branch():
                    self._branch(node)
        del self._variables[known:]

    def _write(self, text: str) -> None:
        self._size += len(text)
        if self._size > _MAX_OUTPUT:
            raise TemplateError(f"expands to more than {_MAX_OUTPUT} characters")
        self._written.append(text)

    def _branch(self, branch: Branch) -> None:
        known, dot = len(self._variables), self._dot
        value = self._pipe(branch.pipe)
        if branch.word == "range":
            self._loop(branch, value)
        elif truth(value):
            if branch.word == "with":
                self._dot = value
            self._block(branch.body)
        else:
            self._block(branch.otherwise)
        self._dot = dot
        del self._variables[known:]

    def _loop(self, branch: Branch, value: object) -> None:
        pairs: Iterable[tuple[object, object]]
        if isinstance(value, dict):
            pairs = [(key, value[key]) for key in sorted(value)]
        elif isinstance(value, list | tuple):
            pairs = list(enumerate(value))
        else:
            raise self._error(branch.pipe, f"range can't iterate over {text_of(value)}")
        for key, item in pairs:
            known = len(self._variables)
            names = branch.pipe.names
            self._variables += zip(names, (key, item) if len(names) == 2 else (item,), strict=False)
            self._dot = item
            self._block(branch.body)
            del self._variables[known:]
        if not pairs:
            self._block(branch.otherwise)

    def _pipe(self, pipe: Pipe) -> object:
        value: object = None
        for number, command in enumerate(pipe.commands):
            self._steps += 1
            try:
                value = self._command(command, [value] if number else [])
            except TemplateError as error:
                raise self._error(pipe, str(error)) from error
        for name in pipe.names:
            if not pipe.declares:
                places = [place for place, (known, _) in enumerate(self._variables) if known == name]
                self._variables[places[-1]] = (name, value)
        if pipe.declares:
            self._variables += [(name, value) for name in pipe.names]
        return value

    @staticmethod
    def _error(pipe: Pipe, text: str) -> TemplateError:
        return TemplateError(text if text.startswith("at <") else f"at <{pipe.source}>: {text}")

    def _command(self, command: Command, given: list[object]) -> object:
        first, *rest = command.operands
        if not isinstance(first, Name):
            return self._value(first)
        arguments = [self._value(operand) for operand in rest] + given
        try:
            return self._functions[first.name](*arguments)
        except TypeError as error:
            raise TemplateError(f"wrong number of args for {first.name}: {len(arguments)}") from error

    def _value(self, operand: Operand) -> object:
        match operand:
            case Literal(value):
                return value
            case Variable("."):
                return self._dot
            case Variable(name):
                return next(value for known, value in reversed(self._variables) if known == name)
            case Name():
                return self._command(Command((operand,)), [])
            case Pipe():
                return self._pipe(operand)
            case Chain(base, fields):
                value = self._value(base)
                for field in fields:
                    value = _field(value, field)
                return value


def _field(value: object, name: str) -> object:
    if isinstance(value, Struct):
        if name not in value.fields:
            raise TemplateError(f"can't evaluate field {name} in type {value.name}")
        return value.fields[name]
    if isinstance(value, dict):
        if name not in value:
            raise TemplateError(f'map has no entry for key "{name}"')
        return value[name]
    raise TemplateError(f"can't evaluate field {name} of {text_of(value)}")
