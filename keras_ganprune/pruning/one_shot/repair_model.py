"""`repair`: the outputs of each layer of a pruned network restored by least squares, without training."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import keras
import numpy as np

from keras_ganprune.backend import tracing
from keras_ganprune.backend.operations import ops
from keras_ganprune.errors import DataError, InvalidArgumentError, UnbuiltModelError
from keras_ganprune.gan import GANModel, latents
from keras_ganprune.gan.adversarial_model import AdversarialModel
from keras_ganprune.layers.kernels import own_variables
from keras_ganprune.layers.tensors import to_numpy
from keras_ganprune.layers.traversal import check_layer, masked_weights, walk
from keras_ganprune.pruning import input_batches
from keras_ganprune.pruning.one_shot.network_repair import NetworkRepair
from keras_ganprune.pruning.one_shot.report import RepairReport
from keras_ganprune.utils import annotated, validation

_BATCH = 128
_COPY = "Make the copy before pruning: `dense = kgp.strip_pruning(model)`."


def repair(
    pruned: keras.Model,
    dense: keras.Model,
    data: Any = None,
    *,
    samples: int = 512,
    ridge: float = 0.001,
    iterations: int = 30,
    seed: int = 0,
) -> RepairReport:
    """Restore the outputs of a pruned network from those of the dense one, without training.

    Layer by layer, in the order of the calls, the kept weights and the bias become those of

        minimize sum_n ||A_n w - y_n||^2 + ridge * sum_j h_j (w_j - w0_j)^2

    A_n w is the output of the layer for sample n, with inputs from the repaired layers in front of it; y_n is
    the output of the same layer in the dense network before its activation; w0 are the weights before, and h_j
    is the sum of the squares of what w_j is multiplied with. For single weights this is the update of the
    optimal brain surgeon; for channels, what a removed channel did is folded into the kernels that follow.
    It is solved by conjugate gradients, whose two operations are the layer's own call and its gradient.
    A layer whose error did not fall keeps its weights. Then `BatchNormalization` gets the statistics with
    which the mean and variance of its outputs are those of the dense network.

    Masks do not change, and pruned weights stay zero. Layers of Keras with one kernel are repaired (`Dense`,
    convolutions, transposed, depthwise and separable ones, `EinsumDense`, those inside attention and
    `SpectralNormalization`), and layers of your own that are linear in their masked weight. Cut out masked
    channels (`shrink`) afterwards.

    Args:
        pruned: Network with masks, as `Pruner` leaves it; or a `GANModel`, whose generator (and its averaged
            copy) is repaired.
        dense: The network before pruning: `kgp.strip_pruning(model)`, called before `Pruner`, or
            `keras.models.clone_model` and `set_weights`. For a `GANModel`: a copy of it, or of its
            `sampler` if `pruned` has no other generator with masks.
        data: Typical inputs, as the network takes them: arrays (a list or dict for several
            inputs), a tuple (x, y) of which only x is used, or an iterable of batches. Defaults to None:
            latent vectors are drawn for a `GANModel` without labels.
        samples: Positive int, number of samples that are used: drawn from arrays without repetition, or the
            first ones of batches. More are better, and take longer. Defaults to 512.
        ridge: Non-negative float, pull towards the weights before, as a share of h. Raise it if there are few
            samples. Defaults to 0.001.
        iterations: Positive int, iterations per layer at most. Defaults to 30.
        seed: Non-negative int, seed of what is drawn. Defaults to 0.

    Returns:
        A `RepairReport` with the error of each layer before and after.

    Raises:
        ArgumentTypeError: `pruned` or `dense` is not a Keras model, or a number has the wrong type.
        InvalidArgumentError: `pruned` has no masks, `dense` has another structure or is pruned too, or a
            number is out of range.
        UnbuiltModelError: A network has no weights yet.
        DataError: There is no data, it is not finite, or the network cannot be called with it.
        DivergedError: An output of a layer of the dense network is not finite. No weight was changed.

    Example:
    >>> model = keras.Sequential(
    ...     [keras.Input((8,)), keras.layers.Dense(16, "relu"), keras.layers.Dense(4)]
    ... )
    >>> dense = strip_pruning(model)
    >>> report = Pruner(model).update(sparsity=0.5)
    >>> result = repair(model, dense, np.random.default_rng(0).normal(size=(200, 8)))
    >>> [row.after < row.before for row in result.rows], result.after < result.before
    ([True, True], True)

    Reference: [Optimal brain surgeon](https://doi.org/10.1109/ICNN.1993.298572), Eq. 5, for the quadratic
    problem; [SparseGPT](https://arxiv.org/abs/2301.00774), §3.1, for its form layer by layer;
    [Channel pruning](https://arxiv.org/abs/1707.06168), §3.1, for reconstruction from the inputs of the
    pruned network.
    """
    annotated.check(repair, locals(), "pruned", "dense", "ridge")
    validation.positive_int(samples, "samples")
    validation.positive_int(iterations, "iterations")
    validation.non_negative(ridge, "ridge")
    validation.non_negative_int(seed, "seed")
    jobs = list(_networks(pruned, dense))
    for network, other in jobs:
        _check(network, other)
    batches = list(_batches(pruned, jobs[0][0], data, samples, seed))
    reports = [NetworkRepair(*job, batches, ridge, iterations).run() for job in jobs]
    return reports[-1]


def _networks(pruned: Any, dense: Any) -> Iterator[tuple[Any, Any]]:
    """Yield the pairs of networks; the last one is what is used to generate."""
    for model in (pruned, dense):
        check_layer(model)
        if isinstance(model, AdversarialModel):
            tracing.sync(model)
    if not isinstance(pruned, AdversarialModel):
        if not masked_weights(pruned):
            raise InvalidArgumentError(
                f"`pruned` must have masks. Received: '{pruned.name}' without any. Prune it first, for "
                "example `kgp.Pruner(model).update(sparsity=0.5)`; if it only has zeros, call "
                "`kgp.masks_from_zeros(model)`."
            )
        yield pruned, dense.sampler if isinstance(dense, GANModel) else dense
        return
    names = [
        name
        for name in ("generator", "ema_generator")
        if getattr(pruned, name, None) is not None and masked_weights(getattr(pruned, name))
    ]
    if not names:
        raise InvalidArgumentError(
            f"The generator of `pruned` must have masks. Received: '{pruned.name}' without any. Prune it "
            "first: `kgp.Pruner(gan.generator, gan.ema_generator).update(sparsity=0.5)`."
        )
    for name in names:
        if isinstance(dense, AdversarialModel):
            yield getattr(pruned, name), getattr(dense, name)
        elif len(names) == 1:
            yield getattr(pruned, name), dense
        else:
            raise InvalidArgumentError(
                "`dense` must be a copy of the whole GAN if its generator and the averaged copy both have "
                f"masks. Received: the network '{dense.name}'. Pass `copy.deepcopy(gan)`, made before "
                "pruning, or repair `gan.sampler` alone."
            )


def _check(pruned: keras.layers.Layer, dense: keras.layers.Layer) -> None:
    """Raise unless two networks have the same layers, and only one of them is pruned."""
    for model in (pruned, dense):
        if not any(layer.built and own_variables(layer) for _, layer in walk(model)):
            raise UnbuiltModelError(
                f"'{model.name}' must be built before it can be repaired. Call it once on a batch first."
            )
    ours, theirs = (list(map(_structure, walk(model))) for model in (pruned, dense))
    if ours != theirs:
        pairs = zip(ours, theirs, strict=False)
        here, there = next(((a, b) for a, b in pairs if a != b), (f"{len(ours)} layers", f"{len(theirs)} layers"))
        raise InvalidArgumentError(
            f"`dense` must have the layers of `pruned`. Received: {there} in `dense` in the place of {here}. "
            f"{_COPY} If channels were cut out, repair before `shrink`."
        )
    if any(a is b for a, b in _variables(pruned, dense)):
        raise InvalidArgumentError(
            f"`dense` must be a copy. Received: a network that shares weights with `pruned`. {_COPY}"
        )
    partner = {id(a): b for a, b in _variables(pruned, dense)}
    removed = [
        to_numpy(partner[id(w.variable)])[~to_numpy(w.mask)]
        for w in masked_weights(pruned)
        if id(w.variable) in partner
    ]
    if any(x.size for x in removed) and not any(np.any(x) for x in removed):
        raise InvalidArgumentError(
            "`dense` must be the network before pruning. Received: one whose weights are zero wherever "
            f"`pruned` has pruned them. {_COPY}"
        )


def _structure(pair: tuple[str, keras.layers.Layer]) -> tuple[str, list[tuple[int, ...]]]:
    layer = pair[1]
    cls = getattr(type(layer), "plain_class", type(layer))
    return cls.__name__, [tuple(v.shape) for v in own_variables(layer)]


def _variables(pruned: keras.layers.Layer, dense: keras.layers.Layer) -> Iterator[tuple[Any, Any]]:
    for (_, layer), (_, other) in zip(walk(pruned), walk(dense), strict=True):
        yield from zip(own_variables(layer), own_variables(other), strict=True)


# --- the inputs ------------------------------------------------------------------------------------


def _batches(model: Any, network: Any, data: Any, samples: int, seed: int) -> Iterator[Any]:
    """Yield the inputs of the network, `samples` in all."""
    if data is None:
        data = _drawn(model, samples, seed)
    left = samples
    # A batch has one sample at least.
    for batch in input_batches.of(network, _some(network, data, samples, seed), samples, _BATCH):
        leaves: list[Any] = keras.tree.flatten(batch)  # pyright: ignore[reportAssignmentType]
        if not leaves or not all(map(input_batches.is_array, leaves)):
            raise DataError(
                f"`data` must hold batches that '{network.name}' can be called with. Received: "
                f"{type(batch).__name__}."
            )
        size = int(leaves[0].shape[0])
        for leaf in leaves:
            values = to_numpy(leaf)
            if values.dtype.kind == "f" and not np.all(np.isfinite(values)):
                raise DataError(
                    "`data` must be finite. Received: NaN or infinite values. Find these samples with "
                    "`np.isfinite`, and leave them out."
                )
        if size:
            yield keras.tree.map_structure(lambda x, n=left: ops.convert_to_tensor(x[:n]), batch)
        left -= size
        if left <= 0:
            return
    if left == samples:
        raise DataError("`data` must have at least one sample. Received: none.")


def _some(network: Any, data: Any, samples: int, seed: int) -> Any:
    """Return rows of arrays, drawn without repetition; other data as it is."""
    count = input_batches.input_count_of(network)
    if isinstance(data, tuple) and not input_batches.one_array_per_input(data, count):
        data = keras.utils.unpack_x_y_sample_weight(data)[0]
    if not input_batches.is_array(data) and not input_batches.one_array_per_input(data, count):
        return data
    leaves: list[Any] = keras.tree.flatten(data)  # pyright: ignore[reportAssignmentType]
    sizes = {int(leaf.shape[0]) for leaf in leaves}
    size = max(sizes)
    if len(sizes) > 1 or size <= samples:
        return data
    rows = np.sort(np.random.default_rng(seed).permutation(size)[:samples])
    return keras.tree.map_structure(
        lambda x: to_numpy(x)[rows] if ops.is_tensor(x) else x[rows], data
    )


def _drawn(model: Any, samples: int, seed: int) -> np.ndarray:
    if isinstance(model, GANModel) and not model.conditional:
        return latents.draw(samples, model.latent_dim, seed)
    if isinstance(model, GANModel):
        raise DataError(
            "The generator is conditional, and the distribution of labels is not known. Pass `data`, a list "
            "of what the generator takes: `[latent vectors, labels]`."
        )
    raise DataError(
        f"`data` must be typical inputs of '{model.name}'; they can be drawn for a `GANModel` only. "
        "Received: None. Pass a part of the training data."
    )
