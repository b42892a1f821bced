"""Frozen layers are said once, and only if training really leaves them as they are."""

import warnings

import keras
import numpy as np
import tensorflow as tf
from cases import cases
from keras import layers

import keras_ganprune as kgp
from keras_ganprune.errors import PruningWarning

X = np.random.default_rng(0).normal(size=(32, 6)).astype("float32")


def network(name, frozen=()):
    made = keras.Sequential(
        [keras.Input((6,)), layers.Dense(8, name=f"{name}_1"), layers.Dense(6, name=f"{name}_2")],
        name=name,
    )
    for layer in made.layers:
        layer.trainable = layer.name not in frozen
    return made


class Toggling(keras.Model):
    """A GAN in the old style: the discriminator is frozen while the generator is trained.

    Args:
        at_start: `discriminator.trainable` when training begins.
        at_end: The same at the end of each step.
        every: Only each so many steps train the discriminator.
        judge: Whether a frozen third network takes part.
    """

    def __init__(self, at_start=True, at_end=True, every=1, judge=False):
        super().__init__()
        self.generator, self.discriminator = network("g"), network("d")
        self.judge = network("j", ["j_1", "j_2"]) if judge else None
        self.discriminator.trainable = at_start
        self.at_end, self.every = at_end, every
        self.optimizers_of = {"g": keras.optimizers.Adam(1e-2), "d": keras.optimizers.Adam(1e-2)}
        self.g_optimizer, self.d_optimizer = self.optimizers_of.values()
        self.steps_done = 0

    def train_step(self, data):
        self.steps_done += 1
        if self.steps_done % self.every == 0:
            self.discriminator.trainable = True
            self._step(self.d_optimizer, self.discriminator, lambda: self.discriminator(data))
        self.discriminator.trainable = False
        self._step(self.g_optimizer, self.generator, lambda: self.judged(data))
        self.discriminator.trainable = self.at_end
        return {"loss": tf.constant(0.0)}

    def judged(self, data):
        out = self.discriminator(self.generator(data))
        return out if self.judge is None else self.judge(out)

    def _step(self, optimizer, net, outputs):
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(outputs() ** 2)
        weights = net.trainable_weights
        optimizer.apply_gradients(zip(tape.gradient(loss, weights), weights, strict=True))


def toggling(**options):
    model = Toggling(**options)
    model.compile(run_eagerly=True)
    return model


def plain(frozen):
    model = network("n", frozen)
    model.compile("sgd", "mse")
    return model


# Case -> (the model, paths that are frozen).
CASES = {
    "one layer": (lambda: plain(["n_1"]), ["n_1/kernel"]),
    "all layers but a bias": (lambda: plain(["n_1", "n_2"]), ["n_1/kernel", "n_2/kernel"]),
    "none": (lambda: plain([]), []),
    "trainable at both ends of a step": (lambda: toggling(), []),
    "frozen at the start of fit": (lambda: toggling(at_start=False), []),
    "frozen at the end of a step": (lambda: toggling(at_end=False), []),
    "frozen at both": (lambda: toggling(at_start=False, at_end=False), []),
    "trained in each third step": (lambda: toggling(at_start=False, at_end=False, every=3), []),
    "a judge": (lambda: toggling(judge=True), ["j/j_1/kernel", "j/j_2/kernel"]),
}


@cases(("one layer", "none", "frozen at both", "a judge"), "case", CASES)
def test_what_is_said_of_frozen_layers(case, capsys):
    make, frozen = CASES[case]
    model, callback = make(), kgp.Prune(0.5)
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        for _ in range(2):
            model.fit(X, X, batch_size=8, verbose=0, callbacks=[callback])
    said = [str(w.message) for w in seen if issubclass(w.category, PruningWarning)]
    if not frozen:
        assert said == []
    else:
        assert len(said) == 1
        assert said[0].startswith(f"{', '.join(frozen)}: frozen (`trainable` is False")
        assert "`scope`" in said[0]
    assert "frozen" not in capsys.readouterr().out


def test_the_remark_of_a_pruner_says_what_is_true_now():
    remarks = kgp.Pruner(plain(["n_1"])).remarks
    assert remarks == [
        "n_1/kernel: `trainable` is False now; a layer that stays frozen is pruned without a chance to "
        "recover, so leave it out of `scope`"
    ]
