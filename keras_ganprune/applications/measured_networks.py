"""Export the networks of an application, read them again, and measure what was read."""

from __future__ import annotations

import pathlib
from collections.abc import Callable
from typing import Any, cast

import attrs
import keras

from keras_ganprune.applications.base import Application, Splits
from keras_ganprune.applications.branches import Branch
from keras_ganprune.errors import MissingPackageError
from keras_ganprune.exporters import ExportReport, export_saved_model
from keras_ganprune.metrics import Profile, measure_latency, profile
from keras_ganprune.utils import files

LATENCY_BATCH = 16


@attrs.frozen(eq=False)
class MeasuredNetwork:
    """A trained network with its files and its numbers.

    Attributes:
        branch: The trained network.
        reloaded: The network as it was read from its files.
        exported: `ExportReport` of its SavedModel; None if TensorFlow, which writes it, is not installed.
        costs: Its `Profile`.
        metrics: The numbers of the application, on the test data.
    """

    branch: Branch
    reloaded: keras.Model
    exported: ExportReport | None
    costs: Profile
    metrics: dict[str, float]


def measure(
    application: Application, branch: Branch, data: Splits, folder: pathlib.Path
) -> MeasuredNetwork:
    """Write a network as SavedModel and `.keras` file, read it again, and evaluate what was read.

    Args:
        application: The application.
        branch: The trained network.
        data: The data; the test part is used.
        folder: Folder for the files.
    """
    network = branch.network
    exported = _exported(network, folder / branch.name)
    network.save(folder / f"{branch.name}.keras")
    reloaded = read_again(folder / branch.name, network)
    metrics = {k: float(v) for k, v in application.evaluate(reloaded, data.test).items()}
    costs = profile(network, latency=False)
    return MeasuredNetwork(branch, reloaded, exported, costs, metrics)


def _exported(network: keras.Model, path: pathlib.Path) -> ExportReport | None:
    try:
        files.check_tensorflow()
    except MissingPackageError:
        return None  # on JAX and PyTorch, the `.keras` file is enough
    return export_saved_model(network, path)


def read_again(path: pathlib.Path, network: keras.Model) -> keras.Model:
    """Return a SavedModel as a Keras model; on JAX and PyTorch, the `.keras` file beside it.

    Args:
        path: Folder of the SavedModel.
        network: The network that was written, for the shapes of the inputs.
    """
    if keras.backend.backend() != "tensorflow":
        file = path.with_name(f"{path.name}.keras")
        return cast("keras.Model", keras.saving.load_model(file, compile=False))
    specs = measure_latency.input_specs(network)
    inputs = keras.tree.map_structure(
        lambda spec: keras.Input(spec.shape[1:], dtype=spec.dtype, name=spec.name), specs
    )
    served = keras.layers.TFSMLayer(str(path), call_endpoint="serve")
    return keras.Model(inputs, served(inputs))


def latencies(networks: list[MeasuredNetwork], folder: pathlib.Path) -> dict[str, float]:
    """Return the milliseconds per batch of each SavedModel, timed in turns.

    It is {} if the inputs of the networks have no fixed size, or if there are no SavedModels.
    """
    if any(each.exported is None for each in networks):
        return {}
    functions: dict[str, Callable[..., Any]] = {
        each.branch.title: measure_latency.served(folder / each.branch.name) for each in networks
    }
    specs = measure_latency.input_specs(networks[0].branch.network)
    if any(None in spec.shape[1:] for spec in keras.tree.flatten(specs)):
        return {}
    inputs = measure_latency.random_inputs(specs, LATENCY_BATCH)
    return {**measure_latency.latency(functions, inputs)}
