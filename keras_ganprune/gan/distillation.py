"""What a pruned generator learns from the dense one it came from."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from keras_ganprune.errors import InvalidArgumentError, UnbuiltModelError, UnsupportedLayerError
from keras_ganprune.gan import batch_checks
from keras_ganprune.layers.upgrade import strip_pruning
from keras_ganprune.utils import validation
from keras_ganprune.utils.registry import PACKAGE, Configurable


@keras.saving.register_keras_serializable(package=PACKAGE)
class Distillation(Configurable):
    """How far a generator is from its teacher, on the same latent vectors.

        output * mean |G(z) - T(z)|  +  features * mean (F(G(z)) - F(T(z)))^2 / mean F(T(z))^2

    F are features of the discriminator: what its last layer with weights is given. They change with
    the discriminator, and say which differences matter to it. The sum is added to the generator's loss.

    Args:
        output: Non-negative float, weight of the distance between images. From 5 to 100 there was little
            between them on MNIST, beside a non-saturating loss; 1 taught less.
        features: Non-negative float, weight of the distance between features.
        layers: None, or names of layers of the discriminator whose outputs are the features.

    Example:
    >>> Distillation(output=1.0, features=0.5)
    Distillation(output=1.0, features=0.5, layers=None)

    Reference: outputs, [GAN Compression](https://arxiv.org/abs/2003.08936), Eq. 2; the discriminator
    as a perceptual loss, [Feature matching](https://arxiv.org/abs/1606.03498), Section 3.1.
    """

    def __init__(
        self, output: float = 20.0, features: float = 0.0, layers: list[str] | None = None
    ):
        self.output = validation.non_negative(output, "output")
        self.features = validation.non_negative(features, "features")
        if not self.output and not self.features:
            raise InvalidArgumentError(
                "A teacher that teaches nothing: `output` and `features` must not both be 0."
            )
        if isinstance(layers, str):
            layers = [layers]
        self.layers = list(layers) if layers is not None else None
        if self.layers is not None and not self.features:
            raise InvalidArgumentError(
                f"`layers` has no use with `features=0`. Received: layers={self.layers}."
            )
        self._looked_into: tuple[keras.Model, keras.Model] | None = None

    def get_config(self):
        return {"output": self.output, "features": self.features, "layers": self.layers}

    def __call__(self, gan: Any, images: Any, taught: Any, labels: Any) -> Any:
        """Return the distance, a scalar, of images (batch, ...) from the teacher's."""
        images, taught = (ops.cast(x, "float32") for x in (images, taught))
        total = ops.zeros((), "float32")
        if self.output:
            total += self.output * ops.mean(ops.abs(images - taught))
        if self.features:
            pairs = zip(
                self._seen(gan, images, labels), self._seen(gan, taught, labels), strict=True
            )
            for made, wanted in pairs:
                scale = ops.mean(ops.square(wanted)) + 1e-6
                total += self.features * ops.mean(ops.square(made - wanted)) / scale
        return total

    def _seen(self, gan, images, labels) -> list[Any]:
        found = self._features_of(gan.discriminator)(
            [images, labels] if gan.conditional else images, training=False
        )
        found = found if isinstance(found, (list, tuple)) else [found]
        return [ops.cast(x, "float32") for x in found]

    def _features_of(self, discriminator: keras.Model) -> keras.Model:
        # PyTorch asks in every step; and `Shrink` may have put another discriminator in the place.
        if self._looked_into is None or self._looked_into[0] is not discriminator:
            self._looked_into = discriminator, feature_model(discriminator, self.layers)
        return self._looked_into[1]

    def check(self, gan: Any) -> None:
        """Raise if the features cannot be had of this GAN's discriminator."""
        if not self.features:
            return
        if gan.shared_weights:
            raise InvalidArgumentError(
                "`Distillation(features=...)` needs networks that share no weights: its gradient would "
                "change the shared ones for the worse of the discriminator. Use `output` alone."
            )
        self._features_of(gan.discriminator)


def get(identifier: Any, teacher: keras.Model | None) -> Distillation | None:
    """Return the `Distillation` for None, a number (the weight of the output), a config or an instance.

    Raises:
        InvalidArgumentError: it does not go with the teacher.
        UnsupportedLayerError: it is none of these.
    """
    if teacher is None:
        if identifier is None:
            return None
        raise InvalidArgumentError(
            f"`distillation` needs a `teacher`, the dense generator. Received: {identifier!r}, and "
            "teacher=None."
        )
    if identifier is None:
        return Distillation()
    if isinstance(identifier, dict):
        identifier = keras.saving.deserialize_keras_object(identifier)
    if isinstance(identifier, (int, float)) and not isinstance(identifier, bool):
        return Distillation(output=identifier)
    if isinstance(identifier, Distillation):
        return identifier
    raise UnsupportedLayerError(
        "`distillation` must be None, a number (the weight of the distance between images) or a "
        f"`Distillation`. Received: {identifier!r} (of type {type(identifier).__name__})."
    )


def feature_model(discriminator: keras.Model, layers: list[str] | None = None) -> keras.Model:
    """Return a model from images to features of a discriminator, over its own layers.

    Raises:
        UnsupportedLayerError: the discriminator is subclassed, so that nothing says what is inside.
        InvalidArgumentError: it has no such layer.
    """
    inputs = batch_checks.inputs_of(discriminator)
    if not inputs:
        raise UnsupportedLayerError(
            f"`Distillation(features=...)` looks inside the discriminator, and "
            f"{type(discriminator).__name__} is a subclassed model. Use a Sequential or functional "
            "discriminator, or `output` alone."
        )
    if layers is None:
        last = next((x for x in reversed(discriminator.layers) if x.weights), None)
        if last is None:
            raise InvalidArgumentError("The discriminator has no layer with weights.")
        outputs = last.input
    else:
        known = {layer.name: layer for layer in discriminator.layers}
        missing = [name for name in layers if name not in known]
        if missing:
            raise InvalidArgumentError(
                f"`layers` must be names of layers of the discriminator. Received: {missing}. Known: "
                f"{', '.join(known)}."
            )
        outputs = [known[name].output for name in layers]
    inputs = inputs if len(inputs) > 1 else inputs[0]
    return keras.Model(inputs, outputs)


class Teaching:
    """A teacher and what is learnt from it.

    A plain object, so that Keras does not count the teacher among the layers of the GAN: it would be
    summarized, and pruned with `target=None`.
    """

    def __init__(self, teacher: keras.Model, distillation: Distillation):
        self.teacher = teacher
        self.distillation = distillation

    def distance(self, gan: Any, z: Any, labels: Any, images: Any) -> Any:
        taught = self.teacher([z, labels] if gan.conditional else z, training=False)
        return self.distillation(gan, images, ops.stop_gradient(taught), labels)

    def get_config(self) -> dict[str, Any]:
        return {
            "teacher": keras.saving.serialize_keras_object(self.teacher),
            "distillation": keras.saving.serialize_keras_object(self.distillation),
        }


def teaching(gan: Any, teacher: keras.Model | None, distillation: Any) -> Teaching | None:
    """Return what `GANModel(teacher=..., distillation=...)` means, or None.

    Raises:
        InvalidArgumentError: the teacher makes images of another shape, or there is none.
        UnbuiltModelError: it has no weights yet.
        UnsupportedLayerError: it is no model, or the discriminator cannot be looked into.
    """
    distillation = get(distillation, teacher)
    if teacher is None:
        return None
    if not isinstance(teacher, keras.Model):
        raise UnsupportedLayerError(
            f"`teacher` must be a `keras.Model`, a generator. Received: {teacher!r} (of type "
            f"{type(teacher).__name__})."
        )
    if not teacher.built:
        raise UnbuiltModelError("`teacher` has no weights yet. Train it, or load it, first.")
    made, wanted = (batch_checks.output_shape(network) for network in (teacher, gan.generator))
    if made is not None and wanted is not None and made[1:] != wanted[1:]:
        raise InvalidArgumentError(
            f"`teacher` must make images of the generator's shape {wanted[1:]}. Received: a teacher "
            f"that makes {made[1:]}."
        )
    # A copy, since the teacher may be the very generator that is going to be pruned.
    copy = strip_pruning(teacher)
    copy.trainable = False
    distillation.check(gan)
    return Teaching(copy, distillation)
