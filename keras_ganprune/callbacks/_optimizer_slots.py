"""Optimizer slots of pruned weights: moments would move them, averages would bring them back."""

from __future__ import annotations

import keras
import numpy as np

from keras_ganprune.layers.tensors import masked, to_numpy
from keras_ganprune.pruning.pruner import Pruner
from keras_ganprune.training import discovery


def clear(model: keras.Model, pruner: Pruner) -> None:
    """Set optimizer slots to zero where a weight is pruned, or was brought back by the last update."""
    masks = {id(w.variable): w.mask for w in pruner.weights}
    for optimizer in discovery.optimizers(model):
        averages = {id(slot) for _, slot in discovery.slots(optimizer, only_averages=True)}
        for variable, slot in discovery.slots(optimizer):
            if id(variable) not in masks:
                continue
            keep = to_numpy(masks[id(variable)])
            # If the mode collects the updates of pruned weights, their moments stay. Averages do not: they
            # may be written over the weight, and would be collected again.
            if pruner.mode.collects and id(slot) not in averages:
                keep = keep | True
            regrown = pruner.regrown.get(id(variable))
            if regrown is not None:
                keep = keep & ~regrown
            slot.assign(masked(slot, keep))


def hold_averages(optimizer: keras.optimizers.Optimizer) -> bool:
    """Return whether the trained weights equal the averages of an optimizer (`use_ema`)."""
    pairs = list(discovery.slots(optimizer, only_averages=True))
    return bool(pairs) and all(np.array_equal(to_numpy(w), to_numpy(a)) for w, a in pairs)


def mask_averages(model: keras.Model, pruner: Pruner) -> None:
    """Set the weight averages of optimizers (`use_ema`) to zero where a weight is pruned."""
    masks = {id(w.variable): w.mask for w in pruner.weights}
    for optimizer in discovery.optimizers(model):
        for variable, average in discovery.slots(optimizer, only_averages=True):
            if id(variable) in masks:
                average.assign(masked(average, masks[id(variable)]))
