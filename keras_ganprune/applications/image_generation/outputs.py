"""The files of the demo: pictures, report.html, report.md and the run that `keras-ganprune report` reads."""

from __future__ import annotations

import pathlib

import attrs
import keras

from keras_ganprune.applications.image_generation.evaluation import LATENCY_BATCH
from keras_ganprune.applications.image_generation.result import DemoResult
from keras_ganprune.applications.image_generation.summary_table import report_markdown
from keras_ganprune.applications.image_generation.training import COLUMNS
from keras_ganprune.layers.traversal import masked_weights
from keras_ganprune.metrics import profile, sparsity_report
from keras_ganprune.reports.figures import draw
from keras_ganprune.reports.html import page
from keras_ganprune.reports.run import Run, record_run, write_run
from keras_ganprune.training.discovery import resolve_target
from keras_ganprune.utils import plotting
from keras_ganprune.utils.plotting import SparsityCurve

# Options that do not change the training, or that a run records in another field.
_NOT_IN_SETTINGS = ("output", "overwrite", "seed", "steps", "epochs", "quality")


def write(result: DemoResult, folder: pathlib.Path) -> None:
    """Write the pictures, the run, report.html and report.md into an existing folder."""
    _write_pictures(result, folder)
    run = _run(result)
    write_run(run, folder)
    # The Markdown of a report is not needed: report.md says more of the demo.
    text = page([draw(run)], [], f"image-generation, dense and {result.end_name}")
    (folder / "report.html").write_text(text, encoding="utf-8")
    (folder / "report.md").write_text(report_markdown(result), encoding="utf-8")


def _network(result: DemoResult, name: str) -> keras.Model:
    return resolve_target(result.gan, name)[0][1]


def _write_pictures(result: DemoResult, folder: pathlib.Path) -> None:
    panels = {
        "real": result.real_samples,
        "dense, equal steps": result.dense_samples,
        _final_title(result): result.samples,
    }
    plotting.save_samples(folder / "samples.png", panels, COLUMNS)
    curves = {}
    for name, prune in result.prunes.items():
        is_sparsity = prune.schedule.quantity == "sparsity"
        curves[name] = SparsityCurve(prune.schedule if is_sparsity else None, prune.updates)
    plotting.save_training(folder / "sparsity.png", result.history, curves, result.steps_per_epoch)
    if result.events:
        groups = {name: event.groups for name, event in result.events.items()}
        plotting.save_channels(folder / "channels.png", groups)
    else:
        masks = {
            name: {weight.path: weight.mask for weight in masked_weights(_network(result, name))}
            for name in result.prunes
        }
        plotting.save_masks(folder / "masks.png", masks)


def _final_title(result: DemoResult) -> str:
    event = result.events.get("generator")
    if event is not None and event.macs is not None:
        return f"shrunk to {event.macs[1] / event.macs[0]:.0%} of the MACs"
    return f"pruned, {sparsity_report(result.gan.generator).sparsity:.0%} sparse"


def _run(result: DemoResult) -> Run:
    """Return the run that `keras-ganprune report` reads."""
    options, event = result.options, result.events.get("generator")
    end = result.end_name
    final = profile(result.gan.sampler, latency=False)
    # A masked kernel is multiplied in full, so it costs as much as the dense kernel.
    dense_macs = final.macs if event is None or event.macs is None else event.macs[0]
    settings = attrs.asdict(options, recurse=False)
    names = {"dense": "dense", "generator": end}
    return record_run(
        history=result.history,
        samples={
            "real": result.real_samples,
            "dense": result.dense_samples,
            end: result.samples,
        },
        networks={
            name: _network(result, name) for name in result.prunes if name not in result.events
        },
        prunes=result.prunes,
        channels=result.events,
        sizes={"dense": [result.dense, {"macs": dense_macs}], end: [final, result.pruned]},
        latency={
            names[name]: {f"SavedModel, batch of {LATENCY_BATCH}": milliseconds}
            for name, milliseconds in result.latency.items()
        },
        quality=result.quality or None,
        settings={
            **{key: value for key, value in settings.items() if key not in _NOT_IN_SETTINGS},
            "step at which pruning began": result.dense_step,
        },
        seed=options.seed,
        steps=result.steps,
        seconds=result.seconds,
        data=result.images.description,
        equal_steps=True,
    )
