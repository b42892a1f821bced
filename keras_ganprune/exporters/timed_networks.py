"""Networks as files in their runtime, to be timed: for budgets in latency."""

from __future__ import annotations

import pathlib
import shutil
import tempfile
import weakref

import keras

from keras_ganprune.errors import UnsupportedLayerError
from keras_ganprune.exporters import _comparison
from keras_ganprune.exporters.contract import Exporter, ExportOptions
from keras_ganprune.exporters.conversion_source import conversion_source
from keras_ganprune.exporters.formats import FORMATS
from keras_ganprune.exporters.full_precision import in_float32
from keras_ganprune.exporters.opened_file import OpenedFile
from keras_ganprune.layers.as_saved import uncompiled
from keras_ganprune.layers.stripping import plain_classes
from keras_ganprune.metrics import measure_latency
from keras_ganprune.pruning.structured.runtimes import Run, register_opener

_TOLERANCE = 1e-5  # of the SavedModel that the converters read, as for `export`


@register_opener
def opened_network(network: keras.Model, runtime: str, batch_size: int) -> Run:
    """Return a network, exported, as a function that runs it once; see `runtimes.opened`."""
    if runtime == "keras":
        specs = measure_latency.input_specs(network)
        inputs = measure_latency.random_inputs(specs, batch_size)
        function = measure_latency.compiled(network)
        return Run(lambda: lambda: function(inputs))
    exporter = FORMATS[runtime]
    exporter.check_installed("float32")
    folder = pathlib.Path(tempfile.mkdtemp(prefix="keras_ganprune_"))
    try:
        try:
            path = _written(network, exporter, folder / "any", None)
        except UnsupportedLayerError:
            # Recurrent layers in LiteRT need a fixed batch size.
            path = _written(network, exporter, folder / "fixed", batch_size)
        run = Run(lambda: OpenedFile.at(path, threads=1).call(batch_size, seed=0))
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    # A runtime may read its file as long as it lives.
    weakref.finalize(run, shutil.rmtree, folder, True)
    return run


def _written(
    network: keras.Model, exporter: Exporter, folder: pathlib.Path, batch_size: int | None
) -> pathlib.Path:
    """Write a network as a float32 file, and return its path."""
    (folder / "source").mkdir(parents=True)
    path = folder / f"network{exporter.suffix}"
    with plain_classes(network), uncompiled(network):
        batch = _comparison.inputs_for(network, None)
        with in_float32(network):
            source = conversion_source(network, folder / "source", batch, batch_size, _TOLERANCE)
        exporter.write(source, path, ExportOptions("float32"))
    return path
