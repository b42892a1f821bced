"""What a network shows of the same inputs every time, in the middle of training and without a trace in it."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np

from keras_ganprune.backend import tracing
from keras_ganprune.errors import DataError, InvalidArgumentError, UnbuiltModelError, unknown_name
from keras_ganprune.gan import GANModel, latents, network_checks
from keras_ganprune.layers.mask_store import to_numpy
from keras_ganprune.layers.traversal import is_built
from keras_ganprune.training import discovery
from keras_ganprune.training.snapshot import mask_stores
from keras_ganprune.utils import validation


def sampled_network(model: keras.Model, target: Any = None) -> tuple[str, keras.layers.Layer]:
    """Return (name, network): the network whose images a run is judged by, and exports in the end.

    Args:
        model: The model that is being fitted.
        target: One network, as for `Prune`; None for the generator: an average of it where the model
            keeps one, as what `GANModel.generate` uses.

    Raises:
        InvalidArgumentError: several networks are meant, or there is no generator.
    """
    if target is not None:
        found = discovery.resolve_target(model, target)
        if len(found) > 1:
            raise InvalidArgumentError(
                "`target` must be one network, whose images are looked at. Received: "
                f"{', '.join(name for name, _ in found)}. Add one callback for each."
            )
        return found[0]
    if isinstance(model, GANModel):
        name = "generator" if model.sampler is model.generator else "ema_generator"
        return name, model.sampler
    known = discovery.networks(model)
    if "generator" not in known:
        raise InvalidArgumentError(
            unknown_name(f"network of {type(model).__name__}:", "generator", known)
            + " Give the name of the one that makes the images as `target`."
        )
    average = discovery.averages_of(model, known["generator"])
    return next(iter(average.items()), ("generator", known["generator"]))


@contextlib.contextmanager
def as_exported(model: keras.Model, network: keras.layers.Layer) -> Iterator[None]:
    """Within the context, a network is what `fit` would leave if it ended here; afterwards it is as before.

    With `use_ema` its weights are then the optimizer's averages, masked. What a layer changes even in
    inference mode, such as the state of a random generator, goes back too.
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
    """Return (weight, average) for the weights of a network that an optimizer keeps averages of."""
    own = {id(w) for w in network.trainable_variables}
    return [
        (weight, np.array(to_numpy(average)))
        for optimizer in discovery.optimizers(model)
        if optimizer.built and discovery.steps_done(optimizer)
        for weight, average in discovery.slots(optimizer, only_averages=True)
        if id(weight) in own
    ]


class FixedInputs:
    """The inputs that a network is shown every time.

    Args:
        n: Positive int, how many.
        seed: Int, of normal latent vectors.
        labels: For a network of [latent vectors, labels]: one label an image, as the network takes them.
            None for the classes in turn, where the network takes one-hot rows.
        inputs: What the network is called on, in place of latent vectors: an array, or a list of one for
            each input, with `n` or more entries. For networks that translate images.
    """

    def __init__(self, n: int, seed: int = 0, labels: Any = None, inputs: Any = None):
        self.n = validation.positive_int(n, "n")
        self.seed = validation.non_negative_int(seed, "seed")
        if labels is not None and inputs is not None:
            raise InvalidArgumentError(
                "Give `labels` or `inputs`, not both: `inputs` are all that the network is called on, as "
                "`inputs=[latents, labels]`."
            )
        self.labels = None if labels is None else _rows("labels", labels, self.n)
        self.inputs = None
        if inputs is not None:
            several = isinstance(inputs, (list, tuple))
            self.inputs = [_rows("inputs", x, self.n) for x in (inputs if several else [inputs])]

    def arrays(self, model: keras.Model, network: keras.layers.Layer) -> list[np.ndarray]:
        """Return one array for each input of a network.

        Raises:
            InvalidArgumentError, DataError: what the network takes is not known; the text says what to give.
        """
        if self.inputs is not None:
            return self.inputs
        shapes = _input_shapes(model, network)
        latent = shapes[0]
        if (
            len(shapes) > 2
            or any(size is None for size in latent)
            or max(latent[:-1], default=1) > 1
        ):
            raise InvalidArgumentError(
                f"'{network.name}' takes inputs of the shapes {shapes}, which are not latent vectors. Pass "
                "what it is to be called on: `inputs=images[:64]`, or a list for several inputs."
            )
        z = latents.draw(self.n, latent, self.seed)
        if len(shapes) == 1:
            if self.labels is not None:
                raise DataError(f"'{network.name}' takes latent vectors alone. Leave `labels` out.")
            return [z]
        return [z, self._labels(shapes[1], network.name)]

    def _labels(self, shape: tuple[int | None, ...], name: str) -> np.ndarray:
        labels = self.labels
        if labels is None:
            if len(shape) != 1 or not shape[0] or shape[0] == 1:
                raise DataError(
                    f"'{name}' takes labels, and which ones there are is not known. Pass one for each of "
                    f"the {self.n} images: `labels=np.arange({self.n}) % 10`."
                )
            return np.eye(shape[0], dtype="float32")[np.arange(self.n) % shape[0]]
        if labels.ndim == 1 and shape == (1,):
            labels = labels[:, None]
        if len(shape) != labels.ndim - 1 or any(
            a not in (None, b) for a, b in zip(shape, labels.shape[1:], strict=True)
        ):
            raise DataError(
                f"`labels` must be as '{name}' takes them, of shape {(self.n, *shape)}. Received: shape "
                f"{labels.shape}."
            )
        return labels


def _rows(name: str, value: Any, n: int) -> np.ndarray:
    array = np.asarray(value)
    if array.ndim == 0 or len(array) < n:
        raise DataError(
            f"`{name}` must hold one entry for each of the {n} images. Received: shape {array.shape}."
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
        f"What '{network.name}' takes is not known: it is a subclassed model, and "
        f"{type(model).__name__} has no `latent_dim`. Pass `inputs=`, such as "
        "`np.random.default_rng(0).standard_normal((64, 100))`."
    )


def show(
    model: keras.Model, network: keras.layers.Layer, fixed: FixedInputs, batch_size: int = 256
) -> np.ndarray:
    """Return what a network makes of fixed inputs, as float32; training is not touched.

    Raises:
        UnbuiltModelError: the network has no weights yet.
        InvalidArgumentError, DataError: see `FixedInputs.arrays`.
    """
    if not is_built(network):
        raise UnbuiltModelError(
            f"'{network.name}' has no weights yet, so there is nothing to look at. Give it an input shape "
            "(`keras.Input`), or train a batch first."
        )
    arrays = fixed.arrays(model, network)
    with as_exported(model, network):
        return np.concatenate(list(latents.images_of(network, arrays, batch_size)))


def as_images(array: np.ndarray, value_range: tuple[float, float] = (-1.0, 1.0)) -> np.ndarray:
    """Return what a network made as images (n, h, w, c) in [-1, 1], of 1, 3 or 4 channels.

    Args:
        array: Float array (n, h, w, c), (n, h, w), or (n, pixels) of square grey images.
        value_range: (low, high), what is drawn black and white. NaN is drawn black.

    Raises:
        DataError: it is none of these.

    Example:
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
            "What is drawn must be images (n, height, width, channels) with 1, 3 or 4 channels. "
            f"Received: shape {np.shape(array)}. Choose the network that makes them with `target`."
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
    """Return the name of the network that makes the images, and the images as of `as_images`.

    Args:
        target: As for `sampled_network`.
        value_range: (low, high), what is black and white; None for that of a `GANModel`, or (-1, 1).
    """
    name, network = sampled_network(model, target)
    made = show(model, network, fixed)
    return name, as_images(made, value_range or getattr(model, "value_range", None) or (-1.0, 1.0))
