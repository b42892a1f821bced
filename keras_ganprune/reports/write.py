"""A report on disk."""

from __future__ import annotations

import dataclasses
import os
import pathlib
import shutil
import tempfile
from dataclasses import dataclass
from typing import Any

from keras_ganprune.errors import InvalidArgumentError, OutputError
from keras_ganprune.reports import charts
from keras_ganprune.reports.figures import draw
from keras_ganprune.reports.html import page
from keras_ganprune.reports.markdown import markdown
from keras_ganprune.reports.run import Run, load_run


@dataclass(frozen=True)
class ReportFiles:
    """What was written.

    Attributes:
        html: The page: one file that needs no other and no network.
        markdown: The same as Markdown.
        pictures: Folder with the pictures of the Markdown.
    """

    html: pathlib.Path
    markdown: pathlib.Path
    pictures: pathlib.Path

    def __str__(self) -> str:
        size = self.html.stat().st_size
        return f"{self.html} ({size / 1e6:.1f} MB, needs no network) and {self.markdown}"


def write_report(
    runs: Any, output: str | os.PathLike, title: str | None = None, *, overwrite: bool = False
) -> ReportFiles:
    """Write the page of one run, or of several side by side.

    The page is one file without scripts: samples of the dense and the pruned generator from the same
    latent vectors, quality with 95 % intervals, sizes and times, losses and sparsity over the steps,
    sparsity by layer, masks and settings. Of several runs it shows first what differs; runs that differ
    only in the seed are compared in pairs.

    Args:
        runs: A run folder or a `Run`, or a list of them.
        output: The page, '<name>.html'. '<name>.md' is written beside it, and its pictures in
            '<name>_files'.
        title: Of the page; None for the names of the runs.
        overwrite: Replace files that exist.

    Returns: A `ReportFiles`.

    Raises:
        FileFormatError: a run folder is incomplete, damaged or of another version.
        InvalidArgumentError: there is no run, one is given twice, or `output` is no '.html'.
        OutputError: something is there already, or cannot be written.
        MissingPackageError: matplotlib, pillow or scipy is not installed.

    Example:
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     images = np.zeros((4, 8, 8, 1))
    ...     run = save_run(f"{folder}/run", history={"loss": [2.0, 1.0]}, samples={"pruned": images})
    ...     files = write_report(f"{folder}/run", f"{folder}/report.html")
    ...     files.html.read_text(encoding="utf-8")[:15], files.markdown.name
    ('<!DOCTYPE html>', 'report.md')
    """
    html = pathlib.Path(output)
    if html.suffix.lower() not in (".html", ".htm"):
        raise InvalidArgumentError(
            f"The page is an HTML file, such as report.html. Received: '{output}'."
        )
    made = ReportFiles(html, html.with_suffix(".md"), html.with_name(f"{html.stem}_files"))
    _check_free(made, overwrite)
    found = _runs(runs)
    title = title or ("Run " if len(found) == 1 else "Runs ") + ", ".join(r.name for r in found)
    drawn = [draw(run) for run in found]
    together = charts.together(found) if len(found) > 1 else []
    text, pictures = markdown(drawn, together, title, made.pictures.name)
    _write(made, page(drawn, together, title), text, pictures)
    return made


def _runs(runs: Any) -> list[Run]:
    """Return the runs, with names that differ."""
    many = [runs] if isinstance(runs, (str, os.PathLike, Run)) else list(runs)
    if not many:
        raise InvalidArgumentError("A report needs a run at least. Received none.")
    places = [pathlib.Path(r).resolve() for r in many if not isinstance(r, Run)]
    twice = sorted({str(place) for place in places if places.count(place) > 1})
    if twice:
        raise InvalidArgumentError(f"A run can be given once. Received '{twice[0]}' twice.")
    found = [r if isinstance(r, Run) else load_run(r) for r in many]
    named: list[Run] = []
    for number, run in enumerate(found):
        name = run.name or "run"
        if [r.name or "run" for r in found].count(name) > 1:
            # The folder tells them apart where there is one; else the place in the list.
            folder = None if isinstance(many[number], Run) else str(many[number])
            name = f"{name} ({folder or number + 1})"
        named.append(dataclasses.replace(run, name=name))
    return named


def _check_free(made: ReportFiles, overwrite: bool) -> None:
    for path in (made.html, made.markdown, made.pictures):
        wrong = path.exists() and path.is_dir() != (path == made.pictures)
        if wrong or (path.exists() and not overwrite):
            raise OutputError(
                f"The report's files must be new. '{path}' exists; choose another name"
                + ("." if wrong else ", or ask to overwrite it (`overwrite=True`, `--overwrite`).")
            )


def _write(made: ReportFiles, page: str, text: str, pictures: dict[str, bytes]) -> None:
    """Write everything aside, and move it into place when all is there."""
    try:
        parent = made.html.absolute().parent
        parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{made.html.stem}-", dir=parent) as work:
            folder = pathlib.Path(work)
            (folder / "files").mkdir()
            for name, data in pictures.items():
                (folder / "files" / name).write_bytes(data)
            (folder / "page").write_text(page, encoding="utf-8", errors="replace")
            (folder / "text").write_text(text, encoding="utf-8", errors="replace")
            if made.pictures.exists():
                shutil.move(made.pictures, folder / "old")
            (folder / "files").replace(made.pictures)
            (folder / "text").replace(made.markdown)
            (folder / "page").replace(made.html)
    except OSError as error:
        raise OutputError(
            f"The report '{made.html}' could not be written ({error.strerror or error}). Check the free "
            "space and the permissions."
        ) from error
