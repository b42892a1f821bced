"""Pieces of a page as elements of a tree: whatever text they get is escaped when the tree is written."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Sequence
from typing import Any
from xml.etree import ElementTree

from keras_ganprune.reports import charts
from keras_ganprune.reports.images import Picture
from keras_ganprune.reports.tables import Table

Element = ElementTree.Element


def make(tag: str, *children: Element | str | None, **attributes: Any) -> Element:
    """Return an element; None among the children is left out, `_` in names of attributes is `-`.

    Example:
    >>> ElementTree.tostring(make("p", "a < b ", make("b", "c"), class_="note")).decode()
    '<p class="note">a &lt; b <b>c</b></p>'
    """
    found = ElementTree.Element(
        tag, {key.rstrip("_").replace("_", "-"): str(value) for key, value in attributes.items()}
    )
    for child in children:
        if isinstance(child, str):
            if len(found):
                found[-1].tail = (found[-1].tail or "") + child
            else:
                found.text = (found.text or "") + child
        elif child is not None:
            found.append(child)
    return found


def write(root: Element) -> str:
    """Return the text of a page."""
    text = ElementTree.tostring(root, encoding="unicode", method="html")
    # Python 3.10 does not know that `wbr` has no end. In text it would be escaped.
    return f"<!DOCTYPE html>\n{text.replace('</wbr>', '')}\n"


def table(
    found: Table,
    heading: str = "",
    wrap: bool = False,
    bars: Sequence[tuple[float, float | None]] = (),
) -> Element:
    """Return a table that scrolls by itself where it is wider than the page.

    Args:
        found: The cells.
        heading: What stands above; a title that says the same is for those only who cannot see.
        wrap: Whether long cells are broken instead.
        bars: For each row, a share in [0, 1] to draw behind the second cell, and one to mark or None; none
            for rows at the end.
    """
    header = [make("th", cell or " ", scope="col") for cell in found.header]
    if bars:
        header.insert(2, make("th", "share", scope="col", class_="left"))
    rows = []
    for number, (first, *cells) in enumerate(found.rows):
        row = make("tr", make("th", *_breakable(first), scope="row"))
        row.extend(make("td", cell) for cell in cells)
        if bars:
            row.insert(2, make("td", _bar(*bars[number])) if number < len(bars) else make("td"))
        rows.append(row)
    grid = make(
        "table",
        make("caption", found.title, **({"class_": "hidden"} if found.title == heading else {})),
        make("thead", make("tr", *header)),
        make("tbody", *rows),
        **({"class_": "wrap"} if wrap else {}),
    )
    scroll = make("div", grid, class_="scroll", tabindex="0", role="region", aria_label=found.title)
    return make("div", scroll, make("p", found.note, class_="note") if found.note else None)


def _breakable(path: str) -> list[Element | str]:
    """Return the parts of a path, between which a line may end."""
    parts = path.split("/")
    return [part for name in parts[:-1] for part in (f"{name}/", make("wbr"))] + [parts[-1]]


def _bar(share: float, marked: float | None) -> Element:
    mark = None if marked is None else make("b", style=f"left:{marked:.2%}")
    return make(
        "span", make("i", style=f"width:{share:.2%}"), mark, class_="bar", aria_hidden="true"
    )


def image(picture: Picture) -> Element:
    data = base64.b64encode(picture.data).decode()
    return make("img", src=f"data:image/png;base64,{data}", alt=picture.alt)


def figures(pictures: Iterable[Picture], kind: str, prefix: str = "") -> Element:
    """Return pictures side by side, each under its title.

    Args:
        kind: A class of the style sheet: 'samples', 'rows', 'masks' or 'charts'.
        prefix: Of charts, what keeps their inner names apart from those of other figures.
    """
    made = []
    for picture in pictures:
        svg = picture.name.endswith(".svg")
        shown = charts.element(picture, f"{prefix}{picture.name[:-4]}-") if svg else image(picture)
        made.append(make("figure", make("figcaption", picture.title), shown))
    return make("div", *made, class_=f"figures {kind}")
