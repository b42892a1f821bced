"""Why a converter refuses a model, and what helps."""

from __future__ import annotations

import re

from keras_ganprune.errors import UnsupportedLayerError
from keras_ganprune.utils.foreign_errors import sentence_of

_ARGMAX = (
    "Keras computes `argmax`, `argmin` and `signbit` by the bits of numbers, for which {title} has no "
    "operator. Export the network without them, and call them on its outputs."
)

_GROUPS = (
    "Keras compiles convolutions with `groups`, and {title} files cannot hold what it compiles. Write a "
    "LiteRT or OpenVINO file, or use `groups=1`."
)


# How the converters name the operators of TensorFlow that they do not know.
_NAMED = (
    re.compile(r'"tf\.(\w+)"\('),  # LiteRT
    re.compile(r"No conversion rule found for operations: ([\w, ]+)"),  # OpenVINO
    re.compile(r"^([\w, ]+)\.$"),  # ours, for ONNX
)


def refused(title: str, error: Exception | str, fix: str) -> UnsupportedLayerError:
    """Return the error for a model that a converter cannot write.

    Args:
        title: Name of the format.
        error: What the converter says, or the names of operators.
        fix: A sentence.
    """
    text = str(error)
    names = sorted(
        {
            name
            for pattern in _NAMED
            for found in pattern.findall(text)
            for name in found.split(", ")
        }
    )
    if {"Bitcast", "BitwiseAnd"} & set(names):
        return UnsupportedLayerError(_ARGMAX.format(title=title))
    if "StatefulPartitionedCall" in names:
        return UnsupportedLayerError(_GROUPS.format(title=title))
    if names:
        what = f"for {', '.join(names)}, which a layer of this model uses."
        if "ResizeBicubic" in names:
            what += ' Use `interpolation="bilinear"`.'
    else:
        said = sentence_of(error) if isinstance(error, Exception) else text
        what = f"for a layer of this model: {said}"
    return UnsupportedLayerError(f"{title} has no operator {what} {fix}")
