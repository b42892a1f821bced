"""The closing table of the demo, the text that the command line prints, and report.md."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from keras_ganprune.applications.image_generation.evaluation import LATENCY_BATCH
from keras_ganprune.applications.image_generation.options import DemoOptions
from keras_ganprune.applications.image_generation.result import DemoResult
from keras_ganprune.callbacks.prune import Prune
from keras_ganprune.exporters.next_export import next_export
from keras_ganprune.metrics import sparsity_report
from keras_ganprune.metrics.quality_report import METRICS
from keras_ganprune.training.discovery import resolve_target
from keras_ganprune.utils import annotated, tables, terminal
from keras_ganprune.utils.closing import closing, folded

# Rows of the table that say how small the generator is.
_SIZES = {"not zero": "weights", "SavedModel, gzipped": "gzipped bytes"}
_SHOWN_OPTIONS = (
    *("criterion", "granularity", "allocation", "mode", "joint", "balance", "tie"),
    *("structured", "macs", "parameters"),
)


def network_text(options: DemoOptions, classes: int | None) -> str:
    """Return the name of the networks, with the number of classes."""
    return f"{options.network}{'' if classes is None else f' with {classes} classes'}"


def changed_options(options: DemoOptions) -> str:
    """Return the options that differ from their defaults, each after a comma."""
    defaults = DemoOptions()
    values = {name: getattr(options, name) for name in _SHOWN_OPTIONS}
    changed = {name: value for name, value in values.items() if value != getattr(defaults, name)}
    return "".join(f", {name}={value!r}" for name, value in changed.items())


def summary(result: DemoResult) -> list[tuple[str, ...]]:
    """Return the closing table: the pruned generator beside the dense one, after equally many steps.

    Args:
        result: The result of `run`.

    Returns:
        Rows of text, the header first.

    Example:
    >>> from keras_ganprune.applications.image_generation import DemoOptions, run, summary
    >>> summary(run(DemoOptions(images="digits", quick=True)))  # doctest: +SKIP
    """
    annotated.check(summary, locals())
    end = result.end_name
    rows: list[tuple[str, ...]] = [("generator", "dense", end, f"{end} / dense")]

    def add(label: str, before: float, after: float, form: Callable[[float], str]) -> None:
        rows.append((label, form(before), form(after), f"{after / before:.2f}"))

    event = result.events.get("generator")
    if event is not None:
        for label, counts in (("channels", event.channels), ("MACs", event.macs)):
            if counts is not None:
                before, after = counts
                add(label, before, after, "{:,}".format)
    for label, attribute in (
        ("parameters", "parameters"),
        ("not zero", "nonzero_parameters"),
        ("SavedModel, bytes", "bytes"),
        ("SavedModel, gzipped", "gzip_bytes"),
    ):
        before, after = getattr(result.dense, attribute), getattr(result.pruned, attribute)
        add(label, before, after, "{:,}".format)
    if result.quality:
        for name in ("fd", "coverage", *(["label_accuracy"] if result.classes else [])):
            before, after = (
                float(np.mean([getattr(report, name) for report in result.quality[key]]))
                for key in ("dense", end)
            )
            add(METRICS[name].title, before, after, "{:.3f}".format)
    if result.latency:
        before, after = result.latency["dense"], result.latency["generator"]
        add(f"SavedModel, ms per batch of {LATENCY_BATCH}", before, after, "{:.2f}".format)
    return rows


def closing_text(result: DemoResult) -> str:
    """Return the text that `keras-ganprune demo` prints at its end.

    Args:
        result: The result of `run`.

    Example:
    >>> from keras_ganprune.applications.image_generation import DemoOptions, closing_text, run
    >>> print(closing_text(run(DemoOptions(images="digits", quick=True))))  # doctest: +SKIP
    """
    annotated.check(closing_text, locals())
    rows = summary(result)
    lines = [tables.fitted(rows, terminal.columns())]
    for name in result.prunes:
        if name in result.events:
            lines.append(f"{name}: cut at {result.events[name]}")
            continue
        table = sparsity_report(getattr(result.gan, name))
        kept = f"{table.kept:,} of {table.total:,} weights kept"
        lines.append(f"{name}: sparsity {table.sparsity:.4f}, {kept}")
    pruner = result.prunes["generator"].pruner if result.options.joint else None
    if pruner is not None:
        lines.append(f"both: sparsity {pruner.sparsity:.4f}, allocated by {pruner.allocation!r}")
    lines += [
        folded(_equal_steps(result)),
        folded(
            "The SavedModel was reloaded and compared with the generator: largest difference "
            f"{result.pruned.max_difference:g}. Trained in {result.seconds:.0f} s."
        ),
        closing(
            f"{result.output} with report.html, samples.png, the SavedModel 'generator', and gan.keras, "
            "the GAN to go on with.",
            _worth(rows, result.end_name),
            next_export(result.output / "gan.keras", "--run", result.output)
            or ["report", result.output / "gan.keras"],
        ),
    ]
    return "\n".join(lines)


def _worth(rows: list[tuple[str, ...]], end: str) -> str:
    """Return the quality, if it was measured, and the size against dense."""
    shares = {label: (before, after, share) for label, before, after, share in rows[1:]}
    quality = METRICS["fd"].title
    texts = []
    if quality in shares:
        before, after, _ = shares[quality]
        texts.append(f"{quality} {after}, dense {before}")
    texts += [f"{shares[label][2]} of the {unit}" for label, unit in _SIZES.items()]
    text = f"the {end} generator has {', '.join(texts)} of dense"
    return (
        f"{text}." if quality in shares else f"{text}. The quality was not measured: see --quality."
    )


def report_markdown(result: DemoResult) -> str:
    """Return the text of report.md."""
    options = result.options
    masks = "![masks: dark where a weight is kept, light where it is pruned](masks.png)"
    channels = "![channels before and after the cut](channels.png)"
    lines = [
        "# A GAN, pruned inside `fit`",
        "",
        f"{result.images.description}. Network {network_text(options, result.classes)}, loss "
        f"{options.loss}{changed_options(options)}, {result.steps:,} steps of {options.batch_size} "
        f"images, seed {options.seed}; trained in {result.seconds:.0f} s.",
        "",
        "![real, dense and pruned samples](samples.png)",
        "",
        "![schedule, achieved sparsity and losses](sparsity.png)",
        "",
        channels if result.events else masks,
        "",
        tables.markdown(summary(result)),
        "",
        _equal_steps(result),
        "",
        "The SavedModel, reloaded from disk, differs from the generator by "
        f"{result.pruned.max_difference:g} at most. It is the averaged generator.",
        _how_to_serve(result),
    ]
    for name, prune in result.prunes.items():
        is_shrunk = name in result.events
        lines += ["", *(_channels if is_shrunk else _sparsity)(result, name, prune)]
    return "\n".join(lines) + "\n"


def _equal_steps(result: DemoResult) -> str:
    return (
        f"'dense' is the dense generator, trained on from step {result.dense_step:,}, where pruning began, "
        f"to step {result.steps:,} without pruning."
    )


def _how_to_serve(result: DemoResult) -> str:
    inputs, labels = ("[z, labels]", " and labels int32 (n,)") if result.classes else ("z", "")
    return (
        f"Plain TensorFlow serves it: `tf.saved_model.load('{result.pruned.path}').serve({inputs})`, "
        f"z float32 (n, {result.gan.latent_dim}){labels}."
    )


def _requested(prune: Prune) -> str:
    report = prune.report
    if report is None:
        return "–"
    is_threshold = prune.schedule.quantity == "threshold"
    return f"|w| < {report.requested:g}" if is_threshold else f"{report.requested:.4f}"


def _channels(result: DemoResult, name: str, prune: Prune) -> list[str]:
    event = result.events[name]
    achieved = "–" if prune.report is None else f"{prune.report.achieved:.4f}"
    return [
        f"## Channels of the {name}",
        "",
        f"`{prune.schedule!r}`, a share of the {result.options.share_of}: requested "
        f"{_requested(prune)}, achieved {achieved}. Cut at {event}.",
        "",
        tables.markdown(
            [("made by", "channels before", "after")]
            + [(path, str(before), str(after)) for path, before, after in event.groups]
        ),
    ]


def _sparsity(result: DemoResult, name: str, prune: Prune) -> list[str]:
    network = resolve_target(result.gan, name)[0][1]
    achieved = "–" if prune.pruner is None else f"{prune.pruner.sparsity:.4f}"
    both = " over both networks" if result.options.joint else ""
    return [
        f"## Sparsity of the {name}",
        "",
        f"`{prune.schedule!r}`: requested {_requested(prune)}, achieved {achieved}{both}.",
        "",
        sparsity_report(network).to_markdown(),
    ]
