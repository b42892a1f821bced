"""The writing of a SavedModel whose endpoint computes inference."""

from __future__ import annotations

import inspect
import pathlib
from typing import Any

import keras


def write_inference(
    network: keras.Model, folder: pathlib.Path, signature: list[Any], **options: Any
) -> None:
    """Write a model with Keras's exporter, with one endpoint `serve`.

    `network.export` would write the model as it computes without a value of `training`, and layers such as
    `RandomFlip` take that for training.

    Args:
        network: A built model.
        folder: The folder to write.
        signature: For each positional argument of `call` a structure of `keras.InputSpec`.
        **options: Options of the backend for `keras.export.ExportArchive.add_endpoint`.
    """

    def serve(*inputs: Any, **named: Any) -> Any:
        return network(*inputs, **named, training=False)

    # The names of the inputs follow from it.
    vars(serve)["__signature__"] = inspect.signature(network.__call__)
    archive: Any = keras.export.ExportArchive()
    archive.track(network)
    archive.add_endpoint("serve", serve, signature, **options)
    archive.write_out(str(folder), verbose=False)
