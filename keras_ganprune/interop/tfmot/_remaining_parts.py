"""The remaining steps of TFMOT's schedules, and the layers that they prune."""

from __future__ import annotations

import warnings
from typing import Any, Literal

import keras

from keras_ganprune.errors import ArgumentTypeError, PruningWarning, UnsupportedLayerError
from keras_ganprune.interop.tfmot.converted_model import Part
from keras_ganprune.interop.tfmot.shifted_schedule import Shifted
from keras_ganprune.layers.traversal import masked_weights
from keras_ganprune.pruning import granularity, schedules

# The frequency that is assumed if a schedule of TFMOT has no frequency.
_FREQUENCY = 100


def remaining_parts(
    model: keras.Model, wrappers: list[Any], variables: dict[int, Any]
) -> tuple[Part, ...]:
    """Return the layers of a converted model, grouped by their remaining schedule.

    Args:
        model: The converted model, with masks.
        wrappers: The wrappers of the old model.
        variables: The new variables, by the id of the old variable.
    """
    paths = {id(w.variable): w.layer_path for w in masked_weights(model)}
    groups: dict[Any, dict[str, None]] = {}
    for wrapper in wrappers:
        if not wrapper.pruning_vars:
            continue
        step = max(0, int(wrapper.pruning_step.numpy()))
        frequency = int(getattr(wrapper.pruning_schedule, "frequency", _FREQUENCY))
        key = (_remaining(wrapper, step), frequency, _granularity(wrapper), step)
        layers = groups.setdefault(key, {})
        for weight, _, _ in wrapper.pruning_vars:
            layers[paths[id(variables[id(weight)])]] = None
    parts = tuple(
        Part(tuple(layers), schedule, frequency, unit, step)
        for (schedule, frequency, unit, step), layers in groups.items()
    )
    masked_before = {id(variables[id(v)]) for w in wrappers for v, _, _ in w.pruning_vars}
    active = {path for part in parts if part.schedule is not None for path in part.layers}
    dense = [
        weight.path
        for weight in masked_weights(model)
        if weight.layer_path in active and id(weight.variable) not in masked_before
    ]
    if dense:
        warnings.warn(
            f"TFMOT leaves {', '.join(repr(path) for path in dense)} dense. A `Prune` callback prunes all "
            "kernels of a layer, so it will prune these kernels too.",
            PruningWarning,
            stacklevel=3,
        )
    return parts


def _remaining(wrapper: Any, step: int) -> schedules.Schedule | None:
    """Return the rest of a wrapper's schedule after `step` steps, or None if it has ended."""
    m_by_n = wrapper.sparsity_m_by_n
    if m_by_n:
        # TFMOT chooses these masks once, in the first step, whatever the schedule is.
        return schedules.ConstantSparsity(m_by_n[0] / m_by_n[1], end_step=0) if step < 1 else None
    try:
        schedule = schedules.get(wrapper.pruning_schedule)
    except (ArgumentTypeError, UnsupportedLayerError):
        warnings.warn(
            f"The schedule of '{wrapper.layer.name}' has a class that is not part of TFMOT "
            f"({type(wrapper.pruning_schedule).__name__}), so it cannot be continued. Write it as a "
            "subclass of `keras_ganprune.Schedule` and pass that to `Prune`.",
            PruningWarning,
            stacklevel=4,
        )
        return None
    if step < 1:
        return schedule
    if schedule.end_step is not None and schedule.end_step <= step:
        return None
    return Shifted(schedule, step)


def _granularity(wrapper: Any) -> granularity.Granularity:
    if wrapper.sparsity_m_by_n:
        zeros, group = wrapper.sparsity_m_by_n
        return granularity.NM(keep=group - zeros, of=group)
    block = tuple(wrapper.block_size)
    if block == (1, 1):
        return granularity.Unstructured()
    pools: dict[str, Literal["mean", "max"]] = {"AVG": "mean", "MAX": "max"}
    return granularity.Block(block, pool=pools[wrapper.block_pooling_type])
