"""The outputs of a network for the same inputs every time, without an effect on the training."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np

from keras_ganprune.backend import tracing
from keras_ganprune.errors import DataError, InvalidArgumentError, UnbuiltModelError, unknown_name
from keras_ganprune.gan import latents, network_checks
from keras_ganprune.gan.adversarial_model import AdversarialModel
from keras_ganprune.layers.tensors import to_numpy
from keras_ganprune.layers.traversal import is_built
from keras_ganprune.training import discovery
from keras_ganprune.training.snapshot import mask_stores
from keras_ganprune.utils import validation


def sampled_network(model: keras.Model, target: Any = None) -> tuple[str, keras.layers.Layer]:
    """Return (name, network): the network whose images are measured and drawn.

    Args:
        model: The model that is being fitted.
        target: One network, as for `Prune`. None for the generator, or for its average if the model
            keeps one, as `GANModel.generate` does. Defaults to None.

    Raises:
        InvalidArgumentError: `target` means several networks, or is None and there is no generator.
    """
    if target is not None:
        pairs = discovery.resolve_target(model, target)
        if len(pairs) > 1:
            raise InvalidArgumentError(
                "`target` must be one network, which generates the images. Received: "
                f"{', '.join(name for name, _ in pairs)}. Add one callback for each."
            )
        return pairs[0]
    if isinstance(model, AdversarialModel):
        name = "generator" if model.sampler is model.generator else "ema_generator"
        return name, model.sampler
    known = discovery.networks(model)
    if "generator" not in known:
        raise InvalidArgumentError(
            unknown_name(f"network of {type(model).__name__}:", "generator", known)
            + " Pass the name of the network that generates the images as `target`."
        )
    average = discovery.averages_of(model, known["generator"])
    return next(iter(average.items()), ("generator", known["generator"]))


@contextlib.contextmanager
def as_exported(model: keras.Model, network: keras.layers.Layer) -> Iterator[None]:
    """Within the context, a network has the weights that `fit` would leave if it ended now.

    With `use_ema`, these are the masked averages of the optimizer. Afterwards everything is as before,
    including what layers change even in inference, such as the state of a random generator.
    """
    tracing.sync(model)
    state = list({id(v): v for v in network.non_trainable_variables}.values())
    before = [(v, np.array(to_numpy(v))) for v in state]
    averages = _averages(model, network)
    before += [(weight, np.array(to_numpy(weight))) for weight, _ in averages]
    try:
        for weight, average in averages:
            weight.assign(average)
        if averages:
            for store in mask_stores(network):
                store.apply()
        yield
    finally:
        for variable, value in before:
            variable.assign(value)


def _averages(
    model: keras.Model, network: keras.layers.Layer
) -> list[tuple[keras.Variable, np.ndarray]]:
    """Return (weight, average) for each weight of a network whose optimizer keeps averages (`use_ema`)."""
    weights = {id(w) for w in network.trainable_variables}
    return [
        (weight, np.array(to_numpy(average)))
        for optimizer in discovery.optimizers(model)
        if optimizer.built and discovery.steps_done(optimizer)
        for weight, average in discovery.slots(optimizer, only_averages=True)
        if id(weight) in weights
    ]


class FixedInputs:
    """The inputs that a network receives every time.

    Args:
        n: Positive int, number of samples.
        seed: Non-negative int, seed of the normal latent vectors. Defaults to 0.
        labels: For a network that takes [latent vectors, labels]: one label per image, in the form that
            the network takes. None for all classes in turn, if the network takes one-hot rows. Defaults
            to None.
        inputs: Inputs in place of latent vectors, for networks that translate images: an array with at
            least `n` rows, or a list with one array per input. Defaults to None.

    Raises:
        InvalidArgumentError: `n` or `seed` is not an int in its range, or both `labels` and `inputs`
            are given.
        DataError: `labels` or `inputs` has fewer than `n` rows.
    """

    def __init__(self, n: int, seed: int = 0, labels: Any = None, inputs: Any = None):
        self.n = validation.positive_int(n, "n")
        self.seed = validation.non_negative_int(seed, "seed")
        if labels is not None and inputs is not None:
            raise InvalidArgumentError(
                "Give `labels` or `inputs`, not both: `inputs` are all inputs of the network, such as "
                "`inputs=[latents, labels]`."
            )
        self.labels = None if labels is None else _rows("labels", labels, self.n)
        self.inputs = None
        if inputs is not None:
            several = isinstance(inputs, (list, tuple))
            self.inputs = [_rows("inputs", x, self.n) for x in (inputs if several else [inputs])]

    def arrays(self, model: keras.Model, network: keras.layers.Layer) -> list[np.ndarray]:
        """Return one array per input of a network.

        Raises:
            InvalidArgumentError: The network does not take latent vectors, or its inputs are not known.
            DataError: Labels are missing, superfluous, or of the wrong shape.
        """
        if self.inputs is not None:
            return self.inputs
        shapes = _input_shapes(model, network)
        latent = [size for size in shapes[0] if size is not None]
        unknown = len(latent) < len(shapes[0])
        if len(shapes) > 2 or unknown or max(latent[:-1], default=1) > 1:
            raise InvalidArgumentError(
                f"'{network.name}' takes inputs of the shapes {shapes}, which are not latent vectors. Pass "
                "the inputs: `inputs=images[:64]`, or a list for several inputs."
            )
        z = latents.draw(self.n, latent, self.seed)
        if len(shapes) == 1:
            if self.labels is not None:
                raise DataError(
                    f"`labels` must be None: '{network.name}' takes only latent vectors. Leave it out."
                )
            return [z]
        return [z, self._labels(shapes[1], network.name)]

    def _labels(self, shape: tuple[int | None, ...], name: str) -> np.ndarray:
        labels = self.labels
        if labels is None:
            if len(shape) != 1 or not shape[0] or shape[0] == 1:
                raise DataError(
                    f"'{name}' takes labels, and its classes are not known. Pass one label for each of "
                    f"the {self.n} images: `labels=np.arange({self.n}) % 10`."
                )
            return np.eye(shape[0], dtype="float32")[np.arange(self.n) % shape[0]]
        if labels.ndim == 1 and shape == (1,):
            labels = labels[:, None]
        if len(shape) != labels.ndim - 1 or any(
            a not in (None, b) for a, b in zip(shape, labels.shape[1:], strict=True)
        ):
            raise DataError(
                f"`labels` must have the shape that '{name}' takes, {(self.n, *shape)}. Received: shape "
                f"{labels.shape}."
            )
        return labels


def _rows(name: str, value: Any, n: int) -> np.ndarray:
    array = np.asarray(value)
    if array.ndim == 0 or len(array) < n:
        raise DataError(
            f"`{name}` must have one entry for each of the {n} images. Received: shape {array.shape}."
        )
    return array[:n]


def _input_shapes(model: keras.Model, network: keras.layers.Layer) -> list[tuple[int | None, ...]]:
    """Return the shape of each input of a network, without the batch axis."""
    inputs = network_checks.inputs_of(network)
    if inputs:
        return [tuple(x.shape[1:]) for x in inputs]
    size = getattr(model, "latent_dim", None)
    if isinstance(size, (int, np.integer)):
        return [(int(size),)]
    raise InvalidArgumentError(
        f"The inputs of '{network.name}' are not known: it is a subclassed model, and "
        f"{type(model).__name__} has no `latent_dim`. Pass `inputs=`, such as "
        "`np.random.default_rng(0).standard_normal((64, 100))`."
    )


def outputs(
    model: keras.Model, network: keras.layers.Layer, fixed: FixedInputs, batch_size: int = 256
) -> np.ndarray:
    """Return the float32 outputs of a network for fixed inputs, without an effect on the training.

    Args:
        model: The model that is being fitted.
        network: A network of it.
        fixed: The inputs.
        batch_size: Positive int, samples per forward pass. Defaults to 256.

    Raises:
        UnbuiltModelError: The network has no weights yet.
        InvalidArgumentError, DataError: As for `FixedInputs.arrays`.
    """
    if not is_built(network):
        raise UnbuiltModelError(
            f"'{network.name}' has no weights yet, so it has no outputs. Give it an input shape "
            "(`keras.Input`), or train a batch first."
        )
    arrays = fixed.arrays(model, network)
    with as_exported(model, network):
        return np.concatenate(list(latents.images_of(network, arrays, batch_size)))


def as_images(array: np.ndarray, value_range: tuple[float, float] = (-1.0, 1.0)) -> np.ndarray:
    """Return outputs of a network as images (n, h, w, c) in [-1, 1] with 1, 3 or 4 channels.

    Args:
        array: Float array (n, h, w, c), (n, h, w), or (n, pixels) for square grey images.
        value_range: (low, high), the values drawn black and white. NaN is drawn black. Defaults to
            (-1, 1).

    Raises:
        DataError: The array has none of these shapes.

    Example:
    >>> from keras_ganprune.callbacks.fixed_inputs import as_images
    >>> as_images(np.zeros((8, 784))).shape
    (8, 28, 28, 1)
    """
    images = np.asarray(array, dtype="float32")
    if images.ndim == 2:
        side = math.isqrt(images.shape[1])
        if side > 1 and side**2 == images.shape[1]:
            images = images.reshape(-1, side, side)
    if images.ndim == 3:
        images = images[..., None]
    if images.ndim != 4 or images.shape[-1] not in (1, 3, 4):
        raise DataError(
            "The outputs must be images (n, height, width, channels) with 1, 3 or 4 channels. "
            f"Received: shape {np.shape(array)}. Choose the network that generates images with `target`."
        )
    low, high = value_range
    images = np.nan_to_num((images - low) / (high - low), nan=0.0, posinf=1.0, neginf=0.0)
    return images * 2.0 - 1.0


def show_images(
    model: keras.Model,
    target: Any,
    fixed: FixedInputs,
    value_range: tuple[float, float] | None = None,
) -> tuple[str, np.ndarray]:
    """Return (name, images) of the network that generates the images, in the form of `as_images`.

    Args:
        model: The model that is being fitted.
        target: As for `sampled_network`.
        fixed: The inputs.
        value_range: (low, high), the values drawn black and white. None for the range of a `GANModel`,
            else (-1, 1). Defaults to None.
    """
    name, network = sampled_network(model, target)
    images = outputs(model, network, fixed)
    return name, as_images(
        images, value_range or getattr(model, "value_range", None) or (-1.0, 1.0)
    )
