"""What a network costs, layer by layer."""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import keras
import numpy as np

from keras_ganprune.errors import InvalidArgumentError, UnsupportedLayerError
from keras_ganprune.gan import GANModel
from keras_ganprune.layers.mask_store import to_numpy
from keras_ganprune.layers.traversal import walk
from keras_ganprune.layers.upgrade import plain_classes
from keras_ganprune.metrics import measure_latency
from keras_ganprune.pruning.structured.channels import Channels
from keras_ganprune.pruning.structured.costs import Costs
from keras_ganprune.pruning.structured.graph import Call, Graph, Tensor, trace
from keras_ganprune.pruning.structured.groups import Groups
from keras_ganprune.pruning.structured.rules.macs import is_counted
from keras_ganprune.utils import files, tables, validation


@dataclass(frozen=True)
class ProfileRow:
    """One layer, or one product of tensors between layers.

    Attributes:
        layer: Path of the layer, or name of the operation.
        kind: Name of its class.
        shape: Of its output, with the batch first; None if it is never called.
        parameters, nonzero: Ints, entries of its weights, and how many of them are not zero. A weight that
            several layers share is in the first row only.
        macs: Int, multiply-accumulates for one sample; None if they are not known.
    """

    layer: str
    kind: str
    shape: tuple[int | None, ...] | None
    parameters: int
    nonzero: int
    macs: int | None


@dataclass(frozen=True)
class Profile:
    """What a network costs; iterable over its rows, printable, and `to_dicts()` for a data frame.

    Attributes:
        name: Of the model.
        rows: A `ProfileRow` for each layer.
        bytes: Int, of all weights in memory.
        latency: Dict, batch size -> median milliseconds of the compiled Keras model; empty if not measured.
        saved_bytes: Int, size of the SavedModel's folder, or None.
        saved_latency: Dict, as `latency`, of the SavedModel.
    """

    name: str
    rows: tuple[ProfileRow, ...]
    bytes: int
    latency: Mapping[int, float] = field(default_factory=dict)
    saved_bytes: int | None = None
    saved_latency: Mapping[int, float] = field(default_factory=dict)

    @property
    def parameters(self) -> int:
        return sum(row.parameters for row in self.rows)

    @property
    def nonzero(self) -> int:
        """Parameters that are not zero."""
        return sum(row.nonzero for row in self.rows)

    @property
    def macs(self) -> int:
        """Multiply-accumulates for one sample, of all layers for which they are known."""
        return sum(row.macs or 0 for row in self.rows)

    @property
    def uncounted(self) -> tuple[str, ...]:
        """Layers of which the multiply-accumulates are not known."""
        return tuple(row.layer for row in self.rows if row.macs is None)

    def __iter__(self) -> Iterator[ProfileRow]:
        return iter(self.rows)

    def __len__(self) -> int:
        return len(self.rows)

    def to_dicts(self) -> list[dict]:
        """Return the rows as dicts, for a CSV file or a data frame."""
        return [dict(vars(row)) for row in self.rows]

    def table(self) -> list[tuple[str, ...]]:
        """Return the cells as text, header first and total last."""
        cells = [("layer", "class", "output", "parameters", "not zero", "MACs")]
        for row in self.rows:
            sizes = ["?" if n is None else str(n) for n in (row.shape or (None,))[1:]]
            shape = "–" if row.shape is None else "×".join(sizes)
            macs = "not counted" if row.macs is None else f"{row.macs:,}"
            cells.append(
                (row.layer, row.kind, shape, f"{row.parameters:,}", f"{row.nonzero:,}", macs)
            )
        totals = [f"{n:,}" for n in (self.parameters, self.nonzero, self.macs)]
        cells.append(("total", "", "", *totals))
        return cells

    def notes(self) -> list[str]:
        """Return what stands below the table: bytes, times, and what is not counted."""
        found = [f"weights: {self.bytes:,} bytes{_times(self.latency)}"]
        if self.saved_bytes is not None:
            found.append(f"SavedModel: {self.saved_bytes:,} bytes{_times(self.saved_latency)}")
        if self.uncounted:
            found.append(
                f"MACs are not counted of: {', '.join(self.uncounted)} (the total is of the others)"
            )
        return found

    def to_markdown(self) -> str:
        notes = [f"- {note}" for note in self.notes()]
        return "\n".join([tables.markdown(self.table(), left=3), "", *notes])

    def __str__(self) -> str:
        return "\n".join([tables.text(self.table(), left=3, total=True), *self.notes()])

    __repr__ = __str__


def _times(latency: Mapping[int, float]) -> str:
    return "".join(f"; batch of {batch}: {time:.3g} ms" for batch, time in latency.items())


def profile(
    model: keras.Model,
    *,
    batch_sizes: Sequence[int] = (1, 16),
    latency: bool = True,
    saved_model: str | os.PathLike | None = None,
    repeats: int = 30,
    inputs: Any = None,
) -> Profile:
    """Return what a network costs: parameters, multiply-accumulates, bytes and milliseconds.

    Multiply-accumulates are those of kernels, attention and products of tensors, for one sample; see
    `structured.costs.Costs`. A kernel that is masked counts in full, since it is multiplied all the same.
    A layer that is not known is shown as not counted; `register_macs` makes it known.

    Args:
        model: A built Keras model.
        batch_sizes: Positive ints, the batches that are timed.
        latency: Whether anything is timed.
        saved_model: Folder that `export_saved_model` wrote of this model, to be measured too.
        repeats: Int, how often each batch is timed. To compare models use `compare_models`.
        inputs: Structure of `keras.Input`s, for a subclassed model with several inputs.

    Returns: A `Profile`.

    Raises:
        UnbuiltModelError: the model has no weights yet.
        InvalidArgumentError: it is a `GANModel`, or is to be timed and has sizes that are not known.
        FileFormatError: the folder is not such a SavedModel.

    Example:
    >>> model = keras.Sequential(
    ...     [keras.Input((8, 8, 3)), keras.layers.Conv2D(4, 3, name="conv")], name="tiny"
    ... )
    >>> print(profile(model, latency=False))
    layer  class   output  parameters  not zero   MACs
    ──────────────────────────────────────────────────
    conv   Conv2D  6×6×4          112       108  3,888
    ──────────────────────────────────────────────────
    total                         112       108  3,888
    weights: 448 bytes
    """
    saved = {} if saved_model is None else {"model": saved_model}
    return profiles_of({"model": model}, batch_sizes, latency, saved, repeats, inputs)["model"]


def profiles_of(
    models: Mapping[str, keras.Model],
    batch_sizes: Sequence[int],
    latency: bool,
    saved_models: Mapping[str, str | os.PathLike],
    repeats: int,
    inputs: Any,
) -> dict[str, Profile]:
    """Return the profiles of models that are timed in turn; see `profile` and `compare_models`."""
    batch_sizes = measure_latency.check_batch_sizes(batch_sizes)
    unknown = set(saved_models) - set(models)
    if unknown:
        raise InvalidArgumentError(
            f"`saved_models` must have the names of models, {sorted(models)}. Received: {sorted(unknown)}."
        )
    functions = {
        (name, "saved"): measure_latency.served(path) for name, path in saved_models.items()
    }
    found = {name: _costs(model, inputs) for name, model in models.items()}
    for name, path in saved_models.items():
        found[name] = replace(found[name], saved_bytes=files.folder_bytes(path))
    if not latency:
        return found
    specs = {name: measure_latency.input_specs(model, inputs) for name, model in models.items()}
    first = next(iter(specs))
    shapes = {
        name: [tuple(s.shape) for s in keras.tree.flatten(own)] for name, own in specs.items()
    }
    for name in specs:
        if shapes[name] != shapes[first]:
            raise InvalidArgumentError(
                f"Models that are compared must take the same inputs. '{first}' takes {shapes[first]}, "
                f"'{name}' {shapes[name]}. Profile them one by one, and `compare` the profiles."
            )
    functions |= {
        (name, "keras"): measure_latency.compiled(model) for name, model in models.items()
    }
    for batch in batch_sizes:
        given = measure_latency.random_inputs(specs[first], batch)
        for (name, kind), time in measure_latency.latency(
            functions, given, repeats=repeats
        ).items():
            what = "latency" if kind == "keras" else "saved_latency"
            times = {**getattr(found[name], what), batch: time}
            found[name] = replace(found[name], **{what: times})
    return found


def _costs(model: keras.Model, inputs: Any) -> Profile:
    """Return a profile without times."""
    if isinstance(model, GANModel):
        raise InvalidArgumentError(
            "A `GANModel` is two networks. Profile `gan.generator` and `gan.discriminator` one by one."
        )
    validation.built_model(model, "is profiled")
    with plain_classes(model):
        try:
            graph = trace(model, is_counted, inputs)
        except UnsupportedLayerError:
            graph = _run(model, inputs)
        costs = Costs(Groups(graph, Channels(), (), {}))
        rows = costs.rows()
    if graph.outputs is None:
        # Weights that no layer seen has are used in between, where nothing is seen.
        rows = [row if row.shape is not None else replace(row, macs=None) for row in rows]
    return Profile(
        model.name,
        tuple(
            ProfileRow(
                row.layer,
                row.kind,
                row.shape,
                row.parameters,
                sum(int(np.count_nonzero(to_numpy(w))) for w in row.weights),
                row.macs,
            )
            for row in rows
        ),
        costs.bytes(),
    )


def _run(model: keras.Model, inputs: Any) -> Graph:
    """Return the calls of layers in a model that cannot be called on symbols, from running it once.

    What happens between the layers is not seen; each input of a layer stands for itself.
    """
    calls: list[Call] = []
    given: list[Tensor] = []

    def tensor(leaf: Any) -> Any:
        if not keras.ops.is_tensor(leaf):
            return leaf
        return Tensor(tuple(leaf.shape), keras.backend.standardize_dtype(leaf.dtype))

    def note(path: str, layer: keras.layers.Layer, args: Any, kwargs: Any, outputs: Any) -> None:
        args, kwargs = keras.tree.map_structure(tensor, (args, kwargs))
        result = keras.tree.map_structure(tensor, outputs)
        calls.append(Call(layer, path, tuple(args), kwargs, result))
        given.extend(calls[-1].inputs)

    with _listening(model, note):
        model(
            measure_latency.random_inputs(measure_latency.input_specs(model, inputs), 1),
            training=False,
        )
    if not calls:
        calls.append(Call(model, model.name, (), {}, [], "it has no layers that are known"))
    return Graph(model, given, None, [], calls)


@contextlib.contextmanager
def _listening(model: keras.Model, note: Callable) -> Iterator[None]:
    """Within the context, tell of every call of a layer whose cost is known, or that has no layers in it.

    The layers' `call` is hidden by an attribute of the object for as long, since Keras looks it up there.
    """
    inside: list[keras.layers.Layer] = []

    def listened(path: str, layer: keras.layers.Layer) -> Callable:
        call = layer.call

        @functools.wraps(call)
        def listen(*args, **kwargs):
            inside.append(layer)
            try:
                outputs = call(*args, **kwargs)
            finally:
                inside.pop()
            if not inside:
                note(path, layer, args, kwargs, outputs)
            return outputs

        return listen

    layers = []
    for path, layer in walk(model)[1:]:
        if is_counted(layer) or len(walk(layer)) == 1:
            layers.append(layer)
            object.__setattr__(layer, "call", listened(path, layer))
    try:
        yield
    finally:
        for layer in layers:
            vars(layer).pop("call", None)
