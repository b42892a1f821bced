"""New batch statistics: once weights or channels have gone, the old averages are of another network."""

from __future__ import annotations

import contextlib
import inspect
import itertools
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_ganprune.errors import DataError, DivergedError, UnbuiltModelError, UnsupportedLayerError
from keras_ganprune.gan import GANModel
from keras_ganprune.layers.mask_store import to_numpy
from keras_ganprune.layers.traversal import walk
from keras_ganprune.utils import validation

# How many latent vectors are drawn where neither data nor a number is given.
_SAMPLES = 1024


def recalibrate_batch_norm(
    model: keras.Model, data: Any = None, *, steps: int | None = None, batch_size: int = 32
) -> int:
    """Set the moving mean and variance of every BatchNormalization anew, to averages over data.

    Averages of the mean and of the variance of each batch, not the running ones of training: what
    PyTorch's `update_bn` gives. A batch counts by its samples, so a smaller last one does little. The
    layers normalize by the batch meanwhile, frozen ones too; all else runs as in inference, so dropout
    drops nothing and `SpectralNormalization` leaves its kernel alone. Nothing but the statistics
    changes, also no state of a random generator.

    Of a `GANModel`, the generator and `ema_generator` are shown latent vectors (those of its `seed`, the
    same in each call), and the discriminator real images, if `data` has them.

    Args:
        model: A built model, or a `GANModel`.
        data: Inputs as arrays (a list or dict for a model of several inputs), a tuple (x, y), of which
            only x is used, a `PyDataset`, a `tf.data.Dataset`, or any iterable of batches. For a
            `GANModel` images, or images and labels, as `fit` gets them; or an int, how many latent
            vectors to draw (1024 if None), which is enough for networks without labels.
        steps: Positive int, batches to take at most; None for all there are.
        batch_size: Positive int, for arrays and latent vectors. As in training, for the same statistics.

    Returns: How many layers got new statistics: 0 for a model without BatchNormalization.

    Raises:
        InvalidArgumentError: `steps` or `batch_size` breaks its rule.
        UnbuiltModelError: the model has no weights yet.
        DataError: there is no data, or it is of a kind that the model does not take, or endless.
        DivergedError: statistics are not finite; then all of them stay as they were.

    Example:
    >>> model = keras.Sequential([keras.Input((2,)), keras.layers.BatchNormalization()])
    >>> recalibrate_batch_norm(model, np.array([[0.0, 1.0], [4.0, 1.0]]))
    1
    >>> np.asarray(model.layers[0].moving_mean), np.asarray(model.layers[0].moving_variance)
    (array([2., 1.], dtype=float32), array([4., 0.], dtype=float32))

    References: [torch.optim.swa_utils.update_bn](https://docs.pytorch.org/docs/stable/optim.html).
    """
    if not isinstance(model, keras.layers.Layer):
        raise UnsupportedLayerError(
            f"`model` must be a Keras model. Received: {model!r} "
            f"(of type {type(model).__module__}.{type(model).__name__})."
        )
    validation.positive_int(batch_size, "batch_size")
    if steps is not None:
        validation.positive_int(steps, "steps")
    if isinstance(model, GANModel):
        jobs = _gan_jobs(model, data, steps, batch_size)
    else:
        jobs = [(model, lambda: _inputs(model, data, steps, batch_size))]
    found = {}
    for network, make_batches in jobs:
        if _batch_norms(network):
            found.update(_measure(network, make_batches()))
    for layer, (mean, variance) in found.items():
        layer.moving_mean.assign(mean)
        layer.moving_variance.assign(variance)
    return len(found)


def _batch_norms(model: keras.layers.Layer) -> list[keras.layers.BatchNormalization]:
    found = [x for _, x in walk(model) if isinstance(x, keras.layers.BatchNormalization)]
    unbuilt = [layer.name for layer in found if not layer.built]
    if unbuilt:
        raise UnbuiltModelError(
            f"'{model.name}' must be built before its statistics are set; it has no weights yet: "
            f"{', '.join(unbuilt[:5])}. Call it once on a batch first."
        )
    return found


# --- the statistics ------------------------------------------------------------------------------


class _Average:
    """Mean over batches of the mean and variance that one layer sees, by samples, in float64."""

    def __init__(self):
        self.count = 0
        self.sums: list[Any] = [0.0, 0.0]

    def add(self, mean: Any, variance: Any, count: int) -> None:
        self.count += count
        for i, value in enumerate((mean, variance)):
            self.sums[i] = self.sums[i] + count * to_numpy(value).astype("float64")


def _measure(model: keras.layers.Layer, batches: Iterable[Any]) -> dict[Any, tuple]:
    """Return the new (mean, variance) of each BatchNormalization that the batches reach.

    Everything in the model is as before afterwards: also what layers change in inference mode, such as
    the state of a random generator.
    """
    averages = {layer: _Average() for layer in _batch_norms(model)}
    before = [(v, np.array(to_numpy(v))) for v in model.variables]
    training = "training" in inspect.signature(model.call).parameters
    done = 0
    try:
        with contextlib.ExitStack() as stack:
            for layer, average in averages.items():
                stack.enter_context(_normalizing_by_batch(layer, average.add))
            for x in batches:
                model(x, training=False) if training else model(x)
                done += 1
                _check_finite(averages, done)
    finally:
        for variable, value in before:
            variable.assign(value)
    if not done:
        raise DataError("The data is empty: there is no batch to take statistics of.")
    return {
        layer: tuple(total / average.count for total in average.sums)
        for layer, average in averages.items()
        if average.count
    }


def _check_finite(averages: dict[Any, _Average], batch: int) -> None:
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
    """Let a layer normalize by the statistics of each batch, and report them, whatever its mode.

    Private touch: only `_moments` knows the layer's axes, a mask, and replicas in step. To call the
    layer in training mode would mean all of the model (spectral norm would rewrite kernels, dropout
    drop), does nothing in a frozen layer, and mixes the batch into the old averages. The method is
    exchanged on the object, since a functional model calls its layers itself.
    """
    call = layer.call

    def by_batch(inputs, training=None, mask=None):
        x = ops.cast(inputs, keras.backend.result_type(inputs.dtype, "float32"))
        mean, variance = layer._moments(x, mask)
        report(mean, variance, int(ops.shape(inputs)[0]))
        layer.moving_mean.assign(mean)
        layer.moving_variance.assign(variance)
        return call(inputs, training=False, mask=mask)

    own = vars(layer).get("call")
    vars(layer)["call"] = by_batch
    try:
        yield
    finally:
        del vars(layer)["call"]
        if own is not None:
            vars(layer)["call"] = own


# --- the data ------------------------------------------------------------------------------------


def _inputs(model: Any, data: Any, steps: int | None, batch_size: int) -> Iterator[Any]:
    """Yield the inputs of a model, batch by batch."""
    width = _input_count(model)
    if isinstance(data, tuple) and not _is_whole(data, width):
        data = keras.utils.unpack_x_y_sample_weight(data)[0]
    if _is_array(data) or _is_whole(data, width):
        return _slices(data, steps, batch_size)
    return (_only_x(batch, width) for batch in _stream(data, steps))


def _input_count(model: Any) -> int:
    """Return how many inputs a model takes; 0 if it does not tell, as a subclassed one."""
    inputs = getattr(model, "inputs", None)
    return len(inputs) if isinstance(inputs, (list, tuple)) else 0


def _is_array(x: Any) -> bool:
    return hasattr(x, "shape") and hasattr(x, "dtype") and len(x.shape) > 0


def _is_whole(data: Any, width: int) -> bool:
    """Return whether a structure is one array for each input, and not batches or (x, y).

    A list given to a model that does not tell its inputs is that, as it is in `fit`.
    """
    if isinstance(data, dict):
        return bool(data) and all(_is_array(x) for x in data.values())
    if not isinstance(data, (list, tuple)) or not data or not all(_is_array(x) for x in data):
        return False
    return len(data) == width > 1 or (width == 0 and isinstance(data, list))


def _only_x(batch: Any, width: int) -> Any:
    if isinstance(batch, dict) or _is_whole(batch, width):
        return list(batch) if isinstance(batch, tuple) else batch
    return keras.utils.unpack_x_y_sample_weight(batch)[0]


def _slices(data: Any, steps: int | None, batch_size: int) -> Iterator[Any]:
    """Yield slices of one array, or of the arrays in a list, tuple or dict."""
    parts = data.values() if isinstance(data, dict) else [data] if _is_array(data) else data
    sizes = {int(part.shape[0]) for part in parts}
    if len(sizes) != 1:
        raise DataError(f"All inputs must have as many samples. Received: {sorted(sizes)} samples.")
    size = sizes.pop()
    for start in range(0, size, batch_size)[:steps]:
        where = slice(start, start + batch_size)
        if _is_array(data):
            yield ops.convert_to_tensor(data[where])
        elif isinstance(data, dict):
            yield {name: ops.convert_to_tensor(part[where]) for name, part in data.items()}
        else:
            yield [ops.convert_to_tensor(part[where]) for part in data]


def _stream(data: Any, steps: int | None) -> Iterator[Any]:
    """Yield the batches of a stream, `steps` at most."""
    if isinstance(data, keras.utils.PyDataset):
        count = data.num_batches
        numbers = itertools.count() if count is None else range(count)
        batches, endless = (data[i] for i in numbers), count is None
    elif isinstance(data, Iterable) and not isinstance(data, (str, bytes)):
        # -1 is what tf.data calls infinite.
        batches, endless = iter(data), hasattr(data, "cardinality") and data.cardinality() == -1
    else:
        raise DataError(
            "`data` must be arrays, a `PyDataset`, a `tf.data.Dataset` or an iterable of batches. "
            f"Received: {data!r} (of type {type(data).__name__})."
        )
    if endless and steps is None:
        raise DataError("The data has no end. Pass `steps`, how many batches to take of it.")
    return itertools.islice(batches, steps)


# --- of a GANModel -------------------------------------------------------------------------------


def _gan_jobs(gan: GANModel, data: Any, steps: int | None, batch_size: int) -> list[tuple]:
    """Return (network, function that makes its batches) for each network of a GAN."""
    count = _SAMPLES if data is None else data
    jobs = []
    if isinstance(count, (int, np.integer)) and not isinstance(count, bool):
        validation.positive_int(count, "data")
        if gan.conditional:
            raise DataError(
                "The networks are conditional, and which labels are usual is not known. Pass images and "
                "labels as `data`, as to `fit`."
            )
        shown = [(n, None) for n in _sizes(count, batch_size)[:steps]]
    else:
        # Read once, since a stream may not be there a second time.
        shown = []
        real = _real(gan, _gan_batches(data, steps, batch_size), shown)
        if _batch_norms(gan.discriminator):
            jobs.append((gan.discriminator, lambda: real))
        else:
            for _ in real:
                pass
    jobs.append((gan.generator, lambda: _latents(gan, shown)))
    if gan.ema_generator is not None:
        jobs.append((gan.ema_generator, lambda: _latents(gan, shown)))
    return jobs


def _real(gan: GANModel, batches: Iterator[Any], shown: list) -> Iterator[Any]:
    """Yield inputs of the discriminator; note how many images there were, and their labels."""
    for batch in batches:
        x, labels = gan.unpack(batch)
        shown.append((len(x), labels))
        # Numbers as in the training step, also where images are kept as integers.
        x = ops.cast(x, "float32")
        yield [x, labels] if gan.conditional else x


def _sizes(count: int, batch_size: int) -> list[int]:
    return [min(batch_size, count - start) for start in range(0, count, batch_size)]


def _gan_batches(data: Any, steps: int | None, batch_size: int) -> Iterator[Any]:
    if _is_array(data):
        return ((x,) for x in _slices(data, steps, batch_size))
    if isinstance(data, tuple) and data and all(_is_array(x) for x in data):
        return (tuple(batch) for batch in _slices(data, steps, batch_size))
    return _stream(data, steps)


def _latents(gan: GANModel, shown: list[tuple[int, Any]]) -> Iterator[Any]:
    """Yield inputs of the generator: the same in each call, since two may be compared."""
    rng = np.random.default_rng(gan.seed or 0)
    for n, labels in shown:
        z = ops.convert_to_tensor(rng.standard_normal((n, gan.latent_dim), dtype="float32"))
        yield [z, labels] if gan.conditional else z
