"""The losses of a detector: of its heat map, and of the boxes around the centres of objects."""

from __future__ import annotations

from typing import Any

import keras

from keras_ganprune.backend.operations import ops
from keras_ganprune.utils.registry import PACKAGE

_SMALLEST = 1e-4


@keras.saving.register_keras_serializable(package=PACKAGE)
class HeatMapLoss(keras.losses.Loss):
    """Focal loss of a heat map whose centres are 1, and whose other cells are below.

        L = -1/N sum((1 - p)^a log(p) at centres, (1 - y)^b p^a log(1 - p) elsewhere)

    N is the number of objects of an image, at least 1.

    Args:
        a: Positive float, a larger one makes cells that are nearly right count less. Defaults to 2.0.
        b: Positive float, a larger one makes cells beside a centre count less. Defaults to 4.0.
        name: Name of the loss. Defaults to "heat_map_loss".
        **kwargs: Further arguments of `keras.losses.Loss`.

    Example:
    >>> from keras_ganprune.applications.detection_losses import HeatMapLoss
    >>> y = np.array([[[[1.0], [0.5]]]], "float32")
    >>> round(float(HeatMapLoss()(y, np.full_like(y, 0.5))), 4)  # (0.25 + 0.5^4 * 0.25) * log(2)
    0.1841

    Reference: [Objects as points](https://arxiv.org/abs/1904.07850), Eq. 1.
    """

    def __init__(self, a: float = 2.0, b: float = 4.0, name: str = "heat_map_loss", **kwargs: Any):
        super().__init__(name=name, **kwargs)
        self.a, self.b = a, b

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """Return the loss of each image."""
        p = ops.clip(y_pred, _SMALLEST, 1.0 - _SMALLEST)
        centre = ops.cast(y_true >= 1.0, p.dtype)
        at = centre * (1.0 - p) ** self.a * ops.log(p)
        elsewhere = (1.0 - y_true) ** self.b * p**self.a * ops.log(1.0 - p)
        count = ops.maximum(ops.sum(centre, axis=(1, 2, 3)), 1.0)
        return -ops.sum(at + elsewhere, axis=(1, 2, 3)) / count

    def get_config(self) -> dict[str, Any]:
        """Return the arguments from which the loss is rebuilt."""
        return {**super().get_config(), "a": self.a, "b": self.b}


@keras.saving.register_keras_serializable(package=PACKAGE)
class BoxLoss(keras.losses.Loss):
    """Weighted mean absolute error of boxes; cells without an object have the weight 0.

    Args:
        name: Name of the loss. Defaults to "box_loss".
        **kwargs: Further arguments of `keras.losses.Loss`.

    Example:
    >>> from keras_ganprune.applications.detection_losses import BoxLoss
    >>> y = np.array([[[[1, 1, 2, 2, 0.5], [0, 0, 0, 0, 0]]]], "float32")
    >>> float(BoxLoss()(y, y[..., :4] + 0.25))
    1.0

    Reference: [Objects as points](https://arxiv.org/abs/1904.07850), Eq. 2 and 3.
    """

    def __init__(self, name: str = "box_loss", **kwargs: Any):
        super().__init__(name=name, **kwargs)

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """Return the loss of each image."""
        weights = y_true[..., 4]
        errors = weights * ops.sum(ops.abs(y_true[..., :4] - y_pred), axis=-1)
        return ops.sum(errors, axis=(1, 2)) / ops.maximum(ops.sum(weights, axis=(1, 2)), 1e-3)
