"""`write_report`: the page, the Markdown and the pictures of a report on disk."""

from __future__ import annotations

import dataclasses
import os
import pathlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from keras_ganprune.errors import ArgumentTypeError, InvalidArgumentError, OutputError
from keras_ganprune.reports import charts
from keras_ganprune.reports.figures import draw
from keras_ganprune.reports.html import page
from keras_ganprune.reports.markdown import markdown
from keras_ganprune.reports.run import Run, load_run
from keras_ganprune.utils import annotated, files, validation
from keras_ganprune.utils.notebook import Block, ShownInNotebooks

# A run, or the folder of a run.
RunOrFolder = Run | str | os.PathLike


@dataclass(frozen=True)
class ReportFiles(ShownInNotebooks):
    """The files of a report.

    Attributes:
        html: The page, one file that needs no other file and no network.
        markdown: The same report as Markdown.
        pictures: Folder with the pictures of the Markdown.

    Example:
    >>> page = pathlib.Path("report.html")
    >>> files = ReportFiles(page, page.with_suffix(".md"), pathlib.Path("report_files"))
    >>> files.markdown.name, files.pictures.name
    ('report.md', 'report_files')
    """

    html: pathlib.Path
    markdown: pathlib.Path
    pictures: pathlib.Path

    def _blocks(self) -> list[Block]:
        return [str(self)]

    def __str__(self) -> str:
        size = self.html.stat().st_size
        return f"{self.html} ({size / 1e6:.1f} MB, needs no network) and {self.markdown}"


# A page of this package has the first of them; pages of version 0.2 and before have the second.
_MARKS = ('name="generator" content="keras-ganprune report"', "Written by keras-ganprune report")


def write_report(
    runs: RunOrFolder | Iterable[RunOrFolder],
    output: str | os.PathLike[str] | None = None,
    title: str | None = None,
    *,
    overwrite: bool = False,
) -> ReportFiles:
    """Write the report of one run, or of several runs side by side, as HTML and Markdown.

    The HTML page is one file without scripts. It shows samples of the dense and the pruned generator from
    the same latent vectors, quality with 95 % intervals, sizes and times, losses and sparsity over the
    steps, sparsity by layer, masks and settings. For several runs, it first compares the runs. Runs that
    differ only in the seed are compared in pairs.

    Args:
        runs: A run folder or a `Run`, or a list of them.
        output: The page, '<name>.html'. The Markdown is '<name>.md', its pictures are in '<name>_files'.
            Defaults to None: 'report.html' in the folder of the run, or, for several runs, in the present
            folder.
        title: Title of the report. Defaults to the names of the runs.
        overwrite: Whether to replace existing files that are no report. A report that this function has
            written is replaced in any case. Defaults to False.

    Returns:
        A `ReportFiles` with the paths.

    Raises:
        FileFormatError: A run folder does not exist, is incomplete or damaged, or has another format.
        InvalidArgumentError: `runs` is empty, a run is given twice, `output` does not end in '.html', or
            there is no `output` for a `Run` that has no folder.
        OutputError: A file exists already, or cannot be written.
        MissingPackageError: jinja2, matplotlib, Pillow or scipy is not installed.

    Example:
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     images = np.zeros((4, 8, 8, 1))
    ...     run = save_run(f"{folder}/run", history={"loss": [2.0, 1.0]}, samples={"pruned": images})
    ...     files = write_report(f"{folder}/run", f"{folder}/report.html")
    ...     files.html.read_text(encoding="utf-8")[:15], files.markdown.name
    ('<!DOCTYPE html>', 'report.md')
    """
    annotated.check(write_report, locals(), "output", "title", "overwrite", "runs")
    given = _as_list(runs)
    html = _default_page(given) if output is None else files.as_path(output)
    if html.suffix.lower() not in (".html", ".htm"):
        raise InvalidArgumentError(
            f"`output` must end in '.html', such as 'report.html'. Received: '{output}'."
        )
    names = ReportFiles(html, html.with_suffix(".md"), html.with_name(f"{html.stem}_files"))
    named = _named_runs(given)
    replaces = overwrite or _is_report(names)
    _check_free(names, replaces)
    kind = "Run" if len(named) == 1 else "Runs"
    title = title or f"{kind} {', '.join(run.name for run in named)}"
    drawn = [draw(run) for run in named]
    together = charts.together(named) if len(named) > 1 else []
    text, pictures = markdown(drawn, together, title, names.pictures.name)
    _write(names, page(drawn, together, title), text, pictures, replaces)
    return names


def _as_list(runs: RunOrFolder | Iterable[RunOrFolder]) -> list[Any]:
    validation.check_ordered(runs, "runs")
    several = list(runs) if isinstance(runs, Iterator) else validation.entries(runs)
    return [runs] if several is None else several


def _default_page(given: list[Any]) -> pathlib.Path:
    """Return where the page of some runs belongs."""
    if len(given) != 1:
        return pathlib.Path("report.html")
    if isinstance(given[0], Run):
        raise InvalidArgumentError(
            "`output` is needed for a `Run`, which has no folder. Received: None. Write for example "
            "`write_report(run, 'report.html')`."
        )
    annotated.check_value(given[0], "runs", str | os.PathLike[str])
    return files.as_path(given[0]) / "report.html"


def _is_report(names: ReportFiles) -> bool:
    """Return whether a page is one that this function has written, or that a run wrote at its end."""
    try:
        with names.html.open(encoding="utf-8", errors="replace") as page:
            text = page.read()
    except OSError:
        return False
    return any(mark in text for mark in _MARKS)


def _named_runs(given: list[Any]) -> list[Run]:
    """Return the runs. Runs with equal names get their folder, or their position in the list, as a suffix."""
    for run in given:
        if isinstance(run, (str, os.PathLike)):
            annotated.check_value(run, "runs", str | os.PathLike[str])
        elif not isinstance(run, Run):
            raise ArgumentTypeError(
                "`runs` must be a run folder or a `Run`, or a list of them. Received: "
                f"{run!r} (of type {type(run).__name__})."
            )
    if not given:
        raise InvalidArgumentError("`runs` must contain at least one run. Received: [].")
    places = [pathlib.Path(run).resolve() for run in given if not isinstance(run, Run)]
    repeated = sorted({str(place) for place in places if places.count(place) > 1})
    if repeated:
        raise InvalidArgumentError(
            f"Each run can be given only once. Received '{repeated[0]}' twice."
        )
    loaded = [run if isinstance(run, Run) else load_run(run) for run in given]
    names = [run.name or "run" for run in loaded]
    named: list[Run] = []
    for number, (run, name) in enumerate(zip(loaded, names, strict=True)):
        if names.count(name) > 1:
            folder = None if isinstance(given[number], Run) else str(given[number])
            name = f"{name} ({folder or number + 1})"
        named.append(dataclasses.replace(run, name=name))
    return named


def _check_free(names: ReportFiles, overwrite: bool) -> None:
    for path in (names.html, names.markdown, names.pictures):
        files.check_name(path)
        wrong_kind = path.exists() and path.is_dir() != (path == names.pictures)
        if wrong_kind or (path.exists() and not overwrite):
            raise OutputError(
                f"The report's files must be new. '{path}' exists and is no report; choose another name"
                + (
                    "."
                    if wrong_kind
                    else ", or allow overwriting (`overwrite=True`, `--overwrite`)."
                )
            )


def _write(
    output: ReportFiles, page: str, text: str, pictures: dict[str, bytes], overwrite: bool
) -> None:
    """Write all files into a temporary folder, then give them their names. The page is the last."""
    paths = (output.pictures, output.markdown, output.html)
    with files.new_outputs(paths, overwrite) as (pictures_work, text_work, page_work):
        pictures_work.mkdir()
        for name, data in pictures.items():
            (pictures_work / name).write_bytes(data)
        text_work.write_text(text, encoding="utf-8", errors="replace")
        page_work.write_text(page, encoding="utf-8", errors="replace")
