"""Why a converter refuses a model, and what helps."""

from __future__ import annotations

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


def refused(title: str, error: Exception | str, fix: str) -> UnsupportedLayerError:
    """Return the error for a model that a converter cannot write.

    Args:
        title: Name of the format.
        error: What the converter says.
        fix: A sentence.
    """
    text = str(error)
    if "bitcast" in text.lower():
        return UnsupportedLayerError(_ARGMAX.format(title=title))
    if "PartitionedCall" in text:
        return UnsupportedLayerError(_GROUPS.format(title=title))
    found = f"{sentence_of(error)}" if isinstance(error, Exception) else error
    return UnsupportedLayerError(
        f"{title} has no operator for a layer of this model: {found} {fix}"
    )
