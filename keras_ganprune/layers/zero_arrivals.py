"""Zeros that arrive in Prunable layers without their masks are said, at the latest when training begins.

`clone_model` and `set_weights`, `from_config`, legacy files, a `tf.train.Checkpoint` and other code bring the
zeros of a pruned model into layers whose masks keep all. Until these layers are trained, nothing is lost.
So a write is only noted, and the first training step gives one warning for all kernels of its optimizer. A
compiled step asks no constraint again, so later writes are said at once.
"""

from __future__ import annotations

import contextlib
import importlib
import sys
import weakref
from collections.abc import Iterable
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_ganprune.layers.tensors import to_numpy
from keras_ganprune.layers.unmasked_zeros import unmasked_zeros, warn_of
from keras_ganprune.utils.call_depth import depth_of_caller

# Tensors are looked at this often only: they may come from a training loop of one's own.
_LOOKS = 8


class Arrivals:
    """What is known about the zeros of one masked weight.

    Args:
        store: `MaskStore` of the weight. It is referred to weakly.
        name: Attribute path of the weight.

    Attributes:
        zeros: Int, zeros that a write has brought in without their mask.
        in_training: Bool, whether an optimizer has asked the constraint of the weight.
    """

    def __init__(self, store: Any, name: str):
        self.store = weakref.ref(store)
        self.name = name
        self.zeros = 0
        self.in_training = False
        self.looks = _LOOKS

    def written(self, weight: Any, value: Any) -> None:
        """Look at a value that is written to the weight, unless it comes from a compiled step."""
        if ops.is_tensor(value):
            if self.in_training or not self.looks or _asking_optimizer() is not None:
                return
            self.looks -= 1
        values = _array(value)
        if values is None or values.shape != tuple(weight.shape):
            return
        self.zeros = self._count(values)
        if self.zeros and (self.in_training or _last_of_a_file(weight)):
            say([weight] if self.in_training else _peers_in_file(weight))

    def restored(self, weight: Any) -> None:
        """Look at the present value, which other code has written."""
        values = _array(weight._value)
        if values is not None:
            self.zeros = self._count(values)
            if self.zeros and self.in_training:
                say([weight])

    def training_begins(self, weight: Any) -> None:
        """Say once which weights of an optimizer have zeros without masks.

        In an eager step their values have moved by now, so the notes of earlier writes count.

        Private attribute of Keras: `value` would be the one of a trace.
        """
        peers = [v for v in _trained_with(weight) if arrivals_of(v) is not None]
        for peer in peers:
            known: Any = arrivals_of(peer)
            known.in_training = True
            if not known.zeros and (values := _array(peer._value)) is not None:
                known.zeros = known._count(values)
        say(peers)

    def _count(self, values: np.ndarray) -> int:
        store = self.store()
        with contextlib.suppress(Exception):  # In a compiled step of JAX, masks have no values.
            return 0 if store is None else unmasked_zeros(store, self.name, values)
        return 0


def arrivals_of(weight: Any) -> Arrivals | None:
    """Return what is known about the zeros of a variable, or None if it has no mask."""
    return getattr(getattr(weight, "mask_constraint", None), "arrivals", None)


def say(weights: Iterable[Any]) -> None:
    """Warn of weights whose zeros have come without masks, unless they have got masks since then."""
    rows = []
    for weight in weights:
        known: Any = arrivals_of(weight)
        zeros, known.zeros = known.zeros, 0
        store = known.store()
        if zeros and store is not None and _is_full(store, known.name):
            rows.append((weight.path, store, known.name, zeros, int(np.prod(weight.shape))))
    warn_of(rows, depth_of_caller())


def _is_full(store: Any, name: str) -> bool:
    if store.step or store.stamp or store.chosen or store.hidden:
        return False
    mask = _array(store.masks[name]._value)
    return mask is None or bool(mask.all())


def _array(value: Any) -> np.ndarray | None:
    """Return a value as an array, or None if it has none yet: in a graph, or in a compiled step."""
    if isinstance(value, keras.Variable):
        value = value._value
    if value is None:
        return None
    try:
        if not ops.is_tensor(value):
            return np.asarray(value)
        if keras.backend.backend() == "tensorflow":
            # That module imports TensorFlow.
            writes = importlib.import_module("keras_ganprune.backend._writes_tensorflow")
            return writes.value_outside_of_graphs(value)
        return to_numpy(value)
    except Exception:
        return None


def _trained_with(weight: Any) -> list[Any]:
    """Return the variables of the optimizer that asks the constraint of a weight, or the weight alone.

    Private attribute of Keras: there is no public way to get them.
    """
    return list(getattr(_asking_optimizer(), "_trainable_variables", None) or [weight])


def _asking_optimizer() -> Any:
    """Return the optimizer that is making a step, or None. The frames of the callers know it."""
    frame = sys._getframe(1)
    while frame is not None:
        caller = frame.f_locals.get("self")
        if isinstance(caller, keras.optimizers.Optimizer):
            return caller
        frame = frame.f_back
    return None


def _file_model() -> Any:
    """Return the model into which Keras reads a legacy file, or None. It has no place for masks.

    Private functions of Keras, whose frames know the model.
    """
    frame = sys._getframe(1)
    while frame is not None:
        if frame.f_code.co_name.startswith("load_weights_from_hdf5_group"):
            return frame.f_locals.get("model")
        frame = frame.f_back
    return None


def _peers_in_file(weight: Any) -> list[Any]:
    model = _file_model()
    return [v for v in model.variables if arrivals_of(v) is not None] if model else [weight]


def _last_of_a_file(weight: Any) -> bool:
    model = _file_model()
    return model is not None and _peers_in_file(weight)[-1] is weight
