"""The values that the training step of a GAN logs: losses, accuracies and the balance ratio."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import keras

from keras_ganprune.backend.operations import ops
from keras_ganprune.gan.losses import GANLoss

LOSSES_AND_ACCURACIES = (
    "generator_loss",
    "discriminator_loss",
    "discriminator_real_accuracy",
    "discriminator_fake_accuracy",
)
# A smaller gap between real and generated images says nothing about the balance.
_SMALLEST_GAP = 1e-3


class Balance(NamedTuple):
    """The mean logits around one generator update, from which the balance ratio is computed.

    Attributes:
        due: Bool scalar tensor, whether the means were measured in this step.
        before: (mean D(G(z)), mean D(x)) before the generator update.
        after: The same means after it.
    """

    due: Any
    before: tuple[Any, Any]
    after: tuple[Any, Any]


class Judged(NamedTuple):
    """What the discriminator made of a batch.

    Attributes:
        loss: Scalar, the loss of the discriminator.
        real_logits: Discriminator outputs for real images.
        fake_logits: Discriminator outputs for generated images.
    """

    loss: Any
    real_logits: Any
    fake_logits: Any


class StepResult(NamedTuple):
    """What one training or test step has computed.

    Attributes:
        generator_loss: Scalar, without the further terms.
        judged: `Judged`, or None if the discriminator is not trained.
        samples: Number of real images, the weight of this step in the mean of an epoch.
        balance: `Balance`, or None if the balance is not measured.
        further: Further terms of the generator's loss by log name, such as 'distillation_loss'.
        pair: (real images, generated images).
    """

    generator_loss: Any
    judged: Judged | None
    samples: Any
    balance: Balance | None
    further: Mapping[str, Any]
    pair: tuple[Any, Any]


def new_trackers(with_balance: bool) -> dict[str, keras.metrics.Mean]:
    """Return the running means of a GAN, by log name."""
    trackers = {key: keras.metrics.Mean(name=key) for key in LOSSES_AND_ACCURACIES}
    if with_balance:
        trackers["balance_ratio"] = _MeanOfMeasured(name="balance_ratio")
    return trackers


def update(
    trackers: Mapping[str, keras.metrics.Mean], loss: GANLoss, step: StepResult
) -> dict[str, Any]:
    """Add one step to the running means; return the means that belong into its logs."""
    values = {"generator_loss": step.generator_loss}
    if step.judged is not None:
        values["discriminator_loss"] = step.judged.loss
        values["discriminator_real_accuracy"], values["discriminator_fake_accuracy"] = (
            loss.accuracy(step.judged.real_logits, step.judged.fake_logits)
        )
    values.update(step.further)
    for key, value in values.items():
        trackers[key].update_state(value, sample_weight=step.samples)
    shown = set(values)
    if step.balance is not None:
        _update_balance(trackers["balance_ratio"], step.balance)
        shown.add("balance_ratio")
    return {key: tracker.result() for key, tracker in trackers.items() if key in shown}


def _update_balance(tracker: keras.metrics.Mean, balance: Balance) -> None:
    (fake_before, real), (fake_after, _) = balance.before, balance.after
    gap = real - fake_before
    # A gap near zero would give a huge ratio, which drowns the mean.
    usable = ops.logical_and(balance.due, ops.abs(gap) > _SMALLEST_GAP)
    ratio = (fake_after - fake_before) / ops.where(usable, gap, ops.ones_like(gap))
    tracker.update_state(ratio, sample_weight=ops.cast(usable, "float32"))


class _MeanOfMeasured(keras.metrics.Mean):
    """A mean of values that are measured in some steps only.

    Until the first measurement of an epoch it returns the mean of the epoch before.
    """

    def reset_state(self):
        mean = self.result()
        # The mean of a diverged run is dropped: NaN would stay in the mean for ever.
        known = ops.logical_and(self.count > 0, ops.isfinite(mean))
        # The old mean gets a tiny weight: it counts only until the first new value.
        # (Arrays, because JAX compiles the step again for a number that has no dtype of its own.)
        tiny, zero = (ops.full((), value, dtype=self.count.dtype) for value in (1e-6, 0.0))
        weight = ops.where(known, tiny, zero)
        self.total.assign(ops.where(known, weight * mean, zero))
        self.count.assign(weight)
