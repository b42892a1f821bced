"""Layer sensitivity: how much a metric degrades if one layer is pruned alone."""

from keras_ganprune.metrics.layer_sensitivity.measure import sensitivity
from keras_ganprune.metrics.layer_sensitivity.report import SensitivityReport, SensitivityRow

__all__ = ["SensitivityReport", "SensitivityRow", "sensitivity"]
