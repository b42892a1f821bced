"""`GANModel`: a GAN whose generator takes latent vectors, or latent vectors and labels."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal

import keras
import numpy as np

from keras_ganprune.backend import tracing
from keras_ganprune.errors import DataError
from keras_ganprune.gan import batch_checks, latents, network_checks
from keras_ganprune.gan.adversarial_model import AdversarialModel
from keras_ganprune.gan.distillation import Distillation
from keras_ganprune.gan.losses import GANLoss
from keras_ganprune.utils import annotated, validation
from keras_ganprune.utils.registry import PACKAGE


@keras.saving.register_keras_serializable(package=PACKAGE)
class GANModel(AdversarialModel):
    """A generator and a discriminator that are trained against each other by `fit`.

    `fit` takes images, or images and labels for a conditional GAN, as arrays, `tf.data` or a
    `PyDataset`. The logs hold `generator_loss`, `discriminator_loss`, `discriminator_real_accuracy`,
    `discriminator_fake_accuracy` and `balance_ratio`. The balance ratio says how much of the gap to
    real images one generator update closes:

        balance_ratio = E[D(G_after(z)) - D(G_before(z))] / E[D(x) - D(G_before(z))]

    The networks may share layers or single kernels (`tie_mirrored`). Both optimizers then update the
    shared variable, each by the gradient of its own network.

    Args:
        generator: Keras model that maps latent vectors (batch, latent_dim), or [latent vectors, labels],
            to images. Labels have the form that `fit` gets: class numbers or one-hot rows.
        discriminator: Keras model that maps images, or [images, labels], to one logit per image, without
            an activation.
        latent_dim: Positive int, length of a latent vector.
        loss: 'non_saturating', 'minimax', 'hinge', 'least_squares', 'wasserstein' or 'relativistic', a
            `GANLoss`, or its config. Defaults to "non_saturating".
        discriminator_steps: Positive int, discriminator updates per generator update. Defaults to 1.
        ema_decay: Float in (0, 1): the model keeps `ema_generator`, a moving average of the generator
            that `generate` then uses. Defaults to None, which means no average.
        gradient_penalty: Non-negative float, weight of (|dD/dx| - 1)^2 between real and fake images
            (WGAN-GP; usually 10). Defaults to 0.0.
        r1_penalty: Non-negative float, weight of |dD/dx|^2 / 2 on real images. Defaults to 0.0.
        label_smoothing: Float in [0, 1), how far the real label is below 1, for losses with labels.
            Defaults to 0.0.
        conditional: Whether both networks take labels. Defaults to None, which reads it from their
            number of inputs.
        balance_frequency: Non-negative int, generator steps between two measurements of the balance
            ratio. A measurement costs about half a step; 0 turns it off. Defaults to 50.
        value_range: (low, high) of the images, or None. `fit` warns if images lie outside. Defaults to
            (-1.0, 1.0).
        augmentation: Keras layer, such as `DiffAugment()`, through which the discriminator sees real and
            generated images in training. It needs a gradient. Defaults to None.
        teacher: Generator that `generator` stays close to on the same latent vectors, such as the dense
            generator that it is pruned from. A frozen copy is kept and saved. Defaults to None.
        distillation: `Distillation`, its config, or a number (the weight of the distance between
            images). The logs then hold `distillation_loss`. Defaults to None, which means
            `Distillation()` if there is a teacher.
        seed: Int, seed of the latent vectors in training. Defaults to None, a random seed.
        name: Name of the model. Defaults to None.
        **kwargs: Further arguments of `keras.Model`.

    Attributes:
        generator: The generator, as passed.
        discriminator: The discriminator, as passed.
        ema_generator: Keras model, the averaged generator, or None.
        loss_pair: `GANLoss`, with its label smoothing.
        generator_optimizer: Optimizer of the generator, or None before `compile`.
        discriminator_optimizer: Optimizer of the discriminator, or None before `compile`.

    Raises:
        ArgumentTypeError: A network, `augmentation`, `teacher` or `distillation` has the wrong type.
        InvalidArgumentError: A number is outside its range, the name of a loss is unknown, the shapes or
            the numbers of inputs of the networks do not fit, or `augmentation` has trainable weights.
        UnbuiltModelError: A network has no weights, and could not be built from `latent_dim`.
        UnsupportedLayerError: `distillation` needs the features of a subclassed discriminator.

    Example:
    >>> g = keras.Sequential([keras.Input((8,)), keras.layers.Dense(4)])
    >>> d = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    >>> gan = GANModel(g, d, latent_dim=8, seed=1)
    >>> gan.compile()
    >>> history = gan.fit(np.zeros((32, 4), "float32"), verbose=0)
    >>> gan.generate(3).shape
    (3, 4)

    References: [Generative adversarial nets](https://arxiv.org/abs/1406.2661);
    [WGAN-GP](https://arxiv.org/abs/1704.00028), Eq. 3;
    [R1](https://arxiv.org/abs/1801.04406), Eq. 9; balance ratio:
    [ADAPT](https://arxiv.org/abs/2302.14670).
    """

    def __init__(
        self,
        generator: keras.Model,
        discriminator: keras.Model,
        latent_dim: int,
        loss: Literal[
            "non_saturating", "minimax", "hinge", "least_squares", "wasserstein", "relativistic"
        ]
        | GANLoss
        | Mapping[str, Any] = "non_saturating",
        *,
        discriminator_steps: int = 1,
        ema_decay: float | None = None,
        gradient_penalty: float = 0.0,
        r1_penalty: float = 0.0,
        label_smoothing: float = 0.0,
        conditional: bool | None = None,
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
            GANModel.__init__, locals(), "label_smoothing", "conditional", "seed", "name"
        )
        latent_dim = validation.positive_int(latent_dim, "latent_dim")
        takes_labels = network_checks.conditional(generator, discriminator, conditional)
        network_checks.networks_fit(generator, discriminator, latent_dim, takes_labels)
        super().__init__(
            generator,
            discriminator,
            loss,
            discriminator_steps=discriminator_steps,
            ema_decay=ema_decay,
            gradient_penalty=gradient_penalty,
            r1_penalty=r1_penalty,
            label_smoothing=label_smoothing,
            balance_frequency=balance_frequency,
            value_range=value_range,
            augmentation=augmentation,
            seed=seed,
            name=name,
            **kwargs,
        )
        self.latent_dim = latent_dim
        self.conditional = takes_labels
        self.set_teacher(teacher, distillation)

    # --- what the networks are fed ---------------------------------------------------------------

    def unpack(self, data: Any) -> tuple[Any, Any]:
        """Return (images, labels or None) of one batch of `fit`.

        Raises:
            DataError: There are sample weights, or labels are missing or not expected.
        """
        x, y, weights = keras.utils.unpack_x_y_sample_weight(data)
        if weights is not None:
            raise DataError("A GAN cannot use sample weights. Pass images, or images and labels.")
        if self.conditional and y is None:
            raise DataError(
                "The networks are conditional, but the data has no labels. "
                "Pass `gan.fit(images, labels)` or batches of (images, labels)."
            )
        if not self.conditional and y is not None:
            raise DataError(
                "The data has labels, but the networks take none. Pass the images alone, or networks "
                "with two inputs: [latent vectors, labels] and [images, labels]."
            )
        return x, y

    def generator_inputs(self, condition: Any, draw: Callable[[], Any]) -> Any:
        """Return new latent vectors, or [new latent vectors, labels] for a conditional GAN."""
        z = draw()
        return [z, condition] if self.conditional else z

    def discriminator_inputs(self, images: Any, condition: Any) -> Any:
        """Return the images, or [images, labels] for a conditional GAN."""
        return [images, condition] if self.conditional else images

    # --- sampling --------------------------------------------------------------------------------

    def synthesize(self, z: Any, labels: Any = None, training: bool = False) -> Any:
        """Return the generator's images for given latent vectors.

        Args:
            z: Latent vectors (batch, latent_dim).
            labels: Labels (batch, ...) for a conditional GAN. Defaults to None.
            training: Whether the network runs in training mode. Defaults to False.
        """
        return self.generator(self.generator_inputs(labels, lambda: z), training=training)

    def generate(
        self, n: int, labels: Any = None, seed: int | None = None, batch_size: int = 256
    ) -> np.ndarray:
        """Return `n` generated images, of the averaged generator if there is one.

        Args:
            n: Positive int, number of images.
            labels: For a conditional GAN, one label per image, in the form that `fit` takes. Defaults to
                None.
            seed: Int; the same seed gives the same latent vectors. Defaults to None, a random seed.
            batch_size: Positive int, images per forward pass. Defaults to 256.

        Returns: float32 array (n, ...).

        Raises:
            InvalidArgumentError: `n` or `batch_size` is not a positive int.
            DataError: Labels are missing or not expected, or their number is not `n`.
        """
        if seed is not None:
            validation.non_negative_int(seed, "seed")
        n = validation.positive_int(n, "n")
        batch_size = validation.positive_int(batch_size, "batch_size")
        labels = batch_checks.labels_for(n, labels, self.conditional)
        tracing.sync(self)
        z = latents.draw(n, self.latent_dim, seed)
        inputs = [z] if labels is None else [z, labels]
        return np.concatenate(list(latents.images_of(self.sampler, inputs, batch_size)))

    # --- saving ----------------------------------------------------------------------------------

    def get_config(self):
        """Return the arguments from which the model is rebuilt."""
        return {
            **super().get_config(),
            "latent_dim": self.latent_dim,
            "conditional": self.conditional,
        }
