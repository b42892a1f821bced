"""What is removed together: the unit of pruning."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Literal, TypeAlias

from keras_ganprune.errors import InvalidArgumentError
from keras_ganprune.pruning.granularity.base import Granularity, Unstructured, _family
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

# The granularities that a name alone gives.
GranularityName: TypeAlias = Literal["unstructured", "nm", "channel", "layer"]
# Another text is a pattern ('2:4') or a block size ('4x4'). A mapping is a Keras config.
GranularityLike: TypeAlias = Granularity | GranularityName | str | Mapping[str, Any]


def _from_text(identifier: Any) -> Granularity | None:
    """Return the granularity for a pattern ('2:4') or a block size ('4x4'), else None."""
    if not isinstance(identifier, str):
        return None
    if re.fullmatch(r"\d+:\d+", identifier):
        return NM(*map(int, identifier.split(":")))
    if re.fullmatch(r"\d+(x\d+)+", identifier):
        return Block([int(size) for size in identifier.split("x")])
    if identifier == "block":
        raise InvalidArgumentError(
            "The granularity 'block' needs a block size. Pass for example '4x4' or Block((4, 4))."
        )
    return None


def get(identifier: GranularityLike) -> Granularity:
    """Return the granularity for a name, a config or an instance.

    Names are 'unstructured', 'nm' (2:4 along the input channels), 'channel' (channels with all that goes
    with them) and 'layer' (residual blocks); a
    text such as '2:4' is an `NM`, and one such as '4x4' a `Block`.

    Example:
    >>> get("2:4"), get("1x8")
    (NM(keep=2, of=4, axis='in'), Block(shape=[1, 8], pool='mean'))
    """
    return _family.get(identifier, convert=_from_text)
