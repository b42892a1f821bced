"""What each layer of a network bears, and how a total sparsity is spread by it."""

from keras_ganprune.sensitivity.measuring import sensitivity
from keras_ganprune.sensitivity.result import SensitivityReport, SensitivityRow

__all__ = ["SensitivityReport", "SensitivityRow", "sensitivity"]
