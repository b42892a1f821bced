"""Weight averages that a user's code keeps as single variables or arrays, not as a second network."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from keras_ganprune.backend.tracing import trained_variables
from keras_ganprune.errors import PruningWarning
from keras_ganprune.layers.kernels import BOOKKEEPING
from keras_ganprune.layers.object_parts import PLAIN
from keras_ganprune.layers.tensors import masked, to_numpy
from keras_ganprune.layers.traversal import MaskedWeight, masked_weights
from keras_ganprune.training import discovery
from keras_ganprune.utils.registry import PACKAGE

# Two tensors that are not related hardly reach this correlation with so many entries.
_CORRELATION = 0.9
_ENTRIES = 16
# Number of objects after which the search ends.
_MOST = 20_000
# On JAX, Keras keeps the values of all variables in `_jax_state` while it fits a model.
_SKIPPED = BOOKKEEPING | {"_jax_state"}
# Libraries whose objects are not searched, but for classes of such names.
_LIBRARIES = {"keras", "tensorflow", "torch", "jax", "jaxlib", "numpy", "builtins", PACKAGE}
_AVERAGE_CLASS = re.compile(r"average|ema$|shadow", re.IGNORECASE)


@dataclass
class Leaf:
    """A variable or an array, and where it is kept."""

    path: str
    holder: Any
    key: Any
    value: Any

    def read(self) -> np.ndarray:
        """Return the value as an array."""
        return self.value if isinstance(self.value, np.ndarray) else to_numpy(self.value)

    def mask(self, keep: np.ndarray) -> bool:
        """Set the entries to zero where a mask is False; return whether that is possible."""
        value = self.value
        if hasattr(value, "assign"):
            value.assign(masked(value, keep))
        elif isinstance(value, np.ndarray) and value.flags.writeable:
            value[~keep] = 0
        else:
            return self._replace(masked(keras.ops.convert_to_tensor(value), keep))
        return True

    def _replace(self, value: Any) -> bool:
        if isinstance(self.holder, tuple):
            return False
        if isinstance(self.value, np.ndarray):
            value = to_numpy(value)
        if isinstance(self.holder, (list, dict)):
            self.holder[self.key] = value
        else:
            object.__setattr__(self.holder, self.key, value)
        return True


def leaves(root: Any, name: str, skipped: set[int]) -> Iterator[Leaf]:
    """Yield the variables and arrays that an object holds, also in lists, dicts and objects of a user.

    Args:
        root: A model, or a callback of the user.
        name: What the paths begin with; '' for the attributes themselves.
        skipped: Ids of objects that are not searched. The objects that were searched are added.
    """
    level: list[tuple[str, Any]] = [(name, root)]
    while level and len(skipped) < _MOST:
        deeper: list[tuple[str, Any]] = []
        for path, holder in level:
            for key, value, inner in _members(holder, path):
                if _is_array(value):
                    yield Leaf(inner, holder, key, value)
                elif id(value) not in skipped and _is_searched(value):
                    skipped.add(id(value))
                    deeper.append((inner, value))
        level = deeper


def _members(holder: Any, path: str) -> Iterator[tuple[Any, Any, str]]:
    """Yield (key, value, path) for the entries or attributes of an object."""
    if isinstance(holder, Mapping):
        for number, (key, value) in enumerate(list(holder.items())):
            # The text of other keys, such as a reference to a variable, may change.
            name = repr(key) if isinstance(key, (str, int)) else number
            yield key, value, f"{path}[{name}]"
    elif isinstance(holder, (list, tuple)):
        yield from ((i, value, f"{path}[{i}]") for i, value in enumerate(holder))
    else:
        dot = f"{path}." if path else ""
        for key, value in discovery.attributes(holder).items():
            if key not in _SKIPPED and not key.startswith("_self_"):
                yield key, value, f"{dot}{key}"
        if isinstance(holder, keras.layers.Layer):
            # The layers of a `Sequential` are no attributes.
            for layer in holder._flatten_layers(include_self=False, recursive=False):
                yield layer.name, layer, f"{dot}{layer.name}"


def _is_array(value: Any) -> bool:
    if type(value) in PLAIN:  # most attributes
        return False
    if isinstance(value, np.ndarray):
        return value.dtype.kind == "f"
    if not isinstance(value, keras.Variable) and not keras.ops.is_tensor(value):
        return False
    return "float" in keras.backend.standardize_dtype(value.dtype)


def _is_searched(value: Any) -> bool:
    if isinstance(value, (str, bytes, type, keras.metrics.Metric, keras.optimizers.Optimizer)):
        return False
    if isinstance(value, (list, tuple, Mapping, keras.layers.Layer)):
        return True
    cls = type(value)
    foreign = cls.__module__.partition(".")[0] not in _LIBRARIES or _AVERAGE_CLASS.search(
        cls.__name__
    )
    return bool(foreign) and hasattr(value, "__dict__")


class LooseAverages:
    """Finds averages of pruned kernels among the variables and arrays of a model, and masks them.

    An average has the shape of the kernel, is trained by no optimizer, and changes. It began as a copy of the
    kernel, or it correlates with the kernel.

    Args:
        model: Model that is being trained.
        holders: Other objects that may hold averages: the user's own callbacks.
        say: Function that prints a line of text. It is called when averages are found.
        effect: What this package does to an average, for that line.

    Attributes:
        found: dict, path of an average -> the `MaskedWeight`.
    """

    def __init__(
        self,
        model: keras.Model,
        holders: Iterable[Any],
        say: Callable[[str], Any],
        effect: str,
    ):
        self.model = model
        self.holders: dict[str, Any] = {}
        for holder in filter(_is_searched, holders):
            name = type(holder).__name__
            number = sum(isinstance(h, type(holder)) for h in self.holders.values())
            self.holders[f"{name}{number + 1 if number else ''}"] = holder
        self.say = say
        self.effect = effect
        self.found: dict[str, MaskedWeight] = {}
        self._first_seen: dict[str, tuple[float, int | None]] = {}
        self._said_fixed = False

    def look(
        self,
        targets: Sequence[tuple[str, keras.layers.Layer]],
        copies: Iterable[keras.layers.Layer],
    ) -> list[tuple[Leaf, MaskedWeight]]:
        """Find the averages; return each with its kernel.

        Args:
            targets: (name, network) for each pruned network.
            copies: Averages that are whole networks, which are left out.
        """
        weights = [w for _, network in targets for w in masked_weights(network)]
        by_shape: dict[tuple[int, ...], list[MaskedWeight]] = {}
        for weight in weights:
            if len(weight.mask.shape) > 1:  # vectors of unrelated parts may look alike
                by_shape.setdefault(tuple(weight.mask.shape), []).append(weight)
        known, trained = self._known(weights, copies)
        arrays: dict[int, np.ndarray] = {}

        def kernel(weight: MaskedWeight) -> np.ndarray:
            # Only for candidates, and once: a kernel may be large.
            key = id(weight.variable)
            if key not in arrays:
                arrays[key] = to_numpy(weight.variable)
            return arrays[key]

        pairs, new = [], []
        for leaf in self._leaves(copies):
            partners = by_shape.get(tuple(leaf.value.shape))
            if not partners or id(leaf.value) in known:
                continue
            weight = self.found.get(leaf.path)
            if weight is None:
                weight = self._partner(leaf, partners, kernel, bool(trained))
                if weight is None:
                    continue
                self.found[leaf.path] = weight
                new.append((leaf, weight))
            pairs.append((leaf, weight))
        self._announce(new, targets)
        return pairs

    def sync(
        self,
        targets: Sequence[tuple[str, keras.layers.Layer]],
        copies: Iterable[keras.layers.Layer],
    ) -> None:
        """Find new averages, then set the pruned entries of all averages to zero."""
        fixed = [
            leaf.path
            for leaf, weight in self.look(targets, copies)
            if not leaf.mask(to_numpy(weight.mask))
        ]
        if fixed and not self._said_fixed:
            self._said_fixed = True
            warnings.warn(
                f"'{fixed[0]}' looks like an average of a pruned weight, but an array in a tuple cannot be "
                "changed, so it does not get the mask. Keep averages in a list, or as `keras.Variable`s.",
                PruningWarning,
                stacklevel=4,
            )

    def _leaves(self, copies: Iterable[keras.layers.Layer]) -> Iterator[Leaf]:
        skipped = {id(self.model), *(id(part) for c in copies for part in c._flatten_layers())}
        yield from leaves(self.model, "", skipped)
        for name, holder in self.holders.items():
            skipped.add(id(holder))
            yield from leaves(holder, name, skipped)

    def _known(
        self, weights: Iterable[MaskedWeight], copies: Iterable[keras.layers.Layer]
    ) -> tuple[set[int], list[Any]]:
        """Return ids of what is no average, and the variables that are trained."""
        optimizers = [o for o in discovery.optimizers(self.model) if o.built]
        active = [o for o in optimizers if discovery.steps_done(o)]
        trained = [v for o in active for v in trained_variables(o)]
        others = [v for o in optimizers for v in o.variables]
        variables = [*trained, *others, *(w.variable for w in weights)]
        variables += [v for copy in copies for v in copy.weights]
        known = {id(v) for v in variables}
        return known | {id(getattr(v, "_value", v)) for v in variables}, trained

    def _partner(
        self,
        leaf: Leaf,
        partners: Sequence[MaskedWeight],
        kernel: Callable[[MaskedWeight], np.ndarray],
        training: bool,
    ) -> MaskedWeight | None:
        """Return the kernel that an array is an average of, or None."""
        value = leaf.read()
        now = float(np.sum(value, dtype=np.float64))
        if leaf.path not in self._first_seen:
            twins = [w for w in partners if np.array_equal(kernel(w), value)]
            self._first_seen[leaf.path] = now, id(twins[0].variable) if twins else None
        before, twin = self._first_seen[leaf.path]
        if before == now or not training:
            return None  # The weights of a frozen teacher never change.
        for weight in partners:
            if id(weight.variable) == twin:
                return weight
        ranked = [(_correlation(value, kernel(w), w.mask), w) for w in partners]
        best, weight = max(ranked, key=lambda pair: pair[0])
        return weight if best >= _CORRELATION else None

    def _announce(
        self,
        new: Sequence[tuple[Leaf, MaskedWeight]],
        targets: Sequence[tuple[str, keras.layers.Layer]],
    ) -> None:
        groups: dict[tuple[str, str], int] = {}
        for leaf, weight in new:
            names = [n or t.name for n, t in targets if weight.layer in t._flatten_layers()]
            place = re.sub(r"\[[^\[\]]*\]$", "", leaf.path)
            key = place, names[0] if names else weight.path
            groups[key] = groups.get(key, 0) + 1
        for (place, network), count in groups.items():
            what = "an average of a kernel" if count == 1 else f"averages of {count} kernels"
            self.say(f"'{place}' has {what} of '{network}': each {self.effect}")


def _correlation(value: np.ndarray, weight: np.ndarray, mask: Any) -> float:
    """Return the correlation of the kept entries of a weight with another array."""
    keep = to_numpy(mask)
    one, other = value[keep].astype(np.float64), weight[keep].astype(np.float64)
    if one.size < _ENTRIES or not one.std() or not other.std():
        return 0.0
    return float(np.corrcoef(one, other)[0, 1])
