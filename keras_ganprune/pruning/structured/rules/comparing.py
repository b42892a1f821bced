"""Rules of comparisons and choices between two tensors."""

from __future__ import annotations

import numpy as np

from keras_ganprune.pruning.structured.channels import Axes
from keras_ganprune.pruning.structured.rules.merging import merged
from keras_ganprune.pruning.structured.rules.registry import register_operation_rule


def _axes(values):
    """Return the operands as axes; numbers have none."""
    found = [x if isinstance(x, Axes) else Axes.fixed(np.shape(x)) for x in values]
    return [x for x in found if x.rank]


@register_operation_rule(
    "Greater", "GreaterEqual", "Less", "LessEqual", "Equal", "NotEqual", "LogicalAnd", "LogicalOr",
    "LogicalXor",
)  # fmt: skip
def compare(operation, channels, x1, x2):
    """Channels that meet are tied."""
    return merged(channels, _axes((x1, x2)), zero=False)


@register_operation_rule("LogicalNot", "Isfinite", "Isnan", "Isinf")
def ask(operation, channels, x):
    """Channels pass."""
    return Axes(x.shape, x.labels, False)


@register_operation_rule("Where")
def where(operation, channels, condition, x1=None, x2=None):
    """Channels that meet are tied. The result is zero where both choices are."""
    if x1 is None or x2 is None:
        channels.fix(condition, f"'{operation.name}' picks some of them")
        return [Axes.fixed(shape) for shape in channels.shapes]
    zero = all(x.zero if isinstance(x, Axes) else not np.any(x) for x in (x1, x2))
    result = merged(channels, _axes((condition, x1, x2)))
    choices = [x for x in (x1, x2) if isinstance(x, Axes)]
    whole = all(x.shape == tuple(channels.shape) for x in choices)
    return Axes(result.shape, result.labels, zero and whole)
