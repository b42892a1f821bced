"""Distillation: a pruned generator stays close to the dense generator that it comes from."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import keras

from keras_ganprune.backend.operations import ops
from keras_ganprune.errors import (
    ArgumentTypeError,
    InvalidArgumentError,
    UnbuiltModelError,
)
from keras_ganprune.gan import network_checks
from keras_ganprune.gan.distribution_distance import (
    check_takes_images,
    discrepancy,
    features_of,
    frozen_extractor,
)
from keras_ganprune.gan.features import Features
from keras_ganprune.layers.stripping import plain_copy
from keras_ganprune.utils import annotated, validation
from keras_ganprune.utils.registry import PACKAGE, Configurable


class TwoPlayers(Protocol):
    """The parts of a GAN model that distillation needs."""

    generator: keras.Model
    discriminator: keras.Model

    @property
    def shared_weights(self) -> list[keras.Variable]:
        """The trainable weights that both networks use."""
        ...

    def discriminator_inputs(self, images: Any, condition: Any) -> Any:
        """Return the inputs of the discriminator for images."""
        ...

    def default_distillation(self) -> Distillation:
        """Return the distillation that a teacher has by default."""
        ...


@keras.saving.register_keras_serializable(package=PACKAGE)
class Distillation(Configurable):
    """The distance between a generator G and its teacher T, on the same latent vectors.

        output * mean |G(z) - T(z)|  +  features * mean (F(G(z)) - F(T(z)))^2 / mean F(T(z))^2

        +  distribution * MMD^2(E(G(z)), E(T(z)))

    F are features of the discriminator, by default the input of its last layer with weights. They change
    while the discriminator learns, and weigh the differences that matter to it. E is a frozen `extractor`
    of features. The maximum mean discrepancy compares the images of a batch as a whole, not one by one: for
    each bandwidth f s of a Gaussian kernel, with f = 1/2, 1, 2 and s^2 the mean squared distance between the
    teacher's features. It wants large batches. The distance is added to the loss of the generator.

    Args:
        output: Non-negative float, weight of the distance between images. On MNIST, with a
            non-saturating loss, weights from 5 to 100 gave similar results, and 1 gave a worse one.
            Defaults to 20.0.
        features: Non-negative float, weight of the distance between features. Defaults to 0.0.
        layers: Name, or names, of layers of the discriminator whose outputs are the features. Defaults
            to None, which means the input of the last layer with weights.
        distribution: Non-negative float, weight of the distance between the distributions. Defaults to 0.0.
        extractor: With `distribution`: Keras model from images to features, such as a trained classifier
            without its last layer; each of its outputs counts. Or its config. A frozen copy is kept and saved
            with the GAN. Defaults to None.

    Raises:
        ArgumentTypeError: `extractor` is not a Keras model.
        InvalidArgumentError: A weight is negative, all weights are 0, `layers` is set without
            `features`, or only one of `distribution` and `extractor` is set.
        UnbuiltModelError: `extractor` has no weights yet.
        UnsupportedLayerError: `extractor` cannot be copied.

    Example:
    >>> Distillation(output=1.0, features=0.5)
    Distillation(output=1.0, features=0.5, layers=None)

    Reference: outputs, [GAN Compression](https://arxiv.org/abs/2003.08936), Eq. 2; the discriminator
    as a perceptual loss, [Feature matching](https://arxiv.org/abs/1606.03498), Section 3.1; distributions,
    [Nickel and diming your GAN](https://arxiv.org/abs/2405.11614), with the kernel and the biased estimate of
    [A kernel two-sample test](https://jmlr.org/papers/v13/gretton12a.html), Section 2.2.
    """

    def __init__(
        self,
        output: float = 20.0,
        features: float = 0.0,
        layers: Sequence[str] | None = None,
        distribution: float = 0.0,
        extractor: keras.Model | Mapping[str, Any] | None = None,
    ):
        annotated.check(Distillation.__init__, locals(), "layers", "extractor")
        self.output = validation.non_negative(output, "output")
        self.features = validation.non_negative(features, "features")
        self.distribution = validation.non_negative(distribution, "distribution")
        if not self.output and not self.features and not self.distribution:
            raise InvalidArgumentError(
                "`output`, `features` and `distribution` must not all be 0: such a teacher teaches nothing. "
                "Received: output=0, features=0, distribution=0. Pass a positive weight."
            )
        if (extractor is not None) != bool(self.distribution):
            given = "no" if extractor is None else "an"
            raise InvalidArgumentError(
                "`distribution`, a weight above 0, and `extractor` belong together: distributions are "
                f"compared in the features of a network. Received: distribution={self.distribution:g}, and "
                f"{given} `extractor`. Write `Distillation(distribution=1.0, extractor=network)`."
            )
        self.extractor = None if extractor is None else frozen_extractor(extractor)
        if isinstance(layers, str):
            layers = [layers]
        self.layers = list(layers) if layers is not None else None
        if self.layers is not None and not self.features:
            raise InvalidArgumentError(
                f"`layers` needs `features` above 0. Received: layers={self.layers}, features=0. Pass a "
                "positive `features`, or leave `layers` out."
            )
        self._inner = Features(self.layers, "`Distillation(features=...)`", "use `output` alone")

    def get_config(self):
        """Return the arguments of the constructor."""
        config = {"output": self.output, "features": self.features, "layers": self.layers}
        if self.extractor is not None:
            config["distribution"] = self.distribution
            config["extractor"] = keras.saving.serialize_keras_object(self.extractor)
        return config

    def __repr__(self):
        text = f"output={self.output!r}, features={self.features!r}, layers={self.layers!r}"
        if self.extractor is not None:
            text += (
                f", distribution={self.distribution!r}, extractor=<Model '{self.extractor.name}'>"
            )
        return f"Distillation({text})"

    def __call__(self, gan: TwoPlayers, images: Any, taught: Any, labels: Any) -> Any:
        """Return the distance between images and the images of the teacher.

        Args:
            gan: The GAN whose discriminator gives the features.
            images: Images (batch, ...) of the generator.
            taught: Images (batch, ...) of the teacher for the same inputs.
            labels: The condition of both, such as their labels, or None.

        Returns: Scalar float32 tensor.
        """
        images, taught = (ops.cast(x, "float32") for x in (images, taught))
        total = ops.zeros((), "float32")
        if self.output:
            total += self.output * ops.mean(ops.abs(images - taught))
        if self.features:
            pairs = zip(
                self._features(gan, images, labels),
                self._features(gan, taught, labels),
                strict=True,
            )
            for feature, target in pairs:
                scale = ops.mean(ops.square(target)) + 1e-6
                total += self.features * ops.mean(ops.square(feature - target)) / scale
        if self.extractor is not None:
            parts = (features_of(self.extractor, x) for x in (images, taught))
            for feature, target in zip(*parts, strict=True):
                total += self.distribution * discrepancy(feature, target)
        return total

    def _features(self, gan: TwoPlayers, images: Any, condition: Any) -> list[Any]:
        inputs = gan.discriminator_inputs(images, condition)
        return self._inner.of(gan.discriminator, inputs)

    def check(self, gan: TwoPlayers) -> None:
        """Check that the discriminator of a GAN has the features, and that the extractor takes its images.

        Raises:
            InvalidArgumentError: The networks share weights, a layer name is unknown, or the extractor takes
                other images.
            UnsupportedLayerError: The discriminator is subclassed.
        """
        if self.extractor is not None:
            check_takes_images(self.extractor, gan.generator)
        if not self.features:
            return
        if gan.shared_weights:
            raise InvalidArgumentError(
                "`Distillation(features=...)` needs networks that share no weights: its gradient would "
                "change the shared weights to the discriminator's disadvantage. Use `output` alone."
            )
        self._inner.model(gan.discriminator)


def get(
    identifier: Any, teacher: keras.Model | None, default: Callable[[], Distillation]
) -> Distillation | None:
    """Return the `Distillation` for the argument `distillation` of a GAN.

    Args:
        identifier: None, a number (the weight of the output), a config or an instance.
        teacher: The argument `teacher`.
        default: Function that returns the distillation for None.

    Raises:
        InvalidArgumentError: `identifier` is set without a teacher.
        ArgumentTypeError: `identifier` has the wrong type.
    """
    if teacher is None:
        if identifier is None:
            return None
        raise InvalidArgumentError(
            f"`distillation` needs a `teacher`, the dense generator. Received: {identifier!r}, and "
            "teacher=None."
        )
    if identifier is None:
        return default()
    if isinstance(identifier, dict):
        try:
            identifier = keras.saving.deserialize_keras_object(identifier)
        except Exception as error:
            raise InvalidArgumentError(
                "`distillation` must be a `Distillation`, its config or a number. Received: "
                f"{identifier!r}, of which none can be made ({type(error).__name__})."
            ) from error
    if validation.is_number(identifier):
        return Distillation(output=identifier)
    if isinstance(identifier, Distillation):
        return identifier
    raise ArgumentTypeError(
        "`distillation` must be None, a number (the weight of the distance between images) or a "
        f"`Distillation`. Received: {identifier!r} (of type {type(identifier).__name__})."
    )


class Teaching:
    """A frozen teacher and the measure of the distance to it.

    This is a plain object, so that Keras does not count the teacher among the layers of the GAN.
    Otherwise `summary` would list it, and `Prune(target=None)` would prune it.
    """

    def __init__(self, teacher: keras.Model, distillation: Distillation):
        self.teacher = teacher
        self.distillation = distillation

    def distance(self, gan: TwoPlayers, inputs: Any, labels: Any, images: Any) -> Any:
        """Return the distance between images of the generator and those of the teacher.

        Args:
            gan: The GAN.
            inputs: The inputs of the generator for these images.
            labels: The condition of these images, or None.
            images: Images of the generator.
        """
        taught = self.teacher(inputs, training=False)
        return self.distillation(gan, images, ops.stop_gradient(taught), labels)

    def get_config(self) -> dict[str, Any]:
        """Return the teacher and the distillation as configurations."""
        return {
            "teacher": keras.saving.serialize_keras_object(self.teacher),
            "distillation": keras.saving.serialize_keras_object(self.distillation),
        }


def teaching(
    gan: TwoPlayers,
    teacher: Any,
    distillation: Distillation | float | Mapping[str, Any] | None,
) -> Teaching | None:
    """Return the `Teaching` for the arguments `teacher` and `distillation` of a GAN, or None.

    Raises:
        InvalidArgumentError: The teacher takes or returns other shapes, `distillation` is set without
            a teacher, or the discriminator lacks the features.
        UnbuiltModelError: The teacher has no weights yet.
        ArgumentTypeError: `teacher` is not a Keras model, or `distillation` has the wrong type.
        UnsupportedLayerError: The features of a subclassed discriminator are requested.
    """
    measure = get(distillation, teacher, gan.default_distillation)
    if measure is None:
        return None
    if not isinstance(teacher, keras.Model):
        raise ArgumentTypeError(
            f"`teacher` must be a `keras.Model`, a generator. Received: {teacher!r} (of type "
            f"{type(teacher).__name__})."
        )
    if not teacher.built:
        raise UnbuiltModelError("`teacher` has no weights yet. Train it, or load it, first.")
    shape, expected = (network_checks.output_shape(n) for n in (teacher, gan.generator))
    if shape is not None and expected is not None and shape[1:] != expected[1:]:
        raise InvalidArgumentError(
            f"`teacher` must make images of the generator's shape {expected[1:]}. Received: a teacher "
            f"that makes {shape[1:]}."
        )
    given, own = (
        [tuple(x.shape[1:]) for x in network_checks.inputs_of(network) or []]
        for network in (teacher, gan.generator)
    )
    same = len(given) == len(own) and all(map(network_checks.shapes_match, given, own))
    if given and own and not same:
        raise InvalidArgumentError(
            f"`teacher` must take what the generator takes, inputs of the shapes {own}. Received: a teacher "
            f"that takes {given}."
        )
    # A copy, because the teacher may be the very generator that will be pruned.
    copy = plain_copy(
        teacher,
        what="frozen copy",
        fix="Let the `get_config` of the teacher's layers return all arguments of the constructor.",
    )
    copy.trainable = False
    measure.check(gan)
    return Teaching(copy, measure)
