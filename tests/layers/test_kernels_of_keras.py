"""Every layer class of Keras that has kernels: they have masks, or stand in a list with the reason."""

from __future__ import annotations

import inspect

import keras
import numpy as np
import pytest
from keras import layers

from keras_ganprune import masked_weights
from keras_ganprune.errors import UnsupportedLayerError
from keras_ganprune.layers.covered_kernels import mask_coverage
from keras_ganprune.layers.upgrade import make_prunable

SEQUENCE, IMAGE, VIDEO = (6, 4), (8, 8, 3), (4, 8, 8, 3)


def on(shape, layer, dtype=None):
    x = keras.Input(shape, dtype=dtype)
    return keras.Model(x, layer(x))


def of_two(layer):
    x = keras.Input(SEQUENCE)
    takes_a_list = isinstance(layer, layers.Attention)
    return keras.Model(x, layer([x, x]) if takes_a_list else layer(x, x))


def reversible(**options):
    x = keras.Input((5,), dtype="int32")
    layer = layers.ReversibleEmbedding(10, 3, **options)
    return keras.Model(x, layer(layer(x), reverse=True))


def optional(cls, **options):
    """Return a layer with options that only newer versions of Keras know, or skip the test."""
    if not set(options) <= set(inspect.signature(cls).parameters):
        pytest.skip(f"this version of Keras does not know {sorted(options)}")
    return cls


# Class -> number of kernels, and the model with most of them. With several options, one row for each.
MODELS = {
    "AdditiveAttention": (0, lambda: of_two(layers.AdditiveAttention())),
    "Attention": (0, lambda: of_two(layers.Attention(use_scale=True, score_mode="concat"))),
    "BatchNormalization": (0, lambda: on(IMAGE, layers.BatchNormalization())),
    "Bidirectional": (4, lambda: on(SEQUENCE, layers.Bidirectional(layers.LSTM(5)))),
    "Bidirectional of two": (
        4,
        lambda: on(
            SEQUENCE,
            layers.Bidirectional(layers.GRU(5), backward_layer=layers.LSTM(5, go_backwards=True)),
        ),
    ),
    "Conv1D": (1, lambda: on(SEQUENCE, layers.Conv1D(5, 3))),
    "Conv1DTranspose": (1, lambda: on(SEQUENCE, layers.Conv1DTranspose(5, 3))),
    "Conv2D": (1, lambda: on(IMAGE, layers.Conv2D(6, 3, groups=3))),
    "Conv2DTranspose": (1, lambda: on(IMAGE, layers.Conv2DTranspose(5, 3))),
    "Conv3D": (1, lambda: on(VIDEO, layers.Conv3D(5, 3))),
    "Conv3DTranspose": (1, lambda: on(VIDEO, layers.Conv3DTranspose(5, 3))),
    "ConvLSTM1D": (2, lambda: on((4, 8, 3), layers.ConvLSTM1D(2, 3))),
    "ConvLSTM2D": (2, lambda: on((4, 8, 8, 3), layers.ConvLSTM2D(2, 3))),
    "ConvLSTM3D": (2, lambda: on((4, 8, 8, 8, 3), layers.ConvLSTM3D(2, 3))),
    "Dense": (1, lambda: on((4,), layers.Dense(5))),
    "DepthwiseConv1D": (1, lambda: on(SEQUENCE, layers.DepthwiseConv1D(3))),
    "DepthwiseConv2D": (1, lambda: on(IMAGE, layers.DepthwiseConv2D(3))),
    "EinsumDense": (1, lambda: on((6,), layers.EinsumDense("bi,inh->bnh", (2, 3), bias_axes="nh"))),
    "Embedding": (1, lambda: on((5,), layers.Embedding(10, 3), "int32")),
    "GRU": (2, lambda: on(SEQUENCE, layers.GRU(5))),  # its bias has two axes
    "GRUCell": (2, lambda: on(SEQUENCE, layers.RNN(layers.GRUCell(5)))),
    "GroupNormalization": (0, lambda: on(IMAGE, layers.GroupNormalization(3))),
    "GroupQueryAttention": (4, lambda: of_two(layers.GroupQueryAttention(4, 4, 2))),
    "GroupQueryAttention with a gate": (
        5,
        lambda: of_two(optional(layers.GroupQueryAttention, use_gate=True)(4, 4, 2, use_gate=True)),
    ),
    "LSTM": (2, lambda: on(SEQUENCE, layers.LSTM(5))),
    "LSTMCell": (2, lambda: on(SEQUENCE, layers.RNN(layers.LSTMCell(5)))),
    "LayerNormalization": (0, lambda: on(IMAGE, layers.LayerNormalization(axis=(1, 2, 3)))),
    "MultiHeadAttention": (4, lambda: of_two(layers.MultiHeadAttention(2, 3))),
    "MultiHeadAttention with a gate": (
        5,
        lambda: of_two(optional(layers.MultiHeadAttention, use_gate=True)(2, 3, use_gate=True)),
    ),
    "Normalization": (0, lambda: on(IMAGE, layers.Normalization(axis=(1, 2, 3)))),
    "PReLU": (0, lambda: on(IMAGE, layers.PReLU())),  # its slopes have three axes
    "RMSNormalization": (0, lambda: on(IMAGE, layers.RMSNormalization())),
    "RNN": (4, lambda: on(SEQUENCE, layers.RNN([layers.LSTMCell(5), layers.GRUCell(4)]))),
    "ReversibleEmbedding": (1, lambda: reversible()),
    "ReversibleEmbedding with two kernels": (2, lambda: reversible(tie_weights=False)),
    "STFTSpectrogram": (
        0,
        lambda: on((400, 1), layers.STFTSpectrogram(frame_length=64, frame_step=32)),
    ),
    "SeparableConv1D": (2, lambda: on(SEQUENCE, layers.SeparableConv1D(5, 3))),
    "SeparableConv2D": (2, lambda: on(IMAGE, layers.SeparableConv2D(5, 3))),
    "SimpleRNN": (2, lambda: on(SEQUENCE, layers.SimpleRNN(5))),
    "SimpleRNNCell": (2, lambda: on(SEQUENCE, layers.RNN(layers.SimpleRNNCell(5)))),
    "SpectralNormalization": (
        1,
        lambda: on(IMAGE, layers.SpectralNormalization(layers.Conv2D(4, 3))),
    ),
    "StackedRNNCells": (
        4,
        lambda: on(
            SEQUENCE, layers.RNN(layers.StackedRNNCells([layers.LSTMCell(5), layers.GRUCell(4)]))
        ),
    ),
    "TimeDistributed": (1, lambda: on(VIDEO, layers.TimeDistributed(layers.Conv2D(4, 3)))),
}
# Class -> why its kernels have no masks.
NOT_COVERED = {
    "FlaxLayer": "wraps a module of another library",
    "JaxLayer": "wraps a function of another library",
    "TFSMLayer": "wraps a SavedModel",
    "TorchModuleWrapper": "wraps a module of another library",
}
# Keras's base classes and containers, whose inner layers are covered by themselves.
CONTAINERS = {"Layer", "Pipeline", "Wrapper"}


def layer_classes():
    """Return the layer classes of Keras by their first public name."""
    classes = {}
    for name in dir(layers):
        cls = getattr(layers, name)
        if isinstance(cls, type) and issubclass(cls, layers.Layer):
            classes.setdefault(cls, name)
    return {name: cls for cls, name in classes.items()}


def makes_weights(cls):
    """Return whether the code of a layer class creates weights, or builds layers inside it."""
    code = "".join(
        inspect.getsource(base)
        for base in cls.__mro__
        if base.__module__.startswith("keras.src.layers") and base is not layers.Layer
    )
    return any(call in code for call in ("add_weight(", "_add_existing_weight(", "Variable("))


def rows():
    return [name for name in MODELS if hasattr(layers, name.split()[0])]


@pytest.mark.parametrize("name", rows())
def test_every_kernel_of_a_layer_of_keras_is_covered(name):
    kernels, make = MODELS[name]
    model = make()
    found = mask_coverage(model)
    assert found.complete, str(found)
    assert found.share == 1.0
    if not kernels:
        assert found.total == 0
        with pytest.raises(UnsupportedLayerError, match="has no layer that can be pruned"):
            make_prunable(model)
        return
    make_prunable(model)
    masked = masked_weights(model)
    assert len(masked) == kernels
    assert sum(int(np.prod(w.mask.shape)) for w in masked) == found.total


def test_every_layer_class_of_keras_is_in_a_list():
    listed = {name.split()[0] for name in MODELS} | set(NOT_COVERED) | CONTAINERS
    missing = [
        name for name, cls in layer_classes().items() if makes_weights(cls) and name not in listed
    ]
    # The tables of words of lookup layers are no weights.
    assert [name for name in missing if not name.endswith("Lookup")] == []
