"""The lines that an `Explanation` prints: at most 80 columns, and one screen for a GAN.

A network here is a `NetworkExplanation`, a call a `NextCall`. Both print themselves with these lines.
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import Any

from keras_ganprune.metrics.explanation.channels_together import members
from keras_ganprune.utils import tables
from keras_ganprune.utils.notebook import Block, TableBlock

_WIDTH = 80
# So many groups, and layers that stay, are shown of each network.
_GROUPS, _STAY = 6, 3


def wrapped(text: str, indent: str = "  ", more: str = "    ") -> list[str]:
    """Return the lines of a text. Lines of code in it, which follow the first line, keep their indent."""
    first, *code = text.split("\n")
    lines = _wrap(first, indent, more)
    for line in code:
        is_code = line.startswith((" ", "@", "def "))
        begin = more + line[: len(line) - len(line.lstrip())] if is_code else indent
        lines += _wrap(line.lstrip(), begin, begin + "  ")
    return lines


def _wrap(text: str, first: str, more: str) -> list[str]:
    return textwrap.wrap(
        text,
        _WIDTH,
        initial_indent=first,
        subsequent_indent=more,
        break_on_hyphens=False,
    )


def shortened(text: str, width: int) -> str:
    """Return a text of at most `width` characters; the middle of a longer one is left out.

    Example:
    >>> shortened("encoder/block_1/conv", 11)
    'encod…/conv'
    """
    if len(text) <= width:
        return text
    end = (width - 1) // 2
    return f"{text[: width - 1 - end]}…{text[len(text) - end :]}"


def headline(name: str, kind: str, networks: Sequence[Any]) -> list[str]:
    """Return the line about the whole model."""
    count = "1 network" if len(networks) == 1 else f"{len(networks)} networks"
    return wrapped(f"{kind} '{shortened(name, 30)}': {count}. Nothing was changed.", "", "")


def title(network: Any) -> str:
    """Return the name of a network with its class."""
    return f"{shortened(network.name, 40)} ({shortened(network.kind, 30)})"


def masks_text(network: Any) -> str:
    """Return how much of a network masks can prune."""
    covered, total = network.coverage.covered, network.coverage.total
    return f"Masks (zeros): {covered:,} of {total:,} kernel weights can be pruned."


def pruned(network: Any) -> list[str]:
    """Return the line about the masks that a network has already."""
    if not network.pruned:
        return []
    return [f"Already pruned: its masks have a sparsity of {network.pruned:.4f}."]


def groups_table(network: Any) -> list[tuple[str, ...]]:
    """Return the groups of channels as cells, header first; [] without groups."""
    groups = network.groups
    if groups is None or not len(groups):
        return []
    cells: list[tuple[str, ...]] = [("channels that go together", "read by", "number")]
    for group in groups[:_GROUPS]:
        makers, readers = members(group)
        cells.append((_listed(makers, 41), _listed(readers, 26), f"{group.size:,}"))
    rest = groups[_GROUPS:]
    if rest:
        cells.append((f"and {len(rest)} more groups", "", f"{sum(group.size for group in rest):,}"))
    return cells


def _listed(paths: Sequence[str], width: int) -> str:
    """Return paths as text of at most `width` characters."""
    if not paths:
        return "–"
    if len(", ".join(paths)) <= width:
        return ", ".join(paths)
    shown = list(paths)
    while len(shown) > 1:
        shown.pop()
        text = f"{', '.join(shown)} +{len(paths) - len(shown)}"
        if len(text) <= width:
            return text
    more = f" +{len(paths) - 1}" if len(paths) > 1 else ""
    return shortened(paths[0], width - len(more)) + more


def stay_texts(network: Any) -> list[str]:
    """Return a sentence for each reason why channels stay, with the layers."""
    by_reason: dict[str, list[str]] = {}
    for path, why in network.stay.items():
        by_reason.setdefault(why, []).append(path)
    texts = [f"All channels stay in {_named(paths)}: {why}." for why, paths in by_reason.items()]
    more = len(texts) - _STAY
    return texts[:_STAY] + ([f"{more} more: see `.stay`."] if more > 0 else [])


def _named(paths: Sequence[str]) -> str:
    named = ", ".join(f"'{shortened(path, 40)}'" for path in paths[:2])
    return f"{named} and {len(paths) - 2} more" if len(paths) > 2 else named


def network(explained: Any) -> list[str]:
    """Return the lines about one network."""
    lines = [title(explained), *wrapped(masks_text(explained))]
    for text in pruned(explained):
        lines += wrapped(text)
    cells = groups_table(explained)
    if cells:
        lines += [f"  {line}" for line in tables.text(cells, left=2).split("\n")]
    for text in (*stay_texts(explained), *explained.advice):
        lines += wrapped(text)
    return lines + [f"  {line}" for line in tables.text(explained.table()).split("\n")]


def network_blocks(explained: Any) -> list[Block]:
    """Return what a notebook shows of one network."""
    blocks: list[Block] = [title(explained), masks_text(explained), *pruned(explained)]
    groups = groups_table(explained)
    blocks += [TableBlock(groups, left=2)] if groups else []
    return [*blocks, *stay_texts(explained), *explained.advice, TableBlock(explained.table())]


def notes(texts: Sequence[str]) -> list[str]:
    """Return the lines about networks that are left out."""
    return ["", *(line for text in texts for line in wrapped(text, "", "  "))] if texts else []


def calls(found: Sequence[Any]) -> list[str]:
    """Return the lines of code to call next, each below what it does."""
    lines = ["Next (`kgp` is keras_ganprune, `data` what the model is trained on):"]
    for call in found:
        code = textwrap.wrap(
            call.code,
            _WIDTH,
            initial_indent="  ",
            subsequent_indent="      ",
            break_long_words=False,
            break_on_hyphens=False,
        )
        lines += [*wrapped(f"# {call.what}", "  ", "  # "), *code]
    return lines
