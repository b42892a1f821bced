"""Training after pruning: the masks stay, what is left of the weights makes good what went."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import keras

from keras_ganprune.backend import tracing
from keras_ganprune.errors import InvalidArgumentError
from keras_ganprune.gan import GANModel
from keras_ganprune.layers.traversal import apply_masks, masked_weights
from keras_ganprune.pruning.pruner import Pruner
from keras_ganprune.training import discovery, weight_averages


class _HoldMasks(keras.callbacks.Callback):
    """Masks again what is written past the constraints: averages, and optimizers with `use_ema`."""

    def __init__(self, model: keras.Model):
        super().__init__()
        self._fitted = model
        targets = [(n, x) for n, x in discovery.networks(model).items() if masked_weights(x)]
        if not targets and masked_weights(model):
            targets = [("", model)]
        if targets:
            # The step may have been traced before there were masks, as in a loop with a `Pruner`.
            pruner = Pruner(*(network for _, network in targets))
            for optimizer in discovery.optimizers(model, unwrap=False):
                pruner.track(optimizer)
            tracing.retrace(model)
        self._copies = weight_averages.Copies(model, targets, "auto", lambda text: None)

    def on_epoch_end(self, epoch, logs=None):
        tracing.sync(self._fitted)
        self._copies.sync()

    def on_train_end(self, logs=None):
        apply_masks(self._fitted)
        self._copies.sync()


def recover(
    model: keras.Model,
    data: Any,
    epochs: int = 5,
    *,
    labels: Any = None,
    teacher: keras.Model | None = None,
    distillation: Any = None,
    learning_rate: float | None = None,
    batch_size: int | None = None,
    callbacks: Sequence[keras.callbacks.Callback] = (),
    **kwargs: Any,
) -> keras.callbacks.History:
    """Train a pruned or shrunk model on, under the masks that it has, and return the `History`.

    High sparsity is usable because of this: most of the quality that pruning costs comes back. What is
    pruned stays zero, in averaged copies (EMA) too.

    Args:
        model: A compiled `GANModel`, a GAN class of your own, or any compiled model.
        data: As the `x` of `fit`.
        epochs: Positive int.
        labels: As the `y` of `fit`.
        teacher: Of a `GANModel`: the dense generator, which the pruned one then also learns from, for
            this training alone; None for the teacher that the model has, if any.
        distillation: As for `GANModel`, of this teacher.
        learning_rate: Positive float, of all optimizers, for this training alone; None for the one they
            have. A tenth of that of the training before is usual.
        batch_size, **kwargs: As for `fit`.
        callbacks: Further callbacks.

    Raises:
        InvalidArgumentError: the model is not compiled, it can have no teacher, or the optimizers follow
            a schedule that a `learning_rate` cannot replace.

    Example:
    >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(5)])
    >>> model.compile("sgd", "mse")
    >>> report = Pruner(model).update(sparsity=0.5)
    >>> history = recover(model, np.ones((8, 4)), 2, labels=np.ones((8, 5)), verbose=0)
    >>> int(np.count_nonzero(model.get_weights()[0]))
    10

    Reference: fine-tuning under masks, [Learning both weights and connections](https://arxiv.org/abs/1506.02626),
    Section 3; from a dense teacher, [GAN Compression](https://arxiv.org/abs/2003.08936), Eq. 2.
    """
    optimizers = discovery.optimizers(model)
    if not optimizers:
        raise InvalidArgumentError(
            f"`recover` trains, so '{model.name}' must be compiled. Call its `compile` first."
        )
    if not isinstance(model, GANModel) and (teacher is not None or distillation is not None):
        raise InvalidArgumentError(
            "`teacher` and `distillation` are of a `GANModel`: only its training step knows them. "
            f"Received: a {type(model).__name__}. Leave them out, or build a `GANModel` of the networks."
        )
    with _taught(model, teacher, distillation), _rates(optimizers, learning_rate):
        return model.fit(
            data,
            labels,
            batch_size=batch_size,
            epochs=epochs,
            callbacks=[_HoldMasks(model), *callbacks],
            **kwargs,
        )


@contextlib.contextmanager
def _taught(model: Any, teacher: Any, distillation: Any) -> Iterator[None]:
    if teacher is None and distillation is None:
        yield
        return
    before = model.teacher, model.distillation
    model.set_teacher(teacher if teacher is not None else model.teacher, distillation)
    try:
        yield
    finally:
        model.set_teacher(*before)


@contextlib.contextmanager
def _rates(optimizers: list[keras.optimizers.Optimizer], rate: float | None) -> Iterator[None]:
    if rate is None:
        yield
        return
    if isinstance(rate, bool) or not isinstance(rate, (int, float)) or not rate > 0:
        raise InvalidArgumentError(f"`learning_rate` must be a positive float. Received: {rate!r}.")
    for optimizer in optimizers:
        # A number, or the config of a schedule.
        own = optimizer.get_config()["learning_rate"]
        if isinstance(own, dict):
            raise InvalidArgumentError(
                f"`learning_rate` cannot replace the schedule of an optimizer: {type(optimizer).__name__} "
                f"follows {own['class_name']}. Leave it out, or compile with a plain learning rate."
            )
    before = [float(keras.ops.convert_to_numpy(o.learning_rate)) for o in optimizers]
    for optimizer in optimizers:
        optimizer.learning_rate = rate
    try:
        yield
    finally:
        for optimizer, value in zip(optimizers, before, strict=True):
            optimizer.learning_rate = value
