"""Granularities: which weights are removed together. Such a set of weights is a unit of pruning."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Literal, TypeAlias

from keras_ganprune.errors import InvalidArgumentError
from keras_ganprune.pruning.granularity.base import Granularity, Unstructured
from keras_ganprune.pruning.granularity.base import family as _family
from keras_ganprune.pruning.granularity.block import Block
from keras_ganprune.pruning.granularity.channel import Channel
from keras_ganprune.pruning.granularity.layer import Layer
from keras_ganprune.pruning.granularity.nm import NM

__all__ = [
    "NM",
    "Block",
    "Channel",
    "Granularity",
    "GranularityLike",
    "GranularityName",
    "Layer",
    "Unstructured",
    "get",
]

# The names that `get` accepts.
GranularityName: TypeAlias = Literal["unstructured", "nm", "channel", "layer"]
# Another text is a pattern ('2:4') or a block size ('4x4'). A mapping is a Keras config.
GranularityLike: TypeAlias = Granularity | GranularityName | str | Mapping[str, Any]


def _from_text(identifier: Any) -> Granularity | None:
    """Return the granularity for a pattern ('2:4') or a block size ('4x4'), else None."""
    if not isinstance(identifier, str):
        return None
    if re.fullmatch(r"[0-9]{1,9}:[0-9]{1,9}", identifier):
        return NM(*map(int, identifier.split(":")))
    if re.fullmatch(r"[0-9]{1,9}(x[0-9]{1,9})+", identifier):
        return Block([int(size) for size in identifier.split("x")])
    if identifier == "block":
        raise InvalidArgumentError(
            "The granularity 'block' needs a block size. Pass for example '4x4' or Block((4, 4))."
        )
    return None


def get(identifier: GranularityLike) -> Granularity:
    """Return the granularity for an identifier.

    Args:
        identifier: An instance, a Keras config, or a name: 'unstructured', 'nm' (2:4 along the input
            channels), 'channel' (channels, with all weights that depend on them) or 'layer' (residual
            blocks). A text such as '2:4' is an `NM`, and one such as '4x4' is a `Block`.

    Raises:
        InvalidArgumentError: The name is unknown, or the numbers in it are not valid.
        ArgumentTypeError: `identifier` has another type.

    Example:
    >>> get("2:4"), get("1x8")
    (NM(keep=2, of=4, axis='in'), Block(shape=[1, 8], pool='mean'))
    """
    return _family.get(identifier, convert=_from_text)
