"""Models that the TensorFlow Model Optimization Toolkit (TFMOT) has pruned, taken over as they are."""

from __future__ import annotations

import math
import os
import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from keras_ganprune.callbacks.prune import Prune
from keras_ganprune.errors import InvalidArgumentError, PruningWarning, UnsupportedLayerError
from keras_ganprune.interop.tfmot import _tf_keras_files
from keras_ganprune.layers.mask_store import to_numpy
from keras_ganprune.layers.traversal import masked_weights, prunable_candidates
from keras_ganprune.layers.upgrade import make_prunable
from keras_ganprune.pruning import granularity, schedules
from keras_ganprune.utils.registry import PACKAGE


@keras.saving.register_keras_serializable(package=PACKAGE)
@dataclass(frozen=True)
class Shifted(schedules.Schedule):
    """What is left of a schedule after `offset` steps of it, on a clock that starts at 0 again.

        s(t) = schedule(t + offset)

    Masks are next updated where the schedule would have: at the first of its update steps after
    `offset`.

    Args:
        schedule: A `Schedule`, or anything that `schedules.get` takes.
        offset: Positive int, optimizer steps that are done already.

    Returns (from `__call__`): Float, in units of the schedule.

    Raises: InvalidArgumentError (a ValueError).

    Example:
    >>> rest = Shifted(schedules.PolynomialDecay(0.8, begin_step=0, end_step=1000), 300)
    >>> rest.end_step, round(rest(0), 4), rest(700)
    (700, 0.5256, 0.8)
    """

    schedule: Any
    offset: int

    def __post_init__(self):
        object.__setattr__(self, "schedule", schedules.get(self.schedule))
        if isinstance(self.offset, bool) or not isinstance(self.offset, int) or self.offset < 1:
            raise InvalidArgumentError(
                f"`offset` must be a positive int, in optimizer steps. Received: {self.offset!r}."
            )
        end = self.schedule.end_step
        if end is not None and end <= self.offset:
            raise InvalidArgumentError(
                f"`offset` must be smaller than the schedule's end_step {end}, or nothing is left of "
                f"it. Received: {self.offset}."
            )

    @property
    def quantity(self):
        return self.schedule.quantity

    @property
    def begin_step(self):
        return max(0, self.schedule.begin_step - self.offset)

    @property
    def end_step(self):
        end = self.schedule.end_step
        return None if end is None else end - self.offset

    def __call__(self, step):
        return self.schedule(step + self.offset)

    def is_update_step(self, step, frequency):
        # Step 0 is the last one that was done before.
        return step > 0 and self.schedule.is_update_step(step + self.offset, frequency)

    def get_config(self):
        return {
            "schedule": keras.saving.serialize_keras_object(self.schedule),
            "offset": self.offset,
        }


@dataclass(frozen=True)
class Part:
    """The layers that share one remaining schedule.

    Attributes:
        layers: Paths of the layers in the converted model.
        schedule: The remaining `Schedule`, whose step 0 is now; None if nothing is left to be done.
        frequency: Int, steps between mask updates.
        granularity: `Granularity` of the updates.
        step: Int, TFMOT's `pruning_step` up to which the schedule was done.
    """

    layers: tuple[str, ...]
    schedule: schedules.Schedule | None
    frequency: int
    granularity: granularity.Granularity
    step: int

    @property
    def scope(self) -> re.Pattern:
        """The `scope` that means exactly these layers."""
        return re.compile(f"^({'|'.join(re.escape(path) for path in self.layers)})$")


@dataclass(frozen=True)
class Converted:
    """A Keras 3 model that goes on where TFMOT stopped.

    Attributes:
        model: The Keras 3 model, not compiled, with masks.
        parts: A `Part` for each remaining schedule; empty for a model that was stripped.
        max_difference: Float, largest difference to the outputs of the old model on the inputs that
            the two were compared on.
    """

    model: keras.Model
    parts: tuple[Part, ...]
    max_difference: float

    @property
    def schedule(self) -> schedules.Schedule | None:
        """The remaining schedule of all layers; None if nothing is left to be done."""
        return self._only("schedule", None)

    @property
    def frequency(self) -> int | None:
        """Steps between mask updates, of all layers; None for a model that was stripped."""
        return self._only("frequency", None)

    def _only(self, name: str, default: Any) -> Any:
        values = list(dict.fromkeys(getattr(part, name) for part in self.parts)) or [default]
        if len(values) > 1:
            raise InvalidArgumentError(
                f"The layers of '{self.model.name}' do not share one `{name}`. Received: {values}. "
                "Look at `parts`; `prunes()` makes a callback for each."
            )
        return values[0]

    def prunes(self, target: Any = None, **settings: Any) -> list[Prune]:
        """Return the callbacks that go on pruning, one for each part with something left to do.

        The masks hold without them too.

        Args:
            target: As for `Prune`: where in the fitted model the converted one is, such as 'generator'.
            **settings: More arguments of `Prune`, such as `criterion` or `verbose`.
        """
        fixed = sorted({"frequency", "granularity", "schedule", "scope"} & set(settings))
        if fixed:
            raise InvalidArgumentError(
                f"`{fixed[0]}` is that of the old model, part by part. To choose your own, make the "
                "callback yourself: `Prune(schedule, target, frequency, ...)`; `parts` has what was found."
            )
        return [
            Prune(
                part.schedule,
                target,
                part.frequency,
                granularity=part.granularity,
                scope=part.scope,
                **settings,
            )
            for part in self.parts
            if part.schedule is not None
        ]

    def __str__(self):
        weights = masked_weights(self.model)
        total = sum(math.prod(w.mask.shape) for w in weights)
        kept = sum(int(np.count_nonzero(to_numpy(w.mask))) for w in weights)
        left = sum(part.schedule is not None for part in self.parts)
        return (
            f"'{self.model.name}' in Keras 3: {kept:,} of {total:,} weights kept in {len(weights)} "
            f"tensors, {left} schedule{'s' * (left != 1)} to go on with; its outputs differ by "
            f"{self.max_difference:g} at most"
        )


def convert(
    model: Any,
    *,
    custom_objects: Mapping[str, Any] | None = None,
    inputs: Any = None,
    tolerance: float | None = None,
) -> Converted:
    """Return the Keras 3 twin of a tf_keras model that TFMOT has pruned: outputs, masks and schedule.

    A layer in a `PruneLowMagnitude` wrapper becomes Prunable with the wrapper's mask. In a model
    without wrappers (`strip_pruning`) every layer that can be pruned becomes Prunable, and a weight
    that is exactly zero counts as pruned. Optimizer, loss and `train_step` are not taken over, and
    the states of stateful layers are reset. `model` keeps its weights.

    Args:
        model: A built Sequential or functional `tf_keras.Model`, or the path of a file or folder that
            tf_keras saved one in (`.h5`, `.keras`, SavedModel).
        custom_objects: Keras 3 classes and functions for those that tf_keras does not have itself,
            by their names in the model.
        inputs: What both models are called on to compare them; None for random inputs.
        tolerance: Positive float, largest difference allowed, relative to the largest output. None
            for 1e-5, or 2e-2 if a layer computes in half precision.

    Returns: A `Converted`: `model`, and `prunes()` to go on with.

    Raises:
        UnsupportedLayerError: `model`, or a layer of it, cannot be converted.
        UnbuiltModelError: it has no weights yet.
        ExportError: the converted model gives other outputs.
        FileFormatError: the file cannot be loaded.
        InvalidArgumentError: bad `custom_objects` or `tolerance`.
        ImportError: tf_keras or TFMOT is not installed.

    Example:
    >>> import tf_keras
    >>> old = tf_keras.Sequential([tf_keras.layers.Dense(2, input_shape=(2,))])
    >>> old.set_weights([np.array([[0.0, 1.0], [2.0, 0.0]]), np.zeros(2)])
    >>> convert(old).model.layers[0].pruning_masks.masks["kernel"].numpy()
    array([[False,  True],
           [ True, False]])
    """
    _tf_keras_files.require_packages()
    # Only here, so that the schedule above can be loaded without tf_keras.
    from keras_ganprune.interop.tfmot import _compare, _tf_keras_graph

    custom_objects = _tf_keras_graph.check_custom_objects(custom_objects)
    if tolerance is not None and not (
        isinstance(tolerance, (int, float)) and not isinstance(tolerance, bool) and tolerance > 0
    ):
        raise InvalidArgumentError(
            f"`tolerance` must be a positive number, relative to the output. Received: {tolerance!r}."
        )
    old = _tf_keras_files.load(model) if isinstance(model, (str, os.PathLike)) else model
    _tf_keras_files.check_model(old)
    wrappers = _wrappers(old)
    rebuilder = _tf_keras_graph.Rebuilder(_unwrap, custom_objects, _without_mask_zero(wrappers))
    new = rebuilder.network(old)
    own = {id(w.pruning_step) for w in wrappers}
    own |= {id(v) for w in wrappers for _, *pair in w.pruning_vars for v in pair}
    rebuilder.copy_weights(ignored=own)
    if wrappers:
        _take_masks(new, wrappers, rebuilder.variables)
    else:
        _masks_from_zeros(new)
    # TFMOT writes masked weights back only when a wrapper is called, and then for good.
    stored = [(w, w.numpy()) for wrapper in wrappers for w, _, _ in wrapper.pruning_vars]
    for wrapper in wrappers:
        for weight, mask, _ in wrapper.pruning_vars:
            weight.assign(weight * mask)
    try:
        difference = _compare.compare(rebuilder, old, inputs, tolerance)
    finally:
        for weight, value in stored:
            weight.assign(value)
    return Converted(new, _parts(new, wrappers, rebuilder.variables), difference)


def _is_wrapper(layer: Any) -> bool:
    return any(
        cls.__name__ == "PruneLowMagnitude"
        and cls.__module__.startswith("tensorflow_model_optimization.")
        for cls in type(layer).__mro__
    )


def _unwrap(layer: Any) -> Any:
    return layer.layer if _is_wrapper(layer) else layer


def _wrappers(model: Any) -> list[Any]:
    # Private touch: the only way to layers inside wrappers such as `TimeDistributed`.
    found = {id(layer): layer for layer in model._flatten_layers() if _is_wrapper(layer)}
    return list(found.values())


def _without_mask_zero(wrappers: list[Any]) -> dict[int, dict[str, Any]]:
    """Return the options that keep the masks of padded steps from where TFMOT loses them."""
    found = [w.layer for w in wrappers if getattr(w.layer, "mask_zero", False)]
    for layer in found:
        warnings.warn(
            f"'{layer.name}' has `mask_zero=True`, which has no effect inside TFMOT's wrapper. The "
            "converted layer gets `mask_zero=False`, to give the same outputs. If padding is to be "
            "masked, convert `tfmot.sparsity.keras.strip_pruning(model)` instead.",
            PruningWarning,
            stacklevel=3,
        )
    return {id(layer): {"mask_zero": False} for layer in found}


def _make_holders_prunable(model: keras.Model, wanted: set[int]) -> None:
    """Make the layers that hold some variables Prunable."""
    holders = {
        id(layer)
        for _, layer in prunable_candidates(model)
        if any(id(weight) in wanted for weight in layer.weights)
    }
    if holders:
        make_prunable(model, scope=lambda layer: id(layer) in holders)


def _take_masks(model: keras.Model, wrappers: list[Any], variables: dict[int, Any]) -> None:
    masks: dict[int, np.ndarray] = {}
    for wrapper in wrappers:
        for weight, mask, _ in wrapper.pruning_vars:
            key = id(variables[id(weight)])
            # A layer in two wrappers gets both masks, one after the other.
            masks[key] = masks.get(key, True) & (mask.numpy() != 0)
    _make_holders_prunable(model, set(masks))
    for weight in masked_weights(model):
        if id(weight.variable) in masks:
            weight.mask.assign(masks.pop(id(weight.variable)))
            weight.apply()
    if masks:
        lost = next(
            wrapper.layer
            for wrapper in wrappers
            for weight, _, _ in wrapper.pruning_vars
            if id(variables[id(weight)]) in masks
        )
        name = type(lost).__name__
        raise UnsupportedLayerError(
            f"'{lost.name}' ({name}) has a mask in TFMOT, but its Keras 3 class is not prunable. Call "
            f"`keras_ganprune.register_prunable({name}, ['my_kernel'])` with that class first."
        )


def _masks_from_zeros(model: keras.Model) -> None:
    make_prunable(model)
    for weight in masked_weights(model):
        keep = to_numpy(weight.variable) != 0
        if not keep.any():
            warnings.warn(
                f"All of '{weight.path}' is zero, which no pruning leaves; none of it counts as pruned.",
                PruningWarning,
                stacklevel=3,
            )
            keep = np.ones_like(keep)
        weight.mask.assign(keep)


def _remaining(wrapper: Any, step: int) -> schedules.Schedule | None:
    """Return what a wrapper has still to do after `step` steps."""
    m_by_n = wrapper.sparsity_m_by_n
    if m_by_n:
        # TFMOT chooses these masks once, in the first step, whatever the schedule says.
        return schedules.ConstantSparsity(m_by_n[0] / m_by_n[1], end_step=0) if step < 1 else None
    try:
        schedule = schedules.get(wrapper.pruning_schedule)
    except UnsupportedLayerError:
        warnings.warn(
            f"The schedule of '{wrapper.layer.name}' is of a class that is not TFMOT's "
            f"({type(wrapper.pruning_schedule).__name__}), so pruning cannot go on by itself. Write it "
            "as a subclass of `keras_ganprune.Schedule` and pass that to `Prune`.",
            PruningWarning,
            stacklevel=4,
        )
        return None
    if step < 1:
        return schedule
    if schedule.end_step is not None and schedule.end_step <= step:
        return None
    return Shifted(schedule, step)


def _unit(wrapper: Any) -> granularity.Granularity:
    if wrapper.sparsity_m_by_n:
        m, n = wrapper.sparsity_m_by_n
        return granularity.NM(keep=n - m, of=n)
    block = tuple(wrapper.block_size)
    if block == (1, 1):
        return granularity.Unstructured()
    return granularity.Block(block, pool={"AVG": "mean", "MAX": "max"}[wrapper.block_pooling_type])


def _parts(model: keras.Model, wrappers: list[Any], variables: dict[int, Any]) -> tuple[Part, ...]:
    paths = {id(w.variable): w.layer_path for w in masked_weights(model)}
    found: dict[Any, dict[str, None]] = {}
    for wrapper in wrappers:
        if not wrapper.pruning_vars:
            continue
        step = max(0, int(wrapper.pruning_step.numpy()))
        frequency = int(getattr(wrapper.pruning_schedule, "frequency", 100))
        key = (_remaining(wrapper, step), frequency, _unit(wrapper), step)
        layers = found.setdefault(key, {})
        for weight, _, _ in wrapper.pruning_vars:
            layers[paths[id(variables[id(weight)])]] = None
    parts = tuple(
        Part(tuple(layers), schedule, frequency, unit, step)
        for (schedule, frequency, unit, step), layers in found.items()
    )
    taken = {id(variables[id(v)]) for wrapper in wrappers for v, _, _ in wrapper.pruning_vars}
    active = {path for part in parts if part.schedule is not None for path in part.layers}
    more = [
        weight.path
        for weight in masked_weights(model)
        if weight.layer_path in active and id(weight.variable) not in taken
    ]
    if more:
        warnings.warn(
            f"TFMOT leaves {', '.join(repr(path) for path in more)} dense. A `Prune` callback prunes all "
            "kernels of a layer, so these too if pruning goes on.",
            PruningWarning,
            stacklevel=3,
        )
    return parts
