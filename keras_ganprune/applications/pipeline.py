"""`run`: an application from its data to its run folder."""

from __future__ import annotations

import json
import pathlib
import shutil
from collections.abc import Mapping

import keras

from keras_ganprune.applications.base import Application, Splits
from keras_ganprune.applications.branches import branches
from keras_ganprune.applications.compression.folder import mark
from keras_ganprune.applications.dense_training import DenseTraining, Plan, settings_of
from keras_ganprune.applications.measured_networks import (
    LATENCY_BATCH,
    MeasuredNetwork,
    latencies,
    measure,
)
from keras_ganprune.applications.result import ApplicationResult
from keras_ganprune.layers.traversal import masked_weights
from keras_ganprune.reports import write_report
from keras_ganprune.reports.html import require_page
from keras_ganprune.reports.run import Run, record_run, write_run
from keras_ganprune.utils import annotated, files, plotting, terminal
from keras_ganprune.utils.status_line import StatusLine

_MINIMUM_FREE_BYTES = 200 * 2**20
# The losses of a network that may be shown. The adversarial one, of a generator, says least.
_LOSSES = ("loss", "reconstruction_loss", "generator_loss")
# Options that do not change the training, or that a run records in another field.
_NOT_IN_SETTINGS = ("output", "overwrite", "seed", "steps", "epochs", "batch_size")
# Options that do not change the dense training: its state can be used again with others.
_NOT_OF_DENSE = ("output", "overwrite", "sparsity", "macs", "compare_narrow")


def run(application: Application) -> ApplicationResult:
    """Run an application and write its folder.

    The dense network is trained. From its end, these networks go on for equally many steps: the dense one, a
    sparse one, and one with fewer multiply-accumulates. Each is exported, read again and measured on held-out
    data.

    If the process is killed, the same call goes on with the state in the folder beside the output, whose name
    ends in '_unfinished'.

    Args:
        application: The application, with its options.

    Returns:
        An `ApplicationResult`.

    Raises:
        OutputError: The folder exists, cannot be written or has no free space. This is checked before the
            training.
        DataError: The data cannot be loaded.
        MissingPackageError: A package that the application needs is not installed.

    Example:
    >>> from keras_ganprune.applications import catalog
    >>> generation = catalog.get("image-generation")
    >>> result = run(generation(generation.options_class(quick=True)))  # doctest: +SKIP
    """
    annotated.check(run, locals())
    options = application.options
    name = _output(application)
    output = files.check_new_folder(name, options.overwrite)
    files.check_saved_model_path(name)
    files.check_free_space(output, _MINIMUM_FREE_BYTES)
    plotting.require_plotting()
    require_page()
    line = StatusLine()
    with line.doing("Loading the data"):
        data = application.data()
    plan = Plan.of(application, data)
    steps, further = plan.steps
    line.say(
        f"Data: {data.description}\nPlan: {steps:,} steps of {plan.batch_size} for the dense network, and "
        f"{further:,} more for each network."
    )
    with line.doing("Measuring the baselines"):
        baselines = application.baselines(data)
    state = _state(application, data, plan)
    dense = DenseTraining(application, data, plan, state)
    with files.new_folder(output, options.overwrite) as work:
        measured = []
        for branch in branches(dense, state):
            with line.doing(f"{branch.title}: exporting the network, and measuring its quality"):
                measured.append(measure(application, branch, data, work))
        networks = {each.branch.title: each for each in measured}
        with line.doing("Measuring the latency, and writing the report"):
            record = _record(application, dense, networks, baselines, work)
            write_run(record, work)
            write_report(record, work / "report.html", f"{application.name}, dense and compressed")
    shutil.rmtree(state)
    return ApplicationResult(output, application, data, networks, baselines, record)


def _output(application: Application) -> str:
    return application.options.output or f"ganprune_{application.name.replace('-', '_')}"


def unfinished(application: Application) -> pathlib.Path:
    """Return the folder with the state of a run that was interrupted, beside its output."""
    output = files.as_path(_output(application))
    return output.with_name(f"{output.name}_unfinished")


def _state(application: Application, data: Splits, plan: Plan) -> pathlib.Path:
    """Return the folder for the state of a run that may be interrupted.

    A state of other options, data or packages is removed.
    """
    folder = unfinished(application)
    record = folder / "options.json"
    settings = {**settings_of(application), "application": application.name}
    settings |= {"epochs": [plan.dense, plan.branch], "batch_size": plan.batch_size}
    settings |= {"backend": keras.backend.backend(), "keras": keras.__version__}
    settings |= {"data": mark([data.train.x, data.train.y])}
    text = json.dumps({k: v for k, v in settings.items() if k not in _NOT_OF_DENSE}, sort_keys=True)
    if record.exists() and record.read_text(encoding="utf-8") == text:
        terminal.say(f"Going on with the interrupted run in '{folder}'.")
        return folder
    if record.exists():
        shutil.rmtree(folder)
    # It is removed in the end, so it must be ours.
    files.check_new_folder(folder)
    files.make_folder(folder)
    record.write_text(text, encoding="utf-8")
    return folder


def _record(
    application: Application,
    dense: DenseTraining,
    networks: dict[str, MeasuredNetwork],
    baselines: dict[str, dict[str, float]],
    folder: pathlib.Path,
) -> Run:
    """Return the run that `keras-ganprune report` reads."""
    data: Splits = dense.data
    shown = {title: each.reloaded for title, each in networks.items()}
    label = f"SavedModel, batch of {LATENCY_BATCH}"
    times = latencies(list(networks.values()), folder)
    masked = {
        title: each.branch.masked
        for title, each in networks.items()
        if each.branch.masked is not None and masked_weights(each.branch.masked)
    }
    steps, further = dense.plan.steps
    notes = " ".join(note for each in networks.values() for note in each.branch.notes)
    return record_run(
        history=_history(networks),
        networks=masked or None,
        sizes={
            title: [each.costs, *([] if each.exported is None else [each.exported])]
            for title, each in networks.items()
        },
        latency={title: {label: milliseconds} for title, milliseconds in times.items()},
        quality={**{title: each.metrics for title, each in networks.items()}, **baselines},
        settings={
            **{
                key: value
                for key, value in settings_of(application).items()
                if key not in _NOT_IN_SETTINGS
            },
            "application": application.name,
            "batch size": dense.plan.batch_size,
            "steps of the dense training": steps,
            "further steps of each network": further,
            **({"notes": notes} if notes else {}),
            "source": data.source.name,
            "licence": data.source.license,
            "citation": data.source.citation,
        },
        seed=application.options.seed,
        steps=steps + further,
        steps_per_epoch=dense.plan.lengths(dense.plan.branch).per_epoch,
        seconds=dense.training.seconds + sum(each.branch.seconds for each in networks.values()),
        data=data.description,
        name=application.name,
        metrics={
            key: (metric.title, metric.higher_is_better, metric.digits)
            for key, metric in application.metrics.items()
        },
        pictures={"Held-out data": application.show(shown, data.test)},
        equal_steps=True,
    )


def _history(networks: dict[str, MeasuredNetwork]) -> dict[str, list[float]]:
    """Return the losses of the networks that go on from the dense training, over the same epochs."""
    epochs = len(next(iter(networks["dense"].branch.history.values())))
    return {
        f"{key}, {title}": values
        for title, each in networks.items()
        for key, values in each.branch.history.items()
        if key == _shown_loss(each.branch.history) and len(values) == epochs
    }


def _shown_loss(history: Mapping[str, list[float]]) -> str:
    """Return the loss that says most of the quality of the network."""
    return next((key for key in _LOSSES if key in history), "loss")
