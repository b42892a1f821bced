"""The user's model, and the copies of it that are trained: a GAN, any other compiled model, a foreign class."""

from __future__ import annotations

import abc
import copy
from collections.abc import Sequence
from typing import Any

import keras

from keras_ganprune.callbacks import fixed_inputs
from keras_ganprune.errors import InvalidArgumentError, PruningError
from keras_ganprune.gan import Distillation
from keras_ganprune.gan.adversarial_model import AdversarialModel
from keras_ganprune.layers.stripping import plain_copy, strip_pruning
from keras_ganprune.training import discovery
from keras_ganprune.training.distiller import Distiller
from keras_ganprune.training.snapshot import TrainingState

_FIX = "Let the `get_config` of its layers return all arguments of the constructor."


class Trainee(abc.ABC):
    """A model that one training changes.

    Attributes:
        model: What `fit` is called on.
        targets: Names of the networks in it that are compressed; None for the model itself.
    """

    model: Any
    targets: list[str] | None

    @abc.abstractmethod
    def network(self) -> keras.Model:
        """Return a plain copy of the network that would be shipped."""

    @abc.abstractmethod
    def finished(self) -> keras.Model:
        """Return the trained model in the form in which the user passed it."""

    def parts(self) -> list[tuple[str, keras.layers.Layer]]:
        """Return (name, network) of the networks that are compressed."""
        return discovery.resolve_target(self.model, self.targets)


class Subject(abc.ABC):
    """The user's model.

    Attributes:
        model: The model.
        targets: Names of the networks to compress in each trainee; None for the model itself.
        notes: What could not be done as usual, in sentences for the result.
        has_copies: Whether each training gets a copy, so that the user's model stays as it is.
        label: What the trainee is called in the code of the result: 'gan' or 'trainer'.
    """

    label = "gan"
    has_copies = True

    def __init__(self, model: Any, targets: list[str] | None):
        self.model = model
        self.targets = targets
        self.notes: list[str] = []

    @abc.abstractmethod
    def dense(self) -> keras.Model:
        """Return a plain copy of the network that would be shipped now."""

    @abc.abstractmethod
    def new(self, teacher: keras.Model | None) -> Trainee:
        """Return a trainee in the state of the user's model.

        Args:
            teacher: The network that the trainee stays close to, or None.
        """

    @property
    def networks(self) -> list[tuple[str, keras.layers.Layer]]:
        """(name, network) of the user's networks that are compressed."""
        return discovery.resolve_target(self.model, self.targets)

    @property
    def steps_done(self) -> int:
        """Steps of the optimizer that trains the first target."""
        optimizer = discovery.optimizer_of(self.model, self.networks[0][1])
        return 0 if optimizer is None else discovery.steps_done(optimizer)


# --- GAN classes of this package ---------------------------------------------------------------------


class AdversarialTrainee(Trainee):
    """A copy of a GAN with the dense generator as its teacher."""

    def __init__(self, model: AdversarialModel, targets: list[str], teacher: Any, before: Any):
        self.model = model
        self.targets = targets
        self._before = before
        if teacher is not None:
            model.set_teacher(teacher, Distillation())

    def network(self) -> keras.Model:
        return strip_pruning(self.model.sampler)

    def finished(self) -> keras.Model:
        self.model.set_teacher(*self._before)
        return self.model


class AdversarialSubject(Subject):
    """A `GANModel`, or another class of this package with a generator and a discriminator."""

    model: AdversarialModel

    def __init__(self, model: AdversarialModel, targets: list[str] | None):
        super().__init__(model, targets or ["generator"])

    def dense(self) -> keras.Model:
        return strip_pruning(self.model.sampler)

    def new(self, teacher: keras.Model | None) -> AdversarialTrainee:
        twin = copy.deepcopy(self.model)
        before = self.model.teacher, self.model.distillation
        return AdversarialTrainee(twin, self.targets or [], teacher, before)


# --- any other model that Keras trains by itself ---------------------------------------------------------


class NetworkTrainee(Trainee):
    """A `Distiller` of a copy of a network."""

    targets = ["student"]

    def __init__(self, model: Distiller, compiled: dict[str, Any]):
        self.model = model
        self._compiled = compiled

    def network(self) -> keras.Model:
        return strip_pruning(self.model.student)

    def finished(self) -> keras.Model:
        student = self.model.student
        # The optimizer goes on where it is, also with what it knows of the masks.
        student.compile(**{**self._compiled, "optimizer": self.model.optimizer})
        return student


class NetworkSubject(Subject):
    """A compiled model with Keras's own training step.

    Attributes:
        outputs: What the outputs are, as for `Distiller`; set before the first trainee with a teacher.
    """

    label = "trainer"

    def __init__(self, model: keras.Model):
        super().__init__(model, None)
        self.outputs: list[Any] = ["values"]

    def dense(self) -> keras.Model:
        return plain_copy(self.model, what="copy", fix=_FIX)

    def new(self, teacher: keras.Model | None) -> NetworkTrainee:
        student = plain_copy(self.model, what="copy", fix=_FIX)
        outputs: Any = self.outputs[0] if len(set(self.outputs)) == 1 else self.outputs
        trainer = Distiller(student, teacher, outputs=outputs)
        compiled = compile_arguments(self.model)
        compiled["optimizer"] = new_optimizer(self.model.optimizer, student.trainable_variables)
        trainer.compile(**compiled)
        return NetworkTrainee(trainer, compiled)


def compile_arguments(model: Any) -> dict[str, Any]:
    """Return the arguments with which a model was compiled, with new metrics and without the optimizer.

    Private attribute of Keras: the public `get_compile_config` gives a serialized form, from which losses and
    metrics that are functions cannot be made again.
    """
    compiled = dict(model._compile_config.config)
    del compiled["optimizer"]
    for name in ("metrics", "weighted_metrics"):
        if compiled[name] is not None:
            compiled[name] = keras.tree.map_structure(_new_metric, compiled[name])
    return compiled


def _new_metric(metric: Any) -> Any:
    """Return a metric with a state of its own: a model does not share it with its copies."""
    if not isinstance(metric, keras.metrics.Metric):
        return metric
    return type(metric).from_config(metric.get_config())


def new_optimizer(optimizer: Any, variables: Sequence[keras.Variable]) -> keras.optimizers.Optimizer:
    """Return an optimizer of other variables in the state of an optimizer of like variables."""
    twin = type(optimizer).from_config(optimizer.get_config())
    twin.build(variables)
    if optimizer.built and [v.shape for v in optimizer.variables] == [
        v.shape for v in twin.variables
    ]:
        for old, new in zip(optimizer.variables, twin.variables, strict=True):
            new.assign(old)
    return twin


# --- classes with a training step of their own -----------------------------------------------------------


class ForeignTrainee(Trainee):
    """The user's own model, trained as it is."""

    def __init__(self, model: keras.Model, targets: list[str] | None, shipped: str | None):
        self.model = model
        self.targets = targets
        self.shipped = shipped

    def network(self) -> keras.Model:
        network = self.model if self.shipped is None else getattr(self.model, self.shipped)
        return strip_pruning(network)

    def finished(self) -> keras.Model:
        return self.model


class ForeignSubject(Subject):
    """A model with a training step of its own, such as a GAN class of the user's."""

    has_copies = False

    def __init__(self, model: keras.Model, targets: list[str] | None):
        if targets is None and not getattr(model, "inputs", None):
            targets = [self._generator(model)]
        super().__init__(model, targets)
        self.notes.append(
            f"{type(model).__name__} has a training step of its own and cannot be copied, so the model that "
            "you passed was trained itself."
        )
        average = None
        if targets is not None:
            network = discovery.resolve_target(model, targets[0])[0][1]
            average = next(iter(discovery.averages_of(model, network)), None)
        self.shipped = average or (None if targets is None else targets[0])
        self._state = TrainingState(model)
        self._cut = False

    @staticmethod
    def _generator(model: keras.Model) -> str:
        known = discovery.networks(model)
        for name in ("generator", "G", "gen", "g_model", "g"):
            if name in known:
                return name
        return fixed_inputs.sampled_network(model)[0]

    def dense(self) -> keras.Model:
        return ForeignTrainee(self.model, self.targets, self.shipped).network()

    def new(self, teacher: keras.Model | None) -> ForeignTrainee:
        self._state.restore()
        return ForeignTrainee(self.model, self.targets, self.shipped)


def subject_of(model: Any, targets: list[str] | None) -> Subject:
    """Return the subject for a compiled model.

    Raises:
        InvalidArgumentError: `targets` is given for a model that is a single network.
    """
    if isinstance(model, AdversarialModel):
        return AdversarialSubject(model, targets)
    cls = type(model)
    methods = ("train_step", "compute_loss", "compile", "fit")
    if any(getattr(cls, name) is not getattr(keras.Model, name) for name in methods):
        return ForeignSubject(model, targets)
    if targets is not None:
        raise InvalidArgumentError(
            "`target` names a network inside the model. Received: "
            f"target={targets!r} for '{model.name}', which Keras trains as one network. Leave it out."
        )
    return NetworkSubject(model)


def check_copied(subject: Subject) -> None:
    """Raise if the networks of a model cannot be copied, before anything is trained.

    Raises:
        PruningError: A network cannot be copied.
    """
    try:
        subject.dense()
    except PruningError:
        raise
