"""Filters of lists: values of a field are OR-ed, fields AND-ed, case counts (contract/control-api.md, 1)."""

from collections.abc import Collection, Mapping, Sequence

from swarmkit.store import by


def one_of(wanted: Collection[object], value: object) -> bool:
    """Tell whether ``value`` is among ``wanted``; an empty filter accepts everything."""
    return not wanted or value in wanted


def prefixed(prefixes: Sequence[str], value: str) -> bool:
    """Tell whether ``value`` begins with one of ``prefixes``; an empty filter accepts everything."""
    return not prefixes or value.startswith(tuple(prefixes))


def labelled(wanted: Mapping[str, str], labels: Mapping[str, str]) -> bool:
    """Tell whether every wanted key is there with its value; an empty value accepts any."""
    return all(key in labels and value in ("", labels[key]) for key, value in wanted.items())


def narrowest(*alternatives: Sequence[by.Selector]) -> Sequence[by.Selector]:
    """Return the first field's selectors that is given, to look through less than the whole table."""
    return next((selectors for selectors in alternatives if selectors), ())
