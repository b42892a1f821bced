"""What one of two processes of a JAX job does; run by test_workers.py.

Usage: jax_workers_script.py FOLDER PORT NUMBER; what was found is written to FOLDER/worker-<number>.json.
"""

import json
import os
import sys
from pathlib import Path

os.environ["KERAS_BACKEND"] = "jax"
os.environ["JAX_PLATFORMS"] = "cpu"

import jax
import keras
import numpy as np

import keras_ganprune as kgp

folder, port, number = sys.argv[1], sys.argv[2], int(sys.argv[3])
jax.distributed.initialize(f"localhost:{port}", 2, number)


def network():
    model = keras.Sequential(
        [keras.Input((8,)), keras.layers.Dense(16, activation="relu"), keras.layers.Dense(3)]
    )
    model.compile(keras.optimizers.Adam(1e-2), "mse")
    return model


def fit(model, schedule):
    rng = np.random.default_rng(number)  # each process has data of its own
    x, y = (rng.normal(size=(64, n)).astype("float32") for n in (8, 3))
    prune = kgp.Prune(schedule, frequency=3, verbose=0)
    model.fit(x, y, batch_size=8, epochs=2, shuffle=False, verbose=0, callbacks=[prune])


keras.distribution.set_distribution(keras.distribution.DataParallel(auto_shard_dataset=False))
keras.utils.set_random_seed(1)
found = {}
try:
    fit(network(), kgp.ConstantSparsity((0.5, 0.6)[number]))
except kgp.PruningError as error:
    found["error"] = f"{type(error).__name__}: {error}"
model = network()
fit(model, kgp.PolynomialDecay(0.8, begin_step=2, end_step=10))
masks = [np.asarray(w.mask.value.addressable_shards[0].data) for w in kgp.masked_weights(model)]
weights = [
    np.asarray(w.variable.value.addressable_shards[0].data) for w in kgp.masked_weights(model)
]
found["masks"] = [np.packbits(mask).tobytes().hex() for mask in masks]
found["nonzero"] = [int(np.count_nonzero(weight)) for weight in weights]
Path(folder, f"worker-{number}.json").write_text(json.dumps(found))
