"""Trains a GAN with BackupAndRestore, and kills itself at a batch on request. Run by test_resume.py.

Usage: resume_script.py KIND FOLDER KILL_AT_BATCH|0
"""

import json
import os
import sys
from pathlib import Path

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
os.environ["CUDA_VISIBLE_DEVICES"] = "-1"

import keras
import networks as nets
import numpy as np
from interruptions import KillAt

import keras_ganprune as kgp

EPOCHS, BATCHES, SAVE_EVERY = 4, 8, 5
SCHEDULE = kgp.PolynomialDecay(0.8, begin_step=2, end_step=26)
FREQUENCY = 6


class Record(keras.callbacks.Callback):
    """Notes (optimizer step, weights kept by the masks) at each batch end."""

    def __init__(self, optimizer):
        super().__init__()
        self.optimizer, self.rows = optimizer, []

    def on_train_batch_end(self, batch, logs=None):
        kept = sum(kept for _, kept, _ in nets.nonzeros(self.model.generator).values())
        self.rows.append((int(self.optimizer.iterations), kept))


def make(kind):
    keras.utils.set_random_seed(0)
    if kind == "foreign":
        gan = nets.EmaGAN()
        gan.built = True  # BackupAndRestore asks for it; the networks are
        gan.compile(
            d_optimizer=keras.optimizers.Adam(1e-2), g_optimizer=keras.optimizers.Adam(1e-2)
        )
        return gan, gan.g_optimizer
    gan = kgp.GANModel(*nets.mlp_pair(), nets.LATENT, seed=1, ema_decay=0.9, balance_frequency=0)
    gan.compile(keras.optimizers.Adam(1e-2), keras.optimizers.Adam(1e-2))
    return gan, gan.generator_optimizer


def train(kind, folder=None, kill_at=0):
    """Train, from the backup in `folder` if there is one; return what became of it."""
    gan, optimizer = make(kind)
    prune = kgp.Prune(SCHEDULE, "generator", FREQUENCY)
    record = Record(optimizer)
    callbacks = [prune, record]
    if folder is not None:
        callbacks.append(keras.callbacks.BackupAndRestore(f"{folder}/backup", save_freq=SAVE_EVERY))
    if kill_at:
        callbacks.append(KillAt(kill_at))
    gan.fit(
        nets.images(4 * BATCHES),
        batch_size=4,
        epochs=EPOCHS,
        shuffle=False,
        verbose=0,
        callbacks=callbacks,
    )
    return gan, {
        "updates": prune.updates,
        "rows": record.rows,
        "nonzeros": nets.nonzeros(gan.generator),
        "ema_nonzeros": nets.nonzeros(gan.ema_generator),
        "leaks": nets.leaks(gan.generator, gan.ema_generator),
        "iterations": int(optimizer.iterations),
    }


if __name__ == "__main__":
    kind, folder, kill_at = sys.argv[1:]
    gan, result = train(kind, folder, int(kill_at))
    np.savez(Path(folder) / "weights.npz", *gan.get_weights())
    Path(folder, "result.json").write_text(json.dumps(result))
