"""What each layer of a network bears, and how a total sparsity is spread by it."""

from keras_ganprune.metrics.layer_sensitivity.measure import sensitivity
from keras_ganprune.metrics.layer_sensitivity.report import SensitivityReport, SensitivityRow

__all__ = ["SensitivityReport", "SensitivityRow", "sensitivity"]
