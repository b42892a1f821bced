"""SavedModels from JAX and PyTorch: a TensorFlow process writes them, or JAX's own converter."""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np

from keras_ganprune.errors import ExportError, UnsupportedLayerError
from keras_ganprune.exporters import _tensorflow
from keras_ganprune.metrics import measure_latency
from keras_ganprune.utils import random_inputs

# Seconds that the process may take; a small network takes ten, most of it to import TensorFlow.
LIMIT = 900.0
# How much more two backends may differ than TensorFlow from itself.
_ACROSS = 10.0
# Steps of half precision that they may differ by, at least.
_STEPS = 8
_STEP_SIZES = {"float16": 2.0**-10, "bfloat16": 2.0**-7}


class NotRebuiltError(Exception):
    """The TensorFlow process cannot make the model again, and says why."""


def not_rebuilt(model: keras.Model, reason: Any) -> UnsupportedLayerError:
    """Return the error for a model of PyTorch that TensorFlow cannot be given."""
    reason = " ".join(str(reason).split())
    if len(reason) > 600:  # Keras quotes whole configurations, and says what went wrong behind them
        reason = f"{reason[:200]} ... {reason[-400:]}"
    return UnsupportedLayerError(
        "On the PyTorch backend a SavedModel is written by a TensorFlow process, which must be able to make "
        f"the model again. Received: `{type(model).__name__}` '{model.name}' ({reason}). Define its classes "
        "at the top of a module that can be imported (not in the script that is run), with `get_config` "
        "and with operations of `keras.ops` only, and its functions there too, registered by "
        "`@keras.saving.register_keras_serializable()`."
    )


def write_and_compare(
    plain: keras.Model, folder: pathlib.Path, tolerance: float, copied: bool
) -> float:
    """Write a SavedModel of a model of this backend, and return how far it differs from it at most.

    Args:
        plain: A model without masks.
        folder: An empty folder.
        tolerance: As of `export_saved_model`.
        copied: Whether the model can be rebuilt from its configuration.

    Raises:
        ExportError: the outputs differ, or the process died.
        UnsupportedLayerError: the model cannot be made again, and this backend has no converter.
        OSError: the folder cannot be written or the disk is full.
    """
    allowed = max(_ACROSS * tolerance, _STEPS * _coarsest_step(plain))
    if copied:
        try:
            return _by_process(plain, folder, tolerance, allowed)
        except NotRebuiltError as error:
            if keras.backend.backend() != "jax":
                raise not_rebuilt(plain, error) from error
    return _by_jax(plain, folder, allowed)


def _coarsest_step(model: keras.Model) -> float:
    """Return the relative step of the coarsest half precision that a layer computes in, or 0."""
    used = {getattr(layer, "compute_dtype", None) for layer in model._flatten_layers()}
    return max((size for name, size in _STEP_SIZES.items() if name in used), default=0.0)


@contextlib.contextmanager
def _full_precision() -> Iterator[None]:
    """Within the context, a GPU multiplies float32 numbers as such, not shortened (TF32)."""
    if keras.backend.backend() == "jax":
        with importlib.import_module("jax").default_matmul_precision("highest"):
            yield
        return
    torch = importlib.import_module("torch")
    places = (torch.backends.cudnn, torch.backends.cuda.matmul)
    before = [place.allow_tf32 for place in places]
    for place in places:
        place.allow_tf32 = False
    try:
        yield
    finally:
        for place, value in zip(places, before, strict=True):
            place.allow_tf32 = value


# --- a TensorFlow process ------------------------------------------------------------------------


def _by_process(
    plain: keras.Model, folder: pathlib.Path, tolerance: float, allowed: float
) -> float:
    # Beside the folder: what fits there fits here.
    with tempfile.TemporaryDirectory(prefix=f"{folder.name}-", dir=folder.parent) as name:
        exchange = pathlib.Path(name)
        _save(plain, exchange / "model.keras")
        request = {
            "tolerance": tolerance,
            "classes": _own_classes(exchange / "model.keras"),
        }
        (exchange / "request.json").write_text(json.dumps(request), encoding="utf-8")
        answer = _ask(exchange)
        with np.load(exchange / "arrays.npz") as arrays:
            inputs, outputs = (
                [arrays[f"{kind}_{i}"] for i in range(answer[f"{kind}s"])]
                for kind in ("input", "output")
            )
        for entry in (exchange / "saved_model").iterdir():
            entry.rename(folder / entry.name)
    own = _own_outputs(plain, _tensorflow.input_specs(plain), inputs)
    found = random_inputs.difference(own, outputs, allowed, plain.name)
    return max(found, answer["difference"])


def _own_outputs(plain: keras.Model, specs: Any, inputs: list[np.ndarray]) -> list[np.ndarray]:
    with _full_precision():
        return _tensorflow.run(measure_latency.compiled(plain), specs, inputs)


def _save(plain: keras.Model, path: pathlib.Path) -> None:
    try:
        plain.save(path)
    except OSError:
        raise
    except Exception as error:
        raise NotRebuiltError(f"it cannot be saved: {type(error).__name__}: {error}") from error


def _own_classes(path: pathlib.Path) -> list[tuple[str, str]]:
    """Return the module and name of each class and function in a `.keras` file that is not Keras's own.

    Raises:
        NotRebuiltError: another process cannot import one of them.
    """
    with zipfile.ZipFile(path) as archive:
        found = sorted(set(_named(json.loads(archive.read("config.json")))))
    for module, name in found:
        if module == "__main__" or not hasattr(sys.modules.get(module), name):
            raise NotRebuiltError(f"no other process can import '{name}' of the module '{module}'")
    return found


def _named(config: Any) -> Iterator[tuple[str, str]]:
    if isinstance(config, dict):
        if config.keys() >= {"module", "class_name", "registered_name"}:
            module, name = _origin(config)
            if module.split(".")[0] not in ("keras", "builtins"):
                yield module, name
        config = list(config.values())
    for child in config if isinstance(config, list) else ():
        yield from _named(child)


def _origin(config: dict[str, Any]) -> tuple[str, str]:
    function = config["class_name"] == "function"
    name = config["config" if function else "class_name"]
    # Of a function the file has only the name that it was registered by.
    known = keras.saving.get_registered_object(name) if function else None
    if known is not None:
        return known.__module__, known.__name__
    # Keras writes None for the script that is run.
    return config["module"] or "__main__", name


def _ask(exchange: pathlib.Path) -> dict[str, Any]:
    """Let the process do what is asked for, and return its answer."""
    command = [sys.executable, "-m", "keras_ganprune.exporters._tensorflow_process", str(exchange)]
    try:
        ended = subprocess.run(
            command,
            env=_environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            timeout=LIMIT,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise ExportError(
            f"The TensorFlow process that writes the SavedModel must end within {LIMIT:g} seconds. It "
            f"did not, and was stopped; nothing was written. Its last words: {_last(error.stderr)}"
        ) from error
    path = exchange / "answer.json"
    if not path.is_file():
        raise ExportError(
            f"The TensorFlow process that writes the SavedModel ended with exit code {ended.returncode}; "
            f"nothing was written. Its last words: {_last(ended.stderr)}"
        )
    answer = json.loads(path.read_text(encoding="utf-8"))
    kind, text = answer.get("error"), answer.get("text")
    if kind:
        raise {"ExportError": ExportError, "OSError": OSError}.get(kind, NotRebuiltError)(text)
    return answer


def _environment() -> dict[str, str]:
    found = dict(os.environ)
    # Flags meant for JAX, some of which TensorFlow's own XLA does not know and dies of.
    found.pop("XLA_FLAGS", None)
    return found | {
        "KERAS_BACKEND": "tensorflow",
        # The GPU's memory belongs to this process.
        "CUDA_VISIBLE_DEVICES": "-1",
        "TF_CPP_MIN_LOG_LEVEL": "3",
        # It imports what this process can, and nothing that only lies in the folder it starts in.
        "PYTHONPATH": os.pathsep.join(os.path.abspath(p) for p in sys.path),
        "PYTHONSAFEPATH": "1",
    }


def _last(words: bytes | None) -> str:
    text = (words or b"").decode("utf-8", "replace").strip()
    return text[-1000:] or "(none)"


# --- JAX's converter -----------------------------------------------------------------------------


def _by_jax(plain: keras.Model, folder: pathlib.Path, allowed: float) -> float:
    """Write a model by Keras's exporter on JAX: compiled code inside a SavedModel, for CPU and GPU."""
    specs = _tensorflow.input_specs(plain)
    inputs = random_inputs.random_inputs(keras.tree.flatten(specs))
    own = _own_outputs(plain, specs, inputs)
    platforms = {"native_serialization_platforms": ("cpu", "cuda")}
    plain.export(str(folder), format="tf_saved_model", verbose=False, jax2tf_kwargs=platforms)
    outputs = _tensorflow.run(measure_latency.served(folder), specs, inputs)
    return random_inputs.difference(own, outputs, allowed, plain.name)
