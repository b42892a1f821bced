"""Backbones of KerasHub: pruned, stripped, saved and loaded exactly; shrunk, or the layer is named.

Install them with `pip install ".[hub]"`.
"""

import importlib
import re
import warnings

import keras
import numpy as np
import pytest

import keras_ganprune as kgp
from keras_ganprune.errors import PruningError, PruningNotice

pytestmark = pytest.mark.full
hub = pytest.importorskip("keras_hub").models

WORDS = 50
TEXT = {"num_layers": 2, "num_heads": 2, "hidden_dim": 8, "intermediate_dim": 16}
ENCODER = {"vocabulary_size": WORDS, "max_sequence_length": 12, **TEXT}
DECODER = {
    "vocabulary_size": WORDS,
    "num_layers": 2,
    "num_query_heads": 4,
    "num_key_value_heads": 2,
    "hidden_dim": 16,
    "intermediate_dim": 32,
}
IMAGE = (32, 32, 3)
PATCHES = {"patch_size": 4, "image_shape": (16, 16, 3), **TEXT}

# Class -> arguments.
BACKBONES = {
    "BertBackbone": ENCODER,
    "AlbertBackbone": {**ENCODER, "embedding_dim": 6},
    "RobertaBackbone": ENCODER,
    "DistilBertBackbone": ENCODER,
    "DebertaV3Backbone": {**ENCODER, "bucket_size": 4},
    "FNetBackbone": {k: v for k, v in ENCODER.items() if k != "num_heads"},
    "GPT2Backbone": ENCODER,
    "OPTBackbone": ENCODER,
    "BloomBackbone": {"vocabulary_size": WORDS, **TEXT},
    "BartBackbone": ENCODER,
    "LlamaBackbone": DECODER,
    "MistralBackbone": DECODER,
    "QwenBackbone": DECODER,
    "GemmaBackbone": {**DECODER, "head_dim": 4},
    "Phi3Backbone": DECODER,
    "T5Backbone": {"vocabulary_size": WORDS, "key_value_dim": 4, **TEXT},
    "WhisperBackbone": {
        "vocabulary_size": WORDS,
        "max_encoder_sequence_length": 12,
        "max_decoder_sequence_length": 12,
        "num_mels": 8,
        **TEXT,
    },
    "ViTBackbone": {
        "image_shape": (16, 16, 3),
        "patch_size": (4, 4),
        "num_layers": 2,
        "num_heads": 2,
        "hidden_dim": 8,
        "mlp_dim": 16,
    },
    "DINOV2Backbone": {"num_register_tokens": 1, **PATCHES},
    "CLIPVisionEncoder": PATCHES,
    "DenseNetBackbone": {"stackwise_num_repeats": [2, 2], "growth_rate": 4, "image_shape": IMAGE},
    "VGGBackbone": {
        "stackwise_num_repeats": [1, 1],
        "stackwise_num_filters": [8, 16],
        "image_shape": IMAGE,
    },
    "XceptionBackbone": {
        "stackwise_conv_filters": [[8, 8], [8, 16]],
        "stackwise_pooling": [True, False],
        "image_shape": IMAGE,
    },
    "HGNetV2Backbone": {
        "depths": [1, 1],
        "embedding_size": 8,
        "hidden_sizes": [8, 16],
        "stem_channels": [3, 8, 8],
        "hidden_act": "relu",
        "use_learnable_affine_block": True,
        "stackwise_stage_filters": [[8, 8, 16, 1, 1, 3], [16, 8, 16, 1, 1, 3]],
        "apply_downsample": [False, True],
        "use_lightweight_conv_block": [False, False],
        "image_shape": IMAGE,
    },
    "SwinTransformerBackbone": {
        "image_shape": IMAGE,
        "patch_size": 4,
        "embed_dim": 8,
        "depths": [1, 1],
        "num_heads": [1, 2],
        "window_size": 4,
    },
}
MOBILE_NET_V5 = (["er_r1_k3_s2_e4_c8"], ["uir_r1_a3_k3_s2_e4_c16"])
NAMES = [*BACKBONES, "MobileNetV5Backbone", "SegFormerBackbone"]
# Layers inside these that Keras cannot make from a file of the smaller model, by what `shrink` says of them.
# The files of KerasHub name the backbone only.
NOT_LOADED = {
    "CLIPVisionEncoder": "custom_objects={'quick_gelu': ...}",
    "ViTBackbone": "ViTPatchingAndEmbedding",  # Its `get_config` forgets `patch_size`.
}


def backbone(name):
    if name == "MobileNetV5Backbone":
        builder = pytest.importorskip("keras_hub.src.models.mobilenetv5.mobilenetv5_builder")
        stages = builder.convert_arch_def_to_stackwise([*MOBILE_NET_V5])
        return hub.MobileNetV5Backbone(
            **stages, num_features=16, stem_size=8, use_msfa=False, image_shape=IMAGE
        )
    if name == "SegFormerBackbone":
        encoder = hub.MiTBackbone(
            image_shape=(64, 64, 3),
            layerwise_depths=[1, 1, 1, 1],
            num_layers=4,
            layerwise_num_heads=[1, 1, 2, 2],
            layerwise_sr_ratios=[8, 4, 2, 1],
            max_drop_path_rate=0.1,
            layerwise_patch_sizes=[7, 3, 3, 3],
            layerwise_strides=[4, 2, 2, 2],
            hidden_dims=[4, 8, 16, 32],
        )
        return hub.SegFormerBackbone(image_encoder=encoder, projection_filters=8)
    return getattr(hub, name)(**BACKBONES[name])


def random_inputs(model):
    """Return a batch for a backbone, by the names of its inputs."""
    rng = np.random.default_rng(0)

    def values(name, x):
        shape = (4, *(n or 6 for n in x.shape[1:]))
        if "mask" in name or "segment" in name:
            return np.full(shape, "mask" in name, "int32")
        tokens = "int" in x.dtype
        return (rng.integers(1, WORDS, shape) if tokens else rng.uniform(size=shape)).astype(
            x.dtype
        )

    given = model.input
    if isinstance(given, dict):
        return {name: values(name, x) for name, x in given.items()}
    return values("x", given)


def assert_equal(one, other, tolerance=1e-5):
    for a, b in zip(keras.tree.flatten(one), keras.tree.flatten(other), strict=True):
        a, b = keras.ops.convert_to_numpy(a), keras.ops.convert_to_numpy(b)
        np.testing.assert_allclose(b, a, atol=tolerance * max(1.0, np.abs(a).max()))


@pytest.fixture(params=NAMES)
def model(request, tmp_path):
    keras.utils.clear_session()
    built = backbone(request.param)
    rng = np.random.default_rng(1)
    for weight in built.weights:
        if "float" in weight.dtype and "variance" not in weight.name:
            weight.assign(weight + rng.normal(0, 0.1, weight.shape).astype("float32"))
    if request.param == "DINOV2Backbone":
        # KerasHub computes its two tables of positions from each other when it saves and loads.
        built.save_weights(tmp_path / "all.weights.h5")
        built.load_weights(tmp_path / "all.weights.h5")
    return request.param, built


# Tables of positions are in layers of KerasHub that have no masks.
@pytest.mark.filterwarnings("ignore:Covered:keras_ganprune.errors.PruningWarning")
def test_pruned_stripped_saved_and_loaded(model, tmp_path):
    _, network = model
    x = random_inputs(network)
    report = kgp.Pruner(network).update(sparsity=0.5)
    assert report.kept > 0
    expected = network(x)
    assert_equal(expected, kgp.strip_pruning(network)(x))
    network.save(tmp_path / "model.keras")
    assert_equal(expected, kgp.load_model(tmp_path / "model.keras")(x), 1e-4)


def test_shrunk_or_named(model, tmp_path):
    name, network = model
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", PruningNotice)
            small = kgp.shrink(network, sparsity=0.3)  # compares the outputs
    except PruningError as error:
        # The reason names a layer of the network.
        paths = {layer.name for layer in network._flatten_layers(include_self=False)}
        assert paths & set(re.findall(r"\w+", str(error))), str(error)
        assert name not in NOT_LOADED
        return
    assert small.count_params() < network.count_params()
    small.save(tmp_path / "small.keras")
    x = random_inputs(network)
    said = [str(w.message) for w in caught if w.category is PruningNotice]
    if name in NOT_LOADED:
        assert NOT_LOADED[name] in " ".join(said)
        with pytest.raises((TypeError, ValueError)):
            keras.models.load_model(tmp_path / "small.keras")
        assert_equal(small(x), loaded_as_said(name, network, small, tmp_path)(x))
        return
    assert said == []
    assert_equal(small(x), keras.models.load_model(tmp_path / "small.keras")(x))


def loaded_as_said(name, network, small, folder):
    """Return a smaller model from its files, in the way that the notice names."""
    if name == "CLIPVisionEncoder":
        functions = importlib.import_module("keras_hub.src.models.clip.clip_layers")
        objects = {"quick_gelu": functions.quick_gelu}
        return keras.models.load_model(folder / "small.keras", custom_objects=objects)
    small.save_weights(folder / "small.weights.h5")
    again = kgp.shrink(network, sparsity=0.3)
    for weight in again.weights:
        weight.assign(keras.ops.zeros_like(weight))
    again.load_weights(folder / "small.weights.h5")
    return again
