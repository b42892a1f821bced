"""The networks of an application: each goes on from the trained dense model for the same number of steps."""

from __future__ import annotations

import pathlib
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import attrs
import keras

from keras_ganprune.applications.compression import compress
from keras_ganprune.applications.compression.outputs import kinds_of_outputs
from keras_ganprune.applications.compression.subjects import NetworkSubject, subject_of
from keras_ganprune.applications.dense_training import DenseTraining, fit
from keras_ganprune.layers.stripping import strip_pruning
from keras_ganprune.metrics import profile
from keras_ganprune.pruning.structured.budget import Budget
from keras_ganprune.training.distiller import Distiller
from keras_ganprune.utils import terminal

_SEARCH_STEPS = 8


@attrs.frozen(eq=False)
class Branch:
    """A trained network of an application.

    Attributes:
        name: Name of its files: 'dense', 'sparse', 'small' or 'narrow'.
        title: Name in tables.
        network: The network that would be shipped, plain and uncompiled.
        masked: The same network with its masks, or None if it has none.
        history: Log -> one value per epoch after the dense training.
        seconds: Training time after the dense training.
        notes: Sentences: what could not be done as usual, and what was done instead.
    """

    name: str
    title: str
    network: keras.Model
    masked: keras.Model | None
    history: Mapping[str, list[float]]
    seconds: float
    notes: tuple[str, ...] = ()


def percent(share: float) -> str:
    """Return a share as text.

    Example:
    >>> percent(0.8), percent(0.125)
    ('80 %', '12.5 %')
    """
    return f"{round(100 * share, 2):g} %"


def branches(dense: DenseTraining, folder: pathlib.Path) -> Iterator[Branch]:
    """Yield the networks: dense trained on, sparse, with fewer MACs, and built narrow if that is an option.

    Args:
        dense: The finished dense training.
        folder: Folder for the states of compressions that may be interrupted.
    """
    options = dense.application.options
    yield trained_on(dense)
    yield sparse(dense, options.sparsity, folder)
    yield small(dense, options.macs, folder)
    if options.compare_narrow:
        yield narrow(dense, options.macs)


def trained_on(dense: DenseTraining) -> Branch:
    """Return the dense network after as many further steps as the others get."""
    application, data, plan = dense.application, dense.data, dense.plan
    model = dense.trained_model()
    lengths = plan.lengths(plan.branch)
    training = fit(application, model, data, lengths, "dense, trained on", dense.seed + 1)
    network = strip_pruning(application.network(model))
    return Branch("dense", "dense", network, None, training.history, training.seconds)


def sparse(dense: DenseTraining, sparsity: float, folder: pathlib.Path) -> Branch:
    """Return the network compressed to a sparsity; see `branches` for the folder."""
    title = f"{percent(sparsity)} sparse"
    return _compressed(dense, "sparse", title, folder / f"sparse-{sparsity:g}", sparsity=sparsity)


def small(dense: DenseTraining, macs: float, folder: pathlib.Path) -> Branch:
    """Return the network compressed to a share of the MACs; see `branches` for the folder."""
    title = f"{percent(macs)} of the MACs"
    return _compressed(dense, "small", title, folder / f"small-{macs:g}", budget=Budget(macs=macs))


def _compressed(
    dense: DenseTraining, name: str, title: str, folder: pathlib.Path, **goal: Any
) -> Branch:
    application, data, plan = dense.application, dense.data, dense.plan
    train, held_out = data.train, data.validation
    started = time.perf_counter()
    terminal.say(f"Compressing: {title}.")
    compression = compress(
        dense.trained_model(),
        (train.x, train.y),
        target=application.target,
        epochs=plan.branch,
        batch_size=plan.batch_size,
        validation_data=None if held_out.y is None else (held_out.x, held_out.y),
        baseline=False,  # `trained_on` is the baseline of all
        callbacks=application.callbacks(data),
        folder=folder,
        seed=dense.seed + 1,
        **goal,
    )
    masked = application.network(compression.model) if "sparsity" in goal else None
    return Branch(
        name,
        title,
        compression.network,
        masked,
        compression.history,
        time.perf_counter() - started,
        # The pipeline measures each network itself.
        tuple(note for note in compression.notes if not note.startswith("Nothing judged")),
    )


def narrow(dense: DenseTraining, share: float) -> Branch:
    """Return a network built with a share of the MACs, and trained by the same teacher from the start.

    Args:
        dense: The finished dense training; its network is the teacher.
        share: Share of the MACs of the dense network.
    """
    application, data, plan = dense.application, dense.data, dense.plan
    title = f"built at {percent(share)} of the MACs"
    width = width_for(share, lambda width: _macs(dense, width))
    model = dense.new_model(width)
    trainer, notes = taught(model, application.network(dense.trained_model()), data.train.x)
    # The same batches in the same order as for the dense network.
    first = fit(application, trainer, data, plan.lengths(plan.dense), title, dense.seed)
    second = fit(application, trainer, data, plan.lengths(plan.branch), title, dense.seed + 1)
    network = trainer.student if isinstance(trainer, Distiller) else application.network(model)
    network = strip_pruning(network)
    seconds = first.seconds + second.seconds
    return Branch("narrow", title, network, None, second.history, seconds, notes)


def taught(model: Any, teacher: keras.Model, x: Any) -> tuple[keras.Model, tuple[str, ...]]:
    """Return what trains a model with a teacher as `compress` does, and notes.

    Args:
        model: New compiled model.
        teacher: The dense network.
        x: Training inputs, which show what the outputs are.
    """
    teacher = strip_pruning(teacher)
    if hasattr(model, "set_teacher"):
        model.set_teacher(teacher)
        return model, ()
    if not isinstance(subject_of(model, None), NetworkSubject):
        return model, (
            "The narrow network had no teacher: its model has a training step of its own.",
        )
    kinds: Any = kinds_of_outputs(teacher, x)
    outputs = kinds[0] if len(set(kinds)) == 1 else kinds
    return Distiller.of(model, teacher, outputs=outputs), ()


def _macs(dense: DenseTraining, width: float) -> int:
    """Return the multiply-accumulates of the network of an application at a width."""
    networks = dense.application.networks(dense.data, width)
    name = dense.application.target
    network = networks[name] if name in networks else next(iter(networks.values()))
    return int(profile(network, latency=False).macs)


def width_for(share: float, macs: Callable[[float], int]) -> float:
    """Return the largest width at which a network has at most a share of the MACs of width 1.

    Args:
        share: Share of the MACs, in (0, 1).
        macs: Function that returns the MACs at a width. It must not fall.

    Example:
    >>> width_for(0.25, lambda width: round(1000 * width**2))
    0.5
    """
    allowed = share * macs(1.0)
    low, high = 0.0, 1.0
    for _ in range(_SEARCH_STEPS):
        middle = (low + high) / 2
        if macs(middle) <= allowed:
            low = middle
        else:
            high = middle
    return low or high
