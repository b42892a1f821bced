"""Pruning in one shot, without training: masks alone against masks and `repair`.

    python benchmarks/one_shot.py [--folder DIR] [--steps N] [--samples N] [--markdown OUT]

Each network is trained dense once (kept in the folder), and pruned in one shot by 'magnitude'. What is
measured:

* DCGAN on MNIST: Frechet distance of 10,000 images, judged as in `quality.py`. 'lost' is the share of the
  increase over dense that is left after the repair.
* the other networks, on the 8×8 digits: error of the outputs, ||y - y_dense|| / ||y_dense||, on samples that
  the repair has not seen; for the classifier also the share of held-out digits that it gets right.
"""

from __future__ import annotations

import argparse
import pathlib
import time
from typing import Any

import _bench
import _gan_runs
import keras
import numpy as np
from keras import layers

import keras_ganprune as kgp
from keras_ganprune import datasets
from keras_ganprune.gan import latents

LATENT = 64
CUTS: dict[str, tuple[float, dict[str, Any]]] = {
    "50 % of the weights": (0.5, {}),
    "80 % of the weights": (0.8, {}),
    "50 % of the channels": (0.5, {"granularity": "channel"}),
    "half of the MACs": (
        0.5,
        {"granularity": kgp.Channel(of="macs"), "allocation": "global_ranking"},
    ),
}


def residual_generator() -> keras.Model:
    """Return a generator as in SNGAN: residual blocks that double the size."""
    x = inputs = keras.Input((LATENT,))
    x = layers.Reshape((2, 2, 32))(layers.Dense(2 * 2 * 32)(x))
    for _ in range(2):
        y = layers.UpSampling2D()(layers.ReLU()(layers.BatchNormalization()(x)))
        y = layers.Conv2D(32, 3, padding="same")(y)
        y = layers.Conv2D(32, 3, padding="same")(layers.ReLU()(layers.BatchNormalization()(y)))
        x = layers.Add()([y, layers.Conv2D(32, 1)(layers.UpSampling2D()(x))])
    x = layers.ReLU()(layers.BatchNormalization()(x))
    return keras.Model(inputs, layers.Conv2D(1, 3, padding="same", activation="tanh")(x))


def residual_discriminator() -> keras.Model:
    """Return a discriminator with spectral normalization."""
    x = inputs = keras.Input((8, 8, 1))
    for _ in range(2):
        normalized = layers.SpectralNormalization(layers.Conv2D(32, 3, 2, padding="same"))
        x = layers.LeakyReLU(0.2)(normalized(x))
    return keras.Model(inputs, layers.Dense(1)(layers.Flatten()(x)))


def train_residual(steps: int) -> keras.Model:
    """Return the averaged generator of a small GAN with hinge loss."""
    keras.utils.set_random_seed(0)
    gan = kgp.GANModel(
        residual_generator(), residual_discriminator(), LATENT, "hinge", ema_decay=0.99, seed=0
    )
    gan.compile(keras.optimizers.Adam(1e-3, 0.5), keras.optimizers.Adam(1e-3, 0.5))
    images = datasets.load("digits").images
    gan.fit(datasets.Batches(images, None, 64, steps, 0), verbose=0)
    return kgp.strip_pruning(gan.sampler)


def train_classifier(steps: int) -> keras.Model:
    """Return a classifier of the first 1,400 digits."""
    keras.utils.set_random_seed(0)
    digits = datasets.load("digits")
    model = keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            layers.Conv2D(32, 3, padding="same", activation="relu"),
            layers.Conv2D(32, 3, 2, padding="same", activation="relu"),
            layers.Flatten(),
            layers.Dense(64, activation="relu"),
            layers.Dense(10, activation="softmax"),
        ]
    )
    model.compile("adam", "sparse_categorical_crossentropy")
    model.fit(digits.images[:1400], digits.labels[:1400], epochs=max(2, steps // 44), verbose=0)
    return kgp.strip_pruning(model)


def train_gan(steps: int, **recipe: Any) -> keras.Model:
    """Return the averaged generator of a GAN of `_gan_runs`."""
    settings = _gan_runs.Recipe(steps=steps, **recipe)
    shape = _gan_runs.images(settings)[0].shape[1:]
    gan = _gan_runs.build(settings, shape, seed=0)
    return kgp.strip_pruning(_gan_runs.train(gan, settings, 0, steps).sampler)


def inputs_of(network: keras.Model, n: int, seed: int) -> Any:
    """Return latent vectors, with labels in a second input."""
    z = latents.draw(n, network.inputs[0].shape[-1], seed)
    if len(network.inputs) == 1:
        return z
    labels = np.random.default_rng(seed).integers(0, 10, n)
    if network.inputs[1].shape[-1] == 10:
        return [z, np.eye(10, dtype="float32")[labels]]
    return [z, labels.reshape(n, *[1] * (len(network.inputs[1].shape) - 1))]


def one_shot(dense: keras.Model, sparsity: float, data: Any, options: Any, samples: int) -> Any:
    """Return (pruned, repaired, seconds of the repair)."""
    both = []
    for _ in range(2):
        network = keras.models.clone_model(dense)
        network.set_weights(dense.get_weights())
        kgp.Pruner(network, **options).update(sparsity=sparsity)
        both.append(network)
    started = time.perf_counter()
    kgp.repair(both[1], dense, data, samples=samples)
    return *both, time.perf_counter() - started


def error(network: keras.Model, dense: keras.Model, x: Any) -> float:
    """Return the error of the outputs."""
    found, wanted = (m.predict(x, batch_size=256, verbose=0) for m in (network, dense))
    return float(np.linalg.norm(found - wanted) / np.linalg.norm(wanted))


def main() -> None:
    """Run all rows and print them as Markdown."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--folder", default="build/one_shot", help="where dense networks are kept")
    parser.add_argument("--steps", type=int, default=2000, help="steps of the DCGAN on MNIST")
    parser.add_argument("--samples", type=int, default=512)
    parser.add_argument("--markdown", default=None, help="file to write")
    arguments = parser.parse_args()
    folder = pathlib.Path(arguments.folder)
    folder.mkdir(parents=True, exist_ok=True)

    def dense_of(name: str, train: Any) -> keras.Model:
        path = folder / f"{name}.keras"
        if not path.exists():
            train().save(path)
        return keras.models.load_model(path)

    lines = [
        f"## DCGAN on MNIST, {arguments.steps:,} steps, {arguments.samples} latent vectors",
        "",
        "| pruned in one shot | masks alone | and repaired | increase left | seconds |",
        "| --- | ---: | ---: | ---: | ---: |",
    ]
    dense = dense_of(f"dcgan_{arguments.steps}", lambda: train_gan(arguments.steps))
    judge = _gan_runs.evaluator("mnist-5000")

    def distance(network: keras.Model) -> float:
        return judge.measure_generator(network, n=10_000, seed=1000).fd

    base = distance(dense)
    lines.append(f"| dense | {base:.2f} | | | |")
    for name, (sparsity, options) in CUTS.items():
        data = inputs_of(dense, arguments.samples, 0)
        plain, repaired, seconds = one_shot(dense, sparsity, data, options, arguments.samples)
        one, other = distance(plain), distance(repaired)
        left = (other - base) / (one - base)
        lines.append(f"| {name} | {one:.2f} | {other:.2f} | {left:.0%} | {seconds:.0f} |")
        print(lines[-1], flush=True)

    digits = datasets.load("digits")
    networks = {
        "MLP generator": lambda: train_gan(500, data="digits", network="mlp"),
        "conditional DCGAN": lambda: train_gan(500, data="digits", channels=16, conditional=True),
        "residual generator": lambda: train_residual(500),
        "classifier": lambda: train_classifier(500),
    }
    lines += [
        "",
        "## Other networks, 8×8 digits: error of the outputs on new samples",
        "",
        "| network | pruned in one shot | masks alone | and repaired | right: dense, masks, repaired |",
        "| --- | --- | ---: | ---: | ---: |",
    ]
    for name, train in networks.items():
        dense = dense_of(name.replace(" ", "_"), train)
        for cut in ("50 % of the weights", "50 % of the channels"):
            sparsity, options = CUTS[cut]
            is_classifier = name == "classifier"
            data = digits.images[:1400] if is_classifier else inputs_of(dense, 512, 0)
            new = digits.images[1400:] if is_classifier else inputs_of(dense, 1000, 1)
            plain, repaired, _ = one_shot(dense, sparsity, data, options, arguments.samples)
            one, other = (error(m, dense, new) for m in (plain, repaired))
            right = ""
            if is_classifier:
                found = [m.predict(new, verbose=0).argmax(-1) for m in (dense, plain, repaired)]
                right = ", ".join(f"{np.mean(x == digits.labels[1400:]):.1%}" for x in found)
            lines.append(f"| {name} | {cut} | {one:.3f} | {other:.3f} | {right} |")
            print(lines[-1], flush=True)
    environment = _bench.environment()
    lines += ["", *(f"- {key}: {value}" for key, value in environment.items())]
    text = "\n".join(lines) + "\n"
    print(text)
    if arguments.markdown:
        pathlib.Path(arguments.markdown).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
