"""One training of a compression: dense, to a sparsity, or to a budget."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any, cast

import attrs
import keras

from keras_ganprune.applications.compression import fallbacks, one_shot
from keras_ganprune.applications.compression.fallbacks import NotACopyError
from keras_ganprune.applications.compression.folder import Folder
from keras_ganprune.applications.compression.latency_goals import cut_arguments
from keras_ganprune.applications.compression.least_kept import missed_silently
from keras_ganprune.applications.compression.looked_up import NOTE, share_looked_up
from keras_ganprune.applications.compression.plan import Plan, batches
from keras_ganprune.applications.compression.resumed import (
    Resumed,
    place_of,
    random_numbers,
    set_place,
)
from keras_ganprune.applications.compression.subjects import (
    AdversarialSubject,
    ForeignSubject,
    Subject,
    Trainee,
)
from keras_ganprune.applications.compression.task import Task
from keras_ganprune.callbacks.prune import Prune
from keras_ganprune.callbacks.run_progress import RunProgress
from keras_ganprune.callbacks.shrink import Shrink
from keras_ganprune.callbacks.training_progress import TrainingProgress
from keras_ganprune.errors import UnsupportedLayerError
from keras_ganprune.layers.traversal import walk
from keras_ganprune.layers.upgrade import make_prunable
from keras_ganprune.pruning.recalibration import recalibrate_batch_norm
from keras_ganprune.pruning.schedules import PolynomialDecay
from keras_ganprune.pruning.structured.costs import Costs
from keras_ganprune.pruning.structured.groups import channel_groups
from keras_ganprune.training import discovery

# A share of the batch statistics before the last mask that does not change the outputs.
_FORGOTTEN = 0.05


@attrs.frozen
class Data:
    """What `fit` gets.

    Attributes:
        x, y, weights: Arrays, structures of arrays, or None; `x` is a stream if there is no `samples`.
        samples: Number of samples, or None for a stream.
    """

    x: Any
    y: Any = None
    weights: Any = None
    samples: int | None = None


@attrs.frozen(eq=False)
class Trained:
    """A finished training.

    Attributes:
        trainee: The trained model.
        history: Name of a log -> one value per epoch.
        steps_per_batch: Steps of the optimizer of the first target per batch.
    """

    trainee: Trainee
    history: dict[str, list[float]]
    steps_per_batch: float = 1.0


class CannotCutError(Exception):
    """Channels cannot be cut out of this model, although masks can be made."""


class Trainer:
    """Runs the trainings of one compression.

    Args:
        subject: The user's model.
        data: The data.
        plan: The length of each training.
        teacher: The dense network that pruned ones stay close to, or None.
        folder: Where states are kept.
        callbacks: The user's callbacks.
        seed: Seed of the order of the data and of everything that is drawn.
        progress: Shows how far the run is.

    Attributes:
        steps_per_batch: Steps of the target's optimizer per batch, as measured in the dense training.
        criterion: The criterion that the tasks use: 'magnitude' where 'taylor' cannot be used.
        teacher_name: Name of a teacher that the user has given; None for the model itself.
        notes: What could not be done as usual.
        start: Steps that the target's optimizer had done before.
    """

    #: Samples that give the new batch statistics after a cut.
    recalibrated = 2048

    def __init__(
        self,
        subject: Subject,
        data: Data,
        plan: Plan,
        teacher: keras.Model | None,
        folder: Folder,
        callbacks: Sequence[keras.callbacks.Callback],
        seed: int,
        progress: RunProgress,
    ):
        self.subject = subject
        self.data = data
        self.plan = plan
        self.teacher = teacher
        self.folder = folder
        self.callbacks = list(callbacks)
        self.seed = seed
        self.progress = progress
        self.steps_per_batch = 1.0
        self.criterion = "taylor"
        self.teacher_name: str | None = None
        self.notes: list[str] = []
        self.start = subject.steps_done
        self._costs: dict[str, float] = {}
        fallbacks.as_before(self)

    @property
    def targets(self) -> list[str] | None:
        """Names of the compressed networks in a trainee."""
        return ["student"] if self.subject.label == "trainer" else self.subject.targets

    def dense_cost(self, quantity: str) -> float:
        """Return the cost of the user's networks in 'macs', 'parameters' or 'bytes'."""
        if quantity not in self._costs:
            networks = [network for _, network in self.subject.networks]
            self._costs[quantity] = cost(*networks, quantity=quantity)
        return self._costs[quantity]

    def run(self, task: Task) -> Trained:
        """Train a copy of the user's model.

        Raises:
            UnsupportedLayerError: The criterion cannot be used.
            CannotCutError: The channels cannot be cut out.
        """
        trained_before, done_before = self.progress.trained, self.progress.done
        try:
            return self.run_once(task)
        except NotACopyError:
            self.progress.done = done_before
            fallbacks.train_itself(self, fallbacks.TRAINED)
            return self.run(task)
        except (UnsupportedLayerError, CannotCutError):
            raise
        except Exception as error:
            # After a first step, nothing of what is tried here can be the reason.
            if self.progress.trained > trained_before:
                raise
            self.progress.done = done_before
            trained = fallbacks.run_otherwise(self, task, error)
            if trained is None:
                raise
            return trained

    def run_once(self, task: Task) -> Trained:
        """Train a copy of the user's model, or the model itself, as `subject` says."""
        if self.plan.epochs == 0:
            with missed_silently():
                return Trained(one_shot.prune_and_repair(self, task), {})
        trainee = self.subject.new(None if task.kind == "dense" else self.teacher)
        stream = batches(self.data.x, self.data.y, self.data.weights, self.plan, self.seed)
        plan = self.plan
        if task.kind == "dense":
            history = self._fit(task, trainee, stream, "a", 0, plan.epochs, [])
            steps = self._steps(trainee) - self.start
            self.steps_per_batch = steps / plan.steps if steps > 0 else 1.0
        elif task.kind == "sparsity":
            prune = self.prune(task, trainee.targets)
            history = self._fit(task, trainee, stream, "a", 0, plan.epochs, [prune])
        else:
            prune = self.prune(task, trainee.targets)
            history = self._fit(task, trainee, stream, "a", 0, plan.cut_epoch, [prune])
            self.cut(task, trainee, self.recalibration)
            later = self._fit(task, trainee, stream, "b", plan.cut_epoch, plan.epochs, [])
            history = _joined(history, later)
        if task.kind != "dense" and self.settles(task):
            with self.progress.doing(f"{task}: measuring the batch statistics"):
                recalibrate_batch_norm(trainee.model.student, self.recalibration)
        return Trained(trainee, history, self.steps_per_batch)

    def cut(self, task: Task, trainee: Trainee, recalibrate: Any) -> None:
        """Cut out masked channels.

        Raises:
            CannotCutError: This model has masks, but its channels cannot be cut out.
        """
        try:
            with self.progress.doing(f"{task}: cutting the channels out"):
                cut = cut_arguments(self, task, trainee)
                targets = trainee.targets or []
                shrink = Shrink(None, targets, recalibrate=recalibrate, verbose=0, **cut)
                shrink.cut(trainee.model)
        except UnsupportedLayerError as error:
            raise CannotCutError(str(error)) from error
        if isinstance(self.subject, ForeignSubject):
            self.subject.note_cut()

    def _steps(self, trainee: Trainee) -> int:
        from_user = self.subject.model
        try:
            self.subject.model = trainee.model
            return self.subject.steps_done
        finally:
            self.subject.model = from_user

    def criterion_for(self, task: Task) -> str:
        """Return the criterion of a task, and note where it is not 'taylor' from the start."""
        if self.plan.epochs == 0:
            return "magnitude"  # without a training step there are no gradients
        if task.kind == "sparsity" and self.criterion == "taylor":
            networks = [network for _, network in self.subject.networks]
            if share_looked_up(networks) > 0.5:
                self.notes += [] if NOTE in self.notes else [NOTE]
                return "magnitude"
        return self.criterion

    # --- the callbacks of the recipe -------------------------------------------------------------

    def schedule(self, task: Task) -> tuple[PolynomialDecay, int]:
        """Return (schedule, frequency) of the mask updates of a task."""
        plan, rate = self.plan, self.steps_per_batch
        ramp = plan.ramp if task.kind == "sparsity" else plan.channel_ramp
        frequency = max(1, round(plan.frequency(ramp) * rate))
        final = task.value if task.kind == "sparsity" else 1.0 - task.value
        # Not at once: 'taylor' needs the gradients of at least one step.
        end = self.start + max(2, int(ramp * rate))
        begin = min(self.start + frequency, end - 1)
        return PolynomialDecay(final, begin_step=begin, end_step=end), frequency

    def prune(self, task: Task, targets: list[str] | None) -> Prune:
        """Return the callback that prunes along the schedule."""
        schedule, frequency = self.schedule(task)
        return Prune(
            schedule,
            target=targets,
            frequency=frequency,
            criterion=cast(Any, task.criterion),
            allocation=task.allocation,
            granularity=cast(Any, task.units),
            verbose=0,
        )

    def settles(self, task: Task) -> bool:
        """Return whether batch statistics are measured anew after the training of a pruned network.

        A moving average forgets what was before the last mask, or the cut, after some hundred steps only.
        Without that, the outputs of a short training are shifted.
        """
        if self.subject.label != "trainer" or self.data.samples is None:
            return False
        plan = self.plan
        cut = plan.cut_epoch * plan.per_epoch
        steps = plan.steps - (plan.ramp if task.kind == "sparsity" else cut)
        layers = [layer for _, network in self.subject.networks for _, layer in walk(network)]
        norms = [layer for layer in layers if isinstance(layer, keras.layers.BatchNormalization)]
        return any(layer.momentum**steps > _FORGOTTEN for layer in norms)

    @property
    def recalibration(self) -> Any:
        """What `Shrink` gets as `recalibrate`."""
        if self.data.samples is None:
            # A stream may not be readable twice. The training that follows the cut renews the statistics.
            gan = isinstance(self.subject, AdversarialSubject)
            return not gan or not getattr(self.subject.model, "conditional", True)
        if self.subject.label == "trainer":
            data = self.data.x
        elif isinstance(self.subject, AdversarialSubject) and self.data.y is not None:
            data = self.data.x, self.data.y
        else:
            return True
        return keras.tree.map_structure(lambda array: array[: self.recalibrated], data)

    # --- one `fit` -------------------------------------------------------------------------------

    def _fit(
        self,
        task: Task,
        trainee: Trainee,
        stream: Any,
        part: str,
        first: int,
        last: int,
        callbacks: list[keras.callbacks.Callback],
    ) -> dict[str, list[float]]:
        """Train from one epoch to another; or read the end of that training, if it is there."""
        key, model = f"{task.key}-{part}", trainee.model
        if getattr(self.subject, "teaches", True) is False and task.kind != "dense":
            key += "-untaught"  # goes on from no state of a training with a teacher
        if last <= first:
            return {}
        if self.folder.path is not None:
            # Keras saves no model that is not; a class without a `call` never is, but its networks are.
            model.built = True
        if self.folder.get(f"{key} is done"):
            if callbacks:
                for _, network in trainee.parts():
                    for part in (network, *discovery.averages_of(model, network).values()):
                        make_prunable(part)
            self.folder.load(key, model)
            set_place(stream, self.folder.get(f"{key} place") or 0)
            self.progress.skipped((last - first) * self.plan.per_epoch)
            return self.folder.get(f"{key} history") or {}
        # Before `BackupAndRestore`, which ends the writing of an epoch.
        resumed = Resumed(self.folder, key, stream)
        lines = TrainingProgress(self.progress, str(task), first, self.plan.epochs, keeps=False)
        # Private attribute of Keras, where `BackupAndRestore` leaves the epoch of the training before.
        model._initial_epoch = None
        with random_numbers(self.seed), missed_silently():
            model.fit(
                stream,
                initial_epoch=first,
                epochs=last,
                shuffle=False,
                verbose=0,
                callbacks=[
                    *callbacks,
                    *trainee.callbacks,
                    *_copies(self.callbacks),
                    lines,
                    resumed,
                    *self.folder.backup(key),
                ],
            )
        if isinstance(self.subject, ForeignSubject) and self.subject.changed():
            raise NotACopyError
        self.folder.put(f"{key} history", resumed.history)
        self.folder.put(f"{key} place", place_of(stream))
        self.folder.save(key, model)
        return resumed.history


def _copies(callbacks: Sequence[Any]) -> list[Any]:
    """Return callbacks that begin anew, where they can be copied."""
    copies = []
    for callback in callbacks:
        try:
            copies.append(copy.deepcopy(callback))
        except Exception:  # such as one that holds a lock, or a model that cannot be copied
            copies.append(callback)
    return copies


def _joined(first: dict[str, list[float]], later: dict[str, list[float]]) -> dict[str, list[float]]:
    """Return the logs of two trainings as those of one."""
    lengths = [max((len(v) for v in part.values()), default=0) for part in (first, later)]
    names = dict.fromkeys((*first, *later))
    parts = list(zip((first, later), lengths, strict=True))
    return {k: [v for part, n in parts for v in part.get(k, [float("nan")] * n)] for k in names}


def cost(*networks: Any, quantity: str) -> float:
    """Return the cost of networks in 'macs', 'parameters' or 'bytes'."""
    return sum(Costs(channel_groups(network)).of(quantity) for network in networks)
