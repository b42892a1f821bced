"""Optimizer slots of pruned weights: moments that would push them, averages that would bring them back."""

from __future__ import annotations

import keras
import numpy as np

from keras_ganprune.layers.mask_store import masked, to_numpy
from keras_ganprune.pruning.pruner import Pruner
from keras_ganprune.training import discovery


def clear(model: keras.Model, pruner: Pruner) -> None:
    """Zero the slots of a model's optimizers where a weight is pruned, or came back at the last update."""
    masks = {id(w.variable): w.mask for w in pruner.weights}
    for optimizer in discovery.optimizers(model):
        averages = {id(slot) for _, slot in discovery.slots(optimizer, only_averages=True)}
        for variable, slot in discovery.slots(optimizer):
            if id(variable) not in masks:
                continue
            keep = to_numpy(masks[id(variable)])
            # Pruned weights that go on training unseen keep theirs; not an average, which may be written
            # over the weight and would be collected once more.
            if pruner.mode.collects and id(slot) not in averages:
                keep = keep | True
            grown = pruner.regrown.get(id(variable))
            if grown is not None:
                keep = keep & ~grown
            slot.assign(masked(slot, keep))


def hold_averages(optimizer: keras.optimizers.Optimizer) -> bool:
    """Return whether the trained weights are the averages that an optimizer keeps (`use_ema`)."""
    pairs = list(discovery.slots(optimizer, only_averages=True))
    return bool(pairs) and all(np.array_equal(to_numpy(w), to_numpy(a)) for w, a in pairs)


def mask_averages(model: keras.Model, pruner: Pruner) -> None:
    """Zero the weight averages that optimizers keep (`use_ema`) where a weight is pruned."""
    masks = {id(w.variable): w.mask for w in pruner.weights}
    for optimizer in discovery.optimizers(model):
        for variable, average in discovery.slots(optimizer, only_averages=True):
            if id(variable) in masks:
                average.assign(masked(average, masks[id(variable)]))
