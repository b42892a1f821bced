"""The samples on which a repair compares the outputs of two networks."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import keras
import numpy as np

from keras_ganprune.backend.operations import ops
from keras_ganprune.errors import DataError
from keras_ganprune.gan import GANModel, latents
from keras_ganprune.gan.adversarial_model import AdversarialModel
from keras_ganprune.layers.tensors import to_numpy
from keras_ganprune.pruning import input_batches

# Samples of one call of a network.
_BATCH = 128


def calibration_batches(
    model: Any, network: Any, data: Any, samples: int, seed: int
) -> Iterator[Any]:
    """Yield inputs of a network, `samples` in all.

    Args:
        model: The network, or the GAN that it is the generator of.
        network: The network.
        data, samples, seed: As for `repair`.

    Raises:
        DataError: There is no data, it is not finite or no input of the network.
    """
    left = samples
    for batch in _of(model, network, data, samples, seed):
        leaves: list[Any] = keras.tree.flatten(batch)  # pyright: ignore[reportAssignmentType]
        if not leaves or not all(map(input_batches.is_array, leaves)):
            raise DataError(
                f"`data` must hold batches that '{network.name}' can be called with. Received: an entry of "
                f"type {type(batch).__name__}."
            )
        for leaf in leaves:
            values = to_numpy(leaf)
            if values.dtype.kind == "f" and not np.all(np.isfinite(values)):
                raise DataError(
                    "`data` must be finite. Received: NaN or infinite values. Find these samples with "
                    "`np.isfinite`, and leave them out."
                )
        size = int(leaves[0].shape[0])
        if size:
            yield keras.tree.map_structure(lambda x, n=left: ops.convert_to_tensor(x[:n]), batch)
        left -= size
        if left <= 0:
            return
    if left == samples:
        raise DataError("`data` must have at least one sample. Received: none.")


def _of(model: Any, network: Any, data: Any, samples: int, seed: int) -> Iterator[Any]:
    """Yield batches of inputs of the network."""
    rng = np.random.default_rng(seed)
    if not isinstance(model, AdversarialModel):
        if data is None:
            raise DataError(
                f"`data` must be typical inputs of '{model.name}'; they can be drawn for a `GANModel` only. "
                "Received: None. Pass a part of the training data."
            )
        count = input_batches.input_count_of(network)
        if isinstance(data, tuple) and not input_batches.one_array_per_input(data, count):
            data = keras.utils.unpack_x_y_sample_weight(data)[0]
        if input_batches.is_array(data) or input_batches.one_array_per_input(data, count):
            data = _some(data, samples, rng)
        # A batch has one sample at least.
        yield from input_batches.of(network, data, samples, _BATCH)
        return
    if data is None:
        if not isinstance(model, GANModel) or model.conditional:
            raise DataError(
                f"`data` must be what `fit` of '{model.name}' gets: its generator takes images or labels, "
                "which cannot be drawn. Received: None. Pass (images, labels), or (inputs, targets)."
            )
        vectors = latents.draw(samples, model.latent_dim, seed)
        yield from input_batches.slices(vectors, None, _BATCH)
        return
    flat = [data] if input_batches.is_array(data) else keras.tree.flatten(data)
    if all(map(input_batches.is_array, flat)) and isinstance(data, (tuple, np.ndarray)):
        data = _some(data, samples, rng)
    for batch in input_batches.of_gan(data, samples, _BATCH):
        images, condition = model.unpack(batch)
        count = len(images)

        def draw(n: int = count) -> Any:
            size = getattr(model, "latent_dim", 1)
            return ops.convert_to_tensor(rng.standard_normal((n, size), dtype="float32"))

        yield model.generator_inputs(condition, draw)


def _some(data: Any, samples: int, rng: np.random.Generator) -> Any:
    """Return rows of arrays, drawn without repetition."""
    leaves: list[Any] = keras.tree.flatten(data)  # pyright: ignore[reportAssignmentType]
    sizes = {int(leaf.shape[0]) for leaf in leaves}
    if len(sizes) > 1 or max(sizes) <= samples:
        return data
    rows = np.sort(rng.permutation(sizes.pop())[:samples])
    return keras.tree.map_structure(
        lambda x: to_numpy(x)[rows] if ops.is_tensor(x) else x[rows], data
    )
