"""Shrink rules: how channels pass through each kind of layer or operation.

`registry.py` says how to add one. Importing this folder registers all rules.
"""

from keras_ganprune.pruning.structured.rules import (
    attention,
    comparing,
    elementwise,
    hidden_layers,
    kernels,
    layer_macs,
    merging,
    mixing,
    normalization,
    ops,
    preprocessing,
    products,
    recurrent,
    shapes,
    sized,
    slices,
    wrappers,
)
from keras_ganprune.pruning.structured.rules.registry import entry_of

__all__ = [
    "attention",
    "comparing",
    "elementwise",
    "entry_of",
    "hidden_layers",
    "kernels",
    "layer_macs",
    "merging",
    "mixing",
    "normalization",
    "ops",
    "preprocessing",
    "products",
    "recurrent",
    "shapes",
    "sized",
    "slices",
    "wrappers",
]
