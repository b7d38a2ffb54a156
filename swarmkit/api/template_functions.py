"""Templates: values, and the functions on them (``text/template`` of Go, contract/control-api.md, 9)."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass


class TemplateError(ValueError):
    """A template cannot be parsed, or a value it asks for does not exist."""


@dataclass(frozen=True, slots=True)
class Struct:
    """A value with fixed fields; unlike in a map, a field that is not there is a wrong name."""

    name: str
    fields: Mapping[str, object]


def truth(value: object) -> bool:
    """Tell whether a value counts as true: not the zero value of its kind; structs always do."""
    return isinstance(value, Struct) or bool(value)


def text_of(value: object) -> str:
    """Write a value as ``print`` does."""
    match value:
        case None:
            return "<no value>"
        case bool():
            return "true" if value else "false"
        case Struct(_, fields):
            return "{" + " ".join(text_of(item) for item in fields.values()) + "}"
        case dict():
            return "map[" + " ".join(f"{key}:{text_of(value[key])}" for key in sorted(value)) + "]"
        case list() | tuple():
            return "[" + " ".join(text_of(item) for item in value) + "]"
    return str(value)


def _join(separator: object, *items: object) -> str:
    for value in (separator, *items):
        if not isinstance(value, str):
            raise TemplateError(f"join takes strings, not {text_of(value)}")
    return str(separator).join(map(str, items))


def _and(first: object, *others: object) -> object:
    values = (first, *others)
    return next((value for value in values if not truth(value)), values[-1])


def _or(first: object, *others: object) -> object:
    values = (first, *others)
    return next((value for value in values if truth(value)), values[-1])


def _not(value: object) -> bool:
    return not truth(value)


def _len(value: object) -> int:
    if isinstance(value, str):
        return len(value.encode())
    if isinstance(value, dict | list | tuple):
        return len(value)
    raise TemplateError(f"len of {text_of(value)}")


def _index(value: object, *keys: object) -> object:
    for key in keys:
        if isinstance(value, dict):
            value = value.get(key, "")  # unlike with a field, a missing key gives the empty value
        elif isinstance(value, list | tuple) and isinstance(key, int) and 0 <= key < len(value):
            value = value[key]
        else:
            raise TemplateError(f"can't index {text_of(value)} with {text_of(key)}")
    return value


def _print(*values: object) -> str:
    parts: list[str] = []
    for number, value in enumerate(values):
        if number and not isinstance(value, str) and not isinstance(values[number - 1], str):
            parts.append(" ")
        parts.append(text_of(value))
    return "".join(parts)


def _println(*values: object) -> str:
    return " ".join(map(text_of, values)) + "\n"


_VERB = re.compile(r"%([-+ 0#]*\d{0,3}(?:\.\d{1,3})?)([a-zA-Z%])|%")


def _printf(form: object, *values: object) -> str:
    if not isinstance(form, str):
        raise TemplateError("printf needs a format string")
    rest = list(values)

    def replace(match: re.Match[str]) -> str:
        flags, verb = match[1], match[2]
        if verb == "%":
            return "%"
        if verb is None or not rest:
            raise TemplateError(f"printf: nothing to put in place of {match[0]}")
        value = rest.pop(0)
        if verb in "sv" or (verb == "t" and isinstance(value, bool)):
            return f"%{flags.replace('#', '')}s" % text_of(value)
        if verb == "q" and isinstance(value, str):
            escaped = (
                value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n").replace("\t", "\\t")
            )
            return f"%{flags}s" % f'"{escaped}"'
        if verb in "dxXo" and isinstance(value, int) and not isinstance(value, bool):
            return f"%{flags}{verb}" % value
        if verb in "feg" and isinstance(value, float):
            return f"%{flags}{verb}" % value
        raise TemplateError(f"printf: {match[0]} does not fit {text_of(value)}")

    written = _VERB.sub(replace, form)
    if rest:
        raise TemplateError("printf has more values than places for them")
    return written


def _eq(first: object, *others: object) -> bool:
    if not others:
        raise TemplateError("eq needs two values to compare")
    return any(_comparable(first, other) and first == other for other in others)


def _ne(first: object, second: object) -> bool:
    return not _eq(first, second)


def _less(first: object, second: object) -> bool:
    _comparable(first, second)
    if isinstance(first, bool) or first is None:
        raise TemplateError("values of this kind have no order")
    return bool(first < second)  # type: ignore[operator]  # of one kind, and of one that has an order


def _comparable(first: object, second: object) -> bool:
    """Refuse to compare what Go does not: values of different kinds, maps, structs."""
    for value in (first, second):
        if not isinstance(value, str | int | float | bool | None):
            raise TemplateError(f"{text_of(value)} cannot be compared")
    if first is not None and second is not None and type(first) is not type(second):
        raise TemplateError(f"{text_of(first)} and {text_of(second)} are of different kinds")
    return True


FUNCTIONS: dict[str, Callable[..., object]] = {
    "join": _join,
    "and": _and,
    "or": _or,
    "not": _not,
    "len": _len,
    "index": _index,
    "print": _print,
    "println": _println,
    "printf": _printf,
    "eq": _eq,
    "ne": _ne,
    "lt": _less,
    "le": lambda first, second: _eq(first, second) or _less(first, second),
    "gt": lambda first, second: _less(second, first),
    "ge": lambda first, second: _eq(first, second) or _less(second, first),
}
