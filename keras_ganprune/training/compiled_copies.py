"""What a model was compiled with, for a second model of the same architecture."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from keras_ganprune.layers.tensors import to_numpy


def compile_arguments(model: Any) -> dict[str, Any]:
    """Return the arguments with which a model was compiled, with new metrics and without the optimizer.

    Private attribute of Keras: the public `get_compile_config` gives a serialized form, from which losses and
    metrics that are functions cannot be made again.
    """
    compiled = dict(model._compile_config.config)
    del compiled["optimizer"]
    for name in ("metrics", "weighted_metrics"):
        if compiled[name] is not None:
            compiled[name] = keras.tree.map_structure(_new_metric, compiled[name])
    return compiled


def _new_metric(metric: Any) -> Any:
    """Return a metric with a state of its own: a model does not share it with its copies."""
    if not isinstance(metric, keras.metrics.Metric):
        return metric
    return type(metric).from_config(metric.get_config())


def new_optimizer(
    optimizer: Any, variables: Sequence[keras.Variable]
) -> keras.optimizers.Optimizer:
    """Return an optimizer of other variables, in the state of an optimizer of like variables.

    Args:
        optimizer: Keras optimizer. Only if it is built it has a state.
        variables: The variables that the new optimizer trains, in the order of those of the old one.
    """
    twin = type(optimizer).from_config(optimizer.get_config())
    twin.build(variables)
    new = list(twin.variables)
    # On JAX the masks of a pruned model are variables of its optimizer, after its own.
    old = list(optimizer.variables)[: len(new)]
    if optimizer.built and [v.shape for v in old] == [v.shape for v in new]:
        for source, to in zip(old, new, strict=True):
            # A copy: JAX deletes the array of a variable when it is trained.
            to.assign(np.array(to_numpy(source)))
    return twin
