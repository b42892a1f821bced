"""A generator and a discriminator that train each other in `fit`, whatever the generator is fed."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from typing import Any

import keras

from keras_ganprune.backend import distribution, tracing
from keras_ganprune.errors import InvalidArgumentError
from keras_ganprune.gan import (
    batch_checks,
    losses,
    network_checks,
    optimizer_pair,
    training_log,
)
from keras_ganprune.gan.distillation import Distillation, Teaching, teaching
from keras_ganprune.gan.two_networks import TwoNetworks
from keras_ganprune.training.nan_guard import NaNGuard
from keras_ganprune.utils import validation

_COMPILE_OPTIONS = {"run_eagerly", "jit_compile", "steps_per_execution"}


def _step_module() -> Any:
    """Return the module with the training step of the running Keras backend."""
    backend = keras.backend.backend()
    try:
        return importlib.import_module(f"keras_ganprune.gan._step_{backend}")
    except ModuleNotFoundError as error:
        raise NotImplementedError(
            f"GANs have no training step for the Keras backend '{backend}'. Set KERAS_BACKEND to "
            "'tensorflow', 'jax' or 'torch' before Keras is imported."
        ) from error


class AdversarialModel(TwoNetworks):
    """The base of GAN classes: two networks, two optimizers and the adversarial step.

    A subclass says what the two networks are fed. It defines three methods:

    - `unpack(data)` returns (real images, condition) for a batch of `fit`. The condition is whatever
      the networks need beside latent vectors: labels, an image, a mask, a tuple of arrays, or None.
    - `generator_inputs(condition, draw)` returns the inputs of the generator. A generator that needs
      latent vectors calls `draw()`, once.
    - `discriminator_inputs(images, condition)` returns the inputs of the discriminator.

    It may also define `further_losses`, the terms of the generator's loss beside the adversarial one, with
    a running mean in `_trackers` for each; `augmented`, what the augmentation changes; and `check_data`.

    It calls `set_teacher` at the end of its constructor, when these methods can be called.

    Args:
        generator: Built Keras model that returns images.
        discriminator: Built Keras model that returns one logit for each image.
        loss, discriminator_steps, ema_decay, gradient_penalty, r1_penalty, label_smoothing,
            balance_frequency, value_range, augmentation, seed, name, **kwargs: As for `GANModel`.
    """

    def __init__(
        self,
        generator: keras.Model,
        discriminator: keras.Model,
        loss: losses.LossLike = "non_saturating",
        *,
        discriminator_steps: int = 1,
        ema_decay: float | None = None,
        gradient_penalty: float = 0.0,
        r1_penalty: float = 0.0,
        label_smoothing: float = 0.0,
        balance_frequency: int = 50,
        value_range: tuple[float, float] | None = (-1.0, 1.0),
        augmentation: keras.layers.Layer | None = None,
        seed: int | None = None,
        name: str | None = None,
        **kwargs: Any,
    ):
        if ema_decay is not None:
            ema_decay = network_checks.ema_decay(ema_decay)
        super().__init__(generator, discriminator, ema_decay is not None, name=name, **kwargs)
        self.discriminator_steps = validation.positive_int(
            discriminator_steps, "discriminator_steps"
        )
        self.gradient_penalty = validation.non_negative(gradient_penalty, "gradient_penalty")
        self.r1_penalty = validation.non_negative(r1_penalty, "r1_penalty")
        self.balance_frequency = validation.non_negative_int(balance_frequency, "balance_frequency")
        self.ema_decay = ema_decay
        self.value_range = None if value_range is None else validation.value_range(value_range)
        self.loss_pair = losses.smoothed(losses.get(loss), label_smoothing)
        self.seed = seed
        seen = network_checks.inputs_of(discriminator)
        self.augmentation = network_checks.augmentation(
            augmentation, tuple(seen[0].shape) if seen else None
        )
        self.noise_seed = keras.random.SeedGenerator(seed)
        self._teaching: Teaching | None = None
        self._trackers = training_log.new_trackers(bool(self.balance_frequency))
        self.built = True

    # --- what the networks are fed ---------------------------------------------------------------

    def unpack(self, data: Any) -> tuple[Any, Any]:
        """Return (real images, condition) of one batch of `fit`."""
        raise NotImplementedError

    def generator_inputs(self, condition: Any, draw: Callable[[], Any]) -> Any:
        """Return the inputs of the generator for one batch.

        Args:
            condition: The condition that `unpack` returned.
            draw: Function that returns new latent vectors, one for each image of the batch.
        """
        raise NotImplementedError

    def discriminator_inputs(self, images: Any, condition: Any) -> Any:
        """Return the inputs of the discriminator for real or generated images."""
        raise NotImplementedError

    #: Factor of the adversarial loss of the generator.
    adversarial_weight: float = 1.0
    #: Whether the discriminator is updated.
    trains_discriminator: bool = True
    #: Whether the images in the result of a test step are those of `sampler`.
    measures_sampler: bool = False

    def further_losses(self, images: Any, real: Any, condition: Any) -> dict[str, Any]:
        """Return the terms of the generator's loss beside the adversarial one.

        Args:
            images: Images (batch, ...) of the generator, with their derivative in training.
            real: Real images (batch, ...).
            condition: The condition that `unpack` returned.

        Returns: Scalar float32 tensors by log name. Defaults to none.
        """
        return {}

    def augmented(self, images: Any, condition: Any) -> tuple[Any, Any]:
        """Return (images, condition) as the augmentation changes them; by default the images alone.

        It is called in training, and only if there is an augmentation.
        """
        layer: Any = self.augmentation
        return layer(images, training=True), condition

    # --- the two networks ------------------------------------------------------------------------

    def judge(self, x: Any, labels: Any = None, training: bool = False) -> Any:
        """Return the discriminator's logits for images. In training it sees augmented images.

        Args:
            x: Images (batch, ...).
            labels: The condition of these images, such as their labels. Defaults to None.
            training: Whether the network runs in training mode. Defaults to False.

        Returns: Tensor (batch, ...).
        """
        if training and self.augmentation is not None:
            x, labels = self.augmented(x, labels)
        return self.discriminator(self.discriminator_inputs(x, labels), training=training)

    def call(self, inputs, training=False):
        """Return the generator's images, so that `predict` takes what the generator takes."""
        return self.generator(inputs, training=training)

    def distance_to_teacher(self, inputs: Any, labels: Any, images: Any) -> Any:
        """Return the distance between generated images and those of the teacher.

        Args:
            inputs: The inputs of the generator for these images.
            labels: The condition of these images, or None.
            images: Images (batch, ...) of the generator.

        Returns: Scalar, or None without a teacher.
        """
        if self._teaching is None:
            return None
        return self._teaching.distance(self, inputs, labels, images)

    @property
    def teacher(self) -> keras.Model | None:
        """The frozen generator that the generator stays close to, or None."""
        return None if self._teaching is None else self._teaching.teacher

    @property
    def distillation(self) -> Distillation | None:
        """The measure of the distance to the teacher, or None."""
        return None if self._teaching is None else self._teaching.distillation

    def frozen_networks(self) -> dict[str, keras.Model]:
        """Return the teacher, and the network whose features compare distributions."""
        extractor = None if self.distillation is None else self.distillation.extractor
        own = {} if extractor is None else {"extractor": extractor}
        return {**super().frozen_networks(), **own}

    def default_distillation(self) -> Distillation:
        """Return the distillation that a teacher has by default: `Distillation()`."""
        return Distillation()

    def set_teacher(
        self,
        teacher: keras.Model | None,
        distillation: Distillation | float | Mapping[str, Any] | None = None,
    ) -> None:
        """Set or remove the teacher, from the next training step on.

        Args:
            teacher: Generator that the generator stays close to. None removes the teacher.
            distillation: `Distillation`, its config, or a number (the weight of the distance between
                images). Defaults to None, which means `default_distillation()`.

        Raises:
            ArgumentTypeError: `teacher` is not a Keras model, or `distillation` has the wrong type.
            InvalidArgumentError: The teacher returns images of another shape, or `distillation` is set
                without a teacher or cannot be used with this discriminator.
            UnbuiltModelError: The teacher has no weights yet.
            UnsupportedLayerError: The features of a subclassed discriminator are requested.
        """
        self._teaching = teaching(self, teacher, distillation)
        self._trackers.pop("distillation_loss", None)
        if self._teaching is not None:
            self._trackers["distillation_loss"] = keras.metrics.Mean(name="distillation_loss")
        if getattr(self, "train_function", None) is not None:
            # A compiled step keeps the teacher that it was traced with.
            tracing.remake(self)

    # --- training --------------------------------------------------------------------------------

    def compile(  # pyright: ignore[reportIncompatibleMethodOverride]  (two optimizers, no loss)
        self,
        generator_optimizer: keras.optimizers.Optimizer | str | Mapping[str, Any] | None = None,
        discriminator_optimizer: keras.optimizers.Optimizer | str | Mapping[str, Any] | None = None,
        *,
        optimizer: Any = None,
        **kwargs: Any,
    ) -> None:
        """Set the two optimizers.

        Args:
            generator_optimizer: Optimizer, name or config. Defaults to `Adam(2e-4, beta_1=0.5)`.
            discriminator_optimizer: Optimizer, name or config. Defaults to `Adam(2e-4, beta_1=0.5)`.
            optimizer: Not used; it is here so that the error can name the fix.
            **kwargs: `run_eagerly`, `jit_compile` and `steps_per_execution` of `keras.Model.compile`.

        Raises:
            InvalidArgumentError: Only one optimizer is given, one object is given for both networks, or
                another argument of `keras.Model.compile` is given.
        """
        pair = optimizer_pair.chosen(generator_optimizer, discriminator_optimizer, optimizer)
        unknown = set(kwargs) - _COMPILE_OPTIONS
        if unknown:
            raise InvalidArgumentError(
                f"`{type(self).__name__}.compile` does not take {', '.join(sorted(unknown))}. The loss is "
                f"an argument of `{type(self).__name__}`. Besides the optimizers, `compile` takes "
                "`run_eagerly`, `jit_compile` and `steps_per_execution`."
            )
        networks = (self.generator, self.discriminator)
        # Before the optimizers are built: a strategy of TensorFlow would raise a less clear error there.
        distribution.check_strategy(self, [w for network in networks for w in network.weights])
        # No `optimizer`: Keras would build it over the weights of both networks.
        super().compile(optimizer=None, loss=None, **kwargs)
        self._compile_options = kwargs
        scale_loss = optimizer_pair.computes_in_float16(networks)
        self.generator_optimizer, self.discriminator_optimizer = (
            optimizer_pair.built(one, network, scale_loss)
            for one, network in zip(pair, networks, strict=True)
        )
        if keras.backend.backend() == "jax":
            self.optimizer: Any = optimizer_pair.BothOptimizers(
                self.generator_optimizer, self.discriminator_optimizer
            )

    def fit(  # pyright: ignore[reportIncompatibleMethodOverride]  (the rest is in kwargs)
        self,
        x: Any = None,
        y: Any = None,
        batch_size: int | None = None,
        epochs: int = 1,
        verbose: Any = "auto",
        callbacks: Any = None,
        **kwargs: Any,
    ) -> keras.callbacks.History:
        """Train the two networks.

        The data is checked before the first step, and a `NaNGuard` is added to the callbacks.

        Args:
            x: Real images as one array, a `tf.data.Dataset` or a `PyDataset`.
            y: Condition of each image, such as its label. Defaults to None.
            batch_size: Images per step. Defaults to None, which means 32.
            epochs: Number of the last epoch. Defaults to 1.
            verbose: As for `keras.Model.fit`. Defaults to "auto".
            callbacks: Callback or list of callbacks. Defaults to None.
            **kwargs: Further arguments of `keras.Model.fit`.

        Returns: The `History` of `keras.Model.fit`.

        Raises:
            InvalidArgumentError: The model is not compiled, or was compiled for other weights.
            DataError: The data is empty, not finite or of the wrong shape, or its labels do not fit.
            InvalidArgumentError: Another argument has a wrong type or value, or is not one of Keras's `fit`.
        """
        if self.generator_optimizer is None:
            raise InvalidArgumentError(
                "Call `gan.compile(generator_optimizer, discriminator_optimizer)` before `fit`."
            )
        optimizer_pair.check_trains(self.generator_optimizer, self.generator, "generator")
        optimizer_pair.check_trains(
            self.discriminator_optimizer, self.discriminator, "discriminator"
        )
        self.check_data(x, y)
        batch_checks.fit_arguments(self, batch_size, epochs, verbose, callbacks, kwargs)
        callbacks = _with_guards(callbacks)
        return super().fit(x, y, batch_size, epochs, verbose, callbacks, **kwargs)

    def check_data(self, x: Any, y: Any) -> None:
        """Check the data of `fit` before the first step.

        Raises:
            DataError: The data cannot be used.
        """
        batch_checks.data(self, x, y)

    def _symbolic_build(self, iterator=None, data_batch=None):
        # On JAX and PyTorch Keras calls a model that has an unbuilt layer on a batch of images. The
        # networks have their weights by now, and the generator may take latent vectors.
        self._post_build()

    # (data) -> logs; on JAX (state, data) -> (logs, state).

    def train_step(self, *state_and_data):
        """Update the discriminator `discriminator_steps` times, then the generator once."""
        return _step_module().train_step(self, *state_and_data)

    def test_step(self, *state_and_data):
        """Return the losses and accuracies without an update."""
        return _step_module().test_step(self, *state_and_data)

    def adversarial_loss(self, data: Any) -> Any:
        """Return the generator's loss on new samples, for the discriminator as it is now.

        Both networks run in inference mode and without weight regularization. So only the state of
        `noise_seed` changes. The gradient with respect to the generator's weights goes through the
        samples alone, also where the discriminator shares some of these weights.

        Args:
            data: A batch as `fit` gets it: images (batch, ...), or (images, labels). The images set the
                number of samples; their values matter for a relativistic loss only.

        Returns: Scalar float32 tensor.
        """
        return _step_module().adversarial_loss(self, data)

    @property
    def metrics(self):
        """The running means of the logs."""
        return list(self._trackers.values())

    def log(self, step: training_log.StepResult) -> dict[str, Any]:
        """Add one step to the running means; return the logs of the step."""
        return training_log.update(self._trackers, self.loss_pair, step)

    # --- saving ----------------------------------------------------------------------------------

    def get_config(self):
        """Return the arguments from which the model is rebuilt."""
        return {
            **super().get_config(),
            "loss": keras.saving.serialize_keras_object(self.loss_pair),
            "discriminator_steps": self.discriminator_steps,
            "ema_decay": self.ema_decay,
            "gradient_penalty": self.gradient_penalty,
            "r1_penalty": self.r1_penalty,
            "balance_frequency": self.balance_frequency,
            "value_range": self.value_range,
            "augmentation": None
            if self.augmentation is None
            else keras.saving.serialize_keras_object(self.augmentation),
            "seed": self.seed,
            **({} if self._teaching is None else self._teaching.get_config()),
        }


def _with_guards(callbacks: Any) -> Any:
    """Return the callbacks of `fit` with a `NaNGuard` and the callback that finalizes averages."""
    if isinstance(callbacks, keras.callbacks.CallbackList):
        return callbacks
    if isinstance(callbacks, keras.callbacks.Callback):
        callbacks = [callbacks]
    callbacks = list(callbacks or [])
    guards = [] if any(isinstance(c, NaNGuard) for c in callbacks) else [NaNGuard()]
    # They come first, so that `Prune` masks the weights that they have written.
    return [*guards, optimizer_pair.FinalizeAverages(), *callbacks]
