"""Masks on variables: how they are stored and saved.

The stored weight itself is masked, by the guard of its variable (`layers/guard.py`). So the forward pass has
no additional operation, and a changed mask needs no retracing.
"""

from __future__ import annotations

import contextlib
import importlib
import warnings
import weakref
from collections.abc import Callable
from typing import Any, Protocol

import keras
import numpy as np
from keras import ops

from keras_ganprune.errors import InvalidArgumentError, PruningWarning
from keras_ganprune.layers import file_checksums, save_notices
from keras_ganprune.layers.guard import MaskConstraint, guard, pruned_but_not_zero, unguard
from keras_ganprune.layers.tensors import masked, to_numpy
from keras_ganprune.layers.zero_arrivals import Arrivals

# Prefix of the names of `MaskStore.arrays` in a file.
_MEMORY = "memory_"


class Writer(Protocol):
    """What has arrays to save beside the masks, which it makes only when they are saved."""

    def arrays_to_save(self) -> dict[str, np.ndarray]:
        """Return arrays that are saved like `MaskStore.arrays`, under these names."""
        ...


# Not in the stores: a copy of a store, in a copied model, does not save the state of another run.
_writers: weakref.WeakKeyDictionary[MaskStore, dict[str, weakref.ref[Any]]] = (
    weakref.WeakKeyDictionary()
)


def write_with(store: MaskStore, name: str, writer: Writer) -> None:
    """Ask an object for more arrays whenever a store is saved, as long as the object exists.

    Args:
        store: The store.
        name: A later writer of this name takes the place of the earlier one.
        writer: The object.
    """
    _writers.setdefault(store, {})[name] = weakref.ref(writer)


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
        initial: Function that returns the values that the initializer of an attribute path gives, or None.
            Defaults to a function that returns None.

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
    initial: Callable[[str], np.ndarray | None]
    masks: dict[str, keras.Variable]
    hidden: dict[str, keras.Variable]
    chosen: dict[str, np.ndarray]
    arrays: dict[str, np.ndarray]

    def __init__(
        self,
        weights_by_name: dict[str, keras.Variable],
        find: Callable[[str], keras.Variable | None] = lambda name: None,
        initial: Callable[[str], np.ndarray | None] = lambda name: None,
    ):
        super().__init__(name="pruning_masks", trainable=False)
        object.__setattr__(self, "weights_by_name", {})
        object.__setattr__(self, "find", find)
        object.__setattr__(self, "initial", initial)
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
        guard(weight, MaskConstraint(self.masks[name], weight.constraint))
        weight.constraint.arrivals = Arrivals(self, name)

    def release(self) -> None:
        """Free the weights of their masks; each gets the user's own constraint back. Values stay."""
        for weight in self.weights_by_name.values():
            unguard(weight)

    def rest(self, resting: bool) -> None:
        """Say whether a pruning run has ended: then every write is masked, whatever the mode collects."""
        for weight in self.weights_by_name.values():
            weight.constraint.resting = resting

    def pause(self) -> None:
        """Let the weights take values as they are until `apply`: a file has its weights before its masks."""
        for weight in self.weights_by_name.values():
            weight.constraint.paused = True

    def save_own_variables(self, store: Any) -> None:
        """Write the masks, packed to one bit per entry, into a Keras file."""
        self._warn_of_other_values()
        save_notices.notice(self)
        file_checksums.add_when_closed(store)
        for name, mask in self.masks.items():
            store[name] = np.packbits(to_numpy(mask))
            store[f"{name}_shape"] = np.asarray(mask.shape, dtype=np.int64)
        for name, values in self.hidden.items():
            store[f"{name}_hidden"] = to_numpy(values)
        for name, keep in self.chosen.items():
            store[f"{name}_chosen"] = np.packbits(keep)
        for name, array in self._all_arrays().items():
            store[f"{_MEMORY}{name}"] = array
        store["clock"] = np.asarray([self.step, self.stamp], dtype=np.int64)

    def _all_arrays(self) -> dict[str, np.ndarray]:
        arrays = dict(self.arrays)
        for reference in _writers.get(self, {}).values():
            writer = reference()
            if writer is not None:
                arrays.update(writer.arrays_to_save())
        return arrays

    def load_own_variables(self, store: Any) -> None:
        """Read the masks from a Keras file and apply them.

        Raises:
            FileFormatError: The file differs from the checksum in it.
            InvalidArgumentError: The masks in the file have other names or shapes, or cannot change any more.
        """
        try:
            file_checksums.check(store)
            self._load(store, set(store.keys()))
        finally:
            self.apply()

    def _load(self, store: Any, saved: set[str]) -> None:
        if not saved:  # The file was written before the layer became Prunable.
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

    def _warn_of_other_values(self) -> None:
        """Warn if a weight that is being saved has values under its mask."""
        names = [
            n for n, w in self.weights_by_name.items() if pruned_but_not_zero(w, self.masks[n])
        ]
        if names:
            paths = ", ".join(self.weights_by_name[name].path for name in names)
            warnings.warn(
                f"The weights that are saved have values under their masks: {paths}. Other code wrote them "
                "past Keras, such as an operation of TensorFlow or PyTorch on the variable. The file will be "
                "masked when it is loaded and then gives other outputs. Call `kgp.apply_masks(model)` before "
                "you evaluate and save the model.",
                PruningWarning,
                stacklevel=2,
            )

    def apply(self) -> None:
        """Set the pruned entries of every weight to zero."""
        for name, weight in self.weights_by_name.items():
            weight.constraint.paused = False
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
