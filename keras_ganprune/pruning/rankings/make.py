"""The rankings of some networks, for any granularity."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import keras

from keras_ganprune.pruning.granularity import Channel, Layer
from keras_ganprune.pruning.rankings.base import RankedWeights
from keras_ganprune.pruning.rankings.blocks import rank_blocks
from keras_ganprune.pruning.rankings.channels import rank_channels
from keras_ganprune.pruning.rankings.weights import rank_weights
from keras_ganprune.pruning.settings import PruningSettings


def make_rankings(models: Sequence[keras.layers.Layer], settings: PruningSettings) -> RankedWeights:
    """Make the layers in scope Prunable, and return what is ranked.

    Args:
        models: Built models or layers.
        settings: Granularity, criterion and scope decide what is ranked, and how.

    Raises:
        InvalidArgumentError: There is nothing to prune, or the granularity does not fit a shape.
        UnbuiltModelError: A model has no weights yet.
        UnsupportedLayerError: Channels reach a layer that has no rule.
    """
    granularity = settings.granularity
    if not settings.coupled:
        return rank_weights(models, settings.criterion, granularity, settings.scope)
    if isinstance(granularity, Layer):
        return rank_blocks(models, settings.criterion, granularity, settings.scope)
    # Of the granularities of this package only `Channel` is left; a user's subclass derives from it.
    channel = cast(Channel, granularity)
    return rank_channels(models, settings.criterion, channel, settings.scope)
