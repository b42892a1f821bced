"""`repair`: the outputs of each layer of a pruned network restored by least squares, without training."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import keras
import numpy as np

from keras_ganprune.backend import tracing
from keras_ganprune.errors import InvalidArgumentError, UnbuiltModelError
from keras_ganprune.gan import GANModel
from keras_ganprune.gan.adversarial_model import AdversarialModel
from keras_ganprune.layers.kernels import own_variables
from keras_ganprune.layers.tensors import to_numpy
from keras_ganprune.layers.traversal import check_layer, masked_weights, walk
from keras_ganprune.pruning.one_shot.calibration_data import calibration_batches
from keras_ganprune.pruning.one_shot.network_repair import NetworkRepair
from keras_ganprune.pruning.one_shot.report import RepairReport
from keras_ganprune.utils import annotated, validation

_COPY = "Make the copy before pruning: `dense = kgp.strip_pruning(model)`."


def repair(
    pruned: keras.Model,
    dense: keras.Model,
    data: Any = None,
    *,
    samples: int = 512,
    ridge: float = 0.001,
    iterations: int = 20,
    match_moments: bool = True,
    seed: int = 0,
) -> RepairReport:
    """Restore the outputs of a pruned network from those of the dense one, without training.

    Layer by layer, in the order of the calls, the kept weights and the bias become those of

        minimize sum_n ||A_n w - y_n||^2 + ridge * sum_j h_j (w_j - w0_j)^2

    A_n w is the output of the layer for sample n, with inputs from the repaired layers in front of it. y_n is
    the output of the same layer in the dense network, before its activation. w0 are the weights before, and
    h_j is the sum of the squares of what w_j is multiplied with. For single weights this is the update of
    the optimal brain surgeon; for channels, what a removed channel did is folded into the kernels that
    follow. It is solved by conjugate gradients, whose two operations are the layer's own call and its
    gradient.

    A fit has a smaller variance than its target. So each output channel is then scaled and shifted to the
    mean and variance that it has in the dense network, and `BatchNormalization` gets the statistics that do
    the same. A layer whose error is not lower than before keeps its weights.

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
        data: Typical inputs: arrays (a list or dict for several inputs), a tuple (x, y) of which only x is
            used, or an iterable of batches. For a GAN class of this package what `fit` gets, such as
            (images, labels): the latent vectors are drawn. Defaults to None, for a `GANModel` without labels,
            which needs no data.
        samples: Positive int, number of samples that are used: drawn from arrays, without repetition, or the
            first ones of a stream of batches. More are better, and take longer. Defaults to 512.
        ridge: Non-negative float, pull towards the weights before, as a share of h. Raise it if there are few
            samples. Defaults to 0.001.
        iterations: Positive int, iterations per layer at most. Defaults to 20.
        match_moments: Whether the means and variances are matched too. It keeps the contrast of generated
            images, and raises the squared error a little. Defaults to True.
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
    annotated.check(repair, locals(), "pruned", "dense", "ridge", "match_moments")
    validation.positive_int(samples, "samples")
    validation.positive_int(iterations, "iterations")
    validation.non_negative(ridge, "ridge")
    validation.non_negative_int(seed, "seed")
    jobs = list(_networks(pruned, dense))
    for network, other in jobs:
        _check(network, other)
    batches = list(calibration_batches(pruned, jobs[0][0], data, samples, seed))
    reports = [NetworkRepair(*job, batches, ridge, iterations, match_moments).run() for job in jobs]
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
        here, there = next(
            ((a, b) for a, b in pairs if a != b), (f"{len(ours)} layers", f"{len(theirs)} layers")
        )
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
