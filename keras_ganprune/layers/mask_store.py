"""Masks on variables: how they are enforced, stored and saved.

The stored weight itself is masked: the mask is the `constraint` of the variable, which every Keras optimizer
applies inside the compiled step. So the forward pass has no additional operation, and a changed mask needs no
retracing.
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
from keras_ganprune.layers import save_notices
from keras_ganprune.utils.registry import PACKAGE

# Prefix of the names of `MaskStore.arrays` in a file.
_MEMORY = "memory_"


@keras.saving.register_keras_serializable(package=PACKAGE)
class MaskConstraint(keras.constraints.Constraint):
    """Constraint that sets pruned entries to zero, after the user's own constraint.

    Args:
        mask: Bool `keras.Variable` of the shape of the weight, True = keep.
        inner: Constraint that the weight had before. Defaults to None.

    Attributes:
        hidden: Variable of the shape of the weight that accumulates the updates of pruned entries, or None.
        compiled_in: Bool, whether a compiled step of JAX holds the mask as a constant. If True, the mask must
            not change any more.
    """

    def __init__(self, mask: keras.Variable, inner: keras.constraints.Constraint | None = None):
        self.mask = mask
        self.inner = inner
        self.hidden: keras.Variable | None = None
        self.compiled_in = False

    def __call__(self, w: Any) -> Any:
        """Return the weight with its pruned entries set to zero."""
        if tracing.is_constant(self.mask, w):
            if self.hidden is not None:
                raise tracing.not_tracked(w)
            self.compiled_in = True
        if self.hidden is not None:
            # A pruned weight was zero before the step, so its present value is the optimizer's update.
            update: Any = ops.cast(w, self.hidden.dtype)
            moved = ops.where(tensor(self.mask), update, tensor(self.hidden) + update)
            if self.inner is not None:
                moved = self.inner(moved)
            self.hidden.assign(masked(moved, ops.logical_not(tensor(self.mask))))
        if self.inner is not None:
            # Masked before the user's constraint, so that a norm is taken over the kept weights only. Masked
            # again after it, because a constraint such as a lower bound may change zeros.
            w = self.inner(masked(w, self.mask))
        return masked(w, self.mask)

    def get_config(self) -> dict[str, Any]:
        """Return the configuration of the user's constraint. The layer saves the mask."""
        return {} if self.inner is None else self.inner.get_config()


class MaskStore(keras.layers.Layer):
    """The masks of one layer, saved beside its weights.

    For saving only, the store is a child of the layer: Keras finds it as an attribute, but it is not one of
    the tracked sublayers of the layer. So `.keras`, `.weights.h5` and `BackupAndRestore` save the masks,
    `layer.weights` keeps its length and order, and a plain layer can read the weights file of a pruned layer.

    Args:
        weights_by_name: dict, attribute path of a weight -> its variable. Each weight gets a mask whose
            entries are all True.
        find: Function that returns the variable of an attribute path, or None. It is called for each mask in
            a file that the layer does not have. Defaults to a function that returns None.

    Attributes:
        weights_by_name: dict, attribute path of a weight -> its variable.
        masks: dict, attribute path -> bool variable, True = keep.
        step: Int, optimizer steps that were done when the `Prune` callback last saw the layer.
        stamp: Int, identifies the schedule update that made the masks. 0 if no update made them.
        restored: Bool, whether the masks were read from a file since this was last set to False.
        hidden: dict, attribute path -> float variable with the values of pruned entries, for modes that may
            restore them. Empty unless `keep_hidden` was called.
        chosen: dict, attribute path -> bool array: masks that a mode such as `soft` has chosen but does not
            enforce yet. Empty if masks are enforced.
        arrays: dict, name -> NumPy array: other state that callbacks save with the masks, see `memory`.
    """

    # Set by `object.__setattr__`, so that Keras does not track them.
    weights_by_name: dict[str, keras.Variable]
    find: Callable[[str], keras.Variable | None]
    masks: dict[str, keras.Variable]
    hidden: dict[str, keras.Variable]
    chosen: dict[str, np.ndarray]
    arrays: dict[str, np.ndarray]

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
        """Add a mask for one more weight of the layer, such as a bias. All its entries are True."""
        self.weights_by_name[name] = weight
        self.masks[name] = companion(weight, np.ones(weight.shape, dtype=bool), "mask")
        weight.constraint = MaskConstraint(self.masks[name], weight.constraint)

    def save_own_variables(self, store: Any) -> None:
        """Write the masks, packed to one bit per entry, into a Keras file."""
        save_notices.notice(self)
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

    def load_own_variables(self, store: Any) -> None:
        """Read the masks from a Keras file and apply them.

        Raises:
            InvalidArgumentError: The masks in the file have other names or shapes, or cannot change any more.
        """
        saved = set(store.keys())
        if not saved:  # The file was written before the layer became Prunable.
            self.apply()
            # That module imports this one.
            zeros = importlib.import_module("keras_ganprune.layers.unmasked_zeros")
            zeros.warn_of_loaded_zeros(self)
            return
        self._check_saved_shapes(store, saved)
        keeps = {name: _unpack(store[name], mask.shape) for name, mask in self.masks.items()}
        for name, keep in keeps.items():
            self._check_not_compiled_in(name, keep)
        for name, mask in self.masks.items():
            mask.assign(keeps[name])
        if any(f"{name}_hidden" in saved for name in self.masks):
            self._make_hidden()  # A model that was just built has no such variables yet.
        for name, values in self.hidden.items():
            if f"{name}_hidden" in saved:
                values.assign(np.asarray(store[f"{name}_hidden"]))
        self.chosen.clear()
        for name, mask in self.masks.items():
            if f"{name}_chosen" in saved:
                self.chosen[name] = _unpack(store[f"{name}_chosen"], mask.shape)
        self.arrays.clear()
        for name in saved:
            if name.startswith(_MEMORY):
                self.arrays[name.removeprefix(_MEMORY)] = np.asarray(store[name])
        self.step, self.stamp = (int(n) for n in np.asarray(store["clock"]))
        self.restored = True
        self.apply()

    def _check_not_compiled_in(self, name: str, keep: np.ndarray) -> None:
        """Refuse another mask of a layer with LoRA, if a compiled function of JAX holds the present one."""
        weight = self.weights_by_name[name]
        compiled = getattr(weight.constraint, "compiled_into_lora", False)
        if compiled and not np.array_equal(keep, to_numpy(self.masks[name])):
            raise InvalidArgumentError(
                "On JAX a compiled function keeps the mask of a layer with LoRA as it was. Received: a file "
                f"with another mask of '{weight.path}'. Load the file into a model that was made anew."
            )

    def _check_saved_shapes(self, store: Any, saved: set[str]) -> None:
        """Add masks that only the file has, then compare the shapes of all masks."""
        shapes = {
            name.removesuffix("_shape"): tuple(np.asarray(store[name]).tolist())
            for name in saved
            if name.endswith("_shape") and not name.startswith(_MEMORY)
        }
        for name in sorted(shapes.keys() - self.masks.keys()):
            # The saved layer had masks that `add_masks` added, such as the mask of a bias.
            weight = self.find(name)
            if weight is not None and tuple(weight.shape) == shapes[name]:
                self.add(name, weight)
        expected = {name: tuple(mask.shape) for name, mask in self.masks.items()}
        # With `skip_mismatch` Keras skips a weight of another shape, but loads its masks nevertheless.
        if shapes != expected:
            raise InvalidArgumentError(
                "The masks in the file must have the shapes of the layer's masks. Received: "
                f"{shapes} in the file, {expected} in the layer. Load the file into the model that wrote it."
            )

    def apply(self) -> None:
        """Set the pruned entries of every weight to zero."""
        for name, weight in self.weights_by_name.items():
            weight.assign(masked(weight, self.masks[name]))

    def keep_hidden(self, collect: bool) -> bool:
        """Store the values of pruned entries beside the weights.

        Args:
            collect: Whether the stored values also accumulate the optimizer's updates.

        Returns:
            Whether anything changed. If True, a training step that was traced before must be traced again.
        """
        changed = self._make_hidden()
        for name, weight in self.weights_by_name.items():
            hidden = self.hidden[name] if collect else None
            if weight.constraint.hidden is not hidden:
                weight.constraint.hidden = hidden
                changed = True
        return changed

    def _make_hidden(self) -> bool:
        missing = [name for name in self.weights_by_name if name not in self.hidden]
        for name in missing:
            weight = self.weights_by_name[name]
            self.hidden[name] = companion(weight, np.zeros(weight.shape, "float32"), "hidden")
        return bool(missing)

    def stop_collecting(self) -> bool:
        """Stop the accumulation of updates of pruned entries. Return True if it was on before."""
        collecting = [
            w.constraint for w in self.weights_by_name.values() if w.constraint.hidden is not None
        ]
        for constraint in collecting:
            constraint.hidden = None
        return bool(collecting)


def _unpack(bits: Any, shape: tuple[int, ...]) -> np.ndarray:
    """Return the bool array of a shape that was packed to one bit per entry."""
    flat = np.unpackbits(np.asarray(bits), count=int(np.prod(shape)))
    return flat.astype(bool).reshape(shape)


def memory(network: keras.layers.Layer) -> MaskStore:
    """Return the store whose `arrays` hold the state of a whole pruned network: the store of its first layer.

    A separate store of the network would not exist yet when Keras loads a file into a new model.
    """
    stores = (getattr(layer, "pruning_masks", None) for layer in network._flatten_layers())
    return next(store for store in stores if store is not None)


def tensor(value: Any) -> Any:
    """Return the value of a variable as a tensor, since not every operation of a backend takes variables."""
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
        # `convert_to_tensor` would return the variable itself, which NumPy copies. An operation returns a
        # tensor, whose memory NumPy shares.
        return np.asarray(ops.stop_gradient(variable))
    if backend == "torch":
        return importlib.import_module("keras_ganprune.backend._masking_torch").to_numpy(
            tensor(variable)
        )
    return np.asarray(ops.convert_to_numpy(tensor(variable)))


def dense_array(gradient: Any) -> np.ndarray:
    """Return a gradient as an array. Equal rows of a sparse gradient (of an embedding) are added."""
    if not all(hasattr(gradient, name) for name in ("indices", "values", "dense_shape")):
        return np.asarray(gradient)
    values = np.asarray(gradient.values)
    dense = np.zeros(tuple(np.asarray(gradient.dense_shape)), values.dtype)
    np.add.at(dense, np.asarray(gradient.indices), values)
    return dense


def companion(
    weight: keras.Variable, value: np.ndarray, name: str, aggregation: str = "only_first_replica"
) -> keras.Variable:
    """Return a new variable on the replicas of a weight.

    Args:
        weight: Variable that the new one belongs to.
        value: Array of the shape of the weight, the initial value.
        name: Suffix of the name of the new variable.
        aggregation: How replicas are combined. Defaults to 'only_first_replica'.
    """
    # A variable that was made under tf.distribute knows its strategy.
    strategy = getattr(weight.value, "distribute_strategy", None)

    def initializer(shape, dtype=None):
        return ops.convert_to_tensor(value, dtype=dtype)

    # The initial value is a function, because Keras may build models in a scope where variables get their
    # values later.
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
