"""`recover`: train a pruned model further, so that the kept weights make up for the pruned ones."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_ganprune.backend import tracing
from keras_ganprune.errors import InvalidArgumentError
from keras_ganprune.gan.adversarial_model import AdversarialModel
from keras_ganprune.gan.distillation import Distillation
from keras_ganprune.layers.traversal import apply_masks, masked_weights
from keras_ganprune.pruning.pruner import Pruner
from keras_ganprune.training import discovery, weight_averages
from keras_ganprune.utils import annotated, training_data, validation


class _HoldMasks(keras.callbacks.Callback):
    """Applies the masks to weights that no constraint protects: weight averages and `use_ema`."""

    def __init__(self, model: keras.Model):
        super().__init__()
        self._fitted = model
        targets = [(n, x) for n, x in discovery.networks(model).items() if masked_weights(x)]
        if not targets and masked_weights(model):
            targets = [("", model)]
        if targets:
            # The training step may have been traced before there were masks, as in a loop with a `Pruner`.
            pruner = Pruner(*(network for _, network in targets))
            for optimizer in discovery.optimizers(model, unwrap=False):
                pruner.track(optimizer)
            tracing.retrace(model)
        self._copies = weight_averages.Copies(model, targets, "auto", lambda text: None)

    def on_epoch_end(self, epoch, logs=None):
        tracing.sync(self._fitted)
        self._copies.sync()

    def on_train_end(self, logs=None):
        # Keras may have written unmasked weight averages into the weights just now.
        apply_masks(self._fitted)
        self._copies.sync()


def recover(
    model: keras.Model,
    data: Any,
    epochs: int = 5,
    *,
    labels: Any = None,
    teacher: keras.Model | None = None,
    distillation: Distillation | float | None = None,
    learning_rate: float | None = None,
    batch_size: int | None = None,
    callbacks: Sequence[keras.callbacks.Callback] = (),
    **kwargs: Any,
) -> keras.callbacks.History:
    """Train a pruned or shrunk model further under its present masks.

    Pruning costs quality, and this training brings most of it back. Pruned weights stay zero, also in
    averaged copies (EMA).

    Args:
        model: A compiled `GANModel` or `ImageToImageGAN`, a GAN class of your own, or any compiled model.
        data: Training data, as the `x` of `fit`.
        epochs: Positive int, epochs to train. Defaults to 5.
        labels: Labels, as the `y` of `fit`. Defaults to None.
        teacher: For these two: the dense generator, from which the pruned one also learns during
            this training. None keeps the teacher that the model has, if any. Defaults to None.
        distillation: How the teacher is used, as for `GANModel`. Defaults to None.
        learning_rate: Positive float, learning rate of all optimizers during this training; a tenth of
            the rate of the first training is usual. None keeps their rates. Defaults to None.
        batch_size: Positive int, samples per batch, as for `fit`. Defaults to None.
        callbacks: Further callbacks. Defaults to none.
        **kwargs: Further arguments of `fit`.

    Returns:
        The `History` of `fit`.

    Raises:
        InvalidArgumentError: The model is not compiled.
        InvalidArgumentError: `teacher` or `distillation` is given, and `model` is neither of these two.
        InvalidArgumentError: `learning_rate` is not a positive number, or an optimizer follows a
            learning-rate schedule, which `learning_rate` cannot replace.

    Example:
    >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(5)])
    >>> model.compile("sgd", "mse")
    >>> report = Pruner(model).update(sparsity=0.5)
    >>> history = recover(model, np.ones((8, 4)), 2, labels=np.ones((8, 5)), verbose=0)
    >>> int(np.count_nonzero(model.get_weights()[0]))
    10

    Reference: fine-tuning under masks, [Learning both weights and connections](https://arxiv.org/abs/1506.02626),
    Section 3; with a dense teacher, [GAN Compression](https://arxiv.org/abs/2003.08936), Eq. 2.
    """
    validation.keras_model(model)
    validation.positive_int(epochs, "epochs")
    if batch_size is not None:
        validation.positive_int(batch_size, "batch_size")
    optimizers = discovery.optimizers(model)
    if not optimizers:
        raise InvalidArgumentError(
            f"`recover` trains, so '{model.name}' must be compiled. Call its `compile` first."
        )
    if not isinstance(model, AdversarialModel) and (
        teacher is not None or distillation is not None
    ):
        raise InvalidArgumentError(
            "`teacher` and `distillation` need a `GANModel` or an `ImageToImageGAN`, whose training step "
            f"uses them. Received: a {type(model).__name__}. Leave them out, or build such a GAN."
        )
    annotated.check(recover, locals(), "callbacks", "learning_rate", "teacher")
    if not isinstance(model, AdversarialModel):
        training_data.check(model, data, labels)
    with _teacher_set(model, teacher, distillation), _learning_rates_set(optimizers, learning_rate):
        return model.fit(
            data,
            labels,
            batch_size=batch_size,
            epochs=epochs,
            callbacks=[_HoldMasks(model), *callbacks],
            **kwargs,
        )


@contextlib.contextmanager
def _teacher_set(model: Any, teacher: Any, distillation: Any) -> Iterator[None]:
    """Within the context, a GAN has this teacher; afterwards it has the old one."""
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
def _learning_rates_set(
    optimizers: Sequence[keras.optimizers.Optimizer], rate: float | None
) -> Iterator[None]:
    """Within the context, all optimizers have one learning rate; afterwards they have their own."""
    if rate is None:
        yield
        return
    rate = validation.positive(rate, "learning_rate")
    for optimizer in optimizers:
        # A number, or the config of a schedule.
        current = optimizer.get_config()["learning_rate"]
        if isinstance(current, dict):
            raise InvalidArgumentError(
                f"`learning_rate` cannot replace the schedule of an optimizer: {type(optimizer).__name__} "
                f"follows {current['class_name']}. Leave it out, or compile with a plain learning rate."
            )
    before = [float(np.asarray(ops.convert_to_numpy(o.learning_rate))) for o in optimizers]
    for optimizer in optimizers:
        optimizer.learning_rate = rate
    try:
        yield
    finally:
        for optimizer, value in zip(optimizers, before, strict=True):
            optimizer.learning_rate = value
