"""Network slimming in `fit`: L1 on the scales of batch normalization."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import keras

from keras_ganprune.callbacks._penalties import GammaPenalty
from keras_ganprune.callbacks.group_lasso import ChannelRegularizer
from keras_ganprune.errors import UnsupportedLayerError
from keras_ganprune.utils import annotated


class NetworkSlimming(ChannelRegularizer):
    """Drives the scales of batch normalization to zero, which then tell which channels matter.

        gamma <- sign(gamma) * max(0, |gamma| - rate * strength)

    Only the scales of channels that can be cut are changed. This is the proximal step of the penalty
    strength * sum |gamma|. It follows each update of the optimizer and uses its learning `rate`, so scales
    reach exactly zero.

    Afterwards `Shrink(at=..., budget=Budget(macs=0.25), criterion='batch_norm_scale')` removes the channels
    with the smallest scales; it may be in the same `fit`, and the penalty goes on with the smaller network.
    A channel whose scale is zero still adds its offset (beta), which goes with it, so train on after the
    cut. The logs get `generator_mean_gamma` and `generator_zero_channels` (share of scales below a
    thousandth of the mean).

    Args:
        strength: Non-negative float, or a function (step) -> float such as a `Schedule`. With Adam, whose
            updates are about as large as the learning rate, 0.01 to 0.5. Defaults to 0.1.
        target: As for `Prune`: an attribute name of the model, a list, a network, or None for the model
            itself. Defaults to None.
        scope: Which layers may lose channels, as for `Prune`. Defaults to None, all layers.
        frequency: Positive int, optimizer steps after which a `strength` that is a function is called again.
            Defaults to 10.
        optimizer: The optimizer, or its attribute name, whose steps are counted. Defaults to None: the
            optimizer that trains the first target.
        verbose: 0 for silence, 1 to print a line when training begins. Defaults to 1.

    Attributes:
        strength_now: Float, the strength of the last batch.
        logs: Dict, the logs of the last epoch.

    Raises:
        InvalidArgumentError: `strength` or `frequency` breaks its rule.
        InvalidArgumentError: In `fit`: `target`, `scope` or `optimizer` matches nothing in the model.
        UnsupportedLayerError: In `fit`: no `BatchNormalization` scales channels that can be cut; channels
            reach a layer without a channel rule; or the training step has no gradient of a target.

    Example:
    >>> layers = keras.layers
    >>> model = keras.Sequential(
    ...     [keras.Input((4,)), layers.Dense(8), layers.BatchNormalization(), layers.Dense(1)]
    ... )
    >>> model.compile(keras.optimizers.SGD(0.1), "mse")
    >>> x = np.random.default_rng(0).normal(size=(64, 4))
    >>> history = model.fit(x, x[:, :1], epochs=1, verbose=0, callbacks=[NetworkSlimming(1.0, verbose=0)])
    >>> bool(np.all(np.abs(model.layers[1].gamma) < 0.9))
    True

    Reference:
        [Network slimming](https://arxiv.org/abs/1708.06519), Eq. 1.
    """

    def __init__(
        self,
        strength: float | Callable[[int], float] = 0.1,
        target: str | keras.layers.Layer | Sequence[str | keras.layers.Layer] | None = None,
        *,
        scope: Any = None,
        frequency: int = 10,
        optimizer: str | keras.optimizers.Optimizer | None = None,
        verbose: int | bool = 1,
    ):
        annotated.check(NetworkSlimming.__init__, locals(), "target", "optimizer", "verbose")
        super().__init__(
            strength,
            target,
            scope=scope,
            frequency=frequency,
            optimizer=optimizer,
            verbose=verbose,
        )

    def penalty_of(self, name: str, network: keras.layers.Layer) -> GammaPenalty:
        """Return the penalty of a network.

        Raises:
            UnsupportedLayerError: It has no such scales.
        """
        penalty = GammaPenalty(self._groups(network))
        if not penalty.variables:
            raise UnsupportedLayerError(
                "`NetworkSlimming` needs `BatchNormalization` layers with `scale=True` behind channels that "
                f"can be cut. Received: '{name or network.name}', which has none. Use `GroupLasso`, which "
                "works on the kernels; or add such layers."
            )
        return penalty
