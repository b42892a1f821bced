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
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np

from keras_ganprune.errors import ExportError, UnsupportedLayerError
from keras_ganprune.exporters import _comparison, _exchange
from keras_ganprune.exporters._comparison import AS_IT_IS, Form
from keras_ganprune.exporters._exchange import NotRebuiltError
from keras_ganprune.exporters._inference import write_inference
from keras_ganprune.exporters.full_precision import coarsest_step
from keras_ganprune.layers.same_outputs import arrays_of, gap, outputs_of
from keras_ganprune.metrics import measure_latency

# Seconds after which the process is stopped. A small network needs ten seconds, most of them for the import.
LIMIT = 900.0
# Two backends round differently, so the tolerance between them is larger by this factor.
_ACROSS = 10.0
# In half precision, a difference of up to this number of rounding steps is always valid.
_STEPS = 8


def not_rebuilt(model: keras.Model, error: NotRebuiltError) -> UnsupportedLayerError:
    """Return the error for a model of PyTorch that a TensorFlow process cannot rebuild."""
    return UnsupportedLayerError(
        "On the PyTorch backend a TensorFlow process writes the SavedModel, so it must be able to rebuild "
        f"the model. Received: `{type(model).__name__}` '{model.name}': {str(error).rstrip('.')}. {error.fix}"
    )


def write_and_compare(
    network: keras.Model,
    folder: pathlib.Path,
    tolerance: float,
    inputs: Any,
    form: Form = AS_IT_IS,
) -> float:
    """Write a SavedModel of a model of this backend, and return the largest difference of its outputs.

    Args:
        network: A model whose layers have their plain classes. No state of it changes.
        folder: An empty folder.
        tolerance: As for `export_saved_model`.
        inputs: Structure of arrays, as `probe_inputs` returns it.
        form: How the SavedModel calls and sizes its inputs.

    Raises:
        ExportError: The outputs differ, or the process failed.
        UnsupportedLayerError: The model cannot be rebuilt, and this backend has no converter.
        OSError: The folder cannot be written, or the disk is full.
    """
    allowed = max(_ACROSS * tolerance, _STEPS * coarsest_step(network))
    try:
        return _by_process(network, folder, tolerance, allowed, inputs, form)
    except NotRebuiltError as error:
        if keras.backend.backend() != "jax":
            raise not_rebuilt(network, error) from error
    return _by_jax(network, folder, allowed, inputs, form)


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
    network: keras.Model,
    folder: pathlib.Path,
    tolerance: float,
    allowed: float,
    inputs: Any,
    form: Form,
) -> float:
    if _draws(network, inputs):
        raise NotRebuiltError(
            "it draws random numbers, and each backend draws others from the same seed",
            _exchange.SEEDLESS,
        )
    expected = _outputs_here(network, inputs)
    # The temporary folder is beside `folder`, so that both are on one disk and files can be moved.
    with tempfile.TemporaryDirectory(prefix=f"{folder.name}-", dir=folder.parent) as name:
        exchange = pathlib.Path(name)
        _exchange.write(network, exchange, tolerance, inputs, form)
        # Before the long process starts: what a file of this model does not hold is missing here, too.
        _exchange.check(exchange, network, inputs)
        answer = _run_process(exchange)
        with np.load(exchange / "arrays.npz") as arrays:
            outputs = [arrays[f"output_{i}"] for i in range(answer["outputs"])]
        difference = _comparison.difference(expected, outputs, allowed, network.name)
        for entry in (exchange / "saved_model").iterdir():
            entry.rename(folder / entry.name)
    return max(difference, answer["difference"])


def _draws(network: keras.Model, inputs: Any) -> bool:
    """Return whether the outputs of a model depend on the seeds that it holds."""
    seeds = [v for v in network.variables if v.name == "seed_generator_state"]
    if not seeds:
        return False
    others = [(v, np.asarray(keras.ops.convert_to_numpy(v)) + 1) for v in seeds]
    return not gap(outputs_of(network, inputs), outputs_of(network, inputs, others)).within(0.0)


def _outputs_here(network: keras.Model, inputs: Any) -> list[Any]:
    """Return the outputs of a model on this backend."""
    with _full_precision():
        function = measure_latency.compiled(network)
        return arrays_of(function(*_comparison.tensors(network, inputs)))


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
        if kind == "Exception":
            raise NotRebuiltError(f"on TensorFlow it raises {text}", _exchange.KERAS_ONLY)
        raise {"ExportError": ExportError, "OSError": OSError}[kind](text)
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


def _by_jax(
    network: keras.Model, folder: pathlib.Path, allowed: float, inputs: Any, form: Form
) -> float:
    """Write a model with Keras's exporter on JAX: a SavedModel of compiled code for CPU and GPU."""
    expected = _outputs_here(network, inputs)
    write_inference(
        network,
        folder,
        _comparison.signature(network, inputs, form),
        jax2tf_kwargs={"native_serialization_platforms": ("cpu", "cuda")},
    )
    serve = measure_latency.served(folder)
    outputs = arrays_of(serve(*_comparison.tensors(network, inputs)))
    return _comparison.difference(expected, outputs, allowed, network.name)
