"""A frozen teacher for a network inside a model with a training step of its own: add `Teach` to `fit`."""

from __future__ import annotations

import importlib
from typing import Any

import keras
from keras import ops

from keras_ganprune.backend import tracing
from keras_ganprune.errors import InvalidArgumentError, UnbuiltModelError
from keras_ganprune.layers.stripping import plain_copy
from keras_ganprune.training import discovery
from keras_ganprune.training.fresh_copies import FreshCopies
from keras_ganprune.utils import annotated, validation


class Teach(FreshCopies):
    """Keeps a network close to a frozen teacher during `fit`, whatever the `train_step` of the model.

        weight * mean |G(z) - T(z)|

    The gradient of this distance is added where the optimizer of the network applies its gradients. Its
    inputs are those with which the training step called the network last: in training mode, or in any mode
    if the step never asks for training mode. Both networks run in inference mode for it. Classes of this
    package have `set_teacher` instead; for a model that is one network there is `Distiller`.

    Args:
        teacher: Built network with outputs of the same shapes. A frozen copy is made.
        target: Attribute name of the network in the model, or the network. Defaults to 'generator'.
        weight: Positive float, weight of the distance. Defaults to 20.0, as in `Distillation`.

    Raises:
        ArgumentTypeError: `teacher` is not a Keras model.
        InvalidArgumentError: `weight` is not positive. In `fit`: the backend is JAX, whose training steps are
            functions without side effects; `target` is not one network of the model; or the training step
            never calls the network.
        UnbuiltModelError: The teacher has no weights yet.

    Example:
    >>> dense = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)], name="dense")
    >>> Teach(dense, "G")
    <Teach 'G' by 'dense', weight 20.0>

    Reference: [GAN Compression](https://arxiv.org/abs/2003.08936), Eq. 2.
    """

    # Keras sets it before any hook runs.
    model: keras.Model

    def __init__(
        self,
        teacher: keras.Model,
        target: str | keras.layers.Layer = "generator",
        weight: float = 20.0,
    ):
        annotated.check(Teach.__init__, locals(), "teacher", "target")
        super().__init__()
        self.weight = validation.positive(weight, "weight")
        if not teacher.built:
            raise UnbuiltModelError("`teacher` has no weights yet. Train it, or load it, first.")
        self.target = target
        self.teacher = plain_copy(teacher, what="frozen copy", fix="Train without a teacher.")
        self.teacher.trainable = False
        self._undo: list[Any] = []
        # Whether the last call was in training mode -> its inputs.
        self._seen: dict[bool, tuple[tuple, dict[str, Any]]] = {}

    def __repr__(self) -> str:
        return f"<Teach {self.target!r} by '{self.teacher.name}', weight {self.weight}>"

    def set_model(self, model: keras.Model) -> None:
        """Put the teacher into the training step, before it is traced."""
        super().set_model(model)
        if keras.backend.backend() == "jax":
            raise InvalidArgumentError(
                "`Teach` needs TensorFlow or PyTorch. Received: JAX, whose training steps are functions of "
                "arrays. Add the distance to the teacher to the loss of your `train_step`."
            )
        pairs = discovery.resolve_target(model, self.target)
        if len(pairs) != 1:
            raise InvalidArgumentError(f"`target` must be one network. Received: {self.target!r}.")
        self._remove()
        network = pairs[0][1]
        self._replace(network, "call", self._recording(network.call))
        for optimizer in discovery.optimizers(model):
            self._replace(optimizer, "apply", self._taught(optimizer, network))
        tracing.retrace(model)

    def on_train_end(self, logs=None):
        """Take the teacher out of the training step."""
        self._remove()
        tracing.retrace(self.model)

    def _replace(self, owner: Any, name: str, function: Any) -> None:
        # Past Keras's attribute tracking, which must not track a function.
        object.__setattr__(owner, name, function)
        self._undo.append((owner, name, function))

    def _remove(self) -> None:
        for owner, name, function in self._undo:
            if vars(owner).get(name) is function:
                object.__delattr__(owner, name)
        self._undo, self._seen = [], {}

    def _recording(self, call: Any) -> Any:
        """Return the `call` of the network that notes its inputs."""

        def recorded(*args, **kwargs):
            inputs = args, {k: v for k, v in kwargs.items() if k != "training"}
            self._seen[bool(kwargs.get("training"))] = inputs
            return call(*args, **kwargs)

        return recorded

    def _taught(self, optimizer: keras.optimizers.Optimizer, network: Any) -> Any:
        """Return the `apply` of an optimizer that adds the gradient of the distance."""
        original = optimizer.apply
        backend = importlib.import_module(
            f"keras_ganprune.backend._gradients_{keras.backend.backend()}"
        )

        def apply(grads, trainable_variables=None):
            grads = list(grads)
            if trainable_variables is not None:
                trainable_variables = list(trainable_variables)
            variables = trainable_variables or discovery.trained_variables(optimizer)
            own = {id(v) for v in network.trainable_variables}
            places = [i for i, v in enumerate(variables) if id(v) in own]
            if places:
                extra = backend.gradients(
                    lambda: self._distance(network), [variables[i] for i in places]
                )
                for i, more in zip(places, extra, strict=True):
                    if more is not None:
                        more = ops.cast(more, variables[i].dtype)
                        grads[i] = more if grads[i] is None else ops.add(grads[i], more)
            return original(grads, trainable_variables)

        return apply

    def _distance(self, network: Any) -> Any:
        if not self._seen:
            raise InvalidArgumentError(
                f"`Teach` needs a training step that calls '{network.name}'. Received: "
                f"{type(self.model).__name__}, which applies gradients to it before it calls it, or calls "
                "other layers. Call the network itself in `train_step`."
            )
        args, kwargs = self._seen.get(True) or self._seen[False]
        ours: list[Any] = keras.tree.flatten(network(*args, **kwargs, training=False))  # pyright: ignore
        theirs: list[Any] = keras.tree.flatten(self.teacher(*args, **kwargs, training=False))  # pyright: ignore
        pairs = zip(ours, theirs, strict=True)
        cast: Any = ops.cast
        rows: list[Any] = [
            ops.mean(ops.abs(cast(a, "float32") - ops.stop_gradient(cast(b, "float32"))))
            for a, b in pairs
        ]
        return self.weight * sum(rows)
