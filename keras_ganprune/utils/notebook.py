"""How results show themselves in a notebook: paragraphs, tables and code as HTML without scripts."""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass

from keras_ganprune.utils.tables import Cells

# No colours and no fonts: those of the notebook hold, light or dark.
_SCROLL = "overflow-x:auto;max-width:100%"
_CELL = "padding:2px 10px;white-space:nowrap;border-bottom:1px solid rgba(128,128,128,.35)"


@dataclass(frozen=True)
class TableBlock:
    """A table.

    Attributes:
        cells: Rows of text, the header first.
        left: Number of columns that are aligned to the left. Defaults to 1.
        total: Whether the last row is a total. Defaults to False.
    """

    cells: Cells
    left: int = 1
    total: bool = False


@dataclass(frozen=True)
class CodeBlock:
    """Code, or another text whose lines stay as they are."""

    text: str


Block = str | TableBlock | CodeBlock


class ShownInNotebooks:
    """Mixin: a class whose `_blocks` list what a notebook shows; a str is a paragraph."""

    __slots__ = ()

    def _blocks(self) -> Sequence[Block]:
        """Return the paragraphs, tables and code that say what `str` says."""
        raise NotImplementedError

    def _repr_html_(self) -> str:
        return as_html(self._blocks())


def as_html(blocks: Sequence[Block]) -> str:
    """Return blocks as HTML. All text is escaped.

    Args:
        blocks: Each a str (a paragraph), a `TableBlock` or a `CodeBlock`.

    Example:
    >>> as_html(["1 < 2"])
    '<div><p style="margin:4px 0">1 &lt; 2</p></div>'
    """
    return f"<div>{''.join(_block(block) for block in blocks)}</div>"


def _block(block: Block) -> str:
    if isinstance(block, TableBlock):
        return _table(block)
    if isinstance(block, CodeBlock):
        return (
            f'<pre style="{_SCROLL};margin:4px 0;color:inherit;background:none">'
            f"{html.escape(block.text)}</pre>"
        )
    return f'<p style="margin:4px 0">{html.escape(block)}</p>'


def _table(block: TableBlock) -> str:
    header, *rows = block.cells
    last = len(rows) - 1 if block.total else -1
    body = "".join(_row(row, block.left, "td", i == last) for i, row in enumerate(rows))
    return (
        f'<div style="{_SCROLL}"><table style="border-collapse:collapse;margin:4px 0;'
        'color:inherit;font:inherit;font-variant-numeric:tabular-nums">'
        f"<thead>{_row(header, block.left, 'th')}</thead><tbody>{body}</tbody></table></div>"
    )


def _row(cells: Sequence[str], left: int, tag: str, bold: bool = False) -> str:
    weight = ";font-weight:600" if bold or tag == "th" else ""
    return (
        '<tr style="background:none">'
        + "".join(
            f'<{tag} style="{_CELL};text-align:{"left" if i < left else "right"}{weight}">'
            f"{html.escape(cell)}</{tag}>"
            for i, cell in enumerate(cells)
        )
        + "</tr>"
    )
