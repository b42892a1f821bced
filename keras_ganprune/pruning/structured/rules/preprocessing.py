"""Rules of layers without weights that prepare data: augmentation, resizing, lookups, spectrograms."""

from __future__ import annotations

from typing import Any

from keras import layers

from keras_ganprune.pruning.structured.channels import Axes
from keras_ganprune.pruning.structured.graph import leaves
from keras_ganprune.pruning.structured.rules.observed import observed_call
from keras_ganprune.pruning.structured.rules.registry import register_rule

# Layers that in training make one channel of others, such as the grey of red, green and blue. What a layer
# does in training depends on random numbers, so it cannot be observed.
MIXES_IN_TRAINING = (
    "AugMix", "ContrastLimitedAdaptiveHistogramEqualization", "Equalization", "RandAugment",
    "RandomColorDegeneration", "RandomColorJitter", "RandomGrayscale", "RandomHue", "RandomSaturation",
)  # fmt: skip
# Layers that treat every channel alike in training, and each by itself.
SEPARATE_IN_TRAINING = (
    "AutoContrast", "CenterCrop", "CutMix", "MixUp", "RandomBrightness", "RandomContrast", "RandomCrop",
    "RandomElasticTransform", "RandomErasing", "RandomFlip", "RandomGaussianBlur", "RandomInvert",
    "RandomPerspective", "RandomPosterization", "RandomRotation", "RandomSharpness", "RandomShear",
    "RandomTranslation", "RandomZoom", "Resizing", "Solarization",
)  # fmt: skip
# Layers that do the same in training.
_DETERMINISTIC = (
    "CategoryEncoding", "Discretization", "HashedCrossing", "Hashing", "IntegerLookup", "StringLookup",
    "MaxNumBoundingBoxes", "MelSpectrogram", "STFTSpectrogram", "TextVectorization",
    "AdaptiveAveragePooling1D", "AdaptiveAveragePooling2D", "AdaptiveAveragePooling3D",
    "AdaptiveMaxPooling1D", "AdaptiveMaxPooling2D", "AdaptiveMaxPooling3D",
)  # fmt: skip


def _of_this_version(names: tuple[str, ...]) -> list[Any]:
    """Return the layer classes that this version of Keras has."""
    return [getattr(layers, name) for name in names if hasattr(layers, name)]


@register_rule(*_of_this_version(MIXES_IN_TRAINING))
def mixing(layer, channels, *inputs, **named):
    """All channels stay: in training one depends on the others."""
    return _all_stay(layer, channels, inputs, named, "mixes them in training")


@register_rule(*_of_this_version(SEPARATE_IN_TRAINING + _DETERMINISTIC))
def separate(layer, channels, *inputs, **named):
    """Channels pass along each axis on which the layer works on every position by itself."""
    # The variables of a layer are seeds, tables and, in a spectrogram, constants along its own axes.
    if layer.weights:
        return _all_stay(layer, channels, inputs, named, "mixes them")
    named = {name: value for name, value in named.items() if name not in ("training", "mask")}
    if type(layer).__name__ in SEPARATE_IN_TRAINING:
        named["training"] = False
    return observed_call(layer, channels, inputs, named)


def _all_stay(layer: Any, channels: Any, inputs: tuple, named: dict, why: str) -> Any:
    for x in leaves((inputs, named)):
        if isinstance(x, Axes):
            channels.fix(x, f"'{layer.name}' ({type(layer).__name__}) {why}")
    outputs = [Axes.fixed(shape) for shape in channels.shapes]
    return outputs if len(outputs) > 1 else outputs[0]
