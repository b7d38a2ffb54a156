"""Rows of the benchmark table: measured figures beside the original's and the targets."""

import argparse
import dataclasses
import json
import platform
import statistics
import sys
from collections.abc import Callable, Sequence

from tabulate import tabulate


@dataclasses.dataclass(frozen=True)
class Row:
    """One line of the table.

    Attributes:
        what: what was measured.
        value: the median of the repeats.
        unit: unit of ``value``, ``low`` and ``high``.
        low: smallest repeat.
        high: largest repeat.
        original: what the Go original needed, as text with its unit; empty if not known.
        target: what to reach, as text; empty if there is none.
        reached: whether ``value`` reaches the target; None if there is none.
    """

    what: str
    value: float
    unit: str
    low: float
    high: float
    original: str = ""
    target: str = ""
    reached: bool | None = None


def row(
    what: str,
    repeats: Sequence[float],
    unit: str,
    *,
    original: str = "",
    at_most: float | None = None,
    at_least: float | None = None,
) -> Row:
    """Make a row of repeated figures: the median counts, the spread is shown."""
    value = statistics.median(repeats)
    target, reached = "", None
    if at_most is not None:
        target, reached = f"<= {number(at_most)} {unit}", value <= at_most
    elif at_least is not None:
        target, reached = f">= {number(at_least)} {unit}", value >= at_least
    return Row(what, value, unit, min(repeats), max(repeats), original, target, reached)


def number(value: float) -> str:
    """Write a figure with three significant digits, or as a whole number from 100 up."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def table(rows: Sequence[Row]) -> str:
    """Return the rows as a Markdown table, as the README shows it."""
    cells = [
        [
            r.what,
            f"{number(r.value)} {r.unit}",
            f"{number(r.low)} to {number(r.high)}",
            r.original or "-",
            r.target or "-",
            {True: "yes", False: "no", None: "-"}[r.reached],
        ]
        for r in rows
    ]
    titles = ["what", "measured", "spread", "the original", "to reach", "reached"]
    return tabulate(cells, headers=titles, tablefmt="github", disable_numparse=True)


def interpreter() -> str:
    """Say what ran the code: an interpreter built without its profile takes a tenth longer."""
    return f"{platform.python_implementation()} {platform.python_version()}, {platform.python_compiler()}"


def main(measure: Callable[[], list[Row]], description: str | None) -> None:
    """Run one benchmark as a program: a table, or ``--json``."""
    parser = argparse.ArgumentParser(description=(description or "").split("\n")[0])
    parser.add_argument("--json", action="store_true", help="print the rows as JSON")
    wants_json = parser.parse_args().json
    rows = measure()
    if wants_json:
        json.dump([dataclasses.asdict(r) for r in rows], sys.stdout)
        print()
    else:
        print(table(rows))
        print(f"\n{interpreter()}")
