"""Which kernels of a model have or can have masks, and which layer classes would have to be registered."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import keras

from keras_ganprune.errors import UnbuiltModelError
from keras_ganprune.layers import scope as scopes
from keras_ganprune.layers.computed_kernels import has_lora, owner_of
from keras_ganprune.layers.kernels import (
    attribute_paths,
    is_float,
    own_kernels,
    own_variables,
)
from keras_ganprune.layers.prunable import (
    PrunableLayer,
    is_redefined,
    pruned_names,
    weight_variable,
)
from keras_ganprune.layers.scope import Scope
from keras_ganprune.layers.traversal import check_layer, masked_weights, prunable_candidates, walk
from keras_ganprune.utils.notebook import Block, ShownInNotebooks

# Share of the kernels from which a warning says that they are not covered.
NOTABLE_SHARE = 0.01


@dataclass(frozen=True)
class UncoveredClass:
    """The kernels without masks of one layer class.

    Attributes:
        name: Name of the layer class.
        layers: Int, number of its layers.
        parameters: Int, number of parameters in their kernels without masks.
        path: Path of the first of these layers.
        fix: What to do so that the kernels get masks.

    Example:
    >>> print(UncoveredClass("Mix", 2, 128, "mix", "call `register_prunable(Mix, ['w'])`"))
    Mix (2 layers such as 'mix', 128 parameters: call `register_prunable(Mix, ['w'])`)
    """

    name: str
    layers: int
    parameters: int
    path: str
    fix: str

    def __str__(self) -> str:
        where = (
            f"'{self.path}'" if self.layers == 1 else f"{self.layers} layers such as '{self.path}'"
        )
        return f"{self.name} ({where}, {self.parameters:,} parameters: {self.fix})"


@dataclass(frozen=True)
class MaskCoverage(ShownInNotebooks):
    """How many parameters of the kernels of a model have masks, or get them when the model is pruned.

    Kernels are the trained weights with two or more axes. Biases, scales, and other vectors do not count.

    Attributes:
        covered: Int, number of parameters in kernels that have or can have masks.
        total: Int, number of parameters in all kernels.
        not_covered: Tuple of `UncoveredClass`, the classes of all other kernels; most parameters first.

    Example:
    >>> mix = UncoveredClass("Mix", 1, 128, "mix", "call `register_prunable(Mix, ['w'])`")
    >>> print(MaskCoverage(96, 224, (mix,)))
    Covered: 96 of 224 parameters in kernels have masks or can get them.
    Not covered: Mix ('mix', 128 parameters: call `register_prunable(Mix, ['w'])`).
    """

    covered: int
    total: int
    not_covered: tuple[UncoveredClass, ...]

    @property
    def share(self) -> float:
        """Share of the parameters that is covered; 1 if the model has no kernel."""
        return self.covered / self.total if self.total else 1.0

    @property
    def complete(self) -> bool:
        """Whether every kernel is covered."""
        return not self.not_covered

    def lines(self) -> list[str]:
        """Return the text for a report; no line if every kernel is covered."""
        return [] if self.complete else str(self).split("\n")

    def remark(self) -> str | None:
        """Return one line for a remark or warning, or None if every kernel is covered."""
        return None if self.complete else " ".join(self.lines())

    def _blocks(self) -> list[Block]:
        return [*str(self).split("\n")]

    def __str__(self) -> str:
        counts = f"{self.covered:,} of {self.total:,}"
        text = f"Covered: {counts} parameters in kernels have masks or can get them."
        if self.complete:
            return text
        named = "; ".join(str(row) for row in self.not_covered[:3])
        more = len(self.not_covered) - 3
        rest = (
            f"; and {more} other classes, see `mask_coverage(model).not_covered`"
            if more > 0
            else ""
        )
        return f"{text}\nNot covered: {named}{rest}."


def mask_coverage(*models: keras.layers.Layer, scope: Scope | None = None) -> MaskCoverage:
    """Return which kernels of a model have or can have masks.

    A kernel is not covered if the class of its layer is not registered, or is registered without the name of
    this kernel. A subclass has the registered names of its parent.

    Args:
        *models: Built Keras models or layers. A shared kernel counts once.
        scope: Which of the layers that can be pruned to look at, as for `Pruner`. Defaults to None, all
            layers of the models.

    Returns:
        A `MaskCoverage`. Layers that only a `scope` leaves out are covered, because they can have masks.

    Raises:
        ArgumentTypeError: A model is not a Keras 3 model or layer, or `scope` has another type.
        InvalidArgumentError: An entry of `scope` matches no layer.
        UnbuiltModelError: A model has no weights yet.

    Example:
    >>> class Mix(keras.layers.Layer):
    ...     def build(self, input_shape):
    ...         self.w = self.add_weight(shape=(input_shape[-1], 16))
    ...     def call(self, x):
    ...         return x @ self.w
    >>> model = keras.Sequential([keras.Input((12,)), keras.layers.Dense(8), Mix(name="mix")])
    >>> found = mask_coverage(model)
    >>> found.covered, found.total, found.not_covered[0].fix
    (96, 224, "call `register_prunable(Mix, ['w'])`")
    """
    for model in models:
        check_layer(model)
        if not model.built and not model.weights:
            raise UnbuiltModelError(
                f"'{model.name}' must be built before its kernels are counted; it has no weights yet. Call "
                "it once on a batch (`model(x)`), or `model.build(input_shape)`, first."
            )
    return coverage(models, scope)


def coverage(models: Sequence[keras.layers.Layer], scope: Scope | None = None) -> MaskCoverage:
    """Return what `mask_coverage` returns. A model without weights has no kernel here."""
    pairs = [pair for model in models for pair in walk(model)]
    if scope is not None:
        candidates = [pair for model in models for pair in prunable_candidates(model)]
        selected = scopes.select(candidates, scope)
        inside = {id(part) for _, layer in selected for _, part in walk(layer)}
        pairs = [(path, layer) for path, layer in pairs if id(layer) in inside]
    masked = {id(weight.variable) for weight in masked_weights(*models)}
    registered = {id(variable) for *_, variable in maskable_kernels(models)}
    owners = _inner_owners(models)
    kernels = {id(layer): {id(v) for v in own_kernels(layer)} for _, layer in pairs}
    covered, groups, seen = 0, {}, set()
    for path, layer in pairs:
        for variable in own_variables(layer):
            key, size = id(variable), math.prod(variable.shape)
            if key in seen:
                continue
            seen.add(key)
            is_kernel = key in kernels[id(layer)]
            if key in registered or (is_kernel and key in masked):
                covered += size
            elif is_kernel:
                path, owner = owners.get(id(layer), (path, layer))
                group = groups.setdefault(_plain_class(owner), _Group(path))
                group.add(owner, variable, has_lora(layer))
    rows = [group.row(cls) for cls, group in groups.items()]
    rows.sort(key=lambda row: -row.parameters)
    return MaskCoverage(covered, covered + sum(row.parameters for row in rows), tuple(rows))


def maskable_kernels(
    models: Sequence[keras.layers.Layer],
) -> Iterator[tuple[str, keras.layers.Layer, str, keras.Variable]]:
    """Yield (path of the layer, layer, name, variable) of every kernel that has or can have a mask."""
    masked = {id(weight.variable) for weight in masked_weights(*models)}
    for model in models:
        for path, layer in prunable_candidates(model):
            for name in pruned_names(layer):
                variable = weight_variable(layer, name)
                # A quantized kernel is an integer, and cannot be masked.
                if variable is None or not is_float(variable):
                    continue
                # A kernel that LoRA computes gets no mask, but one with a mask may get LoRA.
                if id(variable) in masked or not has_lora(owner_of(layer, name)[0]):
                    yield path, layer, name, variable


def _inner_owners(
    models: Sequence[keras.layers.Layer],
) -> dict[int, tuple[str, keras.layers.Layer]]:
    """Return the (path, layer) that the masks of an inner part belong to, by the id of the part.

    An inner part is a layer such as the cell of an `LSTM`.
    """
    owners: dict[int, tuple[str, keras.layers.Layer]] = {}
    for model in models:
        for path, layer in prunable_candidates(model):
            if any("." in name for name in pruned_names(layer)):
                owners.update({id(inner): (path, layer) for _, inner in walk(layer)[1:]})
    return owners


def _plain_class(layer: keras.layers.Layer) -> type:
    return layer.plain_class if isinstance(layer, PrunableLayer) else type(layer)


@dataclass
class _Group:
    """The kernels of one layer class that are not covered, while they are collected."""

    path: str
    layers: dict[int, keras.layers.Layer] = field(default_factory=dict)
    parameters: int = 0
    lora: bool = False
    # Attribute paths of the kernels, in order. None for a kernel that is no attribute.
    names: dict[str | None, None] = field(default_factory=dict)

    def add(self, layer: keras.layers.Layer, kernel: keras.Variable, lora: bool) -> None:
        """Add a kernel of a layer; `lora` if LoRA computes it."""
        self.lora = self.lora or lora
        self.layers[id(layer)] = layer
        self.parameters += math.prod(kernel.shape)
        self.names[attribute_paths(layer, inner=True).get(id(kernel))] = None

    def row(self, cls: type) -> UncoveredClass:
        """Return the row of the class."""
        return UncoveredClass(
            cls.__name__, len(self.layers), self.parameters, self.path, self._fix(cls)
        )

    def _fix(self, cls: type) -> str:
        if self.lora:
            return "call `kgp.merge_lora(model)`, which adds the LoRA updates to the kernels"
        if None in self.names:
            return "their kernels are no attributes of the layer, so they cannot be masked"
        if issubclass(cls, keras.Model):
            return "put the weights into a layer of your own, and register its class"
        known = [n for n in pruned_names(next(iter(self.layers.values()))) if n not in self.names]
        call = f"`register_prunable({cls.__name__}, {[*known, *self.names]})`"
        if is_redefined(cls):
            return (
                f"a class of this name was registered, but this is another class object; call {call} "
                "again after the class is defined"
            )
        return f"call {call}"
