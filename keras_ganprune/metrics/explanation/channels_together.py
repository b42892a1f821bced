"""The groups of channels of a network, also where some layers must be left alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import keras

from keras_ganprune.errors import PruningError, UnbuiltModelError, UnsupportedLayerError
from keras_ganprune.pruning.structured.channels import ALONG, IN, OUT
from keras_ganprune.pruning.structured.groups import Group, Groups, channel_groups


@dataclass(frozen=True)
class ChannelsTogether:
    """What can be cut.

    Attributes:
        groups: The `Groups`, or None if the channels cannot be followed.
        reason: Why channels cannot be followed, or not through the layers in `keep`; ''.
        keep: Layers that must be left alone, so that the others can be cut.
    """

    groups: Groups | None
    reason: str = ""
    keep: tuple[str, ...] = ()


def channels_together(network: keras.layers.Layer, inputs: Any) -> ChannelsTogether:
    """Return the groups of channels of a network. Layers without a rule are left alone.

    Raises:
        InvalidArgumentError, DataError: `inputs` do not fit the network, or are no arrays.
    """
    keep: list[str] = []
    reasons: list[str] = []
    while True:
        try:
            groups = channel_groups(network, keep=keep or None, inputs=inputs)
        except PruningError as error:
            of_network = isinstance(error, (UnsupportedLayerError, UnbuiltModelError))
            if inputs is not None and not of_network:
                raise  # the inputs do not fit
            reasons.append(str(error))
            more = error.keep if isinstance(error, UnsupportedLayerError) else ()
            if not set(more) - set(keep):
                return ChannelsTogether(None, "\n".join(reasons))
            keep += [entry for entry in more if entry not in keep]
        else:
            return ChannelsTogether(groups, "\n".join(reasons), tuple(keep))


def members(group: Group) -> tuple[list[str], list[str]]:
    """Return the paths of the layers that make the channels of a group, or scale them, and that read them."""
    roles: dict[str, dict[str, None]] = {OUT: {}, ALONG: {}, IN: {}}
    for piece in group.slices:
        if piece.weight.role in roles:
            roles[piece.weight.role][piece.weight.layer_path] = None
    return list({**roles[OUT], **roles[ALONG]}), list(roles[IN])
