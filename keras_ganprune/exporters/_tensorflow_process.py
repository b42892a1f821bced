"""The TensorFlow process that writes the SavedModel of a model of another backend.

`other_backends` starts it with a folder that holds `request.json` and `model.keras`.
"""

from __future__ import annotations

import importlib
import json
import pathlib
import sys
from typing import Any

import keras
import numpy as np

from keras_ganprune.errors import ExportError
from keras_ganprune.exporters import _tensorflow


def main(exchange: pathlib.Path) -> None:
    """Read `request.json`, write the SavedModel, and write the result or the error to `answer.json`."""
    request = json.loads((exchange / "request.json").read_text(encoding="utf-8"))
    try:
        answer = _write(exchange, request)
    except Exception as error:
        kinds = (ExportError, OSError)
        kind = next((k.__name__ for k in kinds if isinstance(error, k)), "Exception")
        text = str(error) if kind != "Exception" else f"{type(error).__name__}: {error}"
        answer = {"error": kind, "text": text}
    (exchange / "answer.json").write_text(json.dumps(answer), encoding="utf-8")


def _write(exchange: pathlib.Path, request: dict[str, Any]) -> dict[str, Any]:
    custom_objects = {name: _imported(module, name) for module, name in request["classes"]}
    # `safe_mode` is off: the calling process wrote this file itself, so its lambdas can be trusted.
    model: Any = keras.saving.load_model(
        exchange / "model.keras", custom_objects=custom_objects, compile=False, safe_mode=False
    )
    folder = exchange / "saved_model"
    folder.mkdir()
    comparison = _tensorflow.write_and_compare(model, folder, request["tolerance"])
    arrays: dict[str, Any] = {f"input_{i}": array for i, array in enumerate(comparison.inputs)}
    # NumPy's files cannot hold bfloat16.
    arrays |= {f"output_{i}": np.asarray(a, "float64") for i, a in enumerate(comparison.outputs)}
    np.savez(exchange / "arrays.npz", **arrays)
    return {
        "inputs": len(comparison.inputs),
        "outputs": len(comparison.outputs),
        "difference": comparison.difference,
    }


def _imported(module: str, name: str) -> Any:
    return getattr(importlib.import_module(module), name)


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]))
