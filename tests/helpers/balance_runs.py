"""Short runs with a `BalanceController`, and an oracle of its densities."""

import math

import keras
import networks as nets
import numpy as np
import pytest
import tensorflow as tf
from keras.optimizers import SGD, Adam

import keras_ganprune as kgp
from keras_ganprune.training import discovery

BOTH = ["generator", "discriminator"]
MODES = ["rigl", "set", "splice"]
BATCHES = 8
# Every finite ratio is above the first band, below the second and inside the third.
ABOVE, BELOW, INSIDE = (-1e9, -1e8), (1e8, 1e9), (-1e9, 1e9)
NAN = math.nan
each_mode = pytest.mark.parametrize(
    "mode", ["rigl", *(pytest.param(mode, marks=pytest.mark.full) for mode in MODES[1:])]
)


def full(*values, **options):
    """Return a case that is not in the default suite."""
    return pytest.param(*values, marks=pytest.mark.full, **options)


# --- models --------------------------------------------------------------------------------------


def gan_model(cls=kgp.GANModel, pair=None, make=lambda: SGD(0.05, 0.9), **kwargs):
    gan = cls(*(pair or nets.mlp_pair()), nets.LATENT, seed=1, **{"balance_frequency": 1, **kwargs})
    gan.compile(make(), make())
    return gan


class Scripted(kgp.GANModel):
    """Logs one number of a script per batch: 'shown' as the mean over the epoch, 'plain' as it is.

    A number that is NaN is not measured, so that the mean over the epoch stays as it was.
    """

    def __init__(self, *args, script=(), **kwargs):
        super().__init__(*args, **{"balance_frequency": 0, **kwargs})
        self.script = tf.constant(np.array(script, "float32"))
        self.shown = keras.metrics.Mean(name="shown")

    @property
    def metrics(self):
        return [*super().metrics, self.shown]

    def train_step(self, data):
        now = self.script[tf.cast(self.generator_optimizer.iterations, "int32")]
        logs = super().train_step(data)
        good = tf.math.is_finite(now)
        self.shown.update_state(tf.where(good, now, 0.0), sample_weight=tf.cast(good, "float32"))
        return {**logs, "shown": self.shown.result(), "plain": now}


def scripted(script, **kwargs):
    return gan_model(Scripted, script=script, **kwargs)


def foreign(cls=nets.GuideGAN):
    gan = cls()
    gan.compile(d_optimizer=Adam(1e-2, 0.5), g_optimizer=Adam(1e-2, 0.5))
    return gan


def fit(model, *callbacks, epochs=1, batches=BATCHES):
    return model.fit(
        nets.images(4 * batches),
        batch_size=4,
        epochs=epochs,
        shuffle=False,
        verbose=0,
        callbacks=list(callbacks),
    ).history


def controller(low=0.45, high=0.55, *args, **kwargs):
    return kgp.BalanceController(low, high, *args, **{"frequency": 4, "verbose": 0, **kwargs})


def densities(callback):
    """Return [(step, density)] of all mask updates."""
    return [(step, round(1 - requested, 9)) for step, requested, _ in callback.updates]


# --- the oracle, and what is looked at -----------------------------------------------------------


def oracle(
    values, low=0.45, high=0.55, density=0.5, inc=0.05, bounds=(0.05, 1.0), frequency=4, begin=2
):
    """Return [(step, density)] for one measured value per batch (NaN: not measured), in decimals."""
    moves, window = [(begin, density)], []
    for step, value in enumerate(values, start=1):
        window += [value] if math.isfinite(value) else []
        if step == begin:
            window = []
        if step > begin and (step - begin) % frequency == 0:
            mean = np.mean(window) if window else NAN
            if mean > high and density < bounds[1]:
                moves.append((step, density := min(round(density + inc, 9), bounds[1])))
            elif mean < low and density > bounds[0]:
                moves.append((step, density := max(round(density - inc, 9), bounds[0])))
            window = []
    return moves


def in_force(moves, step):
    """Return the density after a step; 1 before the first update."""
    return ([1.0] + [density for due, density in moves if due <= step])[-1]


def kept_at(density, sizes):
    return [nets.kept_oracle(size, 1 - density) for size in sizes]


class Look(keras.callbacks.Callback):
    """Records masks, weights, slots and logs at each batch end, before or after the controller."""

    def __init__(self, target="discriminator"):
        super().__init__()
        self.target, self.states, self.logs = target, [], []

    def on_train_batch_end(self, batch, logs=None):
        weights = kgp.masked_weights(getattr(self.model, self.target))
        slots = {}
        for optimizer in discovery.optimizers(self.model):
            for variable, slot in discovery.slots(optimizer):
                slots.setdefault(id(variable), []).append(np.array(nets.value(slot)))
        self.states.append(
            [
                {
                    "value": np.array(nets.value(w.variable)),
                    "mask": np.array(nets.value(w.mask)),
                    "slots": slots.get(id(w.variable), []),
                }
                for w in weights
            ]
        )
        self.logs.append({k: float(v) for k, v in (logs or {}).items()})

    def kept(self):
        return [[np.count_nonzero(s["mask"]) for s in states] for states in self.states]


def assert_density(density, network):
    """Assert that each mask keeps exactly its count; weights that just returned are still zero."""
    table = nets.nonzeros(network).values()
    assert table and nets.leaks(network) == {}
    assert [kept for _, kept, _ in table] == kept_at(density, [size for *_, size in table])


def steps_of(before, after):
    """Yield (step, states before the controller, states after it) for each batch."""
    rows = zip(before.states, after.states, strict=True)
    return ((step, one, two) for step, (one, two) in enumerate(rows, start=1))


# Up to the upper bound, down to the lower bound, inside the band; some batches measure nothing.
SCRIPT = (
    [0.5, 0.9] + [0.9] * 8 + [0.5] * 4 + [NAN] * 4 + [0.7, NAN, 0.7, 0.2] + [0.44, 0.44, NAN, 0.44]
)
SCRIPT += [0.1] * 12 + [NAN, 0.3, NAN, NAN] + [0.54, 0.54, 0.56, 0.52] + [0.0] * 4 + [0.8] * 6
assert len(SCRIPT) == 56
SETTINGS = {"density": 0.65, "inc": 0.1, "bounds": (0.3, 0.8)}


def from_settings(**kwargs):
    return controller(0.45, 0.55, 0.65, 0.1, 0.3, 0.8, **kwargs)
