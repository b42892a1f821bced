"""`recalibrate_batch_norm`: batch statistics of the pruned network, in place of those of the old one."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, cast

import keras
import numpy as np
from keras import ops

from keras_ganprune.errors import (
    ArgumentTypeError,
    DataError,
    DivergedError,
    PruningError,
    UnbuiltModelError,
)
from keras_ganprune.gan import GANModel
from keras_ganprune.gan.adversarial_model import AdversarialModel
from keras_ganprune.layers.tensors import to_numpy
from keras_ganprune.layers.traversal import walk
from keras_ganprune.pruning import input_batches
from keras_ganprune.utils import validation

# Latent vectors that are drawn if no data is given.
_SAMPLES = 1024

# (moving mean, moving variance) of one layer.
_Statistics = tuple[np.ndarray, np.ndarray]


def recalibrate_batch_norm(
    model: keras.Model, data: Any = None, *, steps: int | None = None, batch_size: int = 32
) -> int:
    """Replace the moving mean and variance of every BatchNormalization by averages over data.

    The new statistics are the averages of each batch's mean and variance, weighted by the number of
    samples, as PyTorch's `update_bn` computes them. Meanwhile these layers, also frozen ones, normalize
    by the batch. Everything else runs as in inference: dropout is off, and `SpectralNormalization` does
    not change its kernel. Only the statistics change; the state of random generators stays as it is.

    For a `GANModel`, the generator and `ema_generator` are called on latent vectors (drawn from its
    `seed`, the same in each call), and the discriminator on the real images in `data`, if there are any. For
    an `ImageToImageGAN`, `data` holds (inputs, targets).

    Args:
        model: A built model, a `GANModel` or an `ImageToImageGAN`.
        data: The inputs: arrays (a list or dict for a model with several inputs), a tuple (x, y) of which
            only x is used, a `PyDataset`, a `tf.data.Dataset`, or any iterable of batches. For a
            `GANModel`: images, or images and labels, as for `fit`; or an int, the number of latent
            vectors to draw, for networks without labels. None draws 1024. For an `ImageToImageGAN`:
            (inputs, targets), as for `fit`. Defaults to None.
        steps: Positive int, the largest number of batches to use; None for all. Defaults to None.
        batch_size: Positive int, samples per batch of arrays and latent vectors. Use the batch size of
            the training to get statistics of the same kind. Defaults to 32.

    Returns:
        Int, the number of layers with new statistics; 0 for a model without BatchNormalization.

    Raises:
        ArgumentTypeError: `model` is not a Keras model.
        InvalidArgumentError: `steps` or `batch_size` is not a positive int.
        UnbuiltModelError: The model has no weights yet.
        DataError: There is no data, it is not in a form that the model accepts, or it has no end and
            `steps` is None.
        DivergedError: New statistics are not finite. All old statistics are kept.

    Example:
    >>> model = keras.Sequential([keras.Input((2,)), keras.layers.BatchNormalization()])
    >>> recalibrate_batch_norm(model, np.array([[0.0, 1.0], [4.0, 1.0]]))
    1
    >>> np.asarray(model.layers[0].moving_mean), np.asarray(model.layers[0].moving_variance)
    (array([2., 1.], dtype=float32), array([4., 0.], dtype=float32))

    Reference: [torch.optim.swa_utils.update_bn](https://docs.pytorch.org/docs/stable/optim.html).
    """
    if not isinstance(model, keras.layers.Layer):
        raise ArgumentTypeError(
            f"`model` must be a Keras model. Received: {model!r} "
            f"(of type {type(model).__module__}.{type(model).__name__})."
        )
    if not model.built and not model.weights:
        raise UnbuiltModelError(
            f"'{model.name}' must be built before its batch statistics can be set. Call it once on a batch "
            "first."
        )
    validation.positive_int(batch_size, "batch_size")
    if steps is not None:
        validation.positive_int(steps, "steps")
    if isinstance(model, AdversarialModel):
        jobs = _gan_jobs(model, data, steps, batch_size)
    else:
        jobs = [(model, lambda: input_batches.of(model, data, steps, batch_size))]
    statistics: dict[keras.layers.BatchNormalization, _Statistics] = {}
    for network, make_batches in jobs:
        if _batch_norms(network):
            statistics.update(_measure(network, make_batches()))
    for layer, (mean, variance) in statistics.items():
        cast(keras.Variable, layer.moving_mean).assign(mean)
        cast(keras.Variable, layer.moving_variance).assign(variance)
    return len(statistics)


def _batch_norms(model: keras.layers.Layer) -> list[keras.layers.BatchNormalization]:
    """Return the batch normalizations of a network, which must be built."""
    layers = [
        cast(keras.layers.BatchNormalization, layer)
        for _, layer in walk(model)
        if isinstance(layer, keras.layers.BatchNormalization)
    ]
    unbuilt = [layer.name for layer in layers if not layer.built]
    if unbuilt:
        raise UnbuiltModelError(
            f"'{model.name}' must be built before its batch statistics can be set. These layers have no "
            f"weights yet: {', '.join(unbuilt[:5])}. Call the model once on a batch first."
        )
    return layers


# --- the statistics ------------------------------------------------------------------------------


class _Average:
    """Average of the mean and variance that one layer sees, over batches, by samples, in float64."""

    def __init__(self):
        self.count = 0
        self.sums: list[Any] = [0.0, 0.0]

    def add(self, mean: Any, variance: Any, count: int) -> None:
        self.count += count
        for i, value in enumerate((mean, variance)):
            self.sums[i] = self.sums[i] + count * to_numpy(value).astype("float64")

    @property
    def statistics(self) -> _Statistics:
        return self.sums[0] / self.count, self.sums[1] / self.count


def _measure(
    model: keras.layers.Layer, batches: Iterable[Any]
) -> dict[keras.layers.BatchNormalization, _Statistics]:
    """Return the new statistics of each BatchNormalization that the batches reach.

    Afterwards the model is as before, including what layers change even in inference, such as the
    state of a random generator.
    """
    averages = {layer: _Average() for layer in _batch_norms(model)}
    before = [(v, np.array(to_numpy(v))) for v in model.variables]
    has_training = "training" in inspect.signature(model.call).parameters
    count = 0
    try:
        with contextlib.ExitStack() as stack:
            for layer, average in averages.items():
                stack.enter_context(_normalizing_by_batch(layer, average.add))
            for x in batches:
                _call(model, x, {"training": False} if has_training else {})
                count += 1
                _check_finite(averages, count)
    finally:
        for variable, value in before:
            variable.assign(value)
    if not count:
        raise DataError("The data is empty: it has no batch to compute statistics from.")
    return {layer: average.statistics for layer, average in averages.items() if average.count}


def _call(model: keras.layers.Layer, x: Any, arguments: dict[str, Any]) -> None:
    try:
        model(x, **arguments)
    except PruningError:
        raise
    except Exception as error:
        raise DataError(
            f"`data` must hold batches that '{model.name}' can be called with. Received: a batch on which it "
            f"raises {type(error).__name__}: {' '.join(str(error).split())[:300]}"
        ) from error


def _check_finite(averages: Mapping[keras.layers.BatchNormalization, _Average], batch: int) -> None:
    for layer, average in averages.items():
        if not all(np.all(np.isfinite(total)) for total in average.sums):
            raise DivergedError(
                f"The statistics of '{layer.path}' are not finite in batch {batch}: the data or the "
                "weights hold NaN or infinite values. The old statistics were kept. Check the data with "
                "`np.isfinite`, or go back to a good state of the weights."
            )


@contextlib.contextmanager
def _normalizing_by_batch(
    layer: keras.layers.BatchNormalization, report: Callable[[Any, Any, int], None]
) -> Iterator[None]:
    """Within the context, a layer normalizes by the statistics of each batch and reports them.

    Training mode cannot do this. It would apply to the whole model (spectral normalization would rewrite
    kernels, dropout would drop), has no effect in a frozen layer, and mixes the batch into the old averages.

    Private touch: only `_moments` handles the layer's axes, a mask and synchronized replicas. The `call`
    is replaced on the object, since a functional model calls its layers itself.
    """
    call = layer.call
    attributes = cast("dict[str, Any]", vars(layer))

    def by_batch(inputs, training=None, mask=None):
        x = ops.cast(inputs, keras.backend.result_type(inputs.dtype, "float32"))
        mean, variance = cast(tuple, layer._moments(x, mask))
        report(mean, variance, int(cast(tuple, ops.shape(inputs))[0]))
        cast(keras.Variable, layer.moving_mean).assign(mean)
        cast(keras.Variable, layer.moving_variance).assign(variance)
        return call(inputs, training=False, mask=mask)

    replaced = attributes.get("call")
    attributes["call"] = by_batch
    try:
        yield
    finally:
        del attributes["call"]
        if replaced is not None:
            attributes["call"] = replaced


# --- the data of a GAN ---------------------------------------------------------------------------


def _gan_jobs(
    gan: AdversarialModel, data: Any, steps: int | None, batch_size: int
) -> list[tuple[Any, Callable[[], Iterable[Any]]]]:
    """Return (network, function that returns its batches) for each network of a GAN."""
    jobs: list[tuple[Any, Callable[[], Iterable[Any]]]] = []
    shown: list[tuple[int, Any]] = []  # (size, condition) of each batch
    if data is None or validation.is_int(data):
        count = _SAMPLES if data is None else validation.positive_int(data, "data")
        if not isinstance(gan, GANModel):
            raise DataError(
                "The generator takes images, which cannot be drawn. Pass (inputs, targets) as `data`, as for "
                "`fit`."
            )
        if gan.conditional:
            raise DataError(
                "The networks are conditional, and the distribution of labels is not known. Pass images "
                "and labels as `data`, as for `fit`."
            )
        shown += [(n, None) for n in _batch_sizes(count, batch_size)[:steps]]
    else:
        # The data is read once, since a stream may not be readable a second time.
        real = _real(gan, input_batches.of_gan(data, steps, batch_size), shown)
        if _batch_norms(gan.discriminator):
            jobs.append((gan.discriminator, lambda: real))
        else:
            for _ in real:
                pass
    jobs.append((gan.generator, lambda: _generator_inputs(gan, shown)))
    if gan.ema_generator is not None:
        jobs.append((gan.ema_generator, lambda: _generator_inputs(gan, shown)))
    return jobs


def _real(
    gan: AdversarialModel, batches: Iterator[Any], shown: list[tuple[int, Any]]
) -> Iterator[Any]:
    """Yield inputs of the discriminator, and append (number of images, condition) to `shown`."""
    for batch in batches:
        x, condition = gan.unpack(batch)
        shown.append((len(x), condition))
        # As in the training step: images may be stored as integers.
        yield gan.discriminator_inputs(ops.cast(x, "float32"), condition)


def _batch_sizes(count: int, batch_size: int) -> list[int]:
    return [min(batch_size, count - start) for start in range(0, count, batch_size)]


def _generator_inputs(gan: AdversarialModel, shown: list[tuple[int, Any]]) -> Iterator[Any]:
    """Yield inputs of the generator: the same in each call, so that two runs can be compared."""
    rng = np.random.default_rng(gan.seed or 0)

    def draw(n: int) -> Any:
        size = getattr(gan, "latent_dim", 1)
        return ops.convert_to_tensor(rng.standard_normal((n, size), dtype="float32"))

    for n, condition in shown:
        yield gan.generator_inputs(condition, lambda n=n: draw(n))
