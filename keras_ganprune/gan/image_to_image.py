"""`ImageToImageGAN`: a GAN whose generator maps an image, and further inputs, to an image."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
import numpy as np

from keras_ganprune.backend import tracing
from keras_ganprune.backend.operations import ops
from keras_ganprune.errors import DataError, InvalidArgumentError
from keras_ganprune.gan import image_metrics, latents, losses, network_checks, pair_checks
from keras_ganprune.gan.adversarial_model import AdversarialModel
from keras_ganprune.gan.distillation import Distillation
from keras_ganprune.gan.input_form import InputForm
from keras_ganprune.gan.reconstruction import ReconstructionLike, terms_of
from keras_ganprune.gan.training_log import StepResult
from keras_ganprune.utils import annotated, validation
from keras_ganprune.utils.registry import PACKAGE

# Weight of a teacher's images beside that of the targets. With a weight above that of the targets, a pruned
# network learns the errors of its teacher.
_TEACHER = 0.2


@keras.saving.register_keras_serializable(package=PACKAGE)
class ImageToImageGAN(AdversarialModel):
    """A generator from images to images, trained by `fit` on pairs of inputs and targets.

    Use it to fill holes, remove noise, raise the resolution, or translate images. The generator minimises

        adversarial_weight * L_G + reconstruction + distillation

    where L_G is the generator's part of `loss`, and the reconstruction terms compare G(inputs) with the
    targets. `fit(inputs, targets)` takes arrays, `tf.data` or a `PyDataset`. Several inputs are a tuple,
    such as `fit((images, masks), targets)`, or a dict by the names of the generator's inputs.

    The logs hold `generator_loss` (weighted, without the further terms), `reconstruction_loss`,
    `discriminator_loss`, `discriminator_real_accuracy`, `discriminator_fake_accuracy`, `balance_ratio` as
    in `GANModel`, and what `compile(metrics=...)` names. `validation_data=(inputs, targets)` works as in
    Keras; with `ema_decay`, the metrics of validation are those of the averaged generator.

    Args:
        generator: Built Keras model from an image (batch, height, width, channels), or a list such as
            [image, mask], [image, label] or [image, mask, label], to an image.
        discriminator: Built Keras model that returns logits of any shape (batch, ...), such as one for each
            patch, without an activation. It takes the result, [image, result], or [*inputs, result].
        loss: 'non_saturating', 'minimax', 'hinge', 'least_squares', 'wasserstein' or 'relativistic', a
            `GANLoss`, or its config. Defaults to "non_saturating".
        reconstruction: 'l1', 'l2', 'perceptual', a number (the weight of `L1Loss`), a `ReconstructionLoss`,
            its config, or a list of these. None for no such term. Defaults to "l1", which has weight 100.
        adversarial_weight: Non-negative float, weight of the adversarial loss. With 0 the discriminator is
            not updated, unless its features are a reconstruction loss. Defaults to 1.0.
        discriminator_sees: 'result', 'image_and_result' (the first input of the generator) or
            'inputs_and_result'. Defaults to None, which reads it from the number of its inputs.
        discriminator_steps: Positive int, discriminator updates per generator update. Defaults to 1.
        ema_decay: Float in (0, 1): the model keeps `ema_generator`, a moving average of the generator that
            `generate` and `predict` then use. Defaults to None, which means no average.
        gradient_penalty: Non-negative float, weight of (|dD/dy| - 1)^2 between real and generated images,
            for the same inputs (WGAN-GP; usually 10). With several logits for each image, D is their sum.
            Defaults to 0.0.
        r1_penalty: Non-negative float, weight of |dD/dy|^2 / 2 on targets. Defaults to 0.0.
        label_smoothing: Float in [0, 1), how far the real label is below 1, for losses with labels.
            Defaults to 0.0.
        balance_frequency: Non-negative int, generator steps between two measurements of the balance
            ratio; 0 turns it off. Defaults to 50.
        value_range: (low, high) of the images, or None. `fit` warns if targets lie outside, or inputs far
            outside. Defaults to (-1.0, 1.0).
        augmentation: Keras layer, such as `DiffAugment()`, through which the discriminator sees images in
            training. If it also sees inputs, all its images of one size are joined by channels and changed
            alike. Defaults to None.
        teacher: Generator that `generator` stays close to for the same inputs, such as the dense generator
            that it is pruned from. A frozen copy is kept and saved. Defaults to None.
        distillation: `Distillation`, its config, or a number (the weight of the distance between images).
            Defaults to None: with a teacher, a fifth of the weights of `reconstruction`, or `Distillation()`
            without such a term. The targets are better than the images of a teacher.
        seed: Int, seed of random numbers in training. Defaults to None, a random seed.
        name: Name of the model. Defaults to None.
        **kwargs: Further arguments of `keras.Model`.

    Attributes:
        generator: The generator, as passed.
        discriminator: The discriminator, as passed.
        ema_generator: Keras model, the averaged generator, or None.
        loss_pair: `GANLoss`, with its label smoothing.
        reconstruction: List of `ReconstructionLoss`.
        generator_optimizer: Optimizer of the generator, or None before `compile`.
        discriminator_optimizer: Optimizer of the discriminator, or None before `compile`.

    Raises:
        ArgumentTypeError: A network, `reconstruction`, `augmentation`, `teacher` or `distillation` has the
            wrong type.
        InvalidArgumentError: A number is outside its range, a name is unknown, the shapes or the numbers of
            inputs of the networks do not fit, or there is no loss for the generator.
        UnbuiltModelError: A network has no weights.
        UnsupportedLayerError: Features of a subclassed discriminator are requested.

    Example:
    >>> image = keras.Input((8, 8, 1))
    >>> generator = keras.Model(image, keras.layers.Conv2D(1, 3, padding="same")(image))
    >>> result = keras.Input((8, 8, 1))
    >>> pair = keras.layers.Concatenate()([image, result])
    >>> discriminator = keras.Model([image, result], keras.layers.Conv2D(1, 4, 2)(pair))
    >>> gan = ImageToImageGAN(generator, discriminator, "least_squares", reconstruction=50, seed=1)
    >>> gan.compile(metrics=["psnr"])
    >>> noisy, clean = np.ones((16, 8, 8, 1), "float32"), np.zeros((16, 8, 8, 1), "float32")
    >>> history = gan.fit(noisy, clean, validation_data=(noisy, clean), verbose=0)
    >>> gan.generate(noisy[:3]).shape, "val_psnr" in history.history
    ((3, 8, 8, 1), True)

    Reference: [Image-to-image translation with conditional adversarial
    networks](https://arxiv.org/abs/1611.07004), Eq. 4; patches, Section 3.2.2.
    """

    def __init__(
        self,
        generator: keras.Model,
        discriminator: keras.Model,
        loss: losses.LossLike = "non_saturating",
        *,
        reconstruction: ReconstructionLike | Sequence[ReconstructionLike] | None = "l1",
        adversarial_weight: float = 1.0,
        discriminator_sees: pair_checks.Sees | None = None,
        discriminator_steps: int = 1,
        ema_decay: float | None = None,
        gradient_penalty: float = 0.0,
        r1_penalty: float = 0.0,
        label_smoothing: float = 0.0,
        balance_frequency: int = 50,
        value_range: tuple[float, float] | None = (-1.0, 1.0),
        augmentation: keras.layers.Layer | None = None,
        teacher: keras.Model | None = None,
        distillation: Distillation | float | Mapping[str, Any] | None = None,
        seed: int | None = None,
        name: str | None = None,
        **kwargs: Any,
    ):
        annotated.check(
            ImageToImageGAN.__init__,
            locals(),
            "discriminator_sees",
            "label_smoothing",
            "seed",
            "name",
        )
        pair_checks.networks(generator, discriminator)
        form = InputForm(generator)
        sees = pair_checks.what_it_sees(form, discriminator, discriminator_sees)
        pair_checks.networks_fit(form, generator, discriminator, sees)
        terms = terms_of(reconstruction)
        weight = validation.non_negative(adversarial_weight, "adversarial_weight")
        if not weight and not terms and teacher is None:
            raise InvalidArgumentError(
                "The generator must have a loss. Received: adversarial_weight=0, reconstruction=None and no "
                "teacher. Pass one of them."
            )
        trained = bool(weight) or any(term.uses_discriminator for term in terms)
        balance_frequency = validation.non_negative_int(balance_frequency, "balance_frequency")
        if augmentation is not None:
            shape = pair_checks.joint_shape(discriminator)
            augmentation = network_checks.augmentation(augmentation, shape)
        super().__init__(
            generator,
            discriminator,
            loss,
            discriminator_steps=discriminator_steps,
            ema_decay=ema_decay,
            gradient_penalty=gradient_penalty,
            r1_penalty=r1_penalty,
            label_smoothing=label_smoothing,
            balance_frequency=balance_frequency if trained else 0,
            value_range=value_range,
            augmentation=augmentation,
            seed=seed,
            name=name,
            **kwargs,
        )
        self.input_form = form
        self.discriminator_sees = sees
        self.adversarial_weight = weight
        self.trains_discriminator = trained
        self.reconstruction = terms
        self._quality: list[keras.metrics.Metric] = []
        if terms:
            self._trackers["reconstruction_loss"] = keras.metrics.Mean(name="reconstruction_loss")
        for term in terms:
            term.check(self)
        self.set_teacher(teacher, distillation)

    # --- what the networks are fed ---------------------------------------------------------------

    def unpack(self, data: Any) -> tuple[Any, Any]:
        """Return (targets, inputs) of one batch of `fit`.

        Raises:
            DataError: There are sample weights, there are no targets, or the inputs do not fit.
        """
        x, y, weights = keras.utils.unpack_x_y_sample_weight(data)
        if weights is not None:
            raise DataError("A GAN cannot use sample weights. Pass inputs and targets.")
        if y is None or isinstance(y, (list, tuple, Mapping)):
            received = "no targets" if y is None else f"a {type(y).__name__} of {len(y)} as targets"
            raise DataError(
                "The data must have one target image for each input. Pass `gan.fit(inputs, targets)`, or "
                f"batches of (inputs, targets), where several inputs are a tuple. Received: {received}."
            )
        return y, self.input_form.condition(x)

    def generator_inputs(self, condition: Any, draw: Callable[[], Any]) -> Any:
        """Return the inputs in the form that the generator takes."""
        return self.input_form.pack(condition)

    def discriminator_inputs(self, images: Any, condition: Any) -> Any:
        """Return the images, or a list of inputs of the generator and the images."""
        parts = self._seen(condition)
        return [*parts, images] if parts else images

    def _seen(self, condition: Any) -> list[Any]:
        """Return the inputs of the generator that the discriminator sees."""
        if self.discriminator_sees == "result":
            return []
        parts = self.input_form.parts(condition)
        return parts[:1] if self.discriminator_sees == "image_and_result" else parts

    def augmented(self, images: Any, condition: Any) -> tuple[Any, Any]:
        """Return (images, condition), where all images that the discriminator sees are changed alike."""
        layer: Any = self.augmentation
        parts = self.input_form.parts(condition)
        together = [
            i for i, x in enumerate(self._seen(condition)) if len(x.shape) == len(images.shape)
        ]
        if not together:
            return layer(images, training=True), condition
        stack = [*(ops.cast(parts[i], images.dtype) for i in together), images]
        ends = np.cumsum([x.shape[-1] for x in stack])[:-1].tolist()
        changed = layer(ops.concatenate(stack, axis=-1), training=True)
        *changed_inputs, images = ops.split(changed, ends, axis=-1)
        for i, x in zip(together, changed_inputs, strict=True):
            parts[i] = x
        return images, self.input_form.with_parts(condition, parts)

    def further_losses(self, images: Any, real: Any, condition: Any) -> dict[str, Any]:
        """Return the sum of the reconstruction losses."""
        if not self.reconstruction:
            return {}
        images, real = (ops.cast(x, "float32") for x in (images, real))
        terms = [term(self, images, real, condition) for term in self.reconstruction]
        return {"reconstruction_loss": sum(terms[1:], terms[0])}

    def default_distillation(self) -> Distillation:
        """Return the distillation that a teacher has by default: a part of the reconstruction's weight."""
        weight = sum(term.weight for term in self.reconstruction)
        return Distillation(output=_TEACHER * weight) if weight else Distillation()

    # --- training --------------------------------------------------------------------------------

    def compile(  # pyright: ignore[reportIncompatibleMethodOverride]  (two optimizers, no loss)
        self,
        generator_optimizer: keras.optimizers.Optimizer | str | Mapping[str, Any] | None = None,
        discriminator_optimizer: keras.optimizers.Optimizer | str | Mapping[str, Any] | None = None,
        *,
        metrics: Sequence[Any] | None = None,
        optimizer: Any = None,
        **kwargs: Any,
    ) -> None:
        """Set the two optimizers and the metrics.

        Args:
            generator_optimizer: Optimizer, name or config. Defaults to `Adam(2e-4, beta_1=0.5)`.
            discriminator_optimizer: Optimizer, name or config. Defaults to `Adam(2e-4, beta_1=0.5)`.
            metrics: List of metrics of (targets, generated images) for the logs: 'psnr', or names,
                functions and objects that Keras accepts as metrics. Defaults to None.
            optimizer: Not used; it is here so that the error can name the fix.
            **kwargs: `run_eagerly`, `jit_compile` and `steps_per_execution` of `keras.Model.compile`.

        Raises:
            InvalidArgumentError: Only one optimizer is given, one object is given for both networks, a
                metric is unknown or has the name of another log, or another argument of
                `keras.Model.compile` is given.
            ArgumentTypeError: `metrics` is not a list, or an entry is not a metric.
        """
        quality = image_metrics.metrics_of(metrics, self.value_range, self._trackers)
        super().compile(generator_optimizer, discriminator_optimizer, optimizer=optimizer, **kwargs)
        self._quality = quality
        self.measures_sampler = bool(quality) and self.ema_generator is not None

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
        """Train the two networks on pairs of inputs and targets.

        The data is checked before the first step, and a `NaNGuard` is added to the callbacks.

        Args:
            x: Inputs: images as one array, several inputs as a tuple or a dict of arrays; or a
                `tf.data.Dataset` or a `PyDataset` with batches of (inputs, targets).
            y: Targets as one array, one for each input. None for a data set. Defaults to None.
            batch_size: Images per step. Defaults to None, which means 32.
            epochs: Number of the last epoch. Defaults to 1.
            verbose: As for `keras.Model.fit`. Defaults to "auto".
            callbacks: Callback or list of callbacks. Defaults to None.
            **kwargs: Further arguments of `keras.Model.fit`, such as `validation_data`.

        Returns: The `History` of `keras.Model.fit`.

        Raises:
            InvalidArgumentError: The model is not compiled, or was compiled for other weights.
            DataError: The data is empty, not finite, not in pairs or of the wrong shape.
        """
        validation_data = kwargs.get("validation_data")
        if isinstance(validation_data, (tuple, list)) and len(validation_data) == 2:
            pair_checks.data(self, *validation_data, name="validation_data")
        return super().fit(x, y, batch_size, epochs, verbose, callbacks, **kwargs)

    def check_data(self, x: Any, y: Any) -> None:
        """Check the data of `fit` before the first step.

        Raises:
            DataError: The data is empty, not finite, not in pairs or of the wrong shape.
        """
        pair_checks.data(self, x, y)

    @property
    def metrics(self):
        """The running means of the logs, and the metrics of `compile`."""
        return [*super().metrics, *self._quality]

    def log(self, step: StepResult) -> dict[str, Any]:
        """Add one step to the running means and metrics; return the logs of the step."""
        logs = super().log(step)
        for metric in self._quality:
            metric.update_state(*step.pair)
            logs[metric.name] = metric.result()
        return logs

    # --- results ---------------------------------------------------------------------------------

    def call(self, inputs, training=False):
        """Return the images for inputs: of the generator in training, else of the averaged generator."""
        network = self.generator if training else self.sampler
        form = self.input_form
        return network(form.pack(form.condition(inputs)), training=training)

    def generate(self, inputs: Any, batch_size: int = 256) -> np.ndarray:
        """Return the images for inputs, of the averaged generator if there is one.

        Args:
            inputs: Inputs as `fit` takes them: one array, or a tuple or dict of arrays.
            batch_size: Positive int, images per forward pass. Defaults to 256.

        Returns: float32 array (n, ...).

        Raises:
            InvalidArgumentError: `batch_size` is not a positive int.
            DataError: The number of inputs or their shapes do not fit the generator.
        """
        batch_size = validation.positive_int(batch_size, "batch_size")
        condition = self.input_form.condition(inputs)
        parts = pair_checks.checked_inputs(self, condition)
        tracing.sync(self)

        def images(batch, training):
            batch = batch if isinstance(batch, list) else [batch]
            packed = self.input_form.pack(self.input_form.with_parts(condition, batch))
            return self.sampler(packed, training=training)

        return np.concatenate(list(latents.images_of(images, parts, batch_size)))

    # --- saving ----------------------------------------------------------------------------------

    def frozen_networks(self) -> dict[str, keras.Model]:
        """Return the teacher and the networks of perceptual losses."""
        own = {f"reconstruction_{i}": term.network for i, term in enumerate(self.reconstruction)}
        return {
            **super().frozen_networks(),
            **{name: network for name, network in own.items() if network is not None},
        }

    def get_compile_config(self):
        """Return the configuration of both optimizers and of the metrics, or None before `compile`."""
        config = super().get_compile_config()
        if config is None or not self._quality:
            return config
        metrics = [keras.saving.serialize_keras_object(metric) for metric in self._quality]
        return {**config, "metrics": metrics}

    def get_config(self):
        """Return the arguments from which the model is rebuilt."""
        return {
            **super().get_config(),
            "reconstruction": [
                keras.saving.serialize_keras_object(term) for term in self.reconstruction
            ]
            or None,
            "adversarial_weight": self.adversarial_weight,
            "discriminator_sees": self.discriminator_sees,
        }
