"""Saved models on the command line: `--import`, loading, and the networks of a model."""

from __future__ import annotations

import argparse
import importlib
import os
import pathlib
import sys
from collections.abc import Sequence
from typing import Any

import keras

from keras_ganprune.cli.arguments import Recorder
from keras_ganprune.errors import InvalidArgumentError, PruningError
from keras_ganprune.gan.adversarial_model import AdversarialModel
from keras_ganprune.layers import saving

AVERAGED = "averaged generator"


def add_import(recorder: Recorder) -> None:
    """Add `--import`, for commands that load a .keras file."""
    recorder.add_argument(
        "--import",
        dest="modules",
        action="append",
        default=[],
        metavar="MODULE",
        help="Python module with your own classes, imported before the file is loaded. Can be repeated. "
        "Defaults to none.",
    )


def add_live(recorder: Recorder, action: str) -> None:
    """Add `--live`, for commands that read one generator of a GAN."""
    recorder.add_argument(
        "--live",
        action="store_true",
        help=f"{action} the live generator of a GAN. Defaults to the averaged generator, if there is "
        "one.",
    )


def load(path: str | os.PathLike[str], modules: Sequence[str] = ()) -> Any:
    """Load a .keras file.

    Args:
        path: The file.
        modules: Python modules with the user's classes, imported first.

    Raises:
        PruningError: A module cannot be imported.
        FileFormatError: The file does not exist or cannot be loaded.
    """
    for module in modules:
        sys.path.insert(0, os.getcwd())
        try:
            importlib.import_module(module)
        except Exception as error:  # The module of the user may raise anything.
            kind = "" if isinstance(error, ImportError) else f"{type(error).__name__}: "
            raise PruningError(
                f"--import must be the name of a Python module, such as my_layers. Received: {module!r}, "
                f"which cannot be imported ({kind}{error})."
            ) from error
    return saving.load_model(pathlib.Path(path))


def networks(model: keras.Model) -> dict[str, keras.Model]:
    """Return the networks of a GAN of this package by name, or any other model by its own name."""
    if not isinstance(model, AdversarialModel):
        return {model.name: model}
    by_name = {"generator": model.generator, "discriminator": model.discriminator}
    if model.ema_generator is not None:
        by_name[AVERAGED] = model.ema_generator
    return by_name


def without_classes(file: pathlib.Path) -> pathlib.Path:
    """Return the SavedModel beside a `.keras` file, which needs no classes of the user; or the file."""
    beside = file.with_name("saved_model")
    return beside if beside.exists() else file


def add_runtime(recorder: Recorder) -> None:
    """Add --runtime, where a latency is measured."""
    recorder.add_argument(
        "--runtime",
        default=None,
        help="With --latency: onnx, litert, openvino or keras, run with one thread for one sample. Defaults "
        "to onnx.",
    )


def runtime(arguments: argparse.Namespace) -> dict[str, str]:
    """Return the runtime as an argument of `Budget`, or {}.

    Raises:
        InvalidArgumentError: It is given without --latency.
    """
    if arguments.runtime is None:
        return {}
    if arguments.latency is None:
        raise InvalidArgumentError(
            f"--runtime is where --latency is measured. Received: --runtime {arguments.runtime} without it. "
            "Add --latency 0.25, for example, or leave --runtime out."
        )
    return {"runtime": arguments.runtime}
