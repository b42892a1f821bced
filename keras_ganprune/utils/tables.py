"""Tables as plain text and as Markdown, and the text of numbers in them."""

from __future__ import annotations

import math
from collections.abc import Sequence

Cells = Sequence[Sequence[str]]


def text(cells: Cells, left: int = 1, total: bool = False) -> str:
    """Return a table as plain text: the header, a rule, the rows.

    Args:
        cells: Rows of text, the header first.
        left: Number of columns that are aligned to the left; the others are aligned to the right.
            Defaults to 1.
        total: Whether the last row is a total. A rule is drawn above it. Defaults to False.

    Example:
    >>> print(text([("layer", "MACs"), ("head", "1,024")]))
    layer   MACs
    ────────────
    head   1,024
    """
    widths = [max(len(row[i]) for row in cells) for i in range(len(cells[0]))]
    lines = []
    for row in cells:
        padded = [
            cell.ljust(width) if i < left else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  ".join(padded).rstrip())
    rule = "─" * max(len(line) for line in lines)
    body = [*lines[1:-1], rule, lines[-1]] if total else lines[1:]
    return "\n".join([lines[0], rule, *body])


def fitted(cells: Cells, columns: int | None, left: int = 1) -> str:
    """Return a table as plain text that is not wider than a terminal.

    Columns that do not fit follow below, in a table of their own with the first column again.

    Args:
        cells: Rows of text, the header first.
        columns: Width of the terminal, or None for any width.
        left: Number of columns that are aligned to the left. Defaults to 1.

    Example:
    >>> print(fitted([("layer", "MACs", "bytes"), ("head", "1,024", "4,096")], columns=14))
    layer   MACs
    ────────────
    head   1,024
    <BLANKLINE>
    layer  bytes
    ────────────
    head   4,096
    """
    widths = [max(len(row[i]) for row in cells) for i in range(len(cells[0]))]
    parts: list[list[int]] = [[0]]
    for i, width in enumerate(widths[1:], 1):
        used = sum(widths[k] + 2 for k in parts[-1])
        if columns is not None and used + width > columns and len(parts[-1]) > 1:
            parts.append([0])
        parts[-1].append(i)
    return "\n\n".join(
        text([[row[i] for i in part] for row in cells], sum(i < left for i in part))
        for part in parts
    )


def markdown(cells: Cells, left: int = 1) -> str:
    """Return a table as Markdown.

    Args:
        cells: Rows of text, the header first.
        left: Number of columns that are aligned to the left; the others are aligned to the right.
            Defaults to 1.

    Example:
    >>> print(markdown([("layer", "MACs"), ("head", "1,024")]))
    | layer | MACs |
    | --- | ---: |
    | head | 1,024 |
    """
    marks = ["---" if i < left else "---:" for i in range(len(cells[0]))]
    return "\n".join("| " + " | ".join(row) + " |" for row in [cells[0], marks, *cells[1:]])


def change(value: float | None, digits: int = 1) -> str:
    """Return a relative change in percent, with its sign, or '–' if there is no finite value.

    Example:
    >>> change(0.08), change(-0.125, 0), change(None)
    ('+8.0%', '-12%', '–')
    """
    return "–" if value is None or not math.isfinite(value) else f"{value:+.{digits}%}"


def change_range(low: float, high: float) -> str:
    """Return an interval of relative changes as text.

    Example:
    >>> change_range(-0.02, 0.08)
    '-2.0% to +8.0%'
    """
    return f"{change(low)} to {change(high)}"
