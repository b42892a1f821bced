"""A GAN class that builds its optimizers in its first step gets their state back from a backup."""

import warnings

import keras
import networks as nets
import numpy as np
import pytest
from keras.optimizers import SGD, Adam

import keras_ganprune as kgp
from keras_ganprune.errors import PruningWarning

pytestmark = pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="its `train_step` is written for TensorFlow"
)


class Look(keras.callbacks.Callback):
    """Notes the state of both optimizers when training begins and at the end of an epoch."""

    def __init__(self, stop_after=None):
        super().__init__()
        self.stop_after = stop_after

    def state(self):
        optimizers = [self.model.g_optimizer, self.model.d_optimizer]
        return [np.asarray(v) for optimizer in optimizers for v in optimizer.variables]

    def on_train_begin(self, logs=None):
        self.first = self.state()

    def on_epoch_end(self, epoch, logs=None):
        self.last = self.state()
        if epoch == self.stop_after:
            raise KeyboardInterrupt


def run(folder, make, optimizer, stop_after=None):
    keras.utils.set_random_seed(0)
    gan = make()
    gan.built = True
    # A few steps, for which a trace would take longer; the state is restored in Python either way.
    gan.compile(d_optimizer=optimizer(), g_optimizer=optimizer(), run_eagerly=True)
    look = Look(stop_after)
    callbacks = [
        kgp.Prune(0.5, "generator", 2, verbose=0),
        keras.callbacks.BackupAndRestore(folder, double_checkpoint=True),
        look,
    ]
    try:
        gan.fit(
            nets.images(8), batch_size=4, epochs=3, shuffle=False, verbose=0, callbacks=callbacks
        )
    except KeyboardInterrupt:
        assert stop_after is not None
    return look


class Alike(nets.GuideGAN):
    """Has a second network of the shapes and nearly the name of the generator."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.g_helper = keras.models.clone_model(self.generator)


def decaying():
    return Adam(keras.optimizers.schedules.ExponentialDecay(1e-2, 3, 0.7))


OTHERS = {
    "no momentum": lambda: SGD(1e-2),
    "schedule without momentum": lambda: SGD(
        keras.optimizers.schedules.ExponentialDecay(1e-2, 3, 0.7)
    ),
    "schedule": decaying,
    "averages": lambda: Adam(1e-2, use_ema=True),
    "loss scale": lambda: keras.optimizers.LossScaleOptimizer(Adam(1e-2), 8.0),
    "loss scale without momentum": lambda: keras.optimizers.LossScaleOptimizer(SGD(1e-2), 8.0),
    "accumulation": lambda: Adam(1e-2, gradient_accumulation_steps=2),
    "lion": lambda: keras.optimizers.Lion(1e-3),
    "adafactor": lambda: keras.optimizers.Adafactor(1e-2),
    "muon": lambda: keras.optimizers.Muon(1e-2),
}


@pytest.mark.parametrize(
    ("make", "optimizer", "lost"),
    [
        (nets.GuideGAN, lambda: Adam(1e-2), None),
        # The average has the shapes of the generator.
        pytest.param(nets.EmaGAN, lambda: Adam(1e-2), None, marks=pytest.mark.full),
        pytest.param(
            nets.DistilledGAN, lambda: SGD(1e-2, momentum=0.9), None, marks=pytest.mark.full
        ),
        (Alike, lambda: Adam(1e-2), "g_optimizer of Alike: not built yet"),
        *(
            pytest.param(nets.GuideGAN, optimizer, None, marks=pytest.mark.full)
            for optimizer in OTHERS.values()
        ),
    ],
    ids=["guide", "average", "teacher and momentum", "ambiguous", *OTHERS],
)
def test_state_is_restored_or_its_loss_is_said(tmp_path, make, optimizer, lost):
    # The backup is written before the callback that interrupts.
    stopped = run(tmp_path, make, optimizer, stop_after=1)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        resumed = run(tmp_path, make, optimizer)
    said = [str(w.message) for w in caught if issubclass(w.category, PruningWarning)]
    if lost is None:
        assert not said
        assert len(stopped.last) == len(resumed.first) > 1
        for before, after in zip(stopped.last, resumed.first, strict=True):
            np.testing.assert_array_equal(before, after)
    else:
        assert any(lost in text for text in said), said
        assert any("optimizer's state was not restored with the masks" in t for t in said), said
