"""The TensorFlow process that writes the SavedModel of a model of another backend.

`other_backends` starts it with a folder that `_exchange` has written.
"""

from __future__ import annotations

import json
import pathlib
import sys
from typing import Any

import numpy as np

from keras_ganprune.errors import ExportError
from keras_ganprune.exporters import _exchange, _tensorflow


def main(exchange: pathlib.Path) -> None:
    """Read a folder, write the SavedModel, and write the result or the error to `answer.json`."""
    try:
        answer = _write(exchange)
    except Exception as error:
        kinds = (ExportError, OSError)
        kind = next((k.__name__ for k in kinds if isinstance(error, k)), "Exception")
        text = str(error) if kind != "Exception" else f"{type(error).__name__}: {error}"
        answer = {"error": kind, "text": text}
    (exchange / "answer.json").write_text(json.dumps(answer), encoding="utf-8")


def _write(exchange: pathlib.Path) -> dict[str, Any]:
    model, request = _exchange.read(exchange)
    folder = exchange / "saved_model"
    folder.mkdir()
    comparison = _tensorflow.write_and_compare(
        model, folder, request["tolerance"], request["inputs"], request["form"]
    )
    # NumPy's files cannot hold bfloat16.
    arrays: Any = {
        f"output_{i}": np.asarray(a, "float64") for i, a in enumerate(comparison.outputs)
    }
    np.savez(exchange / "arrays.npz", **arrays)
    return {"outputs": len(comparison.outputs), "difference": comparison.difference}


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]))
