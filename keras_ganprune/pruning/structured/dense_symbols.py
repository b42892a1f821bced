"""Symbols that Keras takes for sparse ones by mistake."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras


def as_dense(structure: Any, name: Callable[[], str]) -> Any:
    """Return arguments of a layer of a user, with dense symbols in the place of sparse ones.

    In Keras, the product of a symbol and a number is sparse, and a layer that is called on it runs on a
    sparse tensor. The symbols of the old network were dense, since its inputs are.

    Args:
        structure: Arguments of the call.
        name: Function that returns a name for a new operation.
    """

    def dense(x: Any) -> Any:
        if not isinstance(x, keras.KerasTensor) or not x.sparse:
            return x
        # Private touch: the history of a symbol is the only way to the operation that made it.
        made_by: Any = x
        if isinstance(made_by._keras_history.operation, keras.layers.Layer):
            return x
        made: Any = keras.ops.convert_to_tensor(x, sparse=False)
        made._keras_history.operation.name = name()
        return made

    return keras.tree.map_structure(dense, structure)
