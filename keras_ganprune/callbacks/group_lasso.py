"""Group lasso in `fit`: whole channels are driven to zero, so that `Shrink` removes them at little cost."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import keras

from keras_ganprune.callbacks._penalties import GroupLassoPenalty
from keras_ganprune.callbacks._regularizer import Regularizer, check_strength
from keras_ganprune.layers import scope as scopes
from keras_ganprune.pruning.rankings.channels import groups_in_scope
from keras_ganprune.pruning.rankings.weights import split_scope
from keras_ganprune.pruning.structured.groups import Groups
from keras_ganprune.utils import annotated


class ChannelRegularizer(Regularizer):
    """Base of regularizers that act on all channels of their networks, with one strength."""

    def __init__(
        self,
        strength: Any,
        target: Any,
        *,
        scope: Any,
        frequency: int,
        optimizer: Any,
        verbose: int | bool,
    ):
        super().__init__(target, frequency, optimizer, verbose)
        scopes.check(scope, "scope")
        scopes.check_not_empty(scope, "scope")
        self.strength: Any = check_strength(strength)
        self.scope = scope

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.strength!r} of {self.target or 'the model'!r}>"

    def strength_at(self, step: int) -> float:
        """Return the strength after a number of steps."""
        if isinstance(self.strength, float):
            return self.strength
        return self.strength(step)

    def _groups(self, network: keras.layers.Layer) -> Groups:
        """Return the groups of channels of a network that are in scope."""
        scope = self.scope
        if scope is not None and len(self.networks) > 1:
            scope = split_scope([n for _, n in self.networks], scope)[id(network)]
        return groups_in_scope(network, scope)


class GroupLasso(ChannelRegularizer):
    """Drives whole channels to zero while the model trains, so that little is lost when they are cut.

        w_g <- w_g * max(0, 1 - rate * strength * sqrt(n_g) / ||w_g||)

    A group g is a channel with everything that is cut with it: the filters that make it, the rows of the
    kernels that read it, and its bias, scale and offset; n_g is their number. This is the proximal step of
    the penalty strength * sum_g sqrt(n_g) ||w_g||. It follows each update of the optimizer and uses its
    learning `rate`, so it lowers the root mean square of a channel by rate * strength per step, and reaches
    exactly zero. An entry of a kernel belongs to the channel that it makes and to the one that it reads, and
    is multiplied by both factors.

    Afterwards `Shrink(at=..., budget=Budget(macs=0.25), criterion='l2')` removes the smallest channels;
    it may be in the same `fit`, and the penalty goes on with the smaller network. The logs get
    `generator_channel_rms` (mean root mean square of a channel) and `generator_zero_channels` (share whose
    root mean square is below a thousandth of the mean).

    Args:
        strength: Non-negative float, or a function (step) -> float such as a `Schedule`. With Adam, whose
            updates are about as large as the learning rate, 0.01 to 0.2. Defaults to 0.05.
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
        UnsupportedLayerError: In `fit`: channels reach a layer without a channel rule, or the training step
            has no gradient of a target.

    Example:
    >>> model = keras.Sequential(
    ...     [keras.Input((4,)), keras.layers.Dense(8, "relu"), keras.layers.Dense(1)]
    ... )
    >>> model.compile(keras.optimizers.SGD(0.1), "mse")
    >>> x = np.random.default_rng(0).normal(size=(64, 4))
    >>> lasso = GroupLasso(0.05, verbose=0)
    >>> history = model.fit(x, x[:, :1], epochs=50, verbose=0, callbacks=[lasso])
    >>> history.history["zero_channels"][-1] > 0.2
    True

    Reference:
        [Group lasso for deep networks](https://arxiv.org/abs/1607.00485), Eq. 5;
        coupled groups as in [DepGraph](https://arxiv.org/abs/2301.12900), §3.
    """

    def __init__(
        self,
        strength: float | Callable[[int], float] = 0.05,
        target: str | keras.layers.Layer | Sequence[str | keras.layers.Layer] | None = None,
        *,
        scope: Any = None,
        frequency: int = 10,
        optimizer: str | keras.optimizers.Optimizer | None = None,
        verbose: int | bool = 1,
    ):
        annotated.check(GroupLasso.__init__, locals(), "target", "optimizer", "verbose")
        super().__init__(
            strength,
            target,
            scope=scope,
            frequency=frequency,
            optimizer=optimizer,
            verbose=verbose,
        )

    def penalty_of(self, name: str, network: keras.layers.Layer) -> GroupLassoPenalty:
        """Return the penalty of a network."""
        return GroupLassoPenalty(self._groups(network))
