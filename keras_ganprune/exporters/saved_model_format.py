"""SavedModels, for TensorFlow and TensorFlow Serving."""

from __future__ import annotations

import pathlib
import shutil
from collections.abc import Callable, Iterable, Mapping
from typing import Any, ClassVar

import numpy as np

from keras_ganprune.exporters.contract import (
    Arrays,
    ConversionSource,
    Exporter,
    ExportOptions,
    InputForm,
)
from keras_ganprune.utils import files

_ONLY = "A SavedModel holds float32 weights only. Choose 'onnx', 'litert' or 'openvino'."


class SavedModelExporter(Exporter):
    """SavedModel; proven by TensorFlow."""

    name: ClassVar[str] = "saved_model"
    title: ClassVar[str] = "SavedModel"
    runtime: ClassVar[str] = "TensorFlow"
    suffix: ClassVar[str] = ""
    precisions: ClassVar[Mapping[str, str]] = {"float32": "", "float16": _ONLY, "int8": _ONLY}

    def check_installed(self, precision: str) -> None:
        """See `Exporter`."""
        files.check_tensorflow()

    def write(self, source: ConversionSource, path: pathlib.Path, options: ExportOptions) -> None:
        """See `Exporter`."""
        shutil.copytree(source.folder, path)

    def load(
        self, path: pathlib.Path, *, exact: bool = False, threads: int | None = None
    ) -> Callable[[Arrays], Arrays]:
        """See `Exporter`."""
        # TensorFlow fixes its number of threads when it starts.
        loaded, function = _loaded(path)

        def outputs(arrays: Arrays) -> Arrays:
            found = function(**dict(arrays))
            return {name: np.asarray(value) for name, value in found.items()}

        vars(outputs)["loaded"] = loaded  # a function alone does not keep its variables
        return outputs

    def inputs(self, path: pathlib.Path) -> Mapping[str, InputForm]:
        """See `Exporter`."""
        _, function = _loaded(path)
        return {
            name: InputForm(tuple(spec.shape), spec.dtype.name)
            for name, spec in function.structured_input_signature[1].items()
        }

    def constants(self, path: pathlib.Path) -> Iterable[np.ndarray]:
        """See `Exporter`."""
        loaded, function = _loaded(path)
        del loaded
        for variable in function.variables:
            yield variable.numpy()

    def files_of(self, path: pathlib.Path) -> list[pathlib.Path]:
        """See `Exporter`."""
        return sorted(entry for entry in path.rglob("*") if entry.is_file())


def _loaded(path: pathlib.Path) -> tuple[Any, Any]:
    tf = files.tensorflow()
    loaded = tf.saved_model.load(str(path))
    return loaded, loaded.signatures["serving_default"]
