"""A small GAN with a short, pruned training, and runs made from it."""

import keras
import numpy as np
from keras import layers

import keras_ganprune as kgp
from keras_ganprune.reports.run import record_run

LATENT, STEPS, EPOCHS = 4, 24, 4


def gan():
    generator = keras.Sequential(
        [
            keras.Input((LATENT,)),
            layers.Dense(24, activation="relu", name="hidden"),
            layers.Dense(64, activation="tanh", name="image"),
            layers.Reshape((8, 8, 1)),
        ],
        name="generator",
    )
    discriminator = keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            layers.Flatten(),
            layers.Dense(16, activation="relu", name="look"),
            layers.Dense(1, name="logit"),
        ],
        name="discriminator",
    )
    model = kgp.GANModel(generator, discriminator, latent_dim=LATENT, seed=0)
    model.compile(keras.optimizers.Adam(1e-3), keras.optimizers.Adam(1e-3))
    return model


def real(n=96):
    return np.random.default_rng(0).uniform(-1, 1, (n, 8, 8, 1)).astype("float32")


def trained(**settings):
    """Train and prune for a few steps; return (GAN, history, callback, dense samples)."""
    model = gan()
    dense = model.generate(16, seed=0)
    schedule = kgp.PolynomialDecay(0.75, begin_step=4, end_step=16)
    prune = kgp.Prune(schedule, "generator", frequency=4, verbose=0, **settings)
    history = model.fit(real(), epochs=EPOCHS, batch_size=16, callbacks=[prune], verbose=0)
    return model, history, prune, dense


def samples(model, dense):
    """Return the samples of a run: real ones, and dense and pruned ones from the same latent vectors."""
    return {"real": real(16), "dense": dense, "pruned": model.generate(16, seed=0)}


def measurements(fd, n=3, coverage=0.9):
    """Return n invented measurements around a distance."""
    return [
        {"fd": fd + 0.1 * (i - (n - 1) / 2), "coverage": coverage, "missing_classes": 0}
        for i in range(n)
    ]


def made(number=0, fd=6.0, increase=0.12, name="", **more):
    """Return an invented run with a little of everything; nothing is trained."""
    rng = np.random.default_rng(number)
    images = rng.uniform(-1, 1, (16, 8, 8, 1))
    arguments = {
        "history": {
            "generator_loss": rng.uniform(1, 2, EPOCHS),
            "discriminator_loss": rng.uniform(1, 2, EPOCHS),
            "fd": [None, 9.0, None, fd],
        },
        "samples": {"real": real(16), "dense": images, "pruned": images * 0.9},
        "prunes": {"generator": [(8, 0.5, 0.5), (16, 0.75, 0.7502)]},
        "quality": {
            "real": measurements(1.5),
            "dense": measurements(fd),
            "pruned": measurements(fd * (1 + increase), coverage=0.88),
        },
        "sizes": {
            "dense": {"parameters": 1720, "nonzero": 1700, "macs": 1632},
            "pruned": {"parameters": 1720, "nonzero": 456, "macs": 1632},
        },
        "latency": {"dense": {"batch of 16": 0.5}, "pruned": {"batch of 16": 0.525}},
        "settings": {"sparsity": 0.75, "criterion": "magnitude"},
        "seed": number,
        "steps": STEPS,
        "data": "noise, 96 images",
        "name": name or f"run{number}",
    }
    return record_run(**(arguments | more))
