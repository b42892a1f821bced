"""The Markdown of a report, with its pictures in files beside it."""

from __future__ import annotations

import re
import urllib.parse
from collections.abc import Sequence

from keras_ganprune.reports import tables
from keras_ganprune.reports.figures import Drawn
from keras_ganprune.reports.images import Picture
from keras_ganprune.reports.tables import Table
from keras_ganprune.utils import tables as text_tables

_SIGNS = re.compile(r"([\\`*_{}\[\]<>#|$~&!])")


def escaped(text: str) -> str:
    """Return text that Markdown shows as it is.

    Example:
    >>> escaped("a|b <i>")
    'a\\\\|b \\\\<i\\\\>'
    """
    return _SIGNS.sub(r"\\\1", " ".join(text.split()))


def markdown(
    drawn: Sequence[Drawn], together: Sequence[Picture], title: str, folder: str
) -> tuple[str, dict[str, bytes]]:
    """Return the Markdown of a report, and its pictures: name of a file in `folder` -> bytes."""
    files: dict[str, bytes] = {}
    lines = [f"# {escaped(title)}", ""]
    if len(drawn) == 1:
        lines += _one(drawn[0], "##", "", folder, files)
    else:
        lines += _several(drawn, together, folder, files)
    return "\n".join(lines).rstrip() + "\n", files


def _table(found: Table | None, level: str) -> list[str]:
    if found is None:
        return []
    cells = [[escaped(cell) for cell in row] for row in (found.header, *found.rows)]
    lines = [f"{level} {escaped(found.title)}", "", text_tables.markdown(cells), ""]
    return [*lines, escaped(found.note), ""] if found.note else lines


def _pictures(
    found: Sequence[Picture], prefix: str, folder: str, files: dict[str, bytes]
) -> list[str]:
    lines = []
    for picture in found:
        name = f"{prefix}{picture.name}"
        files[name] = picture.data
        link = urllib.parse.quote(f"{folder}/{name}")
        lines += [f"{escaped(picture.title)}:", "", f"![{escaped(picture.alt)}]({link})", ""]
    return lines


def _one(drawn: Drawn, level: str, prefix: str, folder: str, files: dict[str, bytes]) -> list[str]:
    run = drawn.run
    shown = [*drawn.samples, *drawn.latents]
    lines = [f"{level} Samples", "", *_pictures(shown, prefix, folder, files)]
    lines += [*_table(tables.quality(run), level), *_table(tables.sizes(run), level)]
    if drawn.training:
        lines += [f"{level} Training", "", *_pictures(drawn.training, prefix, folder, files)]
        for sentence in tables.updates(run):
            lines += [f"- {escaped(sentence)}"]
        lines.append("")
    for network in run.layers:
        lines += _table(tables.layers(run, network), level)
    for network in run.channels:
        lines += _table(tables.channels(run, network), level)
    for network, made in drawn.masks.items():
        lines += [f"{level} Masks of the {escaped(network)}", ""]
        lines += _pictures(made, prefix, folder, files)
    return [*lines, *_table(tables.about(run), level)]


def _several(
    drawn: Sequence[Drawn], together: Sequence[Picture], folder: str, files: dict[str, bytes]
) -> list[str]:
    runs, lines = [each.run for each in drawn], []
    for found in (tables.overview(runs), tables.paired(runs), tables.differing(runs)):
        lines += _table(found, "##")
    if together:
        lines += ["## Training", "", *_pictures(together, "all-", folder, files)]
    for i, each in enumerate(drawn):
        lines += [f"## {escaped(each.run.name)}", ""]
        lines += _one(each, "###", f"run-{i}-", folder, files)
    return lines
