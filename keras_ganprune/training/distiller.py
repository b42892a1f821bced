"""`Distiller`: a network learns from its labels and from the outputs of a frozen teacher."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import keras
from keras import ops

from keras_ganprune.errors import InvalidArgumentError, UnbuiltModelError
from keras_ganprune.layers.stripping import plain_copy
from keras_ganprune.training.compiled_copies import compile_arguments, new_optimizer
from keras_ganprune.utils import annotated, validation

OutputKind = Literal["softmax", "sigmoid", "values"]
_SMALLEST = 1e-7


class _Frozen:
    """Holds a teacher. Keras does not track a plain object, so the teacher is neither saved nor pruned."""

    def __init__(self, network: keras.Model | None):
        self.network = network


class Distiller(keras.Model):
    """Trains a network by its compiled loss and by the outputs of a frozen teacher.

        loss = compiled loss + weight * distance(student(x), teacher(x))

    Compile it as you compile the network. `Prune` and `Shrink` take `target="student"`: the network is an
    attribute, so `Shrink` can replace it inside `fit`.

    Args:
        student: Built Keras model that is trained.
        teacher: Built Keras model with outputs of the same shapes, or None to train without. A frozen copy
            is made. Defaults to None.
        weight: Non-negative float, weight of the distance. Defaults to 1.0.
        outputs: What the outputs are. 'softmax': probabilities that sum to 1; the distance is the
            Kullback-Leibler divergence. 'sigmoid': probabilities, each apart; the same for each of them.
            'values': the squared difference, divided by the variance of the teacher's outputs in the
            batch. One for all outputs, or a list with one for each. Defaults to 'values'.

    Attributes:
        student: The network.
        teacher: The frozen copy of the teacher, or None.

    Raises:
        ArgumentTypeError: An argument has the wrong type.
        InvalidArgumentError: `weight` is negative, or `outputs` is not one of its choices.
        UnbuiltModelError: A network has no weights yet.

    Example:
    >>> dense = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, activation="softmax")])
    >>> distiller = kgp.Distiller(kgp.strip_pruning(dense), dense, outputs="softmax")
    >>> distiller.compile("adam", "sparse_categorical_crossentropy")
    >>> history = distiller.fit(np.ones((8, 4)), np.zeros(8), verbose=0)
    >>> sorted(history.history)
    ['distillation_loss', 'loss']

    Reference: [Distilling the knowledge in a neural network](https://arxiv.org/abs/1503.02531), Section 2;
    `keras.distillation.Distiller`, which trains a student of another architecture.
    """

    def __init__(
        self,
        student: keras.Model,
        teacher: keras.Model | None = None,
        weight: float = 1.0,
        outputs: OutputKind | Sequence[OutputKind] = "values",
    ):
        annotated.check(Distiller.__init__, locals(), "student", "teacher")
        super().__init__(name=f"{student.name}_distiller")
        self.weight = validation.non_negative(weight, "weight")
        kinds = list(outputs) if isinstance(outputs, (list, tuple)) else [outputs]
        for kind in kinds:
            validation.one_of(kind, "outputs", ("softmax", "sigmoid", "values"))
        for name, network in (("student", student), ("teacher", teacher)):
            if network is not None and not network.built:
                raise UnbuiltModelError(
                    f"`{name}` has no weights yet. Call it once on a batch, or load it, first."
                )
        self.kinds = tuple(kinds)
        self.student = student
        self._teaching = _Frozen(None)
        self._distance = keras.metrics.Mean(name="distillation_loss")
        if teacher is not None:
            copy = plain_copy(teacher, what="frozen copy", fix="Train without a teacher.")
            copy.trainable = False
            self._teaching = _Frozen(copy)
        # Keras reads the names when a dict of losses is compiled.
        names = getattr(student, "output_names", None)
        if names is not None:
            self.output_names = names
        self.built = True

    @classmethod
    def of(
        cls,
        model: keras.Model,
        teacher: keras.Model | None = None,
        weight: float = 1.0,
        outputs: OutputKind | Sequence[OutputKind] = "values",
    ) -> Distiller:
        """Return a distiller of a plain copy of a compiled model, compiled in the same way.

        The copy has its weights, and its optimizer is in the same state. The model is not changed.

        Args:
            model: Built and compiled Keras model.
            teacher, weight, outputs: As for the class. The model itself may be the teacher.

        Raises:
            ArgumentTypeError: `model` is not a Keras model.
            InvalidArgumentError: The model is not compiled.

        Example:
        >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
        >>> model.compile("adam", "mse")
        >>> distiller = kgp.Distiller.of(model, teacher=model)
        >>> history = distiller.fit(np.ones((8, 4)), np.zeros((8, 2)), verbose=0)
        >>> int(distiller.optimizer.iterations), int(model.optimizer.iterations)
        (1, 0)
        """
        validation.keras_model(model)
        if not getattr(model, "compiled", False):
            raise InvalidArgumentError(
                f"`Distiller.of` needs a compiled model. Received: '{model.name}', which is not compiled. "
                "Call its `compile` first."
            )
        student = plain_copy(
            model,
            what="copy",
            fix="Let the `get_config` of its layers return all arguments of the constructor.",
        )
        distiller = cls(student, teacher, weight, outputs)
        optimizer = new_optimizer(model.optimizer, student.trainable_variables)
        distiller.compile(optimizer=optimizer, **compile_arguments(model))  # pyright: ignore
        return distiller

    @property
    def teacher(self) -> keras.Model | None:
        """The frozen copy of the teacher, or None."""
        return self._teaching.network

    @property
    def metrics(self):
        """The metrics of the compiled loss, and the distance to the teacher if there is a teacher."""
        # Keras finds the metric in its attribute; without a teacher it would log 0.
        return [m for m in super().metrics if m is not self._distance or self.teacher is not None]

    def call(self, inputs, training=False):
        """Return the outputs of the student."""
        return self.student(inputs, training=training)

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        """Return the compiled loss plus the weighted distance to the teacher."""
        loss = super().compute_loss(x, y, y_pred, sample_weight, training)
        if self.teacher is None or not training:
            return loss
        distance: Any = self.distance(y_pred, self.teacher(x, training=False))
        self._distance.update_state(distance)
        distance = ops.cast(distance, getattr(loss, "dtype", "float32"))
        return loss + self.weight * distance

    def distance(self, outputs: Any, taught: Any) -> Any:
        """Return the distance between outputs and those of the teacher, as a scalar.

        Args:
            outputs: Outputs of the student.
            taught: Outputs of the teacher, of the same structure.

        Raises:
            InvalidArgumentError: The number of outputs differs, or `outputs` of the constructor does not
                have one entry for each.
        """
        ours: list[Any] = keras.tree.flatten(outputs)  # pyright: ignore[reportAssignmentType]
        theirs: list[Any] = keras.tree.flatten(taught)  # pyright: ignore[reportAssignmentType]
        kinds: Any = self.kinds * len(ours) if len(self.kinds) == 1 else self.kinds
        if len(ours) != len(theirs) or len(kinds) != len(ours):
            raise InvalidArgumentError(
                "Student and teacher must have the same number of outputs, and `outputs` one entry for all "
                f"or for each. Received: {len(ours)} and {len(theirs)} outputs, {len(kinds)} entries."
            )
        rows = zip(ours, theirs, kinds, strict=True)
        return sum(_distance(our, ops.stop_gradient(their), kind) for our, their, kind in rows)


def _distance(ours: Any, theirs: Any, kind: str) -> Any:
    ours, theirs = ops.cast(ours, "float32"), ops.cast(theirs, "float32")
    if kind == "values":
        variance: Any = ops.var(theirs)
        return ops.mean(ops.square(ours - theirs)) / (variance + _SMALLEST)
    if kind == "softmax":
        return ops.mean(ops.sum(_divergence(ours, theirs), axis=-1))
    return ops.mean(_divergence(ours, theirs) + _divergence(1.0 - ours, 1.0 - theirs))


def _divergence(ours: Any, theirs: Any) -> Any:
    """Return t * log(t / s) for each entry."""
    ours, theirs = (ops.clip(x, _SMALLEST, 1.0) for x in (ours, theirs))
    return theirs * (ops.log(theirs) - ops.log(ours))
