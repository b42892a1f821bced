"""SavedModels on the JAX and PyTorch backends, written by a TensorFlow process or by JAX's converter."""

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

# Seconds after which the process is stopped. A small network needs ten seconds, most of them for the import.
LIMIT = 900.0
# Two backends round differently, so the tolerance between them is larger by this factor.
_ACROSS = 10.0
# In half precision, a difference of up to this number of rounding steps is always valid.
_STEPS = 8
_STEP_SIZES = {"float16": 2.0**-10, "bfloat16": 2.0**-7}


class NotRebuiltError(Exception):
    """The TensorFlow process cannot rebuild the model; the text gives the reason."""


def not_rebuilt(model: keras.Model, reason: Any) -> UnsupportedLayerError:
    """Return the error for a model of PyTorch that a TensorFlow process cannot rebuild."""
    reason = " ".join(str(reason).split())
    if len(reason) > 600:  # Keras quotes whole configurations before it gives the reason
        reason = f"{reason[:200]} ... {reason[-400:]}"
    return UnsupportedLayerError(
        "On the PyTorch backend a TensorFlow process writes the SavedModel, so it must be able to rebuild "
        f"the model. Received: `{type(model).__name__}` '{model.name}' ({reason}). Define its classes and "
        "functions at the top level of a module that can be imported, not in the script that is run. The "
        "classes need `get_config` and operations of `keras.ops` only; register the functions with "
        "`@keras.saving.register_keras_serializable()`."
    )


def write_and_compare(
    plain: keras.Model, folder: pathlib.Path, tolerance: float, copied: bool
) -> float:
    """Write a SavedModel of a model of this backend, and return the largest difference of its outputs.

    Args:
        plain: A model without masks.
        folder: An empty folder.
        tolerance: As for `export_saved_model`.
        copied: Whether the model can be rebuilt from its configuration.

    Raises:
        ExportError: The outputs differ, or the process failed.
        UnsupportedLayerError: The model cannot be rebuilt, and this backend has no converter.
        OSError: The folder cannot be written, or the disk is full.
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
    """Return the largest relative rounding step of the half-precision layers, or 0 without such layers."""
    dtypes = {getattr(layer, "compute_dtype", None) for layer in model._flatten_layers()}
    return max((size for name, size in _STEP_SIZES.items() if name in dtypes), default=0.0)


@contextlib.contextmanager
def _full_precision() -> Iterator[None]:
    """Within the context, a GPU multiplies float32 numbers in full precision, not as TF32."""
    if keras.backend.backend() == "jax":
        with importlib.import_module("jax").default_matmul_precision("highest"):
            yield
        return
    torch = importlib.import_module("torch")
    settings = (torch.backends.cudnn, torch.backends.cuda.matmul)
    before = [setting.allow_tf32 for setting in settings]
    for setting in settings:
        setting.allow_tf32 = False
    try:
        yield
    finally:
        for setting, value in zip(settings, before, strict=True):
            setting.allow_tf32 = value


# --- the TensorFlow process ----------------------------------------------------------------------


def _by_process(
    plain: keras.Model, folder: pathlib.Path, tolerance: float, allowed: float
) -> float:
    # The temporary folder is beside `folder`, so that both are on one disk and files can be moved.
    with tempfile.TemporaryDirectory(prefix=f"{folder.name}-", dir=folder.parent) as name:
        exchange = pathlib.Path(name)
        _save(plain, exchange / "model.keras")
        request = {
            "tolerance": tolerance,
            "classes": _own_classes(exchange / "model.keras"),
        }
        (exchange / "request.json").write_text(json.dumps(request), encoding="utf-8")
        answer = _run_process(exchange)
        with np.load(exchange / "arrays.npz") as arrays:
            inputs, outputs = (
                [arrays[f"{kind}_{i}"] for i in range(answer[f"{kind}s"])]
                for kind in ("input", "output")
            )
        for entry in (exchange / "saved_model").iterdir():
            entry.rename(folder / entry.name)
    expected = _outputs_here(plain, _tensorflow.input_specs(plain), inputs)
    difference = random_inputs.difference(expected, outputs, allowed, plain.name)
    return max(difference, answer["difference"])


def _outputs_here(plain: keras.Model, specs: Any, inputs: list[np.ndarray]) -> list[Any]:
    """Return the outputs of a model on this backend."""
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
    """Return (module, name) of each class and function in a `.keras` file that does not belong to Keras.

    Raises:
        NotRebuiltError: Another process cannot import one of them.
    """
    with zipfile.ZipFile(path) as archive:
        origins = sorted(set(_origins(json.loads(archive.read("config.json")))))
    for module, name in origins:
        if module == "__main__" or not hasattr(sys.modules.get(module), name):
            raise NotRebuiltError(f"no other process can import '{name}' of the module '{module}'")
    return origins


def _origins(config: Any) -> Iterator[tuple[str, str]]:
    if isinstance(config, dict):
        if config.keys() >= {"module", "class_name", "registered_name"}:
            module, name = _origin(config)
            if module.split(".")[0] not in ("keras", "builtins"):
                yield module, name
        config = list(config.values())
    for child in config if isinstance(config, list) else ():
        yield from _origins(child)


def _origin(config: dict[str, Any]) -> tuple[str, str]:
    function = config["class_name"] == "function"
    name = config["config" if function else "class_name"]
    # The file holds only the registered name of a function.
    registered: Any = keras.saving.get_registered_object(name) if function else None
    if registered is not None:
        return registered.__module__, registered.__name__
    # Keras writes None for the script that is run as the main program.
    return config["module"] or "__main__", name


def _run_process(exchange: pathlib.Path) -> dict[str, Any]:
    """Run the process on a folder with a request, and return its answer."""
    command = [sys.executable, "-m", "keras_ganprune.exporters._tensorflow_process", str(exchange)]
    try:
        process = subprocess.run(
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
            f"did not, and was stopped; nothing was written. Its last output: {_last(error.stderr)}"
        ) from error
    path = exchange / "answer.json"
    if not path.is_file():
        raise ExportError(
            f"The TensorFlow process that writes the SavedModel ended with exit code {process.returncode}; "
            f"nothing was written. Its last output: {_last(process.stderr)}"
        )
    answer = json.loads(path.read_text(encoding="utf-8"))
    kind, text = answer.get("error"), answer.get("text")
    if kind:
        raise {"ExportError": ExportError, "OSError": OSError}.get(kind, NotRebuiltError)(text)
    return answer


def _environment() -> dict[str, str]:
    """Return the environment variables of the process."""
    environment = dict(os.environ)
    # These flags are meant for JAX. TensorFlow's XLA ends the process if it does not know a flag.
    environment.pop("XLA_FLAGS", None)
    return environment | {
        "KERAS_BACKEND": "tensorflow",
        # This process already uses the GPU's memory.
        "CUDA_VISIBLE_DEVICES": "-1",
        "TF_CPP_MIN_LOG_LEVEL": "3",
        # The process can import the modules that this process can import, and nothing else from the current
        # folder.
        "PYTHONPATH": os.pathsep.join(os.path.abspath(p) for p in sys.path),
        "PYTHONSAFEPATH": "1",
    }


def _last(output: bytes | None) -> str:
    text = (output or b"").decode("utf-8", "replace").strip()
    return text[-1000:] or "(none)"


# --- JAX's converter -----------------------------------------------------------------------------


def _by_jax(plain: keras.Model, folder: pathlib.Path, allowed: float) -> float:
    """Write a model with Keras's exporter on JAX: a SavedModel of compiled code for CPU and GPU."""
    specs = _tensorflow.input_specs(plain)
    inputs = random_inputs.random_inputs(keras.tree.flatten(specs))
    expected = _outputs_here(plain, specs, inputs)
    platforms = {"native_serialization_platforms": ("cpu", "cuda")}
    plain.export(str(folder), format="tf_saved_model", verbose=False, jax2tf_kwargs=platforms)
    outputs = _tensorflow.run(measure_latency.served(folder), specs, inputs)
    return random_inputs.difference(expected, outputs, allowed, plain.name)
