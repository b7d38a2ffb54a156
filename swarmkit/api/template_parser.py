"""Templates: from text to nodes."""

import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass

from swarmkit.api.template_functions import FUNCTIONS, TemplateError
from swarmkit.api.template_nodes import (
    Block,
    Branch,
    Chain,
    Command,
    Literal,
    Name,
    Node,
    Operand,
    Output,
    Pipe,
    Text,
    Variable,
)

#: Deepest nesting of blocks and parentheses.
_MAX_DEPTH = 50

_TRIM = " \t\r\n"
_COMMENT = re.compile(r"\{\{(?P<left>-[ \t\r\n])?\s*/\*(?s:.*?)\*/\s*?(?P<right>[ \t\r\n]-)?\}\}")
_TOKEN = re.compile(
    r"""(?P<space>[ \t\r\n]*)(?:
    (?P<close>(?P<trim>(?<=[ \t\r\n])-)?\}\})
  | (?P<string>"(?:[^"\\\n]|\\.)*")
  | (?P<raw>`[^`]*`)
  | (?P<number>[+-]?(?:0[xX][0-9a-fA-F]+|[0-9]+(?:\.[0-9]+)?))
  | (?P<field>\.[A-Za-z_]\w*)
  | (?P<variable>\$\w*)
  | (?P<word>[A-Za-z_]\w*)
  | (?P<mark>:=|[=|(),.])
    )""",
    re.VERBOSE,
)
_ESCAPE = re.compile(
    r"\\(?:([abfnrtv\\'\"])|x([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|([0-7]{3})|(.))"
)
_ESCAPED = dict(zip("abfnrtv\\'\"", "\a\b\f\n\r\t\v\\'\"", strict=True))
_KEYWORDS = ("if", "with", "range", "else", "end")
_UNSUPPORTED = ("define", "template", "block", "break", "continue", "call", "html", "js", "urlquery", "slice")


@dataclass(frozen=True, slots=True)
class _Token:
    kind: str
    text: str
    spaced: bool


_Action = list[_Token]


def parse(text: str, functions: Collection[str] = ()) -> Block:
    """Parse a template that may use ``functions`` besides the usual ones.

    Raises:
        TemplateError: the syntax is wrong, or a function or variable is unknown.
    """
    parser = _Parser(_pieces(text), functions)
    block, ending = parser.block(depth=0)
    if ending is not None:
        raise TemplateError(f"unexpected {{{{{ending[0].text}}}}}")
    return block


def _pieces(text: str) -> Iterator[str | _Action]:
    """Split a template into plain text and the tokens of its actions; white space is trimmed as asked."""
    position, trim = 0, False
    while (start := text.find("{{", position)) >= 0:
        plain = text[position:start]
        comment = _COMMENT.match(text, start)
        left = text.startswith("-", start + 2) and text[start + 3 : start + 4] in tuple(_TRIM)
        yield _trimmed(plain, trim, left)
        if comment is not None:
            position, trim = comment.end(), comment["right"] is not None
            continue
        tokens: _Action = []
        position = start + (3 if left else 2)
        while True:
            match = _TOKEN.match(text, position)
            if match is None:
                rest = text[position:].lstrip()
                raise TemplateError(f"unexpected {rest[:1]!r} in action" if rest else "unclosed action")
            position = match.end()
            kind = match.lastgroup or ""
            if match["close"] is not None:
                trim = match["trim"] is not None
                break
            tokens.append(_Token(kind, match[kind], bool(match["space"])))
        yield tokens
    yield _trimmed(text[position:], trim, False)


def _trimmed(plain: str, left: bool, right: bool) -> str:
    plain = plain.lstrip(_TRIM) if left else plain
    return plain.rstrip(_TRIM) if right else plain


class _Parser:
    def __init__(self, pieces: Iterator[str | _Action], functions: Collection[str]) -> None:
        self._pieces = pieces
        self._functions = functions
        self._variables: list[str] = ["$"]

    def block(self, depth: int) -> tuple[Block, _Action | None]:
        """Parse up to ``else`` or ``end``, which is returned, or to the end of the text."""
        if depth > _MAX_DEPTH:
            raise TemplateError("nested too deeply")
        nodes: list[Node] = []
        known = len(self._variables)
        for piece in self._pieces:
            if isinstance(piece, str):
                if piece:
                    nodes.append(Text(piece))
                continue
            if not piece:
                raise TemplateError("missing value for command")
            word = piece[0].text if piece[0].kind == "word" else ""
            if word in ("else", "end"):
                del self._variables[known:]
                return Block(tuple(nodes)), piece
            if word in _KEYWORDS:
                nodes.append(self._branch(word, piece[1:], depth))
            else:
                nodes.append(Output(self._pipe(piece)))
        del self._variables[known:]
        return Block(tuple(nodes)), None

    def _branch(self, word: str, condition: _Action, depth: int) -> Branch:
        known = len(self._variables)
        pipe = self._pipe(condition, loop=word == "range")
        body, ending = self.block(depth + 1)
        otherwise = Block(())
        if ending is not None and ending[0].text == "else":
            if len(ending) > 1:  # {{else if x}} is {{else}}{{if x}} with one common end
                if ending[1].text != word or word == "range":
                    raise TemplateError(f"unexpected <{ending[1].text}> in {{{{else}}}}")
                otherwise, ending = Block((self._branch(word, ending[2:], depth + 1),)), [ending[0]]
                del self._variables[known:]
                return Branch(word, pipe, body, otherwise)
            otherwise, ending = self.block(depth + 1)
        if ending is None or ending[0].text != "end":
            raise TemplateError(f"{{{{{word}}}}} without {{{{end}}}}")
        del self._variables[known:]
        return Branch(word, pipe, body, otherwise)

    def _pipe(self, tokens: _Action, loop: bool = False) -> Pipe:
        cursor = _Cursor(tokens)
        names, operator = cursor.declaration(loop)
        if operator == "=":
            for name in names:
                self._check_variable(name)
        pipe = Pipe(tuple(names), operator == ":=", self._commands(cursor, 0), _source(tokens))
        if cursor.token is not None:
            raise TemplateError(f"unexpected <{cursor.token.text}>")
        if operator == ":=":
            self._variables += names
        return pipe

    def _commands(self, cursor: "_Cursor", depth: int) -> tuple[Command, ...]:
        if depth > _MAX_DEPTH:
            raise TemplateError("nested too deeply")
        commands: list[Command] = []
        while True:
            operands = []
            while cursor.token is not None and cursor.token.text not in ("|", ")"):
                operands.append(self._operand(cursor, depth))
            if not operands:
                raise TemplateError("missing value for command")
            if len(operands) > 1 and not isinstance(operands[0], Name):
                raise TemplateError("can't give an argument to what is not a function")
            if commands and not isinstance(operands[0], Name):
                raise TemplateError("what follows | must be a function")
            commands.append(Command(tuple(operands)))
            if cursor.token is None or cursor.token.text != "|":
                return tuple(commands)
            cursor.take()

    def _operand(self, cursor: "_Cursor", depth: int) -> Operand:
        token = cursor.take()
        base: Operand
        if token.kind == "field":
            return Chain(Variable("."), (token.text[1:], *cursor.fields()))
        if token.text == ".":
            return Variable(".")
        if token.text == "(":
            base = Pipe((), False, self._commands(cursor, depth + 1), "(…)")
            if cursor.token is None:
                raise TemplateError("unclosed left paren")
            cursor.take()
        elif token.kind == "variable":
            self._check_variable(token.text)
            base = Variable(token.text)
        else:
            return self._literal(token)
        fields = cursor.fields()
        return Chain(base, fields) if fields else base

    def _literal(self, token: _Token) -> Operand:
        match token.kind:
            case "string":
                return Literal(_unquoted(token.text[1:-1]))
            case "raw":
                return Literal(token.text[1:-1])
            case "number":
                return Literal(
                    float(token.text)
                    if "." in token.text
                    else int(token.text, 0 if "x" in token.text.lower() else 10)
                )
            case "word":
                if token.text in ("true", "false", "nil"):
                    return Literal({"true": True, "false": False, "nil": None}[token.text])
                if token.text in FUNCTIONS or token.text in self._functions:
                    return Name(token.text)
                if token.text in _UNSUPPORTED:
                    raise TemplateError(f'"{token.text}" is not supported in templates of specs')
                raise TemplateError(f'function "{token.text}" not defined')
        raise TemplateError(f"unexpected <{token.text}>")

    def _check_variable(self, name: str) -> None:
        if name not in self._variables:
            raise TemplateError(f'undefined variable "{name}"')


class _Cursor:
    def __init__(self, tokens: _Action) -> None:
        self._tokens = tokens
        self._position = 0

    @property
    def token(self) -> _Token | None:
        return self._tokens[self._position] if self._position < len(self._tokens) else None

    def take(self) -> _Token:
        token = self._tokens[self._position]
        self._position += 1
        return token

    def fields(self) -> tuple[str, ...]:
        """Take the fields that follow without a blank between."""
        fields = []
        while self.token is not None and self.token.kind == "field" and not self.token.spaced:
            fields.append(self.take().text[1:])
        return tuple(fields)

    def declaration(self, loop: bool) -> tuple[list[str], str]:
        """Take ``$x :=``, ``$x =`` or, in a loop, ``$k, $v :=``; nothing if there is none."""
        texts = [token.text for token in self._tokens[:4]]
        kinds = [token.kind for token in self._tokens[:3]]
        if kinds[:1] == ["variable"] and texts[1:2] in ([":="], ["="]):
            self._position = 2
            return texts[:1], texts[1]
        if loop and kinds[:1] == kinds[2:3] == ["variable"] and texts[1] == "," and texts[3:4] == [":="]:
            self._position = 4
            return [texts[0], texts[2]], ":="
        return [], ""


def _source(tokens: _Action) -> str:
    return "".join(
        (" " if token.spaced and number else "") + token.text for number, token in enumerate(tokens)
    )


def _unquoted(text: str) -> str:
    def replace(match: re.Match[str]) -> str:
        simple, byte, short, long, octal, wrong = match.groups()
        if wrong is not None:
            raise TemplateError(f"unknown escape \\{wrong} in a string")
        if simple is not None:
            return _ESCAPED[simple]
        number = int(octal, 8) if octal is not None else int(byte or short or long, 16)
        if number > 0x10FFFF or 0xD800 <= number < 0xE000:
            raise TemplateError("a string names a character that does not exist")
        return chr(number)

    return _ESCAPE.sub(replace, text)
