"""Make a trained model sparse or small in one call."""

from keras_ganprune.applications.compression.run_compression import compress
from keras_ganprune.applications.compression.result import Compression

__all__ = ["Compression", "compress"]
