"""`explain`: what of a model can be pruned, on one screen."""

from __future__ import annotations

import warnings
from typing import Any

import keras

from keras_ganprune.errors import ArgumentTypeError, InvalidArgumentError
from keras_ganprune.layers.covered_kernels import coverage
from keras_ganprune.layers.tensors import to_numpy
from keras_ganprune.layers.traversal import check_layer, masked_weights
from keras_ganprune.metrics.explanation.channels_together import channels_together
from keras_ganprune.metrics.explanation.networks_inside import networks_inside
from keras_ganprune.metrics.explanation.next_calls import next_calls
from keras_ganprune.metrics.explanation.one_network import NetworkExplanation
from keras_ganprune.metrics.explanation.outcomes import (
    as_masked,
    cut_outcome,
    masked_outcome,
    present_outcome,
)
from keras_ganprune.metrics.explanation.report import Explanation
from keras_ganprune.metrics.sparsity import sparsity_report
from keras_ganprune.utils import validation


def explain(model: keras.Model, *, inputs: Any = None) -> Explanation:
    """Say what of a model can be pruned, what cannot and why, what goes together, and what to call next.

    It prints on one screen: for each network the weights that masks can prune, the groups of channels that
    can only be cut together, the layers whose channels stay, and what 80 % sparsity and a quarter of the
    multiply-accumulates (MACs) would leave. The numbers are counted: a copy of the network is cut. The model
    is not changed.

    Args:
        model: A built Keras model: one network, or a model that holds networks as attributes (a `GANModel`,
            a GAN class of your own).
        inputs: Structure of `keras.Input`s or arrays that the network can be called with; needed for a
            subclassed network with several inputs whose shapes Keras does not store. Defaults to None.

    Returns: An `Explanation`.

    Raises:
        ArgumentTypeError: `model` is not a Keras model.
        UnbuiltModelError: A network has no weights yet.
        InvalidArgumentError: `inputs` is given for a model that holds several networks, or does not fit.
        DataError: `inputs` are no arrays.

    Example:
    >>> model = keras.Sequential(
    ...     [keras.Input((8,)), keras.layers.Dense(8, name="a"), keras.layers.Dense(4, name="b")],
    ...     name="tiny",
    ... )
    >>> print(kgp.explain(model))
    Sequential 'tiny': 1 network. Nothing was changed.
    <BLANKLINE>
    tiny (Sequential)
      Masks (zeros): 96 of 96 kernel weights can be pruned.
      channels that go together  read by  number
      ──────────────────────────────────────────
      a                          b             8
      All channels stay in 'b': they are those of the network's output.
      what is left           parameters  not zero  MACs  bytes
      ────────────────────────────────────────────────────────
      now                           108        96    96    432
      80% sparsity (masks)          108        19    96    432
      1/4 of the MACs (cut)          30        24    24    120
    <BLANKLINE>
    Next (`kgp` is keras_ganprune, `data` what the model is trained on):
      # channels cut out: smaller and faster everywhere; train it afterwards
      small = kgp.shrink(model, budget=kgp.Budget(macs=0.25))
      # zeros at once; `kgp.Prune(0.8)` in `fit` does it while the model learns
      kgp.Pruner(model).update(sparsity=0.8)
    """
    check_layer(model)
    if not isinstance(model, keras.Model):
        raise ArgumentTypeError(
            f"`model` must be a Keras model. Received: the layer '{model.name}' "
            f"({type(model).__name__}). Put it into a `keras.Sequential` with a `keras.Input`."
        )
    inside, notes = networks_inside(model)
    if inputs is not None and inside:
        raise InvalidArgumentError(
            f"`inputs` are those of one network. Received: a {type(model).__name__} with "
            f"{', '.join(inside)}. Explain one of them: `explain(model.{next(iter(inside))}, inputs=...)`."
        )
    if not inside:
        validation.built_model(model, "is explained")
    networks = tuple(
        _explained(name, network, inputs)
        for name, network in (inside or {model.name: model}).items()
    )
    return Explanation(
        model.name,
        _kind(model),
        networks,
        next_calls(model, networks, bool(inside), inputs is not None),
        tuple(notes),
    )


def _explained(name: str, network: Any, inputs: Any) -> NetworkExplanation:
    masked = [to_numpy(weight.mask) for weight in masked_weights(network)]
    total = sum(mask.size for mask in masked)
    sparsity = 1.0 - sum(int(mask.sum()) for mask in masked) / total if total else 0.0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # its first lines say the same
        disagreements = sparsity_report(network).warnings()
    found = channels_together(network, inputs)
    advice = [*disagreements, *coverage([network]).lines()[1:]]
    advice += [found.reason] if found.reason else []
    now = present_outcome(network, inputs, found.groups is not None)
    after, reason = masked_outcome(network, now)
    outcomes = [now, *([after] if after else [])]
    advice += [reason] if reason else []
    if sparsity:
        after = as_masked(network, inputs)
        outcomes += [after] if after else []
    elif found.groups is not None and len(found.groups):
        after, reason = cut_outcome(network, found.keep, inputs)
        outcomes += [after] if after else []
        advice += [reason] if reason else []
    return NetworkExplanation(
        name,
        _kind(network),
        coverage([network]),
        sparsity,
        tuple(outcomes),
        found.groups,
        {} if found.groups is None else found.groups.stay,
        found.keep,
        tuple(advice),
    )


def _kind(model: Any) -> str:
    return getattr(model, "plain_class", type(model)).__name__
