"""`shrink`: a plain, smaller Keras model with the outputs of the masked one."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from keras_ganprune.errors import ExportError, InvalidArgumentError, UnsupportedLayerError
from keras_ganprune.layers.mask_ops import validate_sparsity
from keras_ganprune.layers.mask_store import to_numpy
from keras_ganprune.layers.scope import select
from keras_ganprune.layers.traversal import apply_masks, masked_weights
from keras_ganprune.pruning import compatibility, criteria
from keras_ganprune.pruning.granularity import Channel
from keras_ganprune.pruning.rankings import top_k
from keras_ganprune.pruning.rankings.channels import channel_rankings
from keras_ganprune.pruning.rankings.targets import make_targets
from keras_ganprune.pruning.structured.budget import Budget, fit
from keras_ganprune.pruning.structured.channels import IN, OUT
from keras_ganprune.pruning.structured.cuts import Cut, take
from keras_ganprune.pruning.structured.graph import Tensor, arguments
from keras_ganprune.pruning.structured.groups import Group, Groups, GroupSlice, channel_groups
from keras_ganprune.pruning.structured.rebuild import Builder, assign
from keras_ganprune.pruning.structured.residual_blocks import Block, residual_blocks
from keras_ganprune.utils.random_inputs import random_inputs


@dataclass(frozen=True, eq=False)
class Shrunk:
    """What `shrink_with_cuts` returns.

    Attributes:
        model: The smaller model.
        cuts: For each of its weights a `Cut`: which one of the old model it is, and what of it.
        groups: The groups of channels of the old model.
        keeps: For each group a bool array: which of its channels stay.
        bypassed: Calls that are left out (additions of residual blocks), by id, each with what stands for
            its result.
    """

    model: keras.Model
    cuts: tuple[Cut, ...]
    groups: Groups
    keeps: tuple[np.ndarray, ...]
    bypassed: dict[int, Tensor]


def shrink(
    model: keras.Model,
    *,
    sparsity: float | None = None,
    budget: Budget | None = None,
    criterion: Any = "magnitude",
    granularity: Any = "channel",
    allocation: Any = "uniform",
    keep: Any = None,
    limits: Any = None,
    drop: Any = None,
    inputs: Any = None,
    strict: bool = True,
    verify: bool = True,
) -> keras.Model:
    """Return a plain Keras model without the pruned channels: smaller, faster, with the same outputs.

    Without `sparsity` and `budget` it removes what masks have pruned (`Prune(..., granularity="channel")`,
    or `"layer"` for residual blocks), and its outputs are those of the masked `model`. With one of them,
    it chooses the channels itself; its outputs are those of `model` with these channels masked. `model`
    is not changed. Inputs and outputs keep their shapes; a Sequential model gives a Sequential one, any
    other a functional one, without nesting.

    Args:
        model: A built Keras model: Sequential, functional, or subclassed with a `call` that can run on
            `keras.Input`s. A `GANModel` has two: pass one of them.
        sparsity: Share of the channels to remove, in [0, 1).
        budget: A `Budget`, such as `Budget(macs=0.25)`: what is to be left.
        criterion, allocation: As for `Pruner`, to choose by; no criterion that needs gradients. Of a
            budget, 'uniform' or 'global_ranking'.
        granularity: 'channel', or a `Channel` with `round_to`, `aggregate`, or `of`, what `sparsity` is a
            share of.
        keep: Layers that keep all their channels; a layer without a rule may stand here. As for
            `keras_ganprune.scope.select`.
        limits: Of a budget: dict of layer name or pattern -> largest share of its channels that may go.
        drop: Layers to leave out, whose output has the shape of their input; as for
            `keras_ganprune.scope.select`. This does change the outputs: fine-tune afterwards.
        inputs: Structure of `keras.Input`s, for a subclassed model with several inputs.
        strict: Whether masks that cannot be turned into fewer channels are an error; if not, they stay
            in the smaller model as zeros.
        verify: Whether both models are run on random inputs and compared.

    Returns: A new model, not compiled.

    Raises:
        UnsupportedLayerError: channels reach a layer that cannot be followed.
        InvalidArgumentError: nothing can be removed; masks prune single weights, or disagree; the budget
            cannot be met.
        ExportError: the outputs differ: a rule is wrong.

    Example:
    >>> model = keras.Sequential(
    ...     [keras.Input((4,)), keras.layers.Dense(8, "relu"), keras.layers.Dense(2)]
    ... )
    >>> small = shrink(model, sparsity=0.75)
    >>> model.count_params(), small.count_params()
    (58, 16)

    Reference: groups as in [DepGraph](https://arxiv.org/abs/2301.12900), §3.
    """
    _check_model(model)
    if drop is not None:
        model, inputs = _without(model, drop, inputs), None
        if sparsity is None and budget is None:
            return model
    return shrink_with_cuts(
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
    ).model


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
) -> Shrunk:
    """Return what `shrink` returns, and what each weight of it was."""
    _check_model(model)
    if sparsity is not None and budget is not None:
        raise InvalidArgumentError(
            "Give one of `sparsity` and `budget`, or neither to remove what is masked. "
            f"Received: sparsity={sparsity}, budget={budget!r}."
        )
    if limits is not None and budget is None:
        raise InvalidArgumentError(
            "`limits` is for a `budget`. For a `sparsity`, name layers in `allocation`, such as "
            "{'conv*': 0.5}."
        )
    groups = channel_groups(model, keep=keep, inputs=inputs)
    masked = sparsity is None and budget is None
    dead: list[Block] = []
    if masked:
        apply_masks(model)
        dead = [block for block in residual_blocks(groups.graph) if block.dead]
        # The masks of weights that are left out as a whole say nothing more.
        explained = {id(w.variable) for block in dead for w in block.weights}
        keeps = _alive(groups, strict, explained)
    else:
        if strict:
            _masked_in_slices(model)
        keeps = _chosen(groups, criterion, granularity, allocation, sparsity, budget, limits)
    keeps = groups.never_empty(keeps)
    bypassed = {id(block.add): block.skip for block in dead}
    builder = Builder(groups, keeps, bypassed)
    if masked and strict:
        _check_left(model, builder, explained)
    small, cuts = builder.build()
    assign(cuts)
    if verify:
        _compare(groups, model if masked else _masked(groups, keeps), small)
    return Shrunk(small, tuple(cuts), groups, tuple(keeps), bypassed)


def _check_model(model: Any) -> None:
    networks = [name for name in ("generator", "discriminator") if hasattr(model, name)]
    if len(networks) == 2:
        raise UnsupportedLayerError(
            f"`{type(model).__name__}` is a model of two networks. Shrink one of them, "
            "`shrink(gan.generator)`; inside `fit`, the `Shrink` callback does both."
        )


def _without(model: keras.Model, drop: Any, inputs: Any) -> keras.Model:
    """Return a model without some layers.

    Raises:
        InvalidArgumentError: a layer does not keep the shape.
    """
    masked = [w for w in masked_weights(model) if not to_numpy(w.mask).all()]
    if masked:
        raise InvalidArgumentError(
            f"`drop` is for a model without masks; '{model.name}' has some, such as that of "
            f"{masked[0].path}. Shrink what is masked first, then drop layers of the result."
        )
    groups = channel_groups(model, inputs=inputs)
    layers = {
        id(call.operation): (call.path, call.operation)
        for call in groups.graph.calls
        if isinstance(call.operation, keras.layers.Layer)
    }
    chosen = {id(layer) for _, layer in select(list(layers.values()), drop, "drop")}
    found = {}
    for call in groups.graph.calls:
        if id(call.operation) not in chosen:
            continue
        shapes = [t.shape for t in (*call.inputs, *call.outputs)]
        if len(shapes) != 2 or shapes[0] != shapes[1]:
            raise InvalidArgumentError(
                f"A layer that is dropped must keep the shape of its one input. '{call.path}' makes "
                f"{shapes[-1]} of {shapes[0]}. Leave it out of `drop`."
            )
        found[id(call)] = call.inputs[0]
    everything = [np.ones(group.size, dtype=bool) for group in groups]
    shorter, cuts = Builder(groups, everything, found).build()
    assign(cuts)
    return shorter


# --- what is masked ----------------------------------------------------------------------------------


def _alive(groups: Groups, strict: bool, explained: set[int]) -> list[np.ndarray]:
    """Return which units of each group stay: all but those that nothing reads any more.

    Told by the weights: a channel whose every reader has zeros for it has no effect, whatever it is.

    Args:
        explained: Weights that are left out as a whole, by id; with some, it is no error if no channel goes.
    """
    keeps = [~_dead(group) for group in groups]
    if strict:
        _check_masks(groups, keeps, explained)
    if all(kept.all() for kept in keeps) and not explained:
        raise InvalidArgumentError(
            f"No channel of '{groups.graph.model.name}' is pruned wherever it is read, so there is nothing "
            "to remove. Prune with granularity='channel' first, or pass `sparsity=` or `budget=`."
        )
    for kept in keeps:
        # A layer without any channel cannot be built; one that is dead is as good as another.
        kept[0] |= not kept.any()
    return keeps


def _dead(group: Group) -> np.ndarray:
    """Return which units no layer reads: all the weights that run over them are zero."""
    dead = np.ones(group.size, dtype=bool)
    readers = [piece for piece in group.slices if piece.weight.role == IN]
    # What nothing reads is told by what makes it.
    for piece in readers or [p for p in group.slices if p.weight.role == OUT]:
        dead &= ~_used(piece, to_numpy(piece.weight.variable) != 0, group.size)
    return dead


def _used(piece: GroupSlice, used: np.ndarray, size: int) -> np.ndarray:
    """Return which units have a True entry in an array of the shape of the weight."""
    along = used.any(axis=tuple(a for a in range(used.ndim) if a != piece.weight.axis))
    found = np.zeros(size, dtype=bool)
    inside = piece.units >= 0
    np.logical_or.at(found, piece.units[inside], along[inside])
    return found


def _check_masks(groups: Groups, keeps: Sequence[np.ndarray], explained: set[int]) -> None:
    """Raise if masks do not come to whole channels, or if those that go together disagree.

    Args:
        keeps: Which units of each group are in use.
        explained: Weights that are left out as a whole, by id.
    """
    masked = _masked_in_slices(groups.graph.model, explained)
    for group, kept in zip(groups, keeps, strict=True):
        pruned: dict[str, np.ndarray] = {}
        whole: list[str] = []
        for piece in (piece for piece in group.slices if piece.masked):
            _, mask = masked.get(id(piece.weight.variable), ("", None))
            gone = False if mask is None else kept & ~_used(piece, mask, group.size)
            if np.any(gone):
                pruned[piece.weight.path] = gone
            else:
                whole.append(piece.weight.path)
        if pruned:
            count = int(np.any(list(pruned.values()), axis=0).sum())
            raise InvalidArgumentError(
                f"{count} channels of the group '{group.name}' are pruned in {', '.join(pruned)}, but not "
                f"in {', '.join(whole) or 'the same places of each'}: masks must agree in all that goes "
                "together. Prune with granularity='channel', which sees to that, or pass `strict=False` "
                f"to keep them as zeros. The group:\n{group!r}"
            )


def _check_left(model: keras.layers.Layer, builder: Builder, explained: set[int]) -> None:
    """Raise if a mask prunes more of a weight than the channels that go."""
    left = [
        weight.path
        for weight in masked_weights(model)
        if id(weight.variable) not in explained
        and not take(to_numpy(weight.mask), builder.index(weight.variable)).all()
    ]
    if left:
        raise InvalidArgumentError(
            f"The masks of {', '.join(left[:3])}{' and others' if len(left) > 3 else ''} prune channels "
            "that have to stay, or some places of a channel alone. `channel_groups(model)` says what can go; "
            "pass `strict=False` to keep the rest as zeros."
        )


def _masked_in_slices(
    model: keras.layers.Layer, explained: Iterable[int] = ()
) -> dict[int, tuple[str, np.ndarray]]:
    """Return (path, mask) of each weight with something pruned, by id; raise if that is single weights.

    Args:
        explained: Weights that are passed over, by id.
    """
    masked = {}
    for weight in masked_weights(model):
        mask = to_numpy(weight.mask)
        if not mask.all() and id(weight.variable) not in explained:
            masked[id(weight.variable)] = (weight.path, mask)
    single = [path for path, mask in masked.values() if not _in_whole_slices(mask)]
    if single:
        raise InvalidArgumentError(
            f"The masks of {', '.join(single[:3])}{' and others' if len(single) > 3 else ''} prune single "
            "weights, which no smaller layer can leave out. Prune with granularity='channel', or pass "
            "`strict=False` to keep them as zeros."
        )
    return masked


def _in_whole_slices(mask: np.ndarray) -> bool:
    """Return whether a mask is what is left when whole slices along its axes are taken out."""
    whole = np.ones(mask.shape, dtype=bool)
    for axis in range(mask.ndim):
        others = tuple(a for a in range(mask.ndim) if a != axis)
        whole &= np.expand_dims(mask.any(axis=others), others)
    return np.array_equal(whole, mask)


# --- what is chosen ----------------------------------------------------------------------------------


def _chosen(
    groups: Groups,
    criterion: Any,
    granularity: Any,
    allocation: Any,
    sparsity: float | None,
    budget: Budget | None,
    limits: Any,
) -> list[np.ndarray]:
    """Return which units of each group stay, by their scores."""
    settings = compatibility.get(criterion, granularity, allocation, "hard")
    _check_settings(settings, groups)
    _, parts = channel_rankings(
        [groups],
        criteria.get(criterion),
        settings.granularity,
        lambda variable: np.ones(tuple(variable.shape), dtype=bool),
    )
    scores = [part.scores(False, [None] * len(part.weights)) for part in parts]
    chosen = settings.allocation
    quantity = settings.granularity.of
    if sparsity is not None and quantity != "channels":
        budget = Budget(**{quantity: 1.0 - validate_sparsity(sparsity)})
    if budget is not None:
        return fit(
            groups,
            scores,
            budget,
            ranking="global" if chosen.joint else "uniform",
            minimum=chosen.minimum,
            round_to=settings.granularity.round_to,
            limits=limits,
        )
    tensors = [part.tensor for part in parts]
    chosen.check(tensors, sparsity)
    targets = make_targets(tensors, settings, sparsity=sparsity, threshold=None, final=None)
    keeps: list[Any] = [None] * len(parts)
    for target in targets:
        ranked = [chosen.normalize(scores[i]) for i in target.members]
        edges = np.cumsum([len(s) for s in ranked])[:-1].tolist()
        floors = [chosen.floor(len(s)) for s in ranked]
        best = top_k.best(np.concatenate(ranked), target.budget, None, edges, floors)
        for i, units, floor in zip(target.members, np.split(best, edges), floors, strict=True):
            step = settings.granularity.round_to
            keeps[i] = top_k.rounded(units, scores[i], step, None, floor)
    return keeps


def _check_settings(settings: Any, groups: Groups) -> None:
    compatibility.check(settings)
    if not isinstance(settings.granularity, Channel) or not settings.granularity.coupled:
        raise InvalidArgumentError(
            "`shrink` removes whole channels with all that goes with them; `granularity` must be 'channel' "
            f"or a coupled `Channel`. Received: {settings.granularity!r}."
        )
    if settings.criterion.needs_gradient:
        raise InvalidArgumentError(
            f"`shrink` sees no data, so it has no gradients for {settings.criterion!r}. Prune with it in "
            "`fit` (`Prune(..., granularity='channel')`) and shrink what is masked, or use another one."
        )
    if not len(groups):
        raise InvalidArgumentError(
            f"'{groups.graph.model.name}' has no channels that could be removed:\n{groups!r}"
        )


# --- the proof ---------------------------------------------------------------------------------------


def _masked(groups: Groups, keeps: Sequence[np.ndarray]) -> keras.Model:
    """Return a plain copy of the network with the weights of these channels at zero."""
    whole, cuts = Builder(groups, [np.ones(group.size, dtype=bool) for group in groups]).build()
    assign(cuts, {key: value for key, (_, value) in groups.masked_values(keeps).items()})
    return whole


def _tolerance(dtype: str) -> float:
    """Return by how much two computations of the same outputs may differ, as a share of the largest."""
    if dtype in ("float16", "bfloat16"):
        return 5e-2
    try:
        on_gpu = bool(keras.distribution.list_devices("gpu"))
    except Exception:  # this backend does not tell
        on_gpu = False
    # GPUs multiply float32 with ten bits (TF32) unless told otherwise: 1.3e-3 was seen of a DCGAN.
    return 2e-2 if on_gpu else 1e-3


def _compare(groups: Groups, masked: keras.Model, small: keras.Model) -> None:
    specs = keras.tree.flatten(groups.graph.inputs)
    # A number that no axis is likely to have: broadcasting could hide a wrong one.
    arrays = random_inputs(specs, batch=5)
    packed = keras.tree.pack_sequence_as(groups.graph.inputs, arrays)
    expected = keras.tree.flatten(masked(*arguments(masked, packed), training=False))
    actual = keras.tree.flatten(small(packed, training=False))
    for a, b in zip(expected, actual, strict=True):
        tolerance = _tolerance(keras.backend.standardize_dtype(a.dtype))
        a, b = (to_numpy(keras.ops.cast(t, "float32")).astype(np.float64) for t in (a, b))
        if a.shape != b.shape:
            raise ExportError(
                f"The smaller model gives the shape {b.shape}, the masked one {a.shape}. A rule of "
                "`register_rule` is wrong."
            )
        scale = float(np.max(np.abs(a), initial=0.0))
        gap = float(np.max(np.abs(a - b), initial=0.0))
        if not gap <= tolerance * max(scale, 1e-30):
            raise ExportError(
                f"The smaller model must give the outputs of the masked one. Largest difference: {gap:g} "
                f"of {scale:g}. A rule of `register_rule` leaves something out, or a weight is not finite."
            )
