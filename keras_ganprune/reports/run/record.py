"""A run, collected from a model, its callbacks and what was measured of it."""

from __future__ import annotations

import dataclasses
import datetime
import importlib.metadata
import json
import os
import pathlib
import platform
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np

from keras_ganprune.reports.run import _measurements, _pruning
from keras_ganprune.reports.run.run import Run
from keras_ganprune.reports.run.storage import write_run
from keras_ganprune.utils import files


def record_run(
    *,
    history: Any,
    samples: Mapping[str, Any],
    networks: Any = None,
    prunes: Mapping[str, Any] | None = None,
    channels: Mapping[str, Any] | None = None,
    sizes: Mapping[str, Any] | None = None,
    latency: Mapping[str, Mapping[str, float]] | None = None,
    quality: Mapping[str, Any] | None = None,
    settings: Mapping[str, Any] | None = None,
    seed: int | None = None,
    steps: int | None = None,
    seconds: float | None = None,
    steps_per_epoch: float | None = None,
    data: str = "",
    name: str = "",
    hardware: str | None = None,
) -> Run:
    """Collect what there is to say of a run; only the history and the samples are needed.

    Args:
        history: What `fit` returned, or a dict of log -> list with a value an epoch. A shorter list is of
            every second, third, ... epoch; None stands for an epoch at which nothing was measured.
        samples: Dict, name -> images (n, height, width, channels), 1 or 3 channels, floats in [-1, 1] or
            uint8. Use the names 'real', 'dense', 'pruned', 'shrunk' where they fit; all but 'real' are to
            come from the same latent vectors.
        networks: Dict, name -> pruned Keras model, or a `GANModel`: masks and sparsity are read from it.
        prunes: Dict, name of a network -> its `Prune` callback; or, of your own loop, a list of
            (step, `MaskReport`) or (step, requested, achieved).
        channels: Dict, name of a network -> `ShrinkEvent`, or rows (path, before, after).
        sizes: Dict, 'dense', 'pruned', 'shrunk' -> a `Profile`, an `ExportReport`, a dict with any of
            'parameters', 'nonzero', 'macs', 'bytes', 'saved_bytes', 'gzip_bytes', or a list of these.
        latency: Dict, 'dense', ... -> dict of what was timed, such as 'SavedModel, batch of 16', ->
            milliseconds. What the profiles in `sizes` have timed is there by itself.
        quality: Dict, 'real', 'dense', ... -> a `QualityReport` or a dict of metric -> float, or a list of
            them, measured with other latent vectors: reports then show 95 % intervals. The i-th
            measurements of two names are taken as a pair, so use the same latent vectors for both.
        settings: Dict of what was chosen for the run, for people to read and compare. Runs that differ in
            nothing but the seed are compared in pairs.
        seed, steps, seconds: Of the training.
        steps_per_epoch: Float; None for `steps` divided by the epochs.
        data: One line on the data set.
        name: What reports call the run; '' for the name of its folder.
        hardware: One line; None for the processor and its cores.

    Returns: A `Run`, for `write_run`.

    Raises:
        InvalidArgumentError: lists, images or names that are not so.
        UnsupportedLayerError: something in `networks` is no Keras model.

    Example:
    >>> run = record_run(
    ...     history={"generator_loss": [1.5, 1.2]}, samples={"pruned": np.zeros((2, 4, 4, 1))}, steps=20
    ... )
    >>> run.epochs, run.steps_per_epoch, run.samples["pruned"].dtype
    (2, 10.0, dtype('uint8'))
    """
    history = _measurements.history_of(history)
    epochs = len(next(iter(history.values())))
    if steps_per_epoch is None and steps is not None:
        steps_per_epoch = steps / epochs
    sizes, timed = _measurements.sizes_of(sizes or {})
    for title, times in (latency or {}).items():
        timed[title] = {
            **timed.get(title, {}),
            **_measurements.numbers(times, f"latency[{title!r}]"),
        }
    judged, extractor = _measurements.quality_of(quality or {})
    layers, masks = _pruning.layers_of(networks, prunes or {})
    return Run(
        history=history,
        samples=_measurements.samples_of(samples),
        name=str(name),
        settings={str(key): _plain(value) for key, value in (settings or {}).items()},
        seed=_plain(seed),
        steps=_plain(steps),
        seconds=_measurements.number(seconds, "seconds"),
        steps_per_epoch=_measurements.number(steps_per_epoch, "steps_per_epoch"),
        data=str(data),
        created=datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        versions=_versions(),
        hardware=_hardware() if hardware is None else str(hardware),
        prunes=_pruning.prunes_of(prunes or {}),
        layers=layers,
        channels={key: _pruning.channels_of(value, key) for key, value in (channels or {}).items()},
        sizes=sizes,
        latency=timed,
        quality=judged,
        extractor=extractor,
        masks=masks,
    )


def save_run(path: str | os.PathLike, *, overwrite: bool = False, **what: Any) -> Run:
    """Write the folder of a run, which `keras-ganprune report` makes a page of.

    Args:
        path: Folder to write; it appears only when all went well.
        overwrite: Replace a folder that exists.
        **what: As for `record_run`.

    Returns: The `Run`.

    Raises:
        OutputError: the folder exists, cannot be written or the disk is full.
        InvalidArgumentError, UnsupportedLayerError: as `record_run`.

    Example:
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     run = save_run(
    ...         f"{folder}/run",
    ...         history={"loss": [0.7, 0.4]},
    ...         samples={"pruned": np.zeros((8, 4, 4, 1))},
    ...         quality={"dense": [{"fd": 6.0}, {"fd": 6.2}], "pruned": [{"fd": 7.0}, {"fd": 7.1}]},
    ...     )
    >>> run.name, round(run.mean("pruned", "fd"), 2)
    ('run', 7.05)
    """
    run = record_run(**what)
    with files.new_folder(path, overwrite) as work:
        write_run(run, work)
    return dataclasses.replace(run, name=run.name or pathlib.Path(path).resolve().name)


def _plain(value: Any) -> Any:
    """Return a value that JSON knows, or its text."""
    if isinstance(value, (np.integer, np.floating, np.bool_)):
        value = value.item()
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    try:
        json.dumps(value, allow_nan=False)
    except (TypeError, ValueError):
        return repr(value)
    return value


def _versions() -> dict[str, str]:
    backend = keras.backend.backend()
    names = {
        "keras": "keras",
        backend: backend,
        "numpy": "numpy",
        "keras-ganprune": "keras-ganprune",
    }
    found = {"python": platform.python_version(), "backend": backend}
    for title, package in names.items():
        try:
            found[title] = importlib.metadata.version(package)
        except (
            importlib.metadata.PackageNotFoundError
        ):  # run from its sources, or under another name
            found[title] = "unknown"
    return found


def _hardware() -> str:
    """Return the processor and how many of its cores this process may use."""
    model = ""
    about = pathlib.Path("/proc/cpuinfo")
    if about.exists():
        lines = about.read_text(encoding="utf-8", errors="replace").splitlines()
        model = next((x.partition(":")[2].strip() for x in lines if x.startswith("model name")), "")
    model = model or platform.processor() or platform.machine()
    allowed = getattr(os, "sched_getaffinity", None)
    cores = len(allowed(0)) if allowed else os.cpu_count()
    return f"{model}, {cores} cores, {platform.system()}"
