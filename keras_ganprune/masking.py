"""A mask on a variable: how it is enforced, kept and saved.

The stored weight is always already masked. The mask is applied as the variable's `constraint`,
which every Keras optimizer calls inside the compiled step, so nothing is added to the forward
pass and a changed mask needs no retracing.
"""

from __future__ import annotations

import contextlib
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_ganprune._registry import PACKAGE
from keras_ganprune.errors import InvalidArgumentError


@keras.saving.register_keras_serializable(package=PACKAGE)
class MaskConstraint(keras.constraints.Constraint):
    """Sets pruned entries to zero, after the user's own constraint.

    Args:
        mask: Bool `keras.Variable` of the shape of the weight, True = keep.
        inner: The constraint that the weight had before, or None.
    """

    def __init__(self, mask: keras.Variable, inner: Any = None):
        self.mask = mask
        self.inner = inner

    def __call__(self, w):
        if self.inner is not None:
            # Masked first, so that a norm is taken over the weights that stay; masked again
            # below, since a constraint such as a lower bound may move zeros.
            w = self.inner(ops.where(self.mask, w, 0.0))
        return ops.where(self.mask, w, 0.0)

    def get_config(self):
        # The mask is saved by the layer; a configuration only ever needs the user's constraint.
        return {} if self.inner is None else self.inner.get_config()


class MaskStore(keras.layers.Layer):
    """The masks of one layer, saved beside its weights.

    It is a child of the layer for saving only: Keras finds it by attribute, but it is not among
    the layer's tracked sublayers. So `.keras`, `.weights.h5` and `BackupAndRestore` keep the masks,
    `layer.weights` keeps its length and order, and a plain layer can read the weights file of a
    pruned one.

    Attributes:
        weights_by_name: dict, attribute path of a weight -> the weight's variable.
        masks: dict, the same path -> bool variable, True = keep.
        step: Int, optimizer steps done, as far as the `Prune` callback has seen.
        stamp: Int, which update of which schedule made the masks; 0 if none did.
        restored: Bool, whether the masks were read from a file since this was last set to False.
    """

    def __init__(self, weights_by_name: dict[str, keras.Variable]):
        super().__init__(name="pruning_masks", trainable=False)
        object.__setattr__(self, "weights_by_name", dict(weights_by_name))
        object.__setattr__(self, "masks", {})
        self.step = 0
        self.stamp = 0
        self.restored = False
        for name, weight in weights_by_name.items():
            self.masks[name] = _create_mask(weight)
            weight.constraint = MaskConstraint(self.masks[name], weight.constraint)
        self.built = True

    def save_own_variables(self, store):
        for name, mask in self.masks.items():
            store[name] = np.packbits(to_numpy(mask))
            store[f"{name}_shape"] = np.asarray(mask.shape, dtype=np.int64)
        store["clock"] = np.asarray([self.step, self.stamp], dtype=np.int64)

    def load_own_variables(self, store):
        saved = set(store.keys())
        if not saved:  # a file written before the layer became prunable
            self.apply()
            return
        shapes = {
            name.removesuffix("_shape"): tuple(np.asarray(store[name]).tolist())
            for name in saved
            if name.endswith("_shape")
        }
        wanted = {name: tuple(mask.shape) for name, mask in self.masks.items()}
        # With `skip_mismatch` Keras leaves out the weight and tries the masks all the same.
        if shapes != wanted:
            raise InvalidArgumentError(
                f"The file has masks of the shapes {shapes}, the layer of {wanted}. "
                "Load it into the model it was saved from."
            )
        for name, mask in self.masks.items():
            bits = np.unpackbits(np.asarray(store[name]), count=int(np.prod(mask.shape)))
            mask.assign(bits.astype(bool).reshape(mask.shape))
        self.step, self.stamp = (int(n) for n in np.asarray(store["clock"]))
        self.restored = True
        self.apply()

    def apply(self) -> None:
        """Set the pruned entries of every weight to zero."""
        for name, weight in self.weights_by_name.items():
            weight.assign(ops.where(self.masks[name], weight, 0.0))


def to_numpy(variable: Any) -> np.ndarray:
    """Return the value of a variable as an array, without a copy where the backend allows it."""
    if keras.backend.backend() == "tensorflow":
        # `convert_to_tensor` would hand back the variable, and NumPy a copy of it; any operation reads
        # the variable as a tensor, whose memory NumPy shares.
        return np.asarray(ops.stop_gradient(variable))
    return ops.convert_to_numpy(ops.convert_to_tensor(variable))


def _create_mask(weight: keras.Variable) -> keras.Variable:
    # A variable made under tf.distribute knows its strategy; the mask must live on the same replicas.
    strategy = getattr(weight.value, "distribute_strategy", None)
    with strategy.scope() if strategy is not None else contextlib.nullcontext():
        return keras.Variable(
            np.ones(weight.shape, dtype=bool),
            dtype="bool",
            trainable=False,
            autocast=False,
            aggregation="only_first_replica",
            name=f"{weight.name}_mask",
        )
