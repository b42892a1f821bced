"""Every layer class of Keras behind a layer that can be cut: it follows the cut exactly, or is named."""

import inspect

import keras
import numpy as np
import pytest
from keras import layers
from rule_networks import model_of

import keras_ganprune as kgp
from keras_ganprune.errors import UnsupportedLayerError
from keras_ganprune.pruning.structured.rules import preprocessing

SHAPES = {0: (5,), 1: (8, 3), 2: (8, 8, 3), 3: (4, 8, 8, 3)}
# Values of the arguments that a constructor needs.
ARGUMENTS = {
    "units": 4, "filters": 4, "kernel_size": 2, "rate": 0.3, "stddev": 0.1, "factor": 0.2, "height": 4,
    "width": 4, "scale": 0.5, "activation": "tanh", "n": 2, "target_shape": (-1, 6), "axes": 1,
    "input_dim": 9, "output_dim": 3, "num_heads": 2, "key_dim": 2, "num_query_heads": 2,
    "num_key_value_heads": 2, "head_dim": 4, "num_bins": 4, "groups": 3, "num_tokens": 4,
    "value_range": (0, 1), "height_factor": 0.2, "width_factor": 0.2, "data_format": "channels_last",
}  # fmt: skip
# Those that cannot stand behind a layer with channels, or take what this test does not make.
APART = {
    "FlaxLayer", "InputLayer", "JaxLayer", "Layer", "Pipeline", "TFSMLayer", "TorchModuleWrapper", "Wrapper",
    "GRUCell", "LSTMCell", "SimpleRNNCell", "StackedRNNCells", "HashedCrossing", "StringLookup",
    "TextVectorization", "RNN", "Hashing", "Normalization", "Embedding", "ReversibleEmbedding",
    # Images in time with three axes; and those that Keras calls on symbols only if they have three channels.
    "ConvLSTM3D", "Equalization", "RandomColorDegeneration",
}  # fmt: skip


def layer_classes():
    """Return the layer classes of Keras by their first public name."""
    classes = {}
    for name in dir(layers):
        cls = getattr(layers, name)
        if isinstance(cls, type) and issubclass(cls, layers.Layer) and name not in APART:
            classes.setdefault(cls, name)
    return sorted(classes.values())


def made(name, rank):
    """Return a layer for images with some number of axes."""
    cls = getattr(layers, name)
    if name in ("Bidirectional", "TimeDistributed", "SpectralNormalization"):
        return cls(layers.LSTM(4) if name == "Bidirectional" else layers.Dense(4))
    options = {
        "Permute": {"dims": tuple(range(1, rank + 2))},
        "Lambda": {"function": lambda x: 2 * x},
        "EinsumDense": {"equation": "...c,cd->...d", "output_shape": 4},
        "GroupNormalization": {"groups": 3},
        "Discretization": {"bin_boundaries": [0.0, 1.0]},
        "RandomPosterization": {"factor": 8},
        "CategoryEncoding": {"num_tokens": 4},
        "AdaptiveAveragePooling1D": {"output_size": 2},
        "IntegerLookup": {"vocabulary": [1, 2]},
        "MelSpectrogram": {"fft_length": 4, "sequence_stride": 2, "num_mel_bins": 2},
        "STFTSpectrogram": {"frame_length": 4, "frame_step": 2, "fft_length": 4},
    }
    given = options.get(name, {})
    for parameter, value in inspect.signature(cls.__init__).parameters.items():
        needed = value.default is inspect.Parameter.empty and parameter != "self"
        if needed and value.kind is value.POSITIONAL_OR_KEYWORD and parameter not in given:
            given = {**given, parameter: ARGUMENTS.get(parameter, 2)}
    return cls(**given)


def network(name, rank):
    def build(x):
        kind = getattr(layers, f"Conv{rank}D") if rank else None
        options = {"padding": "same", "name": "a"}
        y = kind(6, 3, **options)(x) if kind else layers.Dense(6, name="a")(x)
        layer = made(name, rank)
        if name in ("Attention", "AdditiveAttention", "Dot") or "merging" in type(layer).__module__:
            y = layer([y, y])
        elif name in ("MultiHeadAttention", "GroupQueryAttention"):
            y = layer(y, y)
        else:
            y = layer(y)
        y = keras.ops.cast(y, "float32") if keras.backend.is_int_dtype(y.dtype) else y
        return layers.Dense(2, name="head")(y) if len(y.shape) > 1 else y

    return model_of(SHAPES[rank], build)


def check(name):
    """Check a class on images of each rank that it takes; return how often it was cut and how often named."""
    cut = named = 0
    for rank in SHAPES:
        try:
            model = network(name, rank)
            model(np.ones((2, *SHAPES[rank]), "float32"), training=False)
        except Exception:
            continue  # Keras itself does not take it here.
        try:
            groups = kgp.channel_groups(model)
        except UnsupportedLayerError as error:
            assert name in str(error)
            named += 1
            continue
        if len(groups):
            kgp.shrink(model, sparsity=0.5)  # compares the outputs
            cut += 1
        else:
            assert groups.stay["a"]
            assert "without a rule" not in groups.stay["a"]
            named += 1
    return cut, named


@pytest.mark.full
@pytest.mark.parametrize("name", layer_classes())
def test_every_layer_follows_or_is_named(name):
    if name == "IntegerLookup":
        pytest.importorskip("tensorflow")  # Keras runs it there only.
    cut, named = check(name)
    assert cut + named


@pytest.mark.parametrize(
    ("name", "follows"),
    [
        ("CenterCrop", True),
        ("RandomFlip", True),
        ("RandomContrast", True),
        ("RandomHue", False),
        ("Rescaling", True),
        ("Resizing", True),
        ("Softmax", False),
    ],
)
def test_some_layers(name, follows):
    cut, named = check(name)
    assert (cut > 0) == follows
    assert cut + named


NORMALIZATIONS = {
    "adapted": {"axis": -1},
    "of places": {"axis": (1, -1)},
    "of all": {"axis": None},
    "with numbers": {"axis": None, "mean": 0.3, "variance": 2.0},
    "with a mean for each": {"axis": -1, "mean": list(range(8)), "variance": [2.0] * 8},
    "inverse": {"axis": -1, "invert": True},
}


@pytest.mark.parametrize("case", NORMALIZATIONS)
def test_a_normalization_behind_a_convolution(case):
    layer = layers.Normalization(**NORMALIZATIONS[case])
    if layer.input_mean is None:
        layer.adapt(np.random.default_rng(0).normal(1.0, 2.0, (9, 6, 6, 8)).astype("float32"))
    x = keras.Input((6, 6, 3))
    y = layer(layers.Conv2D(8, 3, padding="same", name="a")(x))
    model = keras.Model(x, layers.Conv2D(2, 1)(y))
    assert [g.size for g in kgp.channel_groups(model)] == [8]
    small = kgp.shrink(model, sparsity=0.5)  # compares the outputs
    assert small.layers[1].kernel.shape[-1] == 4


def test_every_preprocessing_layer_is_in_a_list():
    """A new layer of augmentation must be looked at: what it does in training cannot be tried out."""
    base = layers.RandomFlip.__mro__[1]
    listed = {
        *preprocessing.MIXES_IN_TRAINING,
        *preprocessing.SEPARATE_IN_TRAINING,
        "MaxNumBoundingBoxes",
    }
    names = {n for n in dir(layers) if isinstance(getattr(layers, n), type)}
    assert {n for n in names if issubclass(getattr(layers, n), base)} - listed == set()
