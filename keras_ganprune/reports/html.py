"""The HTML page of a report: one file that needs nothing else."""

from __future__ import annotations

from collections.abc import Sequence

from keras_ganprune.reports import charts, tables
from keras_ganprune.reports.figures import Drawn
from keras_ganprune.reports.html_elements import Element, figures, make, table, write
from keras_ganprune.reports.html_style import CSS
from keras_ganprune.reports.images import Picture
from keras_ganprune.reports.run import Run
from keras_ganprune.reports.tables import number, percent
from keras_ganprune.utils.tables import change

# Nothing may be fetched, whatever a name in a run says.
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


def page(drawn: Sequence[Drawn], together: Sequence[Picture], title: str) -> str:
    """Return the page of one run, or of several side by side, with the charts of all of them together."""
    several = len(drawn) > 1
    runs = [each.run for each in drawn]
    style = make("style", CSS)
    head = make(
        "head",
        make("meta", charset="utf-8"),
        make("meta", http_equiv="Content-Security-Policy", content=_POLICY),
        make("meta", name="viewport", content="width=device-width, initial-scale=1"),
        make("title", title),
        style,
    )
    parts = _several(drawn, together) if several else _one(drawn[0], "run-0-")
    links = [
        (part.get("id"), part.find("h2").text) for part in parts if part.find("h2") is not None
    ]
    menu = [make("li", make("a", text, href=f"#{anchor}")) for anchor, text in links]
    body = make(
        "body",
        make(
            "header",
            make("h1", title),
            make("p", _lead(runs), class_="lead"),
            None if several else _cards(runs[0]),
            make("nav", make("ul", *menu), aria_label="Sections") if len(menu) > 1 else None,
        ),
        make("main", *parts),
        make("footer", make("p", _footer(runs))),
    )
    return write(make("html", head, body, lang="en"))


def _lead(runs: Sequence[Run]) -> str:
    if len(runs) > 1:
        return f"{len(runs)} runs: {', '.join(run.name for run in runs)}."
    run = runs[0]
    facts = [run.data, f"{run.steps:,} steps" if run.steps else "", run.hardware]
    facts += [f"trained in {run.seconds:.0f}\u00a0s" if run.seconds is not None else ""]
    return " · ".join(fact for fact in facts if fact)


def _footer(runs: Sequence[Run]) -> str:
    versions = {run.versions.get("keras-ganprune", "unknown") for run in runs}
    return f"Written by keras-ganprune report; runs of version {', '.join(sorted(versions))}."


def _cards(run: Run) -> Element | None:
    """Return what matters most, as large numbers."""
    last = tables.final_name(run)
    cards = [
        (f"sparsity, {network}", percent(run.sparsity(network)), "of its masked weights")
        for network in run.layers
    ]
    for network, groups in run.channels.items():
        before, after = (sum(group[i] for group in groups) for i in (1, 2))
        cards.append((f"channels, {network}", f"{after:,}", f"of {before:,}"))
    found, grown = tables.measured(run, last, "fd"), tables.fd_increase(run, last)
    if found is not None:
        more = "" if grown is None else f"{change(grown.mean)} against dense"
        cards.append((f"Fréchet distance, {last}", tables.interval(found), more))
    found = tables.measured(run, last, "coverage")
    if found is not None:
        dense = tables.measured(run, "dense", "coverage")
        more = "" if dense is None else f"dense {tables.interval(dense)}"
        cards.append((f"coverage, {last}", tables.interval(found), more))
    before, after = run.sizes.get("dense", {}), run.sizes.get(last, {})
    for key, label in (
        ("nonzero", "weights that are not zero"),
        ("macs", "MACs"),
        ("gzip_bytes", "SavedModel, gzipped"),
    ):
        if before.get(key) and after.get(key) is not None and before[key] != after[key]:
            more = f"{number(after[key])} of {number(before[key])}"
            cards.append((label, f"{after[key] / before[key]:.2f}×", more))
    if not cards:
        return None
    made = [
        make(
            "div",
            make("dt", term),
            make("dd", value),
            make("dd", more, class_="more") if more else None,
        )
        for term, value, more in cards
    ]
    return make("dl", *made, class_="cards")


def _section(anchor: str, title: str, *children: Element | None) -> Element:
    return make("section", make("h2", title), *children, id=anchor)


def _one(drawn: Drawn, prefix: str) -> list[Element]:
    """Return the sections of one run; those for which it has nothing are left out."""
    run = drawn.run
    parts = [_section(f"{prefix}samples", "Samples", *_samples(drawn))]
    quality, sizes = tables.quality(run), tables.sizes(run)
    if quality is not None:
        parts.append(_section(f"{prefix}quality", "Quality", table(quality, "Quality")))
    if sizes is not None:
        parts.append(_section(f"{prefix}size", "Size and speed", table(sizes, "Size and speed")))
    if drawn.training:
        told = [make("p", sentence, class_="note") for sentence in tables.updates(run)]
        shown = figures(drawn.training, "charts", prefix)
        parts.append(_section(f"{prefix}training", "Training", shown, *told))
    if run.layers:
        made = [
            table(tables.layers(run, network), bars=[(row.sparsity, row.requested) for row in rows])
            for network, rows in run.layers.items()
        ]
        note = make(
            "p", "The line across a bar is what was requested of that weight.", class_="note"
        )
        asked = any(row.requested is not None for rows in run.layers.values() for row in rows)
        parts.append(
            _section(f"{prefix}layers", "Sparsity by layer", *made, note if asked else None)
        )
    if run.channels:
        made = [
            table(
                tables.channels(run, network),
                bars=[(1.0 - after / before, None) for _, before, after in rows],
            )
            for network, rows in run.channels.items()
        ]
        parts.append(_section(f"{prefix}channels", "Channels", *made))
    if drawn.masks:
        made = [make("p", _MASKS, class_="note")]
        for network, found in drawn.masks.items():
            made += [make("h3", network), figures(found, "masks")]
        parts.append(_section(f"{prefix}masks", "Masks", *made))
    about = table(tables.about(run), "Settings", wrap=True)
    return [*parts, _section(f"{prefix}settings", "Settings", about)]


_MASKS = (
    "Dark where a weight stays. The last two axes of a kernel are a tile, one tile for each tap of a "
    "convolution; of large masks a cell shows the share that stays."
)


def _samples(drawn: Drawn) -> list[Element | None]:
    grids = figures(drawn.samples, "samples")
    if not drawn.latents:
        return [grids]
    note = "A place in the grids is the same latent vector in all of them, but for the real images."
    return [
        grids,
        make("p", note, class_="note"),
        make("h3", "A latent vector in each column"),
        figures(drawn.latents, "rows"),
    ]


def _several(drawn: Sequence[Drawn], together: Sequence[Picture]) -> list[Element]:
    runs = [each.run for each in drawn]
    overview, differing, paired = tables.overview(runs), tables.differing(runs), tables.paired(runs)
    first = [
        table(found, "Side by side") for found in (overview, paired, differing) if found is not None
    ]
    parts = [_section("side-by-side", "Side by side", *first)]
    grids = []
    for each in drawn:
        ends = ("dense", tables.final_name(each.run))
        kept = [picture for picture in each.samples if picture.title in ends]
        grids.append(make("div", make("h3", each.run.name), figures(kept, "samples")))
    parts.append(_section("samples", "Samples", make("div", *grids, class_="pairs")))
    if together:
        note = None
        if len(runs) > len(charts.SERIES):
            text = f"The first {len(charts.SERIES)} of {len(runs)} runs."
            note = make("p", text, class_="note")
        parts.append(_section("training", "Training", figures(together, "charts", "all-"), note))
    details = []
    for i, each in enumerate(drawn):
        inner = make("details", make("summary", each.run.name), _cards(each.run), id=f"run-{i}")
        for part in _one(each, f"run-{i}-"):
            for lower in part.iter("h3"):
                lower.tag = "h4"
            part.find("h2").tag = "h3"
            inner.append(part)
        details.append(inner)
    return [*parts, _section("runs", "Run by run", *details)]
