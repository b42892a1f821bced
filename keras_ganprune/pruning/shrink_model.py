"""`shrink`: a plain, smaller Keras model with the outputs of the masked one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import keras
import numpy as np

from keras_ganprune.errors import InvalidArgumentError, UnsupportedLayerError
from keras_ganprune.layers.lora import check_no_computed_kernels
from keras_ganprune.layers.scope import select
from keras_ganprune.layers.stripping import mask_written_values
from keras_ganprune.layers.tensors import to_numpy
from keras_ganprune.layers.traversal import check_layer, masked_weights
from keras_ganprune.pruning import criteria
from keras_ganprune.pruning._shrink_files import say_if_not_loaded
from keras_ganprune.pruning._shrink_masked import (
    check_nothing_left,
    live_units,
    masked_in_slices,
)
from keras_ganprune.pruning._shrink_scored import best_units
from keras_ganprune.pruning._shrink_timed import Run
from keras_ganprune.pruning._shrink_verify import check_same_outputs, masked_values
from keras_ganprune.pruning.achieved_latency import AchievedLatency
from keras_ganprune.pruning.allocation import Allocation
from keras_ganprune.pruning.criteria import ChannelCriterionName, Criterion
from keras_ganprune.pruning.granularity import Channel
from keras_ganprune.pruning.structured.budget import Budget
from keras_ganprune.pruning.structured.cuts import Cut
from keras_ganprune.pruning.structured.graph import Tensor
from keras_ganprune.pruning.structured.groups import Groups, channel_groups
from keras_ganprune.pruning.structured.rebuild import Builder
from keras_ganprune.pruning.structured.residual_blocks import Block, residual_blocks
from keras_ganprune.utils import annotated, terminal
from keras_ganprune.utils.closing import folded


@dataclass(frozen=True, eq=False)
class Shrunk:
    """A smaller model, and how it came from the old one: the result of `shrink_with_cuts`.

    Attributes:
        model: The smaller model.
        cuts: One `Cut` per weight of the smaller model: the old weight and the positions kept of it.
        groups: The groups of channels of the old model.
        keeps: One bool array per group, True for channels that stay.
        bypassed: Calls of the old model that are left out (the additions of dead residual blocks), by
            id, each with the tensor that replaces its result.
        latency: What was measured for a budget in latency; None for any other request.
    """

    model: keras.Model
    cuts: tuple[Cut, ...]
    groups: Groups
    keeps: tuple[np.ndarray, ...]
    bypassed: dict[int, Tensor]
    latency: AchievedLatency | None = None


def shrink(
    model: keras.Model,
    *,
    sparsity: float | None = None,
    budget: Budget | None = None,
    criterion: ChannelCriterionName | Criterion | Mapping[str, float] = "magnitude",
    granularity: Literal["channel"] | Channel = "channel",
    allocation: Literal["uniform", "erk", "owl", "isomorphic", "global_ranking"]
    | Allocation
    | Mapping[Any, float] = "uniform",
    keep: Any = None,
    limits: Mapping[Any, float] | None = None,
    drop: Any = None,
    inputs: Any = None,
    strict: bool = True,
    verify: bool = True,
) -> keras.Model:
    """Return a plain Keras model without the pruned channels: smaller, faster, with the same outputs.

    With neither `sparsity` nor `budget`, the channels that masks have pruned are removed
    (`Prune(..., granularity="channel")`, or `"layer"` for residual blocks). The outputs are those of the
    masked `model`.

    With `sparsity` or `budget`, `shrink` chooses the channels. The outputs are those of `model` with
    these channels masked.

    `model` is not changed. Inputs and outputs keep their shapes. A Sequential model gives a Sequential
    model; any other model gives a functional model without nested models.

    Args:
        model: A built Keras model: Sequential, functional, or subclassed with a `call` that can run on
            `keras.Input`s. A `GANModel` holds two networks: pass one of them.
        sparsity: Float in [0, 1), the share of the channels to remove. Defaults to None.
        budget: `Budget` such as `Budget(macs=0.25)`, the size that remains, or `Budget(latency=0.25,
            runtime="onnx")`, the time. Defaults to None.
        criterion: How channels are scored: 'magnitude', 'l2', 'lamp', 'batch_norm_scale', 'fpgm', 'synflow',
            'random'; 'wanda', 'mean_activation', 'apoz' or 'latent_sensitivity', which measure `inputs`; a
            `Criterion` that needs no gradients; or a dict of weights to mix such as {'magnitude': 1,
            'random': 0.1}. Defaults to 'magnitude'.
        granularity: 'channel', or a `Channel` with `round_to`, `aggregate`, or `of` (the quantity that
            `sparsity` is a share of). For ONNX Runtime use `Channel(round_to=8)`: it computes widths that
            are no multiple of 8 several times slower. A latency in 'onnx' rounds by itself. Defaults to
            'channel'.
        allocation: How the sparsity is spread over the groups: a name, an `Allocation`, or a dict of
            layer name or pattern -> sparsity. With a budget, 'uniform', 'isomorphic' or
            'global_ranking'. Defaults to 'uniform'.
        keep: Layers that keep all their channels, in any form that `keras_ganprune.layers.scope.select`
            accepts; also layers that have no channel rule. Defaults to None.
        limits: With a budget: dict of layer name or pattern -> largest share of its channels that may
            be removed. Defaults to None.
        drop: Layers to leave out, in any form that `keras_ganprune.layers.scope.select` accepts. Their output
            must have the shape of their input. This changes the outputs: fine-tune afterwards. Defaults
            to None.
        inputs: Structure of arrays or `keras.Input`s that `model` can be called with. Arrays are the batch
            for `verify`, and the calibration inputs of a criterion that measures activations; from
            symbols, random values are made. Needed for a subclassed model with several inputs; a tuple
            holds the positional arguments of its `call`. Defaults to None: random values for the model's
            own inputs.
        strict: Whether masks that no smaller network can represent raise an error. If False, these
            weights stay in the smaller model as zeros. Defaults to True.
        verify: Whether to run both models on `inputs` and compare the outputs. Defaults to True.

    Returns:
        A new model, not compiled.

    Raises:
        UnsupportedLayerError: Channels reach a layer without a channel rule, or `model` holds two networks.
        InvalidArgumentError: Both `sparsity` and `budget` are given, or `limits` without a budget.
        InvalidArgumentError: Nothing can be removed.
        InvalidArgumentError: `strict` is True, and masks prune single weights or disagree in a group.
        InvalidArgumentError: The budget cannot be met.
        MissingPackageError: A package of the runtime of a latency is not installed.
        InvalidArgumentError: `drop` is used on a masked model, or names a layer that changes the shape.
        DifferentOutputsError: `verify` is True and the outputs differ by more than rounding: a channel
            rule is wrong, or a layer computes something else when it is built again.

    Example:
    >>> model = keras.Sequential(
    ...     [keras.Input((4,)), keras.layers.Dense(8, "relu"), keras.layers.Dense(2)]
    ... )
    >>> small = shrink(model, sparsity=0.75)
    >>> model.count_params(), small.count_params()
    (58, 16)

    Reference: groups as in [DepGraph](https://arxiv.org/abs/2301.12900), Section 3.
    """
    _check_single_network(model)
    if drop is not None:
        model, inputs = _without_layers(model, drop, inputs), None
        if sparsity is None and budget is None:
            return model
    shrunk = shrink_with_cuts(
        model,
        sparsity=sparsity,
        budget=budget,
        criterion=criterion,
        granularity=granularity,
        allocation=allocation,
        keep=keep,
        limits=limits,
        inputs=inputs,
        strict=strict,
        verify=verify,
    )
    if shrunk.latency is not None:
        terminal.say(folded(f"'{model.name}' after the cut: {shrunk.latency}."))
    return shrunk.model


def shrink_with_cuts(
    model: keras.Model,
    *,
    sparsity: float | None = None,
    budget: Budget | None = None,
    criterion: Any = "magnitude",
    granularity: Any = "channel",
    allocation: Any = "uniform",
    keep: Any = None,
    limits: Any = None,
    inputs: Any = None,
    strict: bool = True,
    verify: bool = True,
    dense: Run | None = None,
) -> Shrunk:
    """Return the smaller model of `shrink`, with the cut that each of its weights came from.

    The arguments and errors are those of `shrink`.

    Args:
        dense: With a latency: runs the network that it is a share of. Defaults to None: `model`.
    """
    annotated.check(shrink_with_cuts, locals(), "strict", "verify", "budget")
    _check_amount(model, sparsity, budget, limits)
    groups = channel_groups(model, keep=keep, inputs=inputs)
    by_masks = sparsity is None and budget is None
    dead_blocks: list[Block] = []
    explained: set[int] = set()
    latency = None
    if by_masks:
        mask_written_values(model)
        dead_blocks = [block for block in residual_blocks(groups.graph) if block.dead]
        # These weights go as a whole, so their masks need not agree with those of other layers.
        explained = {id(w.variable) for block in dead_blocks for w in block.weights}
        keeps = live_units(groups, strict, explained)
    else:
        if strict:
            masked_in_slices(model)
        keeps, latency = best_units(
            groups, criterion, granularity, allocation, sparsity, budget, limits, inputs, dense
        )
    bypassed = {id(block.add): block.skip for block in dead_blocks}
    if by_masks and strict:
        # Before one masked channel stays, as zeros, where an axis would become empty.
        check_nothing_left(model, Builder(groups, keeps, bypassed), explained)
    keeps = groups.never_empty(keeps)
    builder = Builder(groups, keeps, bypassed)
    small, cuts = builder.build()
    if verify:
        values = () if by_masks else masked_values(groups, keeps)
        check_same_outputs(builder, small, values, inputs)
    say_if_not_loaded(builder, small)
    return Shrunk(small, tuple(cuts), groups, tuple(keeps), bypassed, latency)


def check_choice(
    model: keras.Model,
    *,
    sparsity: float | None,
    budget: Budget | None,
    criterion: Any,
    granularity: Any,
    allocation: Any,
    keep: Any,
    limits: Any,
) -> None:
    """Raise the error that `shrink` would raise when it chooses channels by `sparsity` or `budget`.

    Nothing is built or measured, so this is much faster than `shrink`. Whether a latency can be met is not
    known before it is measured.
    """
    _check_amount(model, sparsity, budget, limits)
    if budget is not None and budget.is_measured:
        budget = Budget(macs=1.0)  # all constraints are checked, and any network meets it
    groups = channel_groups(model, keep=keep)
    if criteria.get(criterion).needs_calibration:
        criterion = "random"  # its inputs are known when the cut is made; any scores will do here
    best_units(groups, criterion, granularity, allocation, sparsity, budget, limits)


def _check_amount(model: Any, sparsity: Any, budget: Any, limits: Any) -> None:
    """Raise if the arguments contradict each other, or the model cannot be cut at all."""
    _check_single_network(model)
    if sparsity is not None and budget is not None:
        raise InvalidArgumentError(
            "Give one of `sparsity` and `budget`, or neither to remove the masked channels. "
            f"Received: sparsity={sparsity}, budget={budget!r}."
        )
    if limits is not None and budget is None:
        raise InvalidArgumentError(
            "`limits` can only be used with a `budget`. For a `sparsity`, name layers in `allocation`, "
            "such as {'conv*': 0.5}."
        )


def _check_single_network(model: Any) -> None:
    """Raise `UnsupportedLayerError` if a model is not one network with stored kernels."""
    networks = [name for name in ("generator", "discriminator") if hasattr(model, name)]
    if len(networks) == 2:
        raise UnsupportedLayerError(
            f"`{type(model).__name__}` holds two networks. Shrink one of them, "
            "`shrink(gan.generator)`; inside `fit`, the `Shrink` callback can cut both."
        )
    check_layer(model)
    check_no_computed_kernels(model, "cut")


def _without_layers(model: keras.Model, drop: Any, inputs: Any) -> keras.Model:
    """Return a model without some layers, in which each gives way to its input.

    Raises:
        InvalidArgumentError: The model is masked, or a layer does not keep the shape.
    """
    masked = [w for w in masked_weights(model) if not to_numpy(w.mask).all()]
    if masked:
        raise InvalidArgumentError(
            f"`drop` needs a model without masks. '{model.name}' has masks, such as that of "
            f"{masked[0].path}. Shrink the masked model first, then drop layers of the result."
        )
    groups = channel_groups(model, inputs=inputs)
    layers = {
        id(call.operation): (call.path, call.operation)
        for call in groups.graph.calls
        if isinstance(call.operation, keras.layers.Layer)
    }
    dropped = {id(layer) for _, layer in select(list(layers.values()), drop, "drop")}
    bypassed = {}
    for call in groups.graph.calls:
        if id(call.operation) not in dropped:
            continue
        shapes = [t.shape for t in (*call.inputs, *call.outputs)]
        if len(shapes) != 2 or shapes[0] != shapes[1]:
            raise InvalidArgumentError(
                f"A dropped layer must keep the shape of its one input. '{call.path}' makes "
                f"{shapes[-1]} of {shapes[0]}. Leave it out of `drop`."
            )
        bypassed[id(call)] = call.inputs[0]
    everything = [np.ones(group.size, dtype=bool) for group in groups]
    return Builder(groups, everything, bypassed).build()[0]
