"""Rules of layers of Keras and KerasHub that have no public name, so they are named by their modules."""

from __future__ import annotations

from typing import Any

from keras_ganprune.pruning.structured.channels import Axes
from keras_ganprune.pruning.structured.rules.mixing import all_stay
from keras_ganprune.pruning.structured.rules.registry import register_hidden_rule

_HUB = "keras_hub.src.models"


def _scale_config(layer, config, sizes):
    """Return the configuration with the new number of channels, under whatever name it has."""
    name, variable = _vector(layer)
    old = variable.shape[0]
    size = {"projection_dim", "hidden_dim", "dim"} & set(config)
    return config | {key: sizes.weight(name)[0] for key in size if config[key] == old}


def _vector(layer: Any) -> tuple[str, Any]:
    """Return the one weight of a layer scale, with its name."""
    name = next(n for n in ("gamma", "lambda1") if hasattr(layer, n))
    return name, getattr(layer, name)


@register_hidden_rule(
    "keras.src.applications.convnext.LayerScale",
    f"{_HUB}.dinov2.dinov2_layers.DINOV2LayerScale",
    f"{_HUB}.dinov3.dinov3_layers.DINOV3LayerScale",
    f"{_HUB}.mobilenetv5.mobilenetv5_layers.LayerScale2d",
    config=_scale_config,
)
def layer_scale(layer, channels, x):
    """Each channel has a factor."""
    first = getattr(layer, "data_format", None) == "channels_first"
    channels.along(layer, _vector(layer)[0], 0, x[1 if first else -1])
    return x


@register_hidden_rule(
    "keras.src.applications.convnext.StochasticDepth",
    f"{_HUB}.dinov2.dinov2_layers.DINOV2DropPath",
    f"{_HUB}.dinov3.dinov3_layers.DINOV3DropPath",
    f"{_HUB}.mit.mit_layers.DropPath",
    f"{_HUB}.mobilenetv5.mobilenetv5_layers.DropPath",
    f"{_HUB}.swin_transformer.swin_transformer_layers.DropPath",
)
def drop_path(layer, channels, x: Axes):
    """In training, a branch is left out as a whole for a sample."""
    return x


@register_hidden_rule(f"{_HUB}.hgnetv2.hgnetv2_layers.HGNetV2LearnableAffineBlock")
def affine(layer, channels, x):
    """All channels have one factor, and one shift, which makes another number of a zero."""
    return Axes(x.shape, x.labels, False)


register_hidden_rule(f"{_HUB}.mobilenetv5.mobilenetv5_layers.RmsNorm2d")(all_stay)
