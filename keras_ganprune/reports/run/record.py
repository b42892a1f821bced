"""`record_run` and `save_run`: collect a run from a model, its callbacks and its measurements."""

from __future__ import annotations

import dataclasses
import datetime
import importlib.metadata
import json
import os
import pathlib
import platform
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import keras
import numpy as np

from keras_ganprune.callbacks.prune import Prune
from keras_ganprune.callbacks.shrink import ShrinkEvent
from keras_ganprune.exporters import ExportReport
from keras_ganprune.metrics import Profile, QualityReport
from keras_ganprune.reports.run import _measurements, _pruning
from keras_ganprune.reports.run.run import Run
from keras_ganprune.reports.run.storage import write_run
from keras_ganprune.utils import annotated, files, validation

_Sizes = Profile | ExportReport | Mapping[str, int]
_Quality = QualityReport | Mapping[str, float]
# Arguments of `record_run` without a check of their own.
_CHECKED = (
    "prunes",
    "channels",
    "sizes",
    "latency",
    "quality",
    "settings",
    "seed",
    "steps",
    "seconds",
)
_CHECKED += ("steps_per_epoch", "data", "name", "hardware", "metrics", "pictures")


def record_run(
    *,
    history: keras.callbacks.History | Mapping[str, Sequence[float | None]],
    samples: Mapping[str, Any] | None = None,
    networks: keras.Model | Mapping[str, keras.Model] | None = None,
    prunes: Mapping[str, Prune | Iterable[Any]] | None = None,
    channels: Mapping[str, ShrinkEvent | Iterable[tuple[str, int, int]]] | None = None,
    sizes: Mapping[str, _Sizes | Sequence[_Sizes]] | None = None,
    latency: Mapping[str, Mapping[str, float]] | None = None,
    quality: Mapping[str, _Quality | Sequence[_Quality]] | None = None,
    settings: Mapping[str, Any] | None = None,
    seed: int | None = None,
    steps: int | None = None,
    seconds: float | None = None,
    steps_per_epoch: float | None = None,
    data: str = "",
    name: str = "",
    hardware: str | None = None,
    metrics: Mapping[str, Any] | None = None,
    pictures: Mapping[str, Any] | None = None,
    equal_steps: bool | None = None,
) -> Run:
    """Collect the settings, logs, images and measurements of a run.

    Only `history`, and `samples` or `pictures`, are required.

    Args:
        history: The result of `fit`, or a dict of log -> list with one value per epoch. A shorter list holds
            the values of every second, third, ... epoch. None means that an epoch has no measurement.
        samples: Dict of name -> images (n, height, width, channels), 1 or 3 channels, floats in [-1, 1] or
            uint8. Use the names 'real', 'dense', 'pruned' and 'shrunk' where they apply. All except 'real'
            must come from the same latent vectors. Defaults to none.
        networks: A `GANModel`, a pruned Keras model, or a dict of name -> pruned Keras model. Masks and
            sparsity are read from it. Defaults to none.
        prunes: Dict of network -> its `Prune` callback. For your own training loop: a list of
            (step, `MaskReport`) or of (step, requested sparsity, achieved sparsity). Defaults to none.
        channels: Dict of network -> `ShrinkEvent`, or rows (path, channels before, channels after).
            Defaults to none.
        sizes: Dict of 'dense', 'pruned', 'shrunk' -> a `Profile`, an `ExportReport`, a dict with any of
            'parameters', 'nonzero', 'macs', 'bytes', 'saved_bytes', 'gzip_bytes', or a list of these.
            Defaults to none.
        latency: Dict of 'dense', ... -> dict of label, such as 'SavedModel, batch of 16', -> milliseconds.
            Latencies of the profiles in `sizes` are added. Defaults to none.
        quality: Dict of 'real', 'dense', ... -> a `QualityReport`, a dict of metric -> float, or a list of
            these, each measured with different latent vectors. For a list, reports show 95 % intervals. The
            i-th measurements of two names form a pair, so use the same latent vectors for both. Defaults to
            none.
        settings: Dict of name -> setting of the run, shown in reports. What JSON cannot hold, also NaN,
            becomes a text. Runs that differ only in the seed are
            compared in pairs. Defaults to none.
        seed: Seed of the training. Defaults to None.
        steps: Training steps. Defaults to None.
        seconds: Training time. Defaults to None.
        steps_per_epoch: Optimizer steps per epoch. Defaults to `steps` divided by the number of epochs.
        data: One line about the data set. Defaults to ''.
        name: Name in reports. Defaults to '', which `load_run` replaces by the name of the folder.
        hardware: One line about the machine. Defaults to the processor and its number of cores.
        metrics: Dict of metric -> (title, whether higher is better), and optionally the digits after the
            point, for metrics of your own in `quality`. The first one decides: the others follow it in
            the table, which has one row per name of `quality`. Defaults to none.
        pictures: Dict of title -> matplotlib figure, or bytes of a PNG file, for results that are not
            samples of images. Defaults to none.
        equal_steps: Whether 'dense' is the dense network that was trained on, without pruning, for as many
            steps as the others. True names it so in reports; False says that it has fewer steps. Defaults
            to None: not known.

    Returns:
        A `Run`, which `write_run` writes.

    Raises:
        InvalidArgumentError: An argument has the wrong form; for example, a log is not a list of numbers,
            samples differ in size or are not finite, or `quality` comes from several feature extractors.
        ArgumentTypeError: An argument, or a value of `networks`, has the wrong type.
        DivergedError: A loss is NaN or infinite.

    Example:
    >>> run = record_run(
    ...     history={"generator_loss": [1.5, 1.2]}, samples={"pruned": np.zeros((2, 4, 4, 1))}, steps=20
    ... )
    >>> run.epochs, run.steps_per_epoch, run.samples["pruned"].dtype
    (2, 10.0, dtype('uint8'))
    """
    annotated.check(record_run, locals(), *_CHECKED)
    validation.check_keys(settings or {}, "settings")
    for count, title in ((seconds, "seconds"), (steps_per_epoch, "steps_per_epoch")):
        if count is not None:
            validation.non_negative(count, title)
    if steps is not None:
        validation.non_negative_int(steps, "steps")
    logs = _measurements.history_of(history)
    epochs = len(next(iter(logs.values())))
    if steps_per_epoch is None and steps is not None:
        steps_per_epoch = steps / epochs
    counts, times = _measurements.sizes_of(sizes or {})
    quartiles = _measurements.quartiles_of(times, latency or {})
    for title, values in (latency or {}).items():
        milliseconds = _measurements.numbers(values, f"latency[{title!r}]")
        for key, value in milliseconds.items():
            validation.non_negative(value, f"latency[{title!r}][{key!r}]")
        times[title] = {**times.get(title, {}), **milliseconds}
    if equal_steps is not None:
        validation.boolean(equal_steps, "equal_steps")
    times = {key: {label: float(ms) for label, ms in row.items()} for key, row in times.items()}
    measurements, extractor = _measurements.quality_of(quality or {})
    layers, masks = _pruning.layers_of(networks, prunes or {})
    return Run(
        history=logs,
        samples=_measurements.samples_of(samples) if samples is not None or not pictures else {},
        name=str(name),
        settings={str(key): _json_value(value) for key, value in (settings or {}).items()},
        seed=None if seed is None else int(seed),
        steps=None if steps is None else int(steps),
        seconds=_measurements.number(seconds, "seconds"),
        steps_per_epoch=_measurements.number(steps_per_epoch, "steps_per_epoch"),
        data=str(data),
        created=datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        versions=_versions(),
        hardware=_hardware() if hardware is None else str(hardware),
        prunes=_pruning.prunes_of(prunes or {}),
        layers=layers,
        channels={key: _pruning.channels_of(value, key) for key, value in (channels or {}).items()},
        sizes=counts,
        latency=times,
        quality=measurements,
        extractor=extractor,
        masks=masks,
        metrics=_measurements.metrics_of(metrics or {}),
        pictures=_measurements.pictures_of(pictures or {}),
        latency_quartiles=quartiles,
        equal_steps=equal_steps,
    )


def save_run(path: str | os.PathLike[str], *, overwrite: bool = False, **arguments: Any) -> Run:
    """Collect a run and write its folder, which `keras-ganprune report` reads.

    Args:
        path: Folder to write. It appears only when everything is written.
        overwrite: Whether to replace an existing folder. Defaults to False.
        **arguments: The arguments of `record_run`; `history`, and `samples` or `pictures`, are required.

    Returns:
        The `Run`.

    Raises:
        OutputError: The folder exists, cannot be written, or the disk is full.
        InvalidArgumentError: An argument of `record_run` has the wrong form.
        ArgumentTypeError: An argument, or a value of `networks`, has the wrong type.
        DivergedError: A loss is NaN or infinite. No folder is written.

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
    annotated.check(save_run, locals(), "path", "overwrite")
    run = record_run(**arguments)
    with files.new_folder(path, overwrite) as work:
        write_run(run, work)
    return dataclasses.replace(run, name=run.name or pathlib.Path(path).resolve().name)


def _json_value(value: Any) -> Any:
    """Return a value that JSON can hold. Other values become their repr."""
    if isinstance(value, (np.integer, np.floating, np.bool_)):
        value = value.item()
    if isinstance(value, (list, tuple)):
        return [_json_value(item) for item in value]
    if isinstance(value, Mapping):
        return {str(key): _json_value(item) for key, item in value.items()}
    try:
        json.dumps(value, allow_nan=False)
    except (TypeError, ValueError):
        return repr(value)
    return value


def _versions() -> dict[str, str]:
    backend = keras.backend.backend()
    versions = {"python": platform.python_version(), "backend": backend}
    for package in ("keras", backend, "numpy", "keras-ganprune"):
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:  # not installed, or under another name
            versions[package] = "unknown"
    return versions


def _hardware() -> str:
    """Return the processor and the number of cores that this process may use."""
    model = ""
    cpuinfo = pathlib.Path("/proc/cpuinfo")
    if cpuinfo.exists():
        lines = cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines()
        names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
        model = names[0] if names else ""
    model = model or platform.processor() or platform.machine()
    allowed = getattr(os, "sched_getaffinity", None)
    cores = len(allowed(0)) if allowed else os.cpu_count()
    return f"{model}, {cores} cores, {platform.system()}"
