"""A small sweep of a GAN on the digits; kills itself in the middle of a run if told to.

Usage: sweep_script.py DATABASE KILL_AT_RUN|0 [PAUSE [NUMBER_OF_SEEDS]]
"""

import os
import signal
import sys
import time

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
os.environ["CUDA_VISIBLE_DEVICES"] = "-1"

import keras
import networks as nets
import numpy as np

import keras_ganprune as kgp
from keras_ganprune import datasets
from keras_ganprune.search import SweepResult, sweep

SPARSITIES, SEEDS = (0.9,), (3, 4)
CELLS = 4  # two dense runs and two pruned ones


def build(seed):
    gan = kgp.GANModel(*nets.mlp_pair(), nets.LATENT, seed=seed, balance_frequency=0)
    gan.compile(keras.optimizers.Adam(1e-2), keras.optimizers.Adam(1e-2))
    return gan


def distance(gan, images, labels):
    """Return the squared distance of the means and deviations of all pixels."""
    fake = gan.generate(200, seed=0)
    return {
        "fd": float(
            np.sum((fake.mean(0) - images.mean(0)) ** 2 + (fake.std(0) - images.std(0)) ** 2)
        )
    }


class KillAt(keras.callbacks.Callback):
    """SIGKILL in the middle of a run asks nobody."""

    def on_train_batch_end(self, batch, logs=None):
        if batch == 3:
            os.kill(os.getpid(), signal.SIGKILL)


def run(storage, kill_at=0, pause=0.0, seeds=SEEDS, runs=None, **arguments) -> SweepResult:
    """Sweep; `runs` collects what is trained, `kill_at` is the number of the run to die in."""
    runs = [] if runs is None else runs

    def callbacks(each):
        runs.append(str(each))
        time.sleep(pause)
        return [KillAt()] if len(runs) == kill_at else []

    return sweep(
        build,
        datasets.digits().take(200),
        quality=distance,
        steps=8,
        batch_size=32,
        sparsities=SPARSITIES,
        seeds=seeds,
        callbacks=callbacks,
        storage=storage,
        **arguments,
    )


if __name__ == "__main__":
    database, kill_at, *rest = sys.argv[1:]
    pause = float(rest[0]) if rest else 0.0
    run(database, int(kill_at), pause, int(rest[1]) if len(rest) > 1 else SEEDS)
