"""The costs of a model per layer: parameters, multiply-accumulates, bytes and latency."""

from __future__ import annotations

import functools
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import keras
import numpy as np

from keras_ganprune.errors import ArgumentTypeError, InvalidArgumentError, UnsupportedLayerError
from keras_ganprune.gan.adversarial_model import AdversarialModel
from keras_ganprune.layers.stripping import plain_classes
from keras_ganprune.layers.tensors import to_numpy
from keras_ganprune.metrics import measure_latency
from keras_ganprune.metrics._observed_calls import observed_graph
from keras_ganprune.pruning.structured.channels import Channels
from keras_ganprune.pruning.structured.costs import Costs
from keras_ganprune.pruning.structured.counted_macs import CountedMacs
from keras_ganprune.pruning.structured.graph import trace
from keras_ganprune.pruning.structured.groups import Groups
from keras_ganprune.pruning.structured.rules.macs import is_counted
from keras_ganprune.utils import annotated, files, tables, terminal, validation
from keras_ganprune.utils.notebook import Block, ShownInNotebooks, TableBlock


@dataclass(frozen=True)
class ProfileRow:
    """The costs of one layer, or of one product of tensors between layers.

    Attributes:
        layer: Path of the layer, or name of the operation.
        kind: Name of its class.
        shape: Shape of its output, batch first; None if the layer is never called.
        parameters: Int, number of weights. A weight that several layers share is in the first row only.
        nonzero: Int, number of weights that are not zero.
        macs: Int, multiply-accumulates per sample; None if they are not known.

    Example:
    >>> model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(4, name="head")])
    >>> row = profile(model, latency=False).rows[0]
    >>> row.layer, row.shape, row.macs
    ('head', (None, 4), 32)
    """

    layer: str
    kind: str
    shape: tuple[int | None, ...] | None
    parameters: int
    nonzero: int
    macs: int | None


@dataclass(frozen=True)
class Profile(ShownInNotebooks):
    """The costs of a model. It can be iterated over (rows) and printed.

    Attributes:
        name: Name of the model.
        rows: Tuple with one `ProfileRow` per layer.
        bytes: Int, size of all weights in memory.
        latency: Dict, batch size -> median milliseconds of the compiled Keras model; empty if it was not
            measured.
        saved_bytes: Int, size of the SavedModel's folder, or None.
        saved_latency: Dict, batch size -> median milliseconds of the SavedModel; empty if it was not
            measured.

    Example:
    >>> model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(4, name="head")])
    >>> costs = profile(model, latency=False)
    >>> costs.parameters, costs.macs, costs.bytes, [row.layer for row in costs]
    (36, 32, 144, ['head'])
    """

    name: str
    rows: tuple[ProfileRow, ...]
    bytes: int
    latency: Mapping[int, float] = field(default_factory=dict)
    saved_bytes: int | None = None
    saved_latency: Mapping[int, float] = field(default_factory=dict)

    @property
    def parameters(self) -> int:
        """Number of weights."""
        return sum(row.parameters for row in self.rows)

    @property
    def nonzero(self) -> int:
        """Number of weights that are not zero."""
        return sum(row.nonzero for row in self.rows)

    @property
    def macs(self) -> CountedMacs:
        """Multiply-accumulates per sample, over all layers for which they are known: an int.

        Its attribute `uncounted` has the other layers, and it names them when it is printed.
        """
        return CountedMacs.of_rows(self.rows)

    @property
    def uncounted(self) -> tuple[str, ...]:
        """Layers whose multiply-accumulates are not known."""
        return tuple(row.layer for row in self.rows if row.macs is None)

    def __iter__(self) -> Iterator[ProfileRow]:
        return iter(self.rows)

    def __len__(self) -> int:
        return len(self.rows)

    def to_dicts(self) -> list[dict[str, Any]]:
        """Return the rows as dicts, for a CSV file or a data frame."""
        return [dict(vars(row)) for row in self.rows]

    def table(self) -> list[tuple[str, ...]]:
        """Return the cells as text, header first and total last."""
        cells: list[tuple[str, ...]] = [
            ("layer", "class", "output", "parameters", "not zero", "MACs")
        ]
        for row in self.rows:
            sizes = ["?" if n is None else str(n) for n in (row.shape or (None,))[1:]]
            shape = "–" if row.shape is None else "×".join(sizes)
            macs = "not counted" if row.macs is None else f"{row.macs:,}"
            cells.append(
                (row.layer, row.kind, shape, f"{row.parameters:,}", f"{row.nonzero:,}", macs)
            )
        macs = f"{int(self.macs):,}{' + ?' if self.uncounted else ''}"
        cells.append(("total", "", "", f"{self.parameters:,}", f"{self.nonzero:,}", macs))
        return cells

    def notes(self) -> list[str]:
        """Return the lines below the table: bytes, latencies, and the layers that are not counted."""
        lines = [f"weights: {self.bytes:,} bytes{_latency_text(self.latency)}"]
        if self.saved_bytes is not None:
            lines.append(
                f"SavedModel: {self.saved_bytes:,} bytes{_latency_text(self.saved_latency)}"
            )
        if self.uncounted:
            lines.append(f"MACs: {self.macs:,}. Register a rule for them with `kgp.register_macs`.")
        return lines

    def to_markdown(self) -> str:
        """Return the table and its notes as Markdown."""
        notes = [f"- {note}" for note in self.notes()]
        return "\n".join([tables.markdown(self.table(), left=3), "", *notes])

    def _blocks(self) -> list[Block]:
        return [TableBlock(self.table(), left=3, total=True), *self.notes()]

    def __str__(self) -> str:
        return "\n".join([tables.text(self.table(), left=3, total=True), *self.notes()])

    __repr__ = __str__


def _latency_text(latency: Mapping[int, float]) -> str:
    return "".join(f"; batch of {batch}: {time:.3g} ms" for batch, time in latency.items())


def profile(
    model: keras.Model,
    *,
    batch_sizes: int | Sequence[int] = (1, 16),
    latency: bool = True,
    saved_model: str | os.PathLike[str] | None = None,
    repeats: int | None = None,
    inputs: Any = None,
) -> Profile:
    """Return the costs of a model: parameters, multiply-accumulates, bytes and milliseconds.

    Multiply-accumulates are counted per sample, for kernels, attention and products of tensors; see
    `structured.costs.Costs`. A masked kernel counts in full, because dense hardware multiplies its zeros too.
    Where layers of unknown classes are not counted, the report and the number name them; `register_macs` adds
    a rule for a class.

    Args:
        model: A built Keras model.
        batch_sizes: Positive int or ints, the batch sizes that are timed. Defaults to (1, 16).
        latency: Whether the model is timed. That takes at most about 5 seconds per batch size, or two calls
            of a slower model; a printed line says so then. Defaults to True.
        saved_model: Folder that `export_saved_model` wrote for this model, to be measured too. Defaults
            to None.
        repeats: Positive int, number of timings per batch size. Defaults to None: 30, or fewer if 30
            take more than about 5 seconds. To compare the latency of
            several models, use `compare_models`.
        inputs: Structure of `keras.Input`s, for a subclassed model with several inputs. Defaults to None.

    Returns:
        A `Profile`.

    Raises:
        ArgumentTypeError: `model` is not a Keras model.
        UnbuiltModelError: The model has no weights yet, or its inputs are not known.
        InvalidArgumentError: The model is a `GANModel`, it has unknown input sizes and `latency` is True, or
            `batch_sizes` or `repeats` is invalid.
        FileFormatError: `saved_model` is not a SavedModel of this package.

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
    annotated.check(profile, locals(), "saved_model")
    saved = {} if saved_model is None else {"model": saved_model}
    return profiles_of({"model": model}, batch_sizes, latency, saved, repeats, inputs)["model"]


def profiles_of(
    models: Mapping[str, keras.Model],
    batch_sizes: int | Sequence[int],
    latency: bool,
    saved_models: Mapping[str, str | os.PathLike[str]],
    repeats: int | None,
    inputs: Any,
) -> dict[str, Profile]:
    """Return the profiles of models that are timed in turns; see `profile` and `compare_models`."""
    annotated.check(profiles_of, locals(), "repeats", "saved_models")
    if repeats is not None:
        validation.positive_int(repeats, "repeats")
    if not isinstance(models, Mapping) or not models:
        raise ArgumentTypeError(
            "`models` must be a dict of name -> Keras model with at least one entry. Received: "
            f"{models!r}. Write for example `{{'dense': model}}`."
        )
    validation.boolean(latency, "latency")
    if not isinstance(saved_models, Mapping):
        raise ArgumentTypeError(
            f"`saved_models` must be a dict of name -> folder. Received: {saved_models!r}."
        )
    batches = measure_latency.check_batch_sizes(batch_sizes)
    unknown = set(saved_models) - set(models)
    if unknown:
        raise InvalidArgumentError(
            f"The keys of `saved_models` must be names of models: {sorted(models)}. Received: "
            f"{sorted(unknown, key=str)}."
        )
    functions = {
        (name, "saved_latency"): measure_latency.served(path) for name, path in saved_models.items()
    }
    profiles = {name: _untimed_profile(model, inputs) for name, model in models.items()}
    for name, path in saved_models.items():
        profiles[name] = replace(profiles[name], saved_bytes=files.folder_bytes(path))
    if not latency:
        return profiles
    specs = _shared_specs(models, inputs)
    functions |= {
        (name, "latency"): measure_latency.compiled(model) for name, model in models.items()
    }
    expected = 0.0
    for number, batch in enumerate(batches):
        if number:
            expected *= batch / batches[number - 1]
        if expected > measure_latency.SLOW_SECONDS:
            _say_slow(batch, expected)
        arrays = measure_latency.random_inputs(specs, batch)
        said = expected > measure_latency.SLOW_SECONDS
        slow = None if said else functools.partial(_say_slow, batch)
        times = measure_latency.timed(functions, arrays, repeats, slow=slow)
        # A function is called at least twice.
        expected = sum(times.values()) / 1000.0 * max(2, repeats or 2)
        for (name, attribute), time in times.items():
            latencies = {**getattr(profiles[name], attribute), batch: time}
            profiles[name] = replace(profiles[name], **{attribute: latencies})
    return profiles


def _say_slow(batch: int, seconds: float) -> None:
    terminal.say(
        f"Timing calls on batches of {batch} takes about {seconds:.0f} seconds more. `latency=False` leaves "
        "it out, and `batch_sizes=1` times single samples only."
    )


def _shared_specs(models: Mapping[str, keras.Model], inputs: Any) -> Any:
    """Return the symbolic inputs of the first model, which all models must take."""
    specs = {name: measure_latency.input_specs(model, inputs) for name, model in models.items()}
    shapes = {
        name: [tuple(spec.shape) for spec in keras.tree.flatten(structure)]
        for name, structure in specs.items()
    }
    first = next(iter(specs))
    for name in specs:
        if shapes[name] != shapes[first]:
            raise InvalidArgumentError(
                f"Models that are timed together must take the same inputs. Received: '{first}' takes "
                f"{shapes[first]}, '{name}' takes {shapes[name]}. Call `profile` for each model, and "
                "`compare` the profiles."
            )
    return specs[first]


def _untimed_profile(model: keras.Model, inputs: Any) -> Profile:
    if isinstance(model, AdversarialModel):
        raise InvalidArgumentError(
            f"`model` must be one network, but a `{type(model).__name__}` has two. Profile `gan.generator` "
            "and `gan.discriminator` separately."
        )
    validation.built_model(model, "is profiled")
    with plain_classes(model):
        try:
            graph = trace(model, is_counted, inputs)
        except UnsupportedLayerError:
            graph = observed_graph(model, inputs)
        costs = Costs(Groups(graph, Channels(), (), {}))
        rows = costs.rows()
    if graph.outputs is None:
        # Layers that were never called may have weights that are used between the layers, where no operation
        # is observed. So their multiply-accumulates are not known.
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
