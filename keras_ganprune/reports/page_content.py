"""The content of the HTML page: sections made of notes, headings, tables and figures, without any markup."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import ClassVar

from keras_ganprune.reports import inline_svg
from keras_ganprune.reports.figures import DrawnRun
from keras_ganprune.reports.images import Picture
from keras_ganprune.reports.run import Run
from keras_ganprune.reports.tables import comparison, deployment, meaning, one_run, several_runs
from keras_ganprune.reports.tables.cells import Table, interval, number, percent
from keras_ganprune.reports.tables.measurements import fd_increase, final_name, measured
from keras_ganprune.reports.tables.names import shown
from keras_ganprune.utils.palette import LIGHT, MASK_CAPTION
from keras_ganprune.utils.tables import change

_SAMPLES_NOTE = (
    "Images at the same place in two grids come from the same latent vector. Real images do not."
)
_MASKS_NOTE = (
    f"{MASK_CAPTION} The last two axes of a kernel form a tile; there is one tile per kernel position of a "
    "convolution. In a large mask, a cell shows the share of kept weights."
)
# So many characters fit beside each other on a phone, and so many does a gap take.
_PHONE_CHARACTERS, _GAP = 44, 3
_LAYERS_NOTE = "The line across a bar is the requested sparsity of that weight."


# --- blocks: the template has one macro per kind -------------------------------------------------


@dataclass(frozen=True)
class Note:
    """A paragraph in small print."""

    text: str
    kind: ClassVar[str] = "note"


@dataclass(frozen=True)
class Heading:
    """A heading inside a section."""

    text: str
    kind: ClassVar[str] = "heading"


@dataclass(frozen=True)
class Bar:
    """A bar in a row of a table: the filled part and a mark, as percentages in CSS."""

    width: str
    mark: str | None

    @classmethod
    def of(cls, share: float, marked: float | None = None) -> Bar:
        """Return a bar for a share in [0, 1] and an optional marked share."""
        return cls(f"{share:.2%}", None if marked is None else f"{marked:.2%}")


@dataclass(frozen=True)
class TableBlock:
    """A table, which scrolls by itself if it is wider than the page.

    Attributes:
        table: The cells.
        heading: Heading above the table. A caption with the same text is for screen readers only.
        wrap: Whether long cells are wrapped instead of scrolled.
        bars: One bar per row, drawn after the second cell; the last rows may have none.
    """

    table: Table
    heading: str = ""
    wrap: bool = False
    bars: tuple[Bar, ...] = ()
    kind: ClassVar[str] = "table"

    @property
    def style(self) -> str:
        """Classes of the style sheet. On a phone, the rows of a wide table become lists."""
        names = (
            ("wrap", self.wrap),
            ("many", bool(self.bars) or self._needs() > _PHONE_CHARACTERS),
        )
        return " ".join(name for name, holds in names if holds)

    def _needs(self) -> int:
        """Return the characters that the longest words of the columns take side by side, with the gaps."""
        columns = zip(self.table.header, *self.table.rows, strict=True)
        longest = (max((len(w) for cell in c for w in cell.split()), default=0) for c in columns)
        return sum(width + _GAP for width in longest) if not self.wrap else 0


@dataclass(frozen=True)
class Figure:
    """A picture with its title: SVG markup, or the URI of an image with its description."""

    title: str
    alt: str
    svg: str
    uri: str


@dataclass(frozen=True)
class Figures:
    """Pictures side by side. `style` is a class of the style sheet: samples, rows, masks, charts or
    wide."""

    figures: tuple[Figure, ...]
    style: str
    kind: ClassVar[str] = "figures"


@dataclass(frozen=True)
class Columns:
    """Figures of several runs side by side, each under the name of its run."""

    columns: tuple[tuple[str, Figures], ...]
    kind: ClassVar[str] = "columns"


@dataclass(frozen=True)
class Card:
    """An important number: its name, its value, and a remark or ''."""

    term: str
    value: str
    remark: str


@dataclass(frozen=True)
class RunDetails:
    """A run that readers can unfold, on a page of several runs."""

    anchor: str
    name: str
    cards: tuple[Card, ...]
    sections: tuple[Section, ...]
    kind: ClassVar[str] = "details"


Block = Note | Heading | TableBlock | Figures | Columns | RunDetails


@dataclass(frozen=True)
class Section:
    """A section of the page."""

    anchor: str
    title: str
    blocks: tuple[Block, ...]


@dataclass(frozen=True)
class Page:
    """The whole page."""

    title: str
    lead: str
    meaning: tuple[str, ...]
    cards: tuple[Card, ...]
    sections: tuple[Section, ...]
    footer: str


# --- from runs to blocks -------------------------------------------------------------------------


def page_content(drawn: Sequence[DrawnRun], together: Sequence[Picture], title: str) -> Page:
    """Return the content of the page of one run, or of several runs side by side.

    Args:
        drawn: The runs with their pictures.
        together: Charts of all runs together; empty for one run.
        title: Title of the page.
    """
    runs = [pictures.run for pictures in drawn]
    versions = sorted({run.versions.get("keras-ganprune", "unknown") for run in runs})
    footer = f"Written by keras-ganprune report; runs of version {', '.join(versions)}."
    if len(drawn) > 1:
        lead = f"{len(runs)} runs: {', '.join(run.name for run in runs)}."
        said = tuple(meaning.meaning_of_seeds(runs))
        return Page(title, lead, said, (), _several_runs(drawn, together), footer)
    (run,) = runs
    said = tuple(meaning.meaning(run))
    return Page(title, _lead(run), said, _cards(run), _one_run(drawn[0], "run-0-"), footer)


def _lead(run: Run) -> str:
    facts = [run.data, f"{run.steps:,} steps" if run.steps else "", run.hardware]
    facts += [f"trained in {run.seconds:.0f}\u00a0s" if run.seconds is not None else ""]
    return " · ".join(fact for fact in facts if fact)


def _cards(run: Run) -> tuple[Card, ...]:
    """Return the most important numbers of a run."""
    cards = [
        Card(f"sparsity, {network}", percent(run.sparsity(network)), "of its masked weights")
        for network in run.layers
    ]
    for network, groups in run.channels.items():
        before = sum(channels for _, channels, _ in groups)
        after = sum(channels for _, _, channels in groups)
        cards.append(Card(f"channels, {network}", f"{after:,}", f"of {before:,}"))
    return (*cards, *_quality_cards(run), *_size_cards(run))


def _quality_cards(run: Run) -> list[Card]:
    if run.metrics:
        return _metric_cards(run)
    cards, last = [], final_name(run)
    fd, increase = measured(run, last, "fd"), fd_increase(run, last)
    if fd is not None:
        remark = (
            "" if increase is None else f"{change(increase.mean)} against {shown(run, 'dense')}"
        )
        cards.append(Card(f"Fréchet distance, {last}", interval(fd), remark))
    coverage = measured(run, last, "coverage")
    if coverage is not None:
        dense = measured(run, "dense", "coverage")
        remark = "" if dense is None else f"{shown(run, 'dense')}: {interval(dense)}"
        cards.append(Card(f"coverage, {last}", interval(coverage), remark))
    return cards


def _metric_cards(run: Run) -> list[Card]:
    """Return the deciding metric of each network, beside that of the dense one."""
    metric, column = next(iter(run.metrics.items()))
    dense = comparison.measured(run, "dense", metric)
    names = [name for name in run.quality if name in run.sizes and name != "dense"]
    remark = f"{shown(run, 'dense')}: {dense}"
    return [
        Card(f"{column.heading}, {name}", comparison.measured(run, name, metric), remark)
        for name in names
    ]


def _size_cards(run: Run) -> list[Card]:
    cards = []
    before, after = run.sizes.get("dense", {}), run.sizes.get(final_name(run), {})
    for key, label in (
        ("nonzero", "weights that are not zero"),
        ("macs", "MACs"),
        ("gzip_bytes", "SavedModel, gzipped"),
    ):
        if before.get(key) and after.get(key) is not None and before[key] != after[key]:
            remark = f"{number(after[key])} of {number(before[key])} ({shown(run, 'dense')})"
            cards.append(Card(label, f"{after[key] / before[key]:.2f}×", remark))
    return cards


def _figures(pictures: Iterable[Picture], style: str, prefix: str = "") -> Figures:
    """Return pictures as figures; `prefix` keeps the ids of SVG pictures unique in the page."""
    figures = []
    for picture in pictures:
        svg, uri = "", ""
        if picture.name.endswith(".svg"):
            svg = inline_svg.inline(picture, f"{prefix}{picture.name[:-4]}-")
        else:
            uri = f"data:image/png;base64,{base64.b64encode(picture.data).decode()}"
        figures.append(Figure(picture.title, picture.alt, svg, uri))
    return Figures(tuple(figures), style)


def _one_run(drawn: DrawnRun, prefix: str) -> tuple[Section, ...]:
    """Return the sections of one run. A section without content is left out."""
    run = drawn.run
    quality, sizes = one_run.quality(run), one_run.sizes(run)
    results, exported = comparison.comparison(run), deployment.files_table(run)
    blocks: dict[tuple[str, str], list[Block]] = {
        ("results", "Results"): [TableBlock(results, "Results")] if results else [],
        ("pictures", "Pictures"): [_figures(drawn.pictures, "wide")] if drawn.pictures else [],
        ("samples", "Samples"): _samples(drawn),
        ("quality", "Quality"): [TableBlock(quality, "Quality")] if quality else [],
        ("size", "Size and speed"): [TableBlock(sizes, "Size and speed")] if sizes else [],
        ("files", "Exported files"): [TableBlock(exported, "Exported files")] if exported else [],
        ("training", "Training"): _training(drawn, prefix),
        ("layers", "Sparsity by layer"): _layers(run),
        ("channels", "Channels"): _channels(run),
        ("masks", "Masks"): _masks(drawn),
        ("settings", "Settings"): [TableBlock(one_run.about(run), "Settings", wrap=True)],
    }
    return tuple(
        Section(f"{prefix}{anchor}", title, tuple(content))
        for (anchor, title), content in blocks.items()
        if content
    )


def _samples(drawn: DrawnRun) -> list[Block]:
    if not drawn.samples:
        return []
    blocks: list[Block] = [_figures(drawn.samples, "samples")]
    if drawn.latents:
        heading = Heading("One latent vector per column")
        blocks += [Note(_SAMPLES_NOTE), heading, _figures(drawn.latents, "rows")]
    return blocks


def _training(drawn: DrawnRun, prefix: str) -> list[Block]:
    if not drawn.training:
        return []
    notes = [Note(sentence) for sentence in one_run.updates(drawn.run)]
    return [_figures(drawn.training, "charts", prefix), *notes]


def _layers(run: Run) -> list[Block]:
    blocks: list[Block] = [
        TableBlock(
            one_run.layers(run, network),
            bars=tuple(Bar.of(row.sparsity, row.requested) for row in rows),
        )
        for network, rows in run.layers.items()
    ]
    if any(row.requested is not None for rows in run.layers.values() for row in rows):
        blocks.append(Note(_LAYERS_NOTE))
    return blocks


def _channels(run: Run) -> list[Block]:
    return [
        TableBlock(
            one_run.channels(run, network),
            bars=tuple(Bar.of(1.0 - after / before) for _, before, after in rows),
        )
        for network, rows in run.channels.items()
    ]


def _masks(drawn: DrawnRun) -> list[Block]:
    if not drawn.masks:
        return []
    blocks: list[Block] = [Note(_MASKS_NOTE)]
    for network, pictures in drawn.masks.items():
        blocks += [Heading(network), _figures(pictures, "masks")]
    return blocks


def _several_runs(drawn: Sequence[DrawnRun], together: Sequence[Picture]) -> tuple[Section, ...]:
    """Return the sections of a page of several runs: comparisons first, then run by run."""
    runs = [pictures.run for pictures in drawn]
    tables = (
        several_runs.overview(runs),
        several_runs.paired(runs),
        several_runs.differing(runs),
    )
    tables_of_all = tuple(
        TableBlock(table, "Side by side") for table in tables if table is not None
    )
    sections = [Section("side-by-side", "Side by side", tables_of_all)]
    columns = []
    for pictures in drawn:
        ends = [shown(pictures.run, name) for name in ("dense", final_name(pictures.run))]
        grids = [picture for picture in pictures.samples if picture.title in ends]
        # A run of an application may have pictures instead of samples.
        wide = [] if grids else pictures.pictures
        figures = _figures(wide, "wide") if wide else _figures(grids, "samples")
        columns.append((pictures.run.name, figures))
    sections.append(Section("samples", "Samples", (Columns(tuple(columns)),)))
    if together:
        blocks: list[Block] = [_figures(together, "charts", "all-")]
        most = len(LIGHT.series)
        if len(runs) > most:
            blocks.append(Note(f"The first {most} of {len(runs)} runs."))
        sections.append(Section("training", "Training", tuple(blocks)))
    details = tuple(
        RunDetails(
            f"run-{i}", pictures.run.name, _cards(pictures.run), _one_run(pictures, f"run-{i}-")
        )
        for i, pictures in enumerate(drawn)
    )
    return (*sections, Section("runs", "Run by run", details))
