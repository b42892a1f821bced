"""Reconstruction losses: how far generated images are from the images that they should be."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import keras

from keras_ganprune.backend.operations import ops
from keras_ganprune.errors import ArgumentTypeError, InvalidArgumentError, UnbuiltModelError
from keras_ganprune.gan import network_checks
from keras_ganprune.gan.distillation import TwoPlayers
from keras_ganprune.gan.features import Features
from keras_ganprune.layers.stripping import plain_copy
from keras_ganprune.utils import annotated, validation
from keras_ganprune.utils.registry import Configurable, Family

ReconstructionName = Literal["l1", "l2", "perceptual", "l1_loss", "l2_loss", "perceptual_loss"]


class ReconstructionLoss(Configurable):
    """Base class of distances between generated images and target images.

    A loss of your own is a subclass that defines `distance`. If its constructor takes further arguments,
    `get_config` returns them too. Pass an instance: `ImageToImageGAN(..., reconstruction=MyLoss(10.0))`.

    Args:
        weight: Positive float, factor of the distance in the loss of the generator. Defaults to 1.0.

    Raises:
        InvalidArgumentError: `weight` is not a positive number.

    Example:
    >>> class Charbonnier(ReconstructionLoss):
    ...     def distance(self, images, targets):
    ...         return keras.ops.mean(keras.ops.sqrt(keras.ops.square(images - targets) + 1e-6))
    >>> Charbonnier(10.0).weight
    10.0

    Reference: [Image-to-image translation](https://arxiv.org/abs/1611.07004), Eq. 4.
    """

    def __init__(self, weight: float = 1.0):
        self.weight = validation.positive(weight, "weight")

    def distance(self, images: Any, targets: Any) -> Any:
        """Return the distance, without the weight.

        Args:
            images: float32 images (batch, ...) of the generator.
            targets: float32 images (batch, ...) that they should be.

        Returns: Scalar tensor.
        """
        raise NotImplementedError

    def __call__(self, gan: TwoPlayers, images: Any, targets: Any, condition: Any) -> Any:
        """Return the weighted distance; `gan` and `condition` are for losses that use a discriminator."""
        return self.weight * self.distance(images, targets)

    def check(self, gan: TwoPlayers) -> None:
        """Check that the loss can be used with the networks of a GAN."""

    @property
    def network(self) -> keras.Model | None:
        """A network of its own that the loss uses, or None."""
        return None

    @property
    def uses_discriminator(self) -> bool:
        """Whether the loss uses features of the discriminator, which therefore must be trained."""
        return False

    def get_config(self):
        """Return the arguments of the constructor."""
        return {"weight": self.weight}


ReconstructionLike = ReconstructionName | float | ReconstructionLoss | Mapping[str, Any]

_family = Family("reconstruction loss", ReconstructionLoss)


@_family.register
class L1Loss(ReconstructionLoss):
    """The mean absolute difference of the pixels. It blurs less than `L2Loss`.

        weight * mean |G(x) - y|

    Args:
        weight: Positive float. Defaults to 100.0.

    Raises:
        InvalidArgumentError: `weight` is not a positive number.

    Example:
    >>> float(L1Loss().distance(np.zeros((1, 2), "float32"), np.array([[1.0, 3.0]], "float32")))
    2.0

    Reference: [Image-to-image translation](https://arxiv.org/abs/1611.07004), Eq. 3 and Section 3.3 for
    the weight.
    """

    def __init__(self, weight: float = 100.0):
        super().__init__(weight)

    def distance(self, images, targets):
        """Return the mean absolute difference, a scalar."""
        return ops.mean(ops.abs(images - targets))


@_family.register
class L2Loss(ReconstructionLoss):
    """The mean squared difference of the pixels. A lower value is a higher PSNR.

        weight * mean (G(x) - y)^2

    Args:
        weight: Positive float. Defaults to 100.0.

    Raises:
        InvalidArgumentError: `weight` is not a positive number.

    Example:
    >>> float(L2Loss().distance(np.zeros((1, 2), "float32"), np.array([[1.0, 3.0]], "float32")))
    5.0

    Reference: [Context encoders](https://arxiv.org/abs/1604.07379), Eq. 1.
    """

    def __init__(self, weight: float = 100.0):
        super().__init__(weight)

    def distance(self, images, targets):
        """Return the mean squared difference, a scalar."""
        return ops.mean(ops.square(images - targets))


@_family.register
class PerceptualLoss(ReconstructionLoss):
    """The distance between features F of the images, of the discriminator or of another network.

        weight * mean over features of mean |F(G(x)) - F(y)|

    With the discriminator this is feature matching. With a trained network it is a perceptual loss.

    Args:
        network: Keras model from images to features. Its output, or its list of outputs, are the features.
            A frozen copy is kept and saved. Or its config. Defaults to None, which means the discriminator.
        layers: Name, or names, of layers of the network whose outputs are the features. Defaults to None:
            the outputs of `network`, or the input of the discriminator's last layer with weights.
        weight: Positive float. Defaults to 10.0.

    Raises:
        ArgumentTypeError: `network` is not a Keras model.
        UnbuiltModelError: `network` has no weights yet.
        InvalidArgumentError: `weight` is not a positive number, or no layer has the name in `layers`.
        UnsupportedLayerError: `layers` are of a subclassed `network`, whose inner outputs are not known.

    Example:
    >>> features = keras.Sequential([keras.Input((8, 8, 1)), keras.layers.Conv2D(4, 3)])
    >>> loss = PerceptualLoss(features, weight=2.0)
    >>> float(loss.distance(np.ones((1, 8, 8, 1)), np.ones((1, 8, 8, 1))))
    0.0

    Reference: [Feature matching in pix2pixHD](https://arxiv.org/abs/1711.11585), Eq. 4;
    [Perceptual losses](https://arxiv.org/abs/1603.08155), Eq. 2, there squared.
    """

    def __init__(
        self,
        network: keras.Model | Mapping[str, Any] | None = None,
        layers: Sequence[str] | str | None = None,
        weight: float = 10.0,
    ):
        annotated.check(PerceptualLoss.__init__, locals(), "network", "layers")
        super().__init__(weight)
        self.layers = [layers] if isinstance(layers, str) else None if layers is None else [*layers]
        self._inner = Features(self.layers, "`PerceptualLoss`", "use `L1Loss`")
        self._network: keras.Model | None = None
        if isinstance(network, Mapping):
            network = _deserialized(network)
        if network is not None:
            if not network.built:
                raise UnbuiltModelError(
                    "The `network` of `PerceptualLoss` has no weights yet. Call it once on a batch of images."
                )
            self._network = plain_copy(
                network,
                what="frozen copy",
                fix="Let the `get_config` of its layers return all arguments of the constructor.",
            )
            self._network.trainable = False
            if self.layers is not None:
                self._inner.model(self._network)

    @property
    def network(self) -> keras.Model | None:
        """The frozen copy of the network, or None for the discriminator."""
        return self._network

    @property
    def uses_discriminator(self) -> bool:
        """Whether the features are those of the discriminator."""
        return self._network is None

    def distance(self, images, targets):
        """Return the distance between the features of `network`, a scalar."""
        if self._network is None:
            raise InvalidArgumentError(
                "`PerceptualLoss()` without a `network` uses the discriminator of the GAN that it is passed "
                "to. Pass `network=` to call it alone."
            )
        return self._mean_distance(*(self._features_of_network(x) for x in (images, targets)))

    def __call__(self, gan: TwoPlayers, images: Any, targets: Any, condition: Any) -> Any:
        """Return the weighted distance between the features."""
        if self._network is not None:
            return self.weight * self.distance(images, targets)
        one, other = (
            self._inner.of(gan.discriminator, gan.discriminator_inputs(x, condition))
            for x in (images, targets)
        )
        return self.weight * self._mean_distance(one, other)

    def _features_of_network(self, images: Any) -> list[Any]:
        network: Any = self._network
        if self.layers is not None:
            return self._inner.of(network, images)
        outputs = keras.tree.flatten(network(images, training=False))
        return [ops.cast(x, "float32") for x in outputs]

    def _mean_distance(self, features: Sequence[Any], targets: Sequence[Any]) -> Any:
        total = ops.zeros((), "float32")
        for feature, target in zip(features, targets, strict=True):
            total += ops.mean(ops.abs(feature - ops.stop_gradient(target)))
        return total / len(features)

    def check(self, gan: TwoPlayers) -> None:
        """Check that the network takes the images of a GAN.

        Raises:
            InvalidArgumentError: The network takes other images, the discriminator shares weights with the
                generator, or it has no such layer.
            UnsupportedLayerError: The discriminator is subclassed.
        """
        if self._network is None:
            if gan.shared_weights:
                raise InvalidArgumentError(
                    "`PerceptualLoss()` needs networks that share no weights: its gradient would change the "
                    "shared weights to the discriminator's disadvantage. Use `L1Loss`, or a `network` of its "
                    "own."
                )
            self._inner.model(gan.discriminator)
            return
        inputs = network_checks.inputs_of(self._network)
        made = network_checks.output_shape(gan.generator)
        if not inputs or made is None:
            return
        shape = tuple(inputs[0].shape[1:])
        if len(inputs) > 1 or not network_checks.shapes_match(shape, made[1:]):
            raise InvalidArgumentError(
                "The `network` of `PerceptualLoss` must take the images that the generator makes, "
                f"{made[1:]}. Received: '{self._network.name}', which takes "
                f"{[tuple(x.shape[1:]) for x in inputs]}. Put layers before it that change the images, such "
                "as `keras.Model(image, network(keras.ops.repeat(image, 3, axis=-1)))` for grey images."
            )

    def get_config(self):
        """Return the arguments of the constructor; the weights of `network` are in the GAN's file."""
        network = self._network
        return {
            "network": None if network is None else keras.saving.serialize_keras_object(network),
            "layers": self.layers,
            "weight": self.weight,
        }


def _deserialized(config: Mapping[str, Any]) -> keras.Model:
    """Return the network of a config, with new weights."""
    try:
        network = keras.saving.deserialize_keras_object(dict(config))
    except Exception as error:
        raise InvalidArgumentError(
            "`network` cannot be made from its config. Pass the network itself. Received: "
            f"{str(config)[:200]} ({type(error).__name__})."
        ) from error
    if not isinstance(network, keras.Model):
        raise ArgumentTypeError(
            f"`network` must be a Keras model. Received the config of: {network!r}."
        )
    return network


_family.aliases.update({"l1": L1Loss, "l2": L2Loss, "perceptual": PerceptualLoss})


def get(identifier: ReconstructionLike | str) -> ReconstructionLoss:
    """Return the loss for a name, a number, a config or an instance.

    Args:
        identifier: 'l1', 'l2' or 'perceptual', a positive number (the weight of `L1Loss`), a Keras config,
            or a `ReconstructionLoss`.

    Raises:
        InvalidArgumentError: No loss has this name, or the number is not positive.
        ArgumentTypeError: `identifier` has another type.

    Example:
    >>> from keras_ganprune.gan import reconstruction
    >>> reconstruction.get("l2"), reconstruction.get(50)
    (L2Loss(weight=100.0), L1Loss(weight=50.0))
    """
    return _family.get(
        identifier, lambda value: L1Loss(value) if validation.is_number(value) else None
    )


def terms_of(identifier: Any) -> list[ReconstructionLoss]:
    """Return the losses for the argument `reconstruction` of `ImageToImageGAN`: none, one or a list.

    Raises:
        InvalidArgumentError, ArgumentTypeError: As for `get`.
    """
    if identifier is None:
        return []
    if isinstance(identifier, (list, tuple)):
        return [get(one) for one in identifier]
    return [get(identifier)]
