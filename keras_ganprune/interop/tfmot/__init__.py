"""Models that the TensorFlow Model Optimization Toolkit (TFMOT) has pruned, converted to Keras 3."""

from keras_ganprune.interop.tfmot.conversion import convert
from keras_ganprune.interop.tfmot.converted_model import Converted, Part
from keras_ganprune.interop.tfmot.shifted_schedule import Shifted

__all__ = ["Converted", "Part", "Shifted", "convert"]
