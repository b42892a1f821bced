"""`run`: an application from its data to its run folder."""

from __future__ import annotations

import json
import pathlib
import shutil
from typing import Any

from keras_ganprune.applications.base import Application, Splits
from keras_ganprune.applications.branches import branches
from keras_ganprune.applications.dense_training import DenseTraining, Plan, application_settings
from keras_ganprune.applications.measured_networks import (
    LATENCY_BATCH,
    MeasuredNetwork,
    latencies,
    measure,
)
from keras_ganprune.applications.result import ApplicationResult
from keras_ganprune.layers.traversal import masked_weights
from keras_ganprune.reports import write_report
from keras_ganprune.reports.run import Run, record_run, write_run
from keras_ganprune.utils import annotated, files, plotting

_MINIMUM_FREE_BYTES = 200 * 2**20
# Options that do not change the training, or that a run records in another field.
_NOT_IN_SETTINGS = ("output", "overwrite", "seed", "steps", "epochs", "batch_size")


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
    name = options.output or f"ganprune_{application.name.replace('-', '_')}"
    output = files.check_new_folder(name, options.overwrite)
    files.check_saved_model_path(name)
    files.check_free_space(output, _MINIMUM_FREE_BYTES)
    plotting.require_plotting()
    data = application.data()
    plan = Plan.of(application, data)
    print(
        f"Data: {data.description}\nPlan: {plan.dense} epochs of {plan.steps_per_epoch:,} steps of "
        f"{plan.batch_size}, then {plan.branch} epochs for each network.",
        flush=True,
    )
    baselines = application.baselines(data)
    state = _state(output, application, plan)
    print("Training the dense network.", flush=True)
    dense = DenseTraining(application, data, plan, state)
    with files.new_folder(output, options.overwrite) as work:
        measured = []
        for branch in branches(dense, state):
            measured.append(measure(application, branch, data, work))
        networks = {each.branch.title: each for each in measured}
        record = _record(application, dense, networks, baselines, work)
        write_run(record, work)
        write_report(record, work / "report.html", f"{application.name}, dense and compressed")
    shutil.rmtree(state)
    return ApplicationResult(output, application, data, networks, baselines, record)


def _state(output: pathlib.Path, application: Application, plan: Plan) -> pathlib.Path:
    """Return the folder for the state of a run that may be interrupted.

    A state of other options is removed.
    """
    folder = output.with_name(f"{output.name}_unfinished")
    mark = folder / "options.json"
    settings = {**application_settings(application), "application": application.name}
    settings |= {"epochs": [plan.dense, plan.branch], "batch_size": plan.batch_size}
    text = json.dumps(
        {k: v for k, v in settings.items() if k not in ("output", "overwrite")}, sort_keys=True
    )
    if mark.exists() and mark.read_text(encoding="utf-8") == text:
        print(f"Going on with the interrupted run in '{folder}'.", flush=True)
        return folder
    if mark.exists():
        shutil.rmtree(folder)
    files.make_folder(folder)
    mark.write_text(text, encoding="utf-8")
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
        title: application.network(each.branch.model)
        for title, each in networks.items()
        if masked_weights(application.network(each.branch.model))
    }
    return record_run(
        history=_history(dense, networks),
        networks=masked or None,
        sizes={
            title: [each.costs, each.exported, {"macs": each.costs.macs}]
            for title, each in networks.items()
        },
        latency={title: {label: milliseconds} for title, milliseconds in times.items()},
        quality={**{title: each.metrics for title, each in networks.items()}, **baselines},
        settings={
            **{
                key: value
                for key, value in application_settings(application).items()
                if key not in _NOT_IN_SETTINGS
            },
            "application": application.name,
            "batch size": dense.plan.batch_size,
            "source": data.source.name,
            "licence": data.source.license,
            "citation": data.source.citation,
        },
        seed=application.options.seed,
        steps=dense.plan.steps,
        steps_per_epoch=dense.plan.steps_per_epoch,
        seconds=dense.training.seconds + sum(each.branch.seconds for each in networks.values()),
        data=data.description,
        metrics={
            key: (metric.title, metric.higher_is_better, metric.digits)
            for key, metric in application.metrics.items()
        },
        pictures={"Held-out data": application.show(shown, data.test)},
    )


def _history(
    dense: DenseTraining, networks: dict[str, MeasuredNetwork]
) -> dict[str, list[float | None]]:
    """Return the losses of all networks over the same epochs; None before a network begins."""
    before = dense.training.history
    epochs = dense.plan.dense + dense.plan.branch
    logs: dict[str, list[float | None]] = {}
    for title, each in networks.items():
        for key, values in each.branch.history.items():
            if key not in ("loss", "generator_loss"):
                continue
            begun: list[Any] = before.get(key, []) if title == "dense" else []
            log = [*begun, *values]
            logs[f"{key}, {title}"] = ([None] * (epochs - len(log)) + log)[-epochs:]
    return logs
