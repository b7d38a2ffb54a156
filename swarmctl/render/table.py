"""Tables and inspect blocks; pure (contract/cli.md, 4). No printed line ends in blanks."""

from collections.abc import Iterable, Sequence

from tabulate import tabulate

#: Blanks behind a key column in inspect blocks.
KEY_GAP = 8
LIST_GAP = 2
WIDE_GAP = 4


def table(titles: Sequence[str], rows: Iterable[Sequence[str]], gap: int = LIST_GAP) -> str:
    """Return a header, a rule as long as each title, and the rows, left-aligned.

    Numbers stay text and leading blanks stay; the library's own gap of two is widened to ``gap``.
    """
    pad = " " * (gap - LIST_GAP)
    lines = [titles, ["-" * len(title) for title in titles], *rows]
    text = tabulate(
        # The titles go in as a row: the library pads the columns of what it knows as headers.
        [[*(cell + pad for cell in line[:-1]), line[-1]] for line in lines],
        tablefmt="plain",
        disable_numparse=True,
        preserve_whitespace=True,
        stralign="left",
    )
    return "\n".join(line.rstrip() for line in text.splitlines())


class Block:
    """Lines of ``KEY : VALUE`` whose colons stand below each other."""

    def __init__(self) -> None:
        self._runs: list[list[tuple[str, str | None]]] = [[]]
        self._heads: list[str | None] = [None]

    def add(self, key: str, value: object) -> None:
        """Add a line, unless the value is empty."""
        if str(value):
            self._runs[-1].append((key, str(value)))

    def heading(self, key: str) -> None:
        """Add a heading that stands within the aligned lines."""
        self._runs[-1].append((key, None))

    def section(self, line: str) -> None:
        """Add a line of its own; lines after it are aligned among themselves."""
        self._heads.append(line)
        self._runs.append([])

    def text(self) -> str:
        """Return the block."""
        lines: list[str] = []
        for head, run in zip(self._heads, self._runs, strict=True):
            if head is not None:
                lines.append(head)
            width = max((len(key) for key, _ in run), default=0) + KEY_GAP
            lines += [key if value is None else f"{key:<{width}}: {value}" for key, value in run]
        return "\n".join(lines)
