"""Compression without training: masks at once, and the outputs of each layer repaired."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

import keras

from keras_ganprune.applications.compression.subjects import (
    AdversarialSubject,
    ForeignSubject,
    Trainee,
)
from keras_ganprune.backend import tracing
from keras_ganprune.errors import DataError, InvalidArgumentError
from keras_ganprune.layers.stripping import strip_pruning
from keras_ganprune.layers.upgrade import copy_masks
from keras_ganprune.metrics.sampling import drawn_inputs
from keras_ganprune.pruning.one_shot import repair
from keras_ganprune.pruning.one_shot.calibration_data import calibration_batches
from keras_ganprune.pruning.pruner import Pruner
from keras_ganprune.training import discovery

#: Samples that the outputs are compared on.
SAMPLES = 512


def prune_and_repair(trainer: Any, task: Any) -> Trainee:
    """Return a copy of the user's model, pruned and repaired without training.

    Args:
        trainer: The `Trainer`.
        task: The `Task`.

    Raises:
        CannotCutError: The channels cannot be cut out.
        DataError: A network cannot be called with the data.
    """
    trainee = trainer.subject.new(None)
    if task.kind == "dense":
        return trainee
    with trainer.progress.doing(f"{task}: pruning, and repairing the layers"):
        triples = list(_networks(trainer, trainee))
        _prune(task, trainee)
        for name, network, dense in triples:
            given = _inputs(trainer, name, network)
            repair(network, cast(Any, dense), given, samples=SAMPLES, seed=trainer.seed)
    if task.kind == "budget":
        # The repair has set the batch statistics already.
        trainer.cut(task, trainee, recalibrate=False)
    return trainee


def _prune(task: Any, trainee: Trainee) -> None:
    """Mask the networks of a trainee, and their averages."""
    networks = [network for _, network in trainee.parts()]
    pruner = Pruner(
        *networks,
        criterion=cast(Any, task.criterion),
        granularity=cast(Any, task.units),
        allocation=task.allocation,
    )
    pruner.update(sparsity=task.value if task.kind == "sparsity" else 1.0 - task.value)
    for optimizer in discovery.optimizers(trainee.model, unwrap=False):
        pruner.track(optimizer)
    if trainee.model.train_function is not None:
        tracing.retrace(trainee.model)
    for network in networks:
        for average in discovery.averages_of(trainee.model, network).values():
            copy_masks(network, average)


def _networks(trainer: Any, trainee: Trainee) -> Iterator[tuple[str, Any, keras.layers.Layer]]:
    """Yield (name, network, dense network) for each compressed network and its averages."""
    subject = trainer.subject
    for (name, network), (_, user) in zip(trainee.parts(), subject.networks, strict=True):
        averages = discovery.averages_of(trainee.model, network)
        pairs = [(network, user)]
        if averages:
            theirs = discovery.averages_of(subject.model, user)
            pairs += [(average, theirs[key]) for key, average in averages.items()]
        for ours, dense in pairs:
            # Without a copy, the user's network is the one that is pruned.
            yield name, ours, dense if ours is not dense else strip_pruning(cast(Any, dense))


def _inputs(trainer: Any, name: str, network: Any) -> Any:
    """Return inputs of a network, as for `repair`."""
    subject, data = trainer.subject, trainer.data
    is_generator = name == discovery.generator_name([name])
    if isinstance(subject, AdversarialSubject):
        gan = subject.model
        given = data.x if data.y is None else (data.x, data.y)
        if is_generator:
            conditional = getattr(gan, "conditional", True)
            given = given if conditional else None
            return list(calibration_batches(gan, network, given, SAMPLES, trainer.seed))
        return [data.x, data.y] if getattr(gan, "conditional", False) else data.x
    if isinstance(subject, ForeignSubject) and is_generator:
        try:
            drawn = drawn_inputs(network, SAMPLES, labels=data.y, seed=trainer.seed)
            return drawn if len(drawn) > 1 else drawn[0]
        except (DataError, InvalidArgumentError):  # it takes images, or something else
            return data.x
    return data.x
