"""The two optimizers of a GAN: one trains the generator, the other one the discriminator."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import keras
from keras import ops

from keras_ganprune.errors import InvalidArgumentError
from keras_ganprune.training.discovery import trained_variables

Optimizer = keras.optimizers.Optimizer


def chosen(generator: Any, discriminator: Any, single: Any) -> tuple[Optimizer, Optimizer]:
    """Return two optimizers for the arguments of `compile`.

    Args:
        generator: Optimizer of the generator, its name or its config, or None.
        discriminator: Optimizer of the discriminator, its name or its config, or None.
        single: The argument `optimizer` of `keras.Model.compile`, which a GAN cannot use.

    Raises:
        InvalidArgumentError: Only one optimizer is given, or the same object is given twice.
    """
    if single is not None or (generator is None) != (discriminator is None):
        raise InvalidArgumentError(
            "A GAN needs two optimizers, one for each network. Write "
            "`gan.compile(generator_optimizer=Adam(2e-4, 0.5), discriminator_optimizer=Adam(2e-4, 0.5))`. "
            f"Received: generator_optimizer={generator!r}, discriminator_optimizer={discriminator!r}, "
            f"optimizer={single!r}."
        )
    if generator is None:
        return keras.optimizers.Adam(2e-4, beta_1=0.5), keras.optimizers.Adam(2e-4, beta_1=0.5)
    first = _optimizer(generator, "generator_optimizer")
    second = _optimizer(discriminator, "discriminator_optimizer")
    if first is second:
        raise InvalidArgumentError(
            "The two networks need an optimizer object each; one object cannot keep the state of both. "
            f"Received the same {type(first).__name__} twice."
        )
    return first, second


def _optimizer(identifier: Any, name: str) -> Optimizer:
    try:
        found = keras.optimizers.get(identifier)
    except Exception as error:  # Keras raises several kinds of errors.
        raise InvalidArgumentError(
            f"`{name}` must be a Keras optimizer, its name or its config. Received: {identifier!r}. Pass for "
            "example `keras.optimizers.Adam(2e-4, 0.5)`."
        ) from error
    return found


def computes_in_float16(networks: Iterable[keras.Model]) -> bool:
    """Return whether a layer of some networks computes in float16, which needs loss scaling."""
    # Private touch: Keras has no public way to list the layers inside layers.
    return any(
        getattr(layer, "compute_dtype", None) == "float16"
        for network in networks
        for layer in network._flatten_layers()
    )


def built(optimizer: Optimizer, network: keras.Model, scale_loss: bool) -> Optimizer:
    """Return an optimizer with the variables that it needs for a network.

    It is built at once, so that loading a file or `BackupAndRestore` finds its variables.
    """
    if scale_loss and not isinstance(optimizer, keras.optimizers.LossScaleOptimizer):
        optimizer = keras.optimizers.LossScaleOptimizer(optimizer)
    if not optimizer.built:
        optimizer.build(network.trainable_variables)
    return optimizer


def check_trains(optimizer: Optimizer, network: keras.Model, name: str) -> None:
    """Raise if an optimizer was built for other weights than a network has now.

    Args:
        optimizer: The optimizer.
        network: The network that it trains.
        name: 'generator' or 'discriminator', for the error.

    Raises:
        InvalidArgumentError: Some trainable weights are unknown to the optimizer.
    """
    inner: Any = getattr(optimizer, "inner_optimizer", optimizer)
    trained = trained_variables(inner)
    ids = {id(variable) for variable in trained}
    unknown = [w.path for w in network.trainable_weights if id(w) not in ids]
    if trained and unknown:
        raise InvalidArgumentError(
            f"`{name}_optimizer` does not train the {name}'s weights {', '.join(unknown[:5])}: they "
            "were tied, or made trainable, after `compile`. Call `gan.compile` again, with new "
            "optimizers."
        )


class BothOptimizers:
    """Holds two optimizers where Keras's training loop on JAX expects the state of one.

    It is not an optimizer itself. So a file holds the two optimizers only, as on every backend.
    """

    built = True

    def __init__(self, *optimizers: Optimizer):
        self.optimizers = optimizers

    @property
    def variables(self) -> list[keras.Variable]:
        """The variables of both optimizers."""
        return [v for optimizer in self.optimizers for v in optimizer.variables]


class FinalizeAverages(keras.callbacks.Callback):
    """Writes the average into the weights when training ends, for optimizers with `use_ema`.

    Keras does this for the one optimizer of a model; a GAN has two.
    """

    def on_train_end(self, logs=None):
        """Write the averages into the weights of both networks."""
        model: Any = self.model
        for optimizer, network in (
            (model.generator_optimizer, model.generator),
            (model.discriminator_optimizer, model.discriminator),
        ):
            inner = getattr(optimizer, "inner_optimizer", optimizer)
            inner.finalize_variable_values(network.trainable_weights)
            if getattr(inner, "use_ema", False):
                # On JAX weight and average would be one array, which a step may not donate twice.
                for weight in network.trainable_weights:
                    weight.assign(ops.copy(weight.value))
