"""`OpenedFile`: a file of any format as a function that can be timed."""

from __future__ import annotations

import pathlib
from collections.abc import Callable, Mapping
from typing import Any

import attrs
import keras

from keras_ganprune.errors import FileFormatError
from keras_ganprune.exporters.contract import Arrays, InputForm
from keras_ganprune.exporters.formats import FORMATS
from keras_ganprune.gan.adversarial_model import AdversarialModel
from keras_ganprune.layers.saving import load_model
from keras_ganprune.layers.stripping import strip_pruning
from keras_ganprune.metrics import measure_latency
from keras_ganprune.utils import given_paths
from keras_ganprune.utils.foreign_errors import sentence_of
from keras_ganprune.utils.random_inputs import random_inputs


@attrs.frozen(eq=False)
class OpenedFile:
    """A file that can be called.

    Attributes:
        path: The file.
        format: Its format.
        files: All files that belong to it.
        inputs: Name -> input with a shape and a type.
        function: Function from arrays by name to its outputs.
    """

    path: pathlib.Path
    format: str
    files: list[pathlib.Path]
    inputs: Mapping[str, InputForm]
    function: Callable[[Arrays], Any]

    @classmethod
    def at(cls, path: pathlib.Path, threads: int) -> OpenedFile:
        """Open a file in its runtime.

        Args:
            path: The file, or the folder of a SavedModel.
            threads: Positive int, threads of the runtime.

        Raises:
            FileFormatError: The path does not exist, or is no file of these formats.
            MissingPackageError: The runtime is not installed.
        """
        given_paths.check_exists(path)
        if path.suffix == ".keras":
            return _keras(path)
        for exporter in FORMATS.values():
            folder = not exporter.suffix and (path / "saved_model.pb").is_file()
            if folder or (exporter.suffix and path.suffix == exporter.suffix):
                exporter.check_installed("float32")
                try:
                    inputs = exporter.inputs(path)
                    function = exporter.load(path, threads=threads)
                except Exception as error:
                    raise FileFormatError(
                        f"'{path}' cannot be read by {exporter.runtime}: {sentence_of(error)}"
                    ) from error
                return cls(path, exporter.name, exporter.files_of(path), inputs, function)
        endings = ", ".join(each.suffix for each in FORMATS.values() if each.suffix)
        raise FileFormatError(
            f"A file must be a SavedModel folder, or end in .keras, {endings}. Received: '{path}'."
        )

    def call(self, size: int, seed: int) -> Callable[[], None]:
        """Return a function without arguments that runs the file on a batch of random inputs."""
        sizes = [form.shape[0] for form in self.inputs.values() if form.shape]
        fixed = [size for size in sizes if size is not None]
        batch = min(fixed) if fixed else size
        arrays = dict(
            zip(self.inputs, random_inputs([*self.inputs.values()], batch, seed), strict=True)
        )
        # A file with a fixed batch size runs as often as the samples need.
        calls = -(-size // batch)

        def run() -> None:
            for _ in range(calls):
                self.function(arrays)

        try:
            run()
        except Exception as error:
            raise FileFormatError(
                f"'{self.path}' does not run on random inputs: {sentence_of(error)} Measure it with your own "
                "program."
            ) from error
        return run


def _keras(path: pathlib.Path) -> OpenedFile:
    """Return a .keras file as a compiled function of its network; of a GAN, of its generator."""
    model: Any = load_model(path)
    network = strip_pruning(model.sampler if isinstance(model, AdversarialModel) else model)
    specs = measure_latency.input_specs(network)
    flat = keras.tree.flatten(specs)
    compiled = measure_latency.compiled(network)
    inputs = {
        f"input_{n}": InputForm(tuple(spec.shape), keras.backend.standardize_dtype(spec.dtype))
        for n, spec in enumerate(flat)
    }

    def function(arrays: Arrays) -> Any:
        tensors = [keras.ops.convert_to_tensor(array) for array in arrays.values()]
        return compiled(keras.tree.pack_sequence_as(specs, tensors))

    return OpenedFile(path, "keras", [path], inputs, function)
