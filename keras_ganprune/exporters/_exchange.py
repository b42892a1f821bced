"""The files through which a model of another backend reaches the TensorFlow process."""

from __future__ import annotations

import importlib
import json
import pathlib
import pickle
import sys
import zipfile
from collections.abc import Collection, Iterator
from typing import Any

import keras

from keras_ganprune.errors import DifferentOutputsError
from keras_ganprune.layers.as_saved import is_own_callable, named_functions
from keras_ganprune.layers.copy_state import attributes
from keras_ganprune.layers.inference import run
from keras_ganprune.layers.repeated_layers import with_repeated_layers
from keras_ganprune.layers.same_outputs import check_same_outputs
from keras_ganprune.layers.sequential_models import built_once
from keras_ganprune.layers.snapshots import restore, snapshot
from keras_ganprune.layers.traversal import walk
from keras_ganprune.utils.foreign_errors import sentence_of

_MODEL = "model.keras"
_REQUEST = "request.pickle"


# What helps, by the reason.
SEEDLESS = "Leave the random numbers out of inference, or pass them to the model as an input."
IMPORTABLE = (
    "Define its classes and functions at the top level of a module that can be imported, not in the script "
    "that is run."
)
COMPLETE = "Let the `get_config` of each class return all arguments of its constructor."
KERAS_ONLY = "Let it compute with Keras layers and `keras.ops` only."


class NotRebuiltError(Exception):
    """The TensorFlow process cannot rebuild the model; the text gives the reason.

    Args:
        reason: The reason.
        fix: Sentence that says what helps.
    """

    def __init__(self, reason: str, fix: str):
        super().__init__(" ".join(reason.split()))
        self.fix = fix


def write(
    network: keras.Model, folder: pathlib.Path, tolerance: float, inputs: Any, form: Any
) -> None:
    """Write a model, what its file does not hold, and the inputs of the comparison.

    Raises:
        NotRebuiltError: The model cannot be saved, or another process cannot import a part of it.
        OSError: The folder cannot be written.
    """
    for model in with_repeated_layers(network):
        raise NotRebuiltError(
            f"'{model.name}' (Sequential) holds one layer in several places, but a file of Keras holds it "
            "once",
            "Make a layer for each place, or use the functional API.",
        )
    with named_functions(network, _is_importable) as functions:
        try:
            network.save(folder / _MODEL)
        except OSError:
            raise
        except Exception as error:
            path, layer = _first_unsaved(network)
            raise NotRebuiltError(
                f"'{path}' ({type(layer).__name__}) cannot be saved ({sentence_of(error)})",
                COMPLETE,
            ) from error
    request = {
        "tolerance": tolerance,
        "inputs": inputs,
        "form": form,
        "functions": functions,
        "classes": own_classes(folder / _MODEL, set(functions)),
        "data": {path: _picklable(snapshot(layer)) for path, layer in walk(network)},
    }
    (folder / _REQUEST).write_bytes(pickle.dumps(request))


def _first_unsaved(network: keras.Model) -> tuple[str, keras.layers.Layer]:
    """Return the innermost layer without a configuration, or the network itself."""
    for path, layer in reversed(walk(network)):
        try:
            keras.saving.serialize_keras_object(layer)
        except Exception:
            return path, layer
    return network.name, network


def read(folder: pathlib.Path) -> tuple[Any, dict[str, Any]]:
    """Return the model of a folder, and the request: its inputs and tolerance."""
    # This package wrote the file a moment ago, so its functions can be trusted.
    request = pickle.loads((folder / _REQUEST).read_bytes())
    objects = {name: _imported(module, name) for module, name in request["classes"]}
    # Objects of a scope come before those of Keras.
    with keras.saving.CustomObjectScope(objects | request["functions"]), built_once():
        model: Any = keras.saving.load_model(folder / _MODEL, compile=False, safe_mode=False)
    if not all(layer.built for _, layer in walk(model)):
        _build(model, request["inputs"], folder)
    for path, layer in walk(model):
        if path in request["data"]:
            restore(request["data"][path], layer)
    return model, request


def _build(model: keras.Model, inputs: Any, folder: pathlib.Path) -> None:
    """Call a model whose layers are built at their first call, and load their weights."""
    run(model, inputs)
    with zipfile.ZipFile(folder / _MODEL) as archive:
        model.load_weights(archive.extract("model.weights.h5", folder))


def check(folder: pathlib.Path, network: keras.Model, inputs: Any) -> None:
    """Load the model of a folder in the process that wrote it, and compare it with the user's model.

    Raises:
        NotRebuiltError: It cannot be loaded, or gives other outputs.
    """
    alone = [
        f"'{path}' ({type(layer).__name__}) has a function that no other process can import. "
        for path, layer in walk(network)
        if any(is_own_callable(v) and not _is_importable(v) for _, v in attributes(layer))
    ]
    start, fix = (alone[0], IMPORTABLE) if alone else ("", COMPLETE)
    try:
        again = read(folder)[0]
    except Exception as error:
        raise NotRebuiltError(
            f"{start}Its file cannot be loaded ({sentence_of(error)})", fix
        ) from error
    try:
        check_same_outputs(network, again, inputs, what="saved file")
    except DifferentOutputsError as error:
        raise NotRebuiltError(f"{start}{error}", fix) from error


def _imported(module: str, name: str) -> Any:
    return getattr(importlib.import_module(module), name)


def _is_importable(value: Any) -> bool:
    """Return whether another process can read a function or callable object."""
    module = getattr(value, "__module__", None) or type(value).__module__
    return module != "__main__" and _is_pickled(value)


def _is_pickled(value: Any) -> bool:
    try:
        pickle.dumps(value)
    except Exception:
        return False
    return True


def _picklable(values: Any) -> Any:
    return type(values)((k, v) for k, v in values.items() if _is_pickled(v))


def own_classes(path: pathlib.Path, known: Collection[str] = ()) -> list[tuple[str, str]]:
    """Return (module, name) of each class and function in a `.keras` file that does not belong to Keras.

    Args:
        path: The file.
        known: Names of functions that the process gets in another way. Defaults to none.

    Raises:
        NotRebuiltError: Another process cannot import one of them.
    """
    with zipfile.ZipFile(path) as archive:
        origins = sorted(set(_origins(json.loads(archive.read("config.json")), known)))
    for module, name in origins:
        if module == "__main__" or not hasattr(sys.modules.get(module), name):
            raise NotRebuiltError(
                f"no other process can import '{name}' of the module '{module}'", IMPORTABLE
            )
    return origins


def _origins(config: Any, known: Collection[str]) -> Iterator[tuple[str, str]]:
    if isinstance(config, dict):
        if config.keys() >= {"module", "class_name", "registered_name"}:
            function = config["class_name"] == "function" and config["config"] in known
            module, name = ("builtins", "") if function else _origin(config)
            if module.split(".")[0] not in ("keras", "builtins"):
                yield module, name
        config = list(config.values())
    for child in config if isinstance(config, list) else ():
        yield from _origins(child, known)


def _origin(config: dict[str, Any]) -> tuple[str, str]:
    function = config["class_name"] == "function"
    name = config["config" if function else "class_name"]
    # The file holds only the registered name of a function.
    registered: Any = keras.saving.get_registered_object(name) if function else None
    if registered is not None:
        return registered.__module__, registered.__name__
    # Keras writes None for the script that is run as the main program.
    return config["module"] or "__main__", name
