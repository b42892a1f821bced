"""What one of two workers of TensorFlow does; run by test_workers.py.

Usage: workers_script.py FOLDER CASE ...; what was found is written to FOLDER/worker-<number>.json.
"""

import json
import os
import sys
import warnings
from pathlib import Path

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
os.environ["CUDA_VISIBLE_DEVICES"] = "-1"

import keras
import numpy as np

import keras_ganprune as kgp
from keras_ganprune.backend import distribution

SCHEDULE = kgp.PolynomialDecay(0.8, begin_step=0, end_step=7)
FREQUENCY = 3


def network():
    """Return a classifier whose weights no process draws for itself."""
    model = keras.Sequential(
        [keras.Input((8,)), keras.layers.Dense(16, activation="relu"), keras.layers.Dense(3)]
    )
    draw = np.random.default_rng(3).normal
    model.set_weights([draw(size=w.shape).astype("float32") for w in model.weights])
    return model


def data():
    rng = np.random.default_rng(4)
    return rng.normal(size=(64, 8)).astype("float32"), rng.normal(size=(64, 3)).astype("float32")


def fit(model, optimizer, *callbacks, epochs=2):
    """Train for four steps an epoch, with the same weights afterwards where the rate is 0."""
    model.compile(optimizer, "mse")
    x, y = data()
    model.fit(
        x, y, batch_size=16, epochs=epochs, shuffle=False, verbose=0, callbacks=list(callbacks)
    )


def masks(model):
    found = [keras.ops.convert_to_numpy(w.mask) for w in kgp.masked_weights(model)]
    return [np.packbits(mask).tobytes().hex() for mask in found]


def kept(model):
    found = [keras.ops.convert_to_numpy(w.mask) for w in kgp.masked_weights(model)]
    return [int(mask.sum()) for mask in found]


def nonzero(model):
    weights = [keras.ops.convert_to_numpy(w.variable) for w in kgp.masked_weights(model)]
    return [int(np.count_nonzero(w)) for w in weights]


# --- the cases: each returns what is to be looked at -------------------------------------------------


def still(number):
    """Weights that no step changes: a whole schedule."""
    model = network()
    fit(model, keras.optimizers.SGD(0.0), kgp.Prune(SCHEDULE, frequency=FREQUENCY, verbose=0))
    return {"masks": masks(model), "kept": kept(model), "nonzero": nonzero(model)}


def gradients(number):
    """Gradients are averaged over both workers, whose shares of the data differ."""
    model = network()
    prune = kgp.Prune(
        SCHEDULE, frequency=FREQUENCY, criterion="taylor", mode="rigl", copies=None, verbose=0
    )
    fit(model, keras.optimizers.Adam(1e-2), prune)
    return {"masks": masks(model), "kept": kept(model), "nonzero": nonzero(model)}


def adaptive(number):
    """The search of a sparsity follows a log that a callback of each worker writes: here, not the same."""

    class Score(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            logs["score"] = 1.0 + (number == 1 and epoch == 1)

    model = network()
    schedule = kgp.AdaptiveSparsity("score", tolerance=0.1, increment=0.4, maximum=0.4)
    fit(model, keras.optimizers.SGD(0.0), Score(), kgp.Prune(schedule, verbose=0), epochs=3)
    return {"masks": masks(model), "kept": kept(model)}


def rounded(number):
    """The second worker's weights are a little off: enough for another ranking of its own."""
    model = network()
    pruner = kgp.Pruner(model)
    for weight in pruner.weights:
        values = np.random.default_rng(5 + number).normal(size=weight.mask.shape)
        # Not through the strategy, which would keep them equal.
        local = weight.variable.value.values[0]
        local.assign(values.astype("float32"))
    report = pruner.update(sparsity=0.5)
    return {"masks": masks(model), "kept": kept(model), "report": report.kept}


def schedules_differ(number):
    schedule = kgp.PolynomialDecay((0.8, 0.9)[number], 0, 7)
    return refused(lambda: fit(network(), "sgd", kgp.Prune(schedule, verbose=0)))


def criteria_differ(number):
    criterion = ("magnitude", "l2")[number]
    return refused(lambda: fit(network(), "sgd", kgp.Prune(0.5, criterion=criterion)))


def updates_differ(number):
    pruner = kgp.Pruner(network())
    found = refused(lambda: pruner.update(sparsity=(0.5, 0.75)[number]))
    return found | {"kept": kept(pruner.models[0])}


def backups_differ(number):
    """One worker begins with masks from a backup, the other without."""
    model = network()
    kgp.make_prunable(model)
    if number == 1:
        mask = kgp.masked_weights(model)[0].mask
        mask.assign(np.arange(mask.shape[0] * mask.shape[1]).reshape(mask.shape) % 2 == 0)
    return refused(lambda: fit(model, "sgd", kgp.Prune(SCHEDULE, verbose=0)))


def one_prunes(number):
    """Comes last: what was not answered stays open."""
    distribution.TIMEOUT = 5.0
    callbacks = [kgp.Prune(0.5, verbose=0)] if number == 0 else []
    return refused(lambda: fit(network(), "sgd", *callbacks))


def refused(run):
    try:
        run()
    except kgp.PruningError as error:
        return {"error": f"{type(error).__name__}: {error}"}
    return {"error": None}


if __name__ == "__main__":
    folder, *cases = sys.argv[1:]
    warnings.simplefilter("ignore")
    strategy = distribution.multi_worker_strategy()
    number = json.loads(os.environ["TF_CONFIG"])["task"]["index"]
    found = {}
    for case in cases:
        with strategy.scope():
            found[case] = globals()[case](number)
        Path(folder, f"worker-{number}.json").write_text(json.dumps(found))
