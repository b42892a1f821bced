"""The proof that a smaller network has the outputs of the user's model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from keras_ganprune.errors import DifferentOutputsError, UnsupportedLayerError
from keras_ganprune.layers.copy_state import is_of_keras
from keras_ganprune.layers.given_inputs import cannot_be_called
from keras_ganprune.layers.inference import run
from keras_ganprune.layers.probe_inputs import probe_inputs
from keras_ganprune.layers.tensors import to_numpy
from keras_ganprune.layers.traversal import walk
from keras_ganprune.pruning._shrink_calls import Values, first_failing, first_parted
from keras_ganprune.pruning._shrink_numbers import gap_of
from keras_ganprune.pruning.structured.graph import leaves
from keras_ganprune.pruning.structured.groups import Groups
from keras_ganprune.pruning.structured.rebuild import Builder
from keras_ganprune.utils.foreign_errors import sentence_of

# A number that is unlikely as the size of another axis: broadcasting could hide an error.
_BATCH = 5


def masked_values(groups: Groups, keeps: Sequence[np.ndarray]) -> Values:
    """Return pairs (variable, array): the weights with those of the removed channels at zero."""
    return list(groups.masked_values(keeps).values())


def check_same_outputs(
    builder: Builder, small: keras.Model, values: Values = (), inputs: Any = None
) -> None:
    """Raise unless a smaller network gives the outputs of the user's model.

    Both run in inference on a few random inputs. Nothing of the user's model changes, not even a state or
    a seed: other values of its weights hold for this run only.

    Args:
        builder: The builder of the smaller network.
        small: The smaller network.
        values: Pairs (variable, array), the values that weights of the user's model have in this run.
            Defaults to (): their own.
        inputs: As in `probe_inputs`. Defaults to None: the model's own inputs.

    Raises:
        InvalidArgumentError: The model cannot be called on `inputs`.
        UnsupportedLayerError: The smaller network cannot be called on them.
        DifferentOutputsError: The outputs differ by more than rounding, or are not finite.
    """
    model = builder.graph.model
    arrays = probe_inputs(model, inputs, batch=_BATCH)
    packed = keras.tree.pack_sequence_as(builder.graph.inputs, leaves(arrays))
    tensors = [(v, keras.ops.convert_to_tensor(value, dtype=v.dtype)) for v, value in values]
    try:
        expected = leaves(run(model, arrays, tensors))
    except Exception as error:
        if inputs is None:
            raise
        raise cannot_be_called(model, inputs, error) from error
    try:
        actual = leaves(run(small, packed))
    except Exception as error:
        raise UnsupportedLayerError(_cannot_run(builder, packed, tensors, error)) from error
    if len(expected) != len(actual):
        raise DifferentOutputsError(
            f"The smaller model must give the outputs of '{model.name}', {len(expected)} tensors. It gives "
            f"{len(actual)}. Return a list or tuple from `call`, not a tensor that is unpacked later."
        )
    gaps = [gap_of(a, b) for a, b in zip(expected, actual, strict=True)]
    if any(gap.has_nan for gap in gaps):
        bad = [w.path for w in model.weights if "float" in w.dtype and np.isnan(to_numpy(w)).any()]
        fix = (
            f"Its weight {bad[0]} has NaN"
            if bad
            else "Pass `inputs`, a batch on which they are not"
        )
        raise DifferentOutputsError(
            f"The outputs of '{model.name}' must be numbers to be compared with those of the smaller model. "
            f"Received: NaN on random inputs. {fix}."
        )
    worst = next((gap for gap in gaps if gap.is_large), None)
    if worst is None:
        return
    wrong = first_parted(builder, small, packed, tensors, expected, actual)
    if wrong is not None:
        raise DifferentOutputsError(
            f"The smaller model must give the outputs of '{model.name}' with the removed channels at zero. "
            f"Received: {worst}. {wrong}"
        )


def _cannot_run(builder: Builder, arrays: Any, values: Values, error: Exception) -> str:
    """Return the text for a smaller model that fails on inputs that the user's model takes."""
    graph, call = builder.graph, first_failing(builder, arrays, values)
    where = f" in '{call.path}' ({type(call.operation).__name__})" if call is not None else ""
    called = {id(c.operation) for c in graph.calls}
    own = [
        path
        for path, layer in walk(graph.model)
        if id(layer) not in called and layer is not graph.model and not is_of_keras(type(layer))
    ]
    fix = f"Leave the layers whose `call` does this alone: `keep={own[:3]}`" if own else "Report it"
    return (
        f"The smaller model must run on the inputs of '{graph.model.name}', but fails{where}: "
        f"{sentence_of(error).rstrip('.')}. {fix}."
    )
