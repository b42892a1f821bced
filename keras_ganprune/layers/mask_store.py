"""A mask on a variable: how it is enforced, kept and saved.

The stored weight is always already masked. The mask is applied as the variable's `constraint`,
which every Keras optimizer calls inside the compiled step, so nothing is added to the forward
pass and a changed mask needs no retracing.
"""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_ganprune.backend import tracing
from keras_ganprune.errors import InvalidArgumentError
from keras_ganprune.utils.registry import PACKAGE

# How names of `MaskStore.arrays` begin in a file.
_MEMORY = "memory_"


@keras.saving.register_keras_serializable(package=PACKAGE)
class MaskConstraint(keras.constraints.Constraint):
    """Sets pruned entries to zero, after the user's own constraint.

    Args:
        mask: Bool `keras.Variable` of the shape of the weight, True = keep.
        inner: The constraint that the weight had before, or None.

    Attributes:
        hidden: Variable of the shape of the weight that collects the updates of pruned entries, or None.
        compiled_in: Bool, whether a compiled step of JAX holds the mask as a constant, so that it must
            not change any more.
    """

    def __init__(self, mask: keras.Variable, inner: Any = None):
        self.mask = mask
        self.inner = inner
        self.hidden: keras.Variable | None = None
        self.compiled_in = False

    def __call__(self, w):
        if tracing.is_constant(self.mask, w):
            if self.hidden is not None:
                raise tracing.not_tracked(w)
            self.compiled_in = True
        if self.hidden is not None:
            # The weight was zero before the step, so what stands there now is the optimizer's update.
            update = ops.cast(w, self.hidden.dtype)
            moved = ops.where(tensor(self.mask), update, tensor(self.hidden) + update)
            if self.inner is not None:
                moved = self.inner(moved)
            self.hidden.assign(masked(moved, ops.logical_not(tensor(self.mask))))
        if self.inner is not None:
            # Masked first, so that a norm is taken over the weights that stay; masked again
            # below, since a constraint such as a lower bound may move zeros.
            w = self.inner(masked(w, self.mask))
        return masked(w, self.mask)

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
        hidden: dict, the same path -> float variable with the values of pruned entries, which a mode of
            pruning may want back; empty unless `keep_hidden` was called.
        chosen: dict, the same path -> bool array: masks that a mode such as `soft` has chosen but does not
            hold yet; empty where masks are held.
        arrays: dict, name -> NumPy array: what else a callback has to know again after a restart; see
            `memory`.
    """

    def __init__(
        self,
        weights_by_name: dict[str, keras.Variable],
        find: Callable[[str], keras.Variable | None] = lambda name: None,
    ):
        super().__init__(name="pruning_masks", trainable=False)
        object.__setattr__(self, "weights_by_name", {})
        object.__setattr__(self, "find", find)
        object.__setattr__(self, "masks", {})
        object.__setattr__(self, "hidden", {})
        object.__setattr__(self, "chosen", {})
        object.__setattr__(self, "arrays", {})
        self.step = 0
        self.stamp = 0
        self.restored = False
        for name, weight in weights_by_name.items():
            self.add(name, weight)
        self.built = True

    def add(self, name: str, weight: keras.Variable) -> None:
        """Give one more weight of the layer a mask, all True: a bias goes with its channel, for example."""
        self.weights_by_name[name] = weight
        self.masks[name] = companion(weight, np.ones(weight.shape, dtype=bool), "mask")
        weight.constraint = MaskConstraint(self.masks[name], weight.constraint)

    def save_own_variables(self, store):
        for name, mask in self.masks.items():
            store[name] = np.packbits(to_numpy(mask))
            store[f"{name}_shape"] = np.asarray(mask.shape, dtype=np.int64)
        for name, values in self.hidden.items():
            store[f"{name}_hidden"] = to_numpy(values)
        for name, keep in self.chosen.items():
            store[f"{name}_chosen"] = np.packbits(keep)
        for name, array in self.arrays.items():
            store[f"{_MEMORY}{name}"] = array
        store["clock"] = np.asarray([self.step, self.stamp], dtype=np.int64)

    def load_own_variables(self, store):
        saved = set(store.keys())
        if not saved:  # a file written before the layer became prunable
            self.apply()
            return
        shapes = {
            name.removesuffix("_shape"): tuple(np.asarray(store[name]).tolist())
            for name in saved
            if name.endswith("_shape") and not name.startswith(_MEMORY)
        }
        for name in sorted(shapes.keys() - self.masks.keys()):
            # Masks that were added since, and are the layer's own to make again.
            weight = self.find(name)
            if weight is not None and tuple(weight.shape) == shapes[name]:
                self.add(name, weight)
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
        if any(f"{name}_hidden" in saved for name in self.masks):
            self._make_hidden()  # a loaded model has none yet
        for name, values in self.hidden.items():
            if f"{name}_hidden" in saved:
                values.assign(np.asarray(store[f"{name}_hidden"]))
        self.chosen.clear()
        for name, mask in self.masks.items():
            if f"{name}_chosen" in saved:
                bits = np.unpackbits(
                    np.asarray(store[f"{name}_chosen"]), count=int(np.prod(mask.shape))
                )
                self.chosen[name] = bits.astype(bool).reshape(mask.shape)
        self.arrays.clear()
        for name in saved:
            if name.startswith(_MEMORY):
                self.arrays[name.removeprefix(_MEMORY)] = np.asarray(store[name])
        self.step, self.stamp = (int(n) for n in np.asarray(store["clock"]))
        self.restored = True
        self.apply()

    def apply(self) -> None:
        """Set the pruned entries of every weight to zero."""
        for name, weight in self.weights_by_name.items():
            weight.assign(masked(weight, self.masks[name]))

    def keep_hidden(self, collect: bool) -> bool:
        """Keep the values of pruned entries beside the weights; return whether that changed anything.

        Args:
            collect: Whether they also collect the optimizer's updates. A step that was traced before
                this changes must be traced anew.
        """
        changed = self._make_hidden()
        for name, weight in self.weights_by_name.items():
            wanted = self.hidden[name] if collect else None
            if weight.constraint.hidden is not wanted:
                weight.constraint.hidden = wanted
                changed = True
        return changed

    def _make_hidden(self) -> bool:
        missing = [name for name in self.weights_by_name if name not in self.hidden]
        for name in missing:
            weight = self.weights_by_name[name]
            self.hidden[name] = companion(weight, np.zeros(weight.shape, "float32"), "hidden")
        return bool(missing)

    def stop_collecting(self) -> bool:
        """Let pruned entries collect no updates any more; return whether they did."""
        collecting = [
            w.constraint for w in self.weights_by_name.values() if w.constraint.hidden is not None
        ]
        for constraint in collecting:
            constraint.hidden = None
        return bool(collecting)


def memory(network: keras.layers.Layer) -> MaskStore:
    """Return the store whose `arrays` are kept for a pruned network as a whole: that of its first layer.

    A store of the network's own would not be there when Keras loads a file into a new model.
    """
    stores = (getattr(layer, "pruning_masks", None) for layer in network._flatten_layers())
    return next(store for store in stores if store is not None)


def tensor(value: Any) -> Any:
    """Return a variable's value as a tensor: not every operation of every backend takes variables."""
    return ops.convert_to_tensor(value)


def masked(value: Any, mask: Any) -> Any:
    """Return a tensor with the pruned entries of a variable or tensor set to zero."""
    value, mask = tensor(value), tensor(mask)
    if keras.backend.backend() == "torch":
        return importlib.import_module("keras_ganprune.backend._masking_torch").masked(value, mask)
    return ops.where(mask, value, ops.zeros((), keras.backend.standardize_dtype(value.dtype)))


def to_numpy(variable: Any) -> np.ndarray:
    """Return the value of a variable as an array, without a copy where that is safe."""
    backend = keras.backend.backend()
    if backend == "tensorflow":
        # `convert_to_tensor` would hand back the variable, and NumPy a copy of it; any operation reads
        # the variable as a tensor, whose memory NumPy shares.
        return np.asarray(ops.stop_gradient(variable))
    if backend == "torch":
        return importlib.import_module("keras_ganprune.backend._masking_torch").to_numpy(
            tensor(variable)
        )
    return ops.convert_to_numpy(tensor(variable))


def dense_array(gradient: Any) -> np.ndarray:
    """Return a gradient as an array; of a list of rows (TensorFlow's, of an embedding), their sums."""
    if not all(hasattr(gradient, name) for name in ("indices", "values", "dense_shape")):
        return np.asarray(gradient)
    values = np.asarray(gradient.values)
    found = np.zeros(tuple(np.asarray(gradient.dense_shape)), values.dtype)
    np.add.at(found, np.asarray(gradient.indices), values)
    return found


def companion(
    weight: keras.Variable, value: np.ndarray, name: str, aggregation: str = "only_first_replica"
) -> keras.Variable:
    """Return a new variable of the shape of a weight, which lives on the same replicas."""
    # A variable made under tf.distribute knows its strategy.
    strategy = getattr(weight.value, "distribute_strategy", None)

    def initializer(shape, dtype=None):
        return ops.convert_to_tensor(value, dtype=dtype)

    # A function, since Keras builds models in a scope where variables get their values later.
    with strategy.scope() if strategy is not None else contextlib.nullcontext():
        return keras.Variable(
            initializer,
            shape=tuple(value.shape),
            dtype=str(value.dtype),
            trainable=False,
            autocast=False,
            aggregation=aggregation,
            name=f"{weight.name}_{name}",
        )
