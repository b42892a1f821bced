"""The Markdown of a report. Its pictures are files beside it."""

from __future__ import annotations

import re
import urllib.parse
from collections.abc import Sequence

from keras_ganprune.reports.figures import DrawnRun
from keras_ganprune.reports.images import Picture
from keras_ganprune.reports.tables import comparison, deployment, meaning, one_run, several_runs
from keras_ganprune.reports.tables.cells import Table
from keras_ganprune.utils import tables as text_tables

_SIGNS = re.compile(r"([\\`*_{}\[\]<>#|$~&!])")


def escaped(text: str) -> str:
    """Return text in which all special characters of Markdown are escaped.

    Example:
    >>> escaped("a|b <i>")
    'a\\\\|b \\\\<i\\\\>'
    """
    return _SIGNS.sub(r"\\\1", " ".join(text.split()))


def markdown(
    drawn: Sequence[DrawnRun], together: Sequence[Picture], title: str, folder: str
) -> tuple[str, dict[str, bytes]]:
    """Return the Markdown of one run, or of several runs side by side, and its pictures.

    Args:
        drawn: The runs with their pictures.
        together: Charts of all runs together; empty for one run.
        title: Title of the report.
        folder: Folder of the pictures, relative to the Markdown.

    Returns:
        (text, dict of file name in `folder` -> bytes).
    """
    files: dict[str, bytes] = {}
    lines = [f"# {escaped(title)}", ""]
    runs = [pictures.run for pictures in drawn]
    said = meaning.meaning(runs[0]) if len(runs) == 1 else meaning.meaning_of_seeds(runs)
    if said:
        lines += ["## What this means", "", *(f"- {escaped(sentence)}" for sentence in said), ""]
    if len(drawn) == 1:
        lines += _one_run(drawn[0], "##", "", folder, files)
    else:
        lines += _several_runs(drawn, together, folder, files)
    return "\n".join(lines).rstrip() + "\n", files


def _table(table: Table | None, level: str) -> list[str]:
    if table is None:
        return []
    cells = [[escaped(cell) for cell in row] for row in (table.header, *table.rows)]
    lines = [f"{level} {escaped(table.title)}", "", text_tables.markdown(cells), ""]
    return [*lines, escaped(table.note), ""] if table.note else lines


def _pictures(
    pictures: Sequence[Picture], prefix: str, folder: str, files: dict[str, bytes]
) -> list[str]:
    """Return the links to some pictures, and add the pictures to `files`."""
    lines = []
    for picture in pictures:
        name = f"{prefix}{picture.name}"
        files[name] = picture.data
        link = urllib.parse.quote(f"{folder}/{name}")
        lines += [f"{escaped(picture.title)}:", "", f"![{escaped(picture.alt)}]({link})", ""]
    return lines


def _one_run(
    drawn: DrawnRun, level: str, prefix: str, folder: str, files: dict[str, bytes]
) -> list[str]:
    run = drawn.run
    lines = _table(comparison.comparison(run), level)
    for title, pictures in (
        ("Pictures", drawn.pictures),
        ("Samples", [*drawn.samples, *drawn.latents]),
    ):
        if pictures:
            lines += [f"{level} {title}", "", *_pictures(pictures, prefix, folder, files)]
    for table in (one_run.quality(run), one_run.sizes(run), deployment.files_table(run)):
        lines += _table(table, level)
    if drawn.training:
        lines += [f"{level} Training", "", *_pictures(drawn.training, prefix, folder, files)]
        lines += [f"- {escaped(sentence)}" for sentence in one_run.updates(run)]
        lines.append("")
    for network in run.layers:
        lines += _table(one_run.layers(run, network), level)
    for network in run.channels:
        lines += _table(one_run.channels(run, network), level)
    for network, pictures in drawn.masks.items():
        lines += [f"{level} Masks of the {escaped(network)}", ""]
        lines += _pictures(pictures, prefix, folder, files)
    return [*lines, *_table(one_run.about(run), level)]


def _several_runs(
    drawn: Sequence[DrawnRun], together: Sequence[Picture], folder: str, files: dict[str, bytes]
) -> list[str]:
    runs, lines = [pictures.run for pictures in drawn], []
    for table in (
        several_runs.overview(runs),
        several_runs.paired(runs),
        several_runs.differing(runs),
    ):
        lines += _table(table, "##")
    if together:
        lines += ["## Training", "", *_pictures(together, "all-", folder, files)]
    for i, pictures in enumerate(drawn):
        lines += [f"## {escaped(pictures.run.name)}", ""]
        lines += _one_run(pictures, "###", f"run-{i}-", folder, files)
    return lines
