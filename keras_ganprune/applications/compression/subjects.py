"""The user's model, and the copies of it that are trained: a GAN, a network, or a class of the user's."""

from __future__ import annotations

import abc
import copy
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from keras_ganprune.applications.compression.twins import NoTwinError, twin_of
from keras_ganprune.callbacks import fixed_inputs
from keras_ganprune.callbacks.teach import Teach
from keras_ganprune.errors import InvalidArgumentError
from keras_ganprune.gan.adversarial_model import AdversarialModel
from keras_ganprune.layers.stripping import plain_copy, strip_pruning
from keras_ganprune.layers.tensors import to_numpy
from keras_ganprune.training import discovery
from keras_ganprune.training.compiled_copies import compile_arguments
from keras_ganprune.training.distiller import Distiller
from keras_ganprune.training.snapshot import TrainingState

_FIX = "Let the `get_config` of its layers return all arguments of the constructor."


class Trainee(abc.ABC):
    """A model that one training changes.

    Attributes:
        model: What `fit` is called on.
        targets: Names of the networks in it that are compressed; None for the model itself.
        callbacks: What `fit` needs besides the callbacks of the recipe.
    """

    model: Any
    targets: list[str] | None
    callbacks: Sequence[keras.callbacks.Callback] = ()

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
            model.set_teacher(teacher)

    def network(self) -> keras.Model:
        """Return a plain copy of the network that would be shipped."""
        return strip_pruning(self.model.sampler)

    def finished(self) -> keras.Model:
        """Return the trained model in the form in which the user passed it."""
        self.model.set_teacher(*self._before)
        return self.model


class AdversarialSubject(Subject):
    """A `GANModel`, or another class of this package with a generator and a discriminator."""

    model: AdversarialModel

    def __init__(self, model: AdversarialModel, targets: list[str] | None):
        super().__init__(model, targets or ["generator"])

    def dense(self) -> keras.Model:
        """Return a plain copy of the network that would be shipped now."""
        return strip_pruning(self.model.sampler)

    def new(self, teacher: keras.Model | None) -> AdversarialTrainee:
        """Return a trainee in the state of the user's model."""
        twin = copy.deepcopy(self.model)
        before = self.model.teacher, self.model.distillation
        return AdversarialTrainee(twin, self.targets or [], teacher, before)


# --- any other model that Keras trains by itself ---------------------------------------------------------


class NetworkTrainee(Trainee):
    """A `Distiller` of a copy of a network."""

    def __init__(self, model: Distiller, compiled: dict[str, Any]):
        self.model = model
        self.targets = ["student"]
        self._compiled = compiled

    def network(self) -> keras.Model:
        """Return a plain copy of the network that would be shipped."""
        return strip_pruning(self.model.student)

    def finished(self) -> keras.Model:
        """Return the trained model in the form in which the user passed it."""
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
        """Return a plain copy of the network that would be shipped now."""
        return plain_copy(self.model, what="copy", fix=_FIX)

    def new(self, teacher: keras.Model | None) -> NetworkTrainee:
        """Return a trainee in the state of the user's model."""
        outputs: Any = self.outputs[0] if len(set(self.outputs)) == 1 else self.outputs
        trainer = Distiller.of(self.model, teacher, outputs=outputs)
        return NetworkTrainee(trainer, compile_arguments(self.model))


# --- classes with a training step of their own -----------------------------------------------------------


class ForeignTrainee(Trainee):
    """A model with its own training step: a copy, or the user's model itself.

    Attributes:
        callbacks: What `fit` needs besides the callbacks of the recipe.
        unpacks: As for `ForeignSubject`.
    """

    def __init__(
        self,
        model: keras.Model,
        targets: list[str] | None,
        shipped: str | None,
        callbacks: Sequence[keras.callbacks.Callback] = (),
        unpacks: bool = False,
    ):
        self.model = model
        if unpacks:
            step = model.train_step
            # Past Keras's attribute tracking, which must not track a function.
            object.__setattr__(
                model, "train_step", lambda *arguments: step(*arguments[:-1], arguments[-1][0])
            )
            model.train_function = None  # that of an earlier `fit` has the step as it was
        self.targets = targets
        self.shipped = shipped
        self.callbacks = list(callbacks)

    def network(self) -> keras.Model:
        """Return a plain copy of the network that would be shipped."""
        if self.shipped is None:
            return strip_pruning(self.model)
        return strip_pruning(discovery.resolve_target(self.model, self.shipped)[0][1])  # pyright: ignore

    def finished(self) -> keras.Model:
        """Return the trained model in the form in which the user passed it."""
        vars(self.model).pop("train_step", None)
        self.model.train_function = None
        return self.model


class ForeignSubject(Subject):
    """A model with a training step of its own, such as a GAN class of the user's.

    Attributes:
        teaches: Whether a teacher is used; False after it could not be.
        unpacks: Whether the training step gets arrays without labels. A data set gives it tuples of one.
    """

    unpacks = False

    def __init__(self, model: keras.Model, targets: list[str] | None):
        if targets is None and not getattr(model, "inputs", None):
            targets = [_generator(model)]
        super().__init__(model, targets)
        average = None
        if targets is not None:
            network = discovery.resolve_target(model, targets[0])[0][1]
            average = next(iter(discovery.averages_of(model, network)), None)
        self.shipped = average or (None if targets is None else targets[0])
        self.teaches = targets is not None and keras.backend.backend() != "jax"
        if not self.teaches:
            self.notes.append(
                "No teacher was used: it needs a network inside the model, and TensorFlow or PyTorch, for "
                "a training step that is not Keras's own."
            )
        self._state = TrainingState(model)
        self._cut = False
        try:
            twin_of(model)
        except NoTwinError as error:
            self.train_itself(f"it cannot be copied ({error})")

    def restore(self) -> None:
        """Put the user's model into the state that it was passed in."""
        vars(self.model).pop("train_step", None)
        self.model.train_function = None
        self._state.restore()

    def train_itself(self, reason: str) -> None:
        """Train the user's model itself from now on."""
        self.has_copies = False
        self.notes.append(f"The model that you passed was trained itself, since {reason}")

    def changed(self) -> bool:
        """Whether the user's model has changed although only copies were trained."""
        values = self._state.values
        return self.has_copies and any(not np.array_equal(to_numpy(v), old) for v, old in values)

    def dense(self) -> keras.Model:
        """Return a plain copy of the network that would be shipped now."""
        return ForeignTrainee(self.model, self.targets, self.shipped).network()

    def new(self, teacher: keras.Model | None) -> ForeignTrainee:
        """Return a trainee in the state of the user's model."""
        if self.has_copies:
            model = twin_of(self.model)
        else:
            model = self.model
            if self._cut:
                raise InvalidArgumentError(
                    f"A search by `tolerance` over budgets needs copies of the model. Received: a "
                    f"{type(model).__name__}, which cannot be copied. Give a `budget` without `tolerance`."
                )
            self.restore()
        callbacks = []
        if teacher is not None and self.teaches and self.targets:
            callbacks.append(Teach(teacher, self.targets[0]))
        return ForeignTrainee(model, self.targets, self.shipped, callbacks, self.unpacks)

    def note_cut(self) -> None:
        """Note that the user's model itself was cut, so that it cannot be put back."""
        self._cut = not self.has_copies


def _generator(model: keras.Model) -> str:
    name = discovery.generator_name(discovery.networks(model))
    return fixed_inputs.sampled_network(model)[0] if name is None else name


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
