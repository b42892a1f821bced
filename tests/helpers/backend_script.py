"""What one Keras backend does with equal weights and data, in a folder. Run by test_across_backends.py.

Usage: backend_script.py write FOLDER
       backend_script.py read FOLDER OTHER_FOLDER ...
"""

import json
import subprocess
import sys
from pathlib import Path

import keras
import networks as nets
import numpy as np
from keras import layers

import keras_ganprune as kgp
from keras_ganprune.backend import tracing
from keras_ganprune.exporters import other_backends
from keras_ganprune.layers.traversal import prunable_layers

SCHEDULE = kgp.PolynomialDecay(0.75, begin_step=2, end_step=10)
GRANULARITIES = {
    "unstructured": ("unstructured", nets.dcgan_pair),
    "2:4": ("2:4", nets.dcgan_pair),
    "block": (kgp.Block((2, 1)), nets.mlp_pair),
    "channel": ("channel", nets.dcgan_pair),
}
ALLOCATIONS = ("uniform", "erk", "global_ranking")
FILES = ("gan.keras", "gan.weights.h5", "classifier.keras")


# --- masks ---------------------------------------------------------------------------------------


def with_ties(network):
    """Give a network few different weights, whose sums are exact: ties are broken alike, too."""
    nets.filled(network)
    for weight in network.weights:
        if "float" in weight.dtype:
            weight.assign(np.round(nets.value(weight) * 16) / 16)
    return network


def pruner_masks():
    """Return the masks of a schedule of the magnitude criteria: {case: bool array}."""
    found = {}
    for criterion, fill in (("l1", nets.filled), ("l1", with_ties), ("l2", nets.filled)):
        for name, (granularity, networks) in GRANULARITIES.items():
            # A pattern has no total to spread.
            for allocation in ALLOCATIONS[: 1 if name == "2:4" else 3]:
                pruner = kgp.Pruner(
                    *(fill(network) for network in networks()),
                    criterion=criterion,
                    granularity=granularity,
                    allocation=allocation,
                )
                case = f"{criterion} {name} {allocation} {fill.__name__}"
                found |= scheduled(pruner, case, name == "2:4")
    return found


def scheduled(pruner, case, pattern):
    found = {}
    for step in (4, 7, 10):
        pruner.update(sparsity=SCHEDULE(step) * (2 / 3 if pattern else 1))
        masks = [nets.value(weight.mask).ravel() for weight in pruner.weights]
        found[f"{case}, step {step}"] = np.concatenate(masks)
    return found


# --- gradients -----------------------------------------------------------------------------------


def classifier(optimizer):
    x = keras.Input((nets.SIZE, nets.SIZE, 1))
    y = layers.Conv2D(6, 3, activation="relu")(x)
    y = layers.Conv2D(6, 3, strides=2, padding="same", activation="relu")(y)
    model = nets.filled(keras.Model(x, layers.Dense(3)(layers.Flatten()(y))))
    # On PyTorch the compiler takes longer than all the rest.
    model.compile(optimizer, nets.classifier_loss(), jit_compile=False)
    return model


def averaged_gradients(**settings):
    """Return the gradients that reach `Pruner.update` in a `fit` that changes no weight by itself."""
    seen, update = [], kgp.Pruner.update

    def recording(pruner, *args, gradients=None, growth=None, **kwargs):
        given = gradients if growth is None else growth
        seen.append(np.concatenate([np.ravel(g) for g in given]))
        return update(pruner, *args, gradients=gradients, growth=growth, **kwargs)

    kgp.Pruner.update = recording
    try:
        model = classifier(keras.optimizers.SGD(0.0))
        prune = kgp.Prune(SCHEDULE, frequency=4, verbose=0, **settings)
        x, y = nets.classifier_data(96)
        model.fit(x, y, batch_size=8, verbose=0, shuffle=False, callbacks=[prune])
    finally:
        kgp.Pruner.update = update
    return np.stack(seen)


def all_gradients():
    return {
        "gradient": averaged_gradients(criterion="gradient"),
        "taylor": averaged_gradients(criterion="taylor"),
        "rigl": averaged_gradients(mode="rigl"),
    }


# --- files ---------------------------------------------------------------------------------------


def gan_model():
    pair = nets.dcgan_generator(), nets.mlp_discriminator(dropout=0.2)
    gan = kgp.GANModel(*pair, nets.LATENT, ema_decay=0.9, seed=1)
    gan.compile(keras.optimizers.Adam(1e-2, 0.5), keras.optimizers.Adam(2e-2, 0.5))
    return gan


def fit(gan, batches):
    prune = kgp.Prune(SCHEDULE, ["generator", "discriminator"], frequency=3, verbose=0)
    gan.fit(nets.images(4 * batches), batch_size=4, verbose=0, shuffle=False, callbacks=[prune])


def networks(model):
    """Return the networks of a model by the names of its attributes; of a classifier itself."""
    if not isinstance(model, kgp.GANModel):
        return {"model": model}
    return {name: getattr(model, name) for name in ("generator", "discriminator", "ema_generator")}


def state(model):
    """Return all that a file should bring back: {name: array}, numbered in order."""
    found = {}
    for name, network in networks(model).items():
        found |= {f"{name} {i}": nets.value(w) for i, w in enumerate(network.weights)}
        for i, (_, layer) in enumerate(prunable_layers(network)):
            store = layer.pruning_masks
            found[f"{name} clock {i}"] = np.array([store.step, store.stamp])
            for weight, mask in store.masks.items():
                found[f"{name} mask {i} {weight}"] = nets.value(mask)
    for name in ("optimizer", "generator_optimizer", "discriminator_optimizer"):
        optimizer = getattr(model, name, None)
        if isinstance(optimizer, keras.optimizers.Optimizer):
            # On JAX masks are among the variables, though not in a file.
            masks = {id(variable) for _, variable in tracing.tracked(optimizer)}
            own = [v for v in optimizer.variables if id(v) not in masks]
            found |= {f"{name} {i}": nets.value(v) for i, v in enumerate(own)}
    if isinstance(model, kgp.GANModel):
        found |= {f"random {i}": nets.value(v) for i, v in enumerate(model._random_states())}
    return found


def write_files(folder):
    gan = gan_model()
    fit(gan, batches=7)
    gan.save(folder / FILES[0])
    gan.save_weights(folder / FILES[1])
    for name in FILES[:2]:
        np.savez(folder / f"{name}.npz", **state(gan))
    model = classifier(keras.optimizers.Adam(1e-2))
    model.fit(
        *nets.classifier_data(), verbose=0, callbacks=[kgp.Prune(0.5, frequency=1, verbose=0)]
    )
    model.save(folder / FILES[2])
    np.savez(folder / f"{FILES[2]}.npz", **state(model))


def loaded(path):
    if path.suffix == ".keras":
        return kgp.load_model(path)
    gan = gan_model()
    for network in networks(gan).values():
        kgp.make_prunable(network)
    gan.load_weights(path)
    return gan


def trained_on(gan):
    """Return what is left after training goes on, to the end of the schedule."""
    fit(gan, batches=5)
    return {
        "step": int(nets.value(gan.generator_optimizer.iterations)),
        "finite": all(bool(np.isfinite(w).all()) for w in gan.get_weights()),
        "leaks": nets.leaks(*networks(gan).values()),
        "kept": [row[1:] for row in nets.nonzeros(gan.generator, gan.discriminator).values()],
    }


def read_files(folder, others):
    found = {}
    for other in others:
        for name in FILES:
            model = loaded(other / name)
            np.savez(folder / f"{name}-from-{other.name}.npz", **state(model))
            # One of the two is enough to see that training goes on: it takes long to compile.
            if name == FILES[0]:
                found[other.name] = trained_on(model)
            elif name == FILES[2]:
                logs = model.fit(*nets.classifier_data(), verbose=0).history
                assert np.isfinite(logs["loss"][-1]) and nets.leaks(model) == {}
    (folder / "trained.json").write_text(json.dumps(found))


# --- SavedModels ---------------------------------------------------------------------------------


def exported_network():
    """Return a generator with a class of its own, which another process imports from `networks`."""
    z = keras.Input((nets.LATENT,))
    x = nets.SubclassedGenerator()(z)
    x = layers.Conv2DTranspose(4, 3, strides=2, padding="same", activation="gelu")(x)
    model = nets.filled(keras.Model(z, layers.Conv2D(1, 3, activation="tanh")(x)))
    kgp.Pruner(model).update(sparsity=0.5)
    return model


class OfThisScript(layers.Layer):
    def call(self, x):
        return 2 * x


class NoConfig(keras.Model):
    """A model without `get_config`, as people write it."""

    def __init__(self, initial):
        super().__init__()
        self.initial = initial  # an array: not serializable
        self.dense = layers.Dense(4)

    def call(self, x):
        return self.dense(x) + keras.ops.convert_to_tensor(self.initial)


def export(model, path):
    """Return the report of an export as numbers, or the error as text, and what is in the folder."""
    try:
        report = kgp.export_saved_model(model, path)
        told = {"difference": report.max_difference, "nonzero": report.nonzero_parameters}
    except Exception as error:
        told = {"error": f"{type(error).__name__}: {error}"}
    return told | {"left": sorted(p.name for p in path.parent.iterdir())}


def export_all(folder):
    model, z = exported_network(), np.linspace(-1, 1, 4 * nets.LATENT, dtype="float32")
    z = z.reshape(4, nets.LATENT)
    # By the backend itself, not by what the export compares with.
    outputs = kgp.strip_pruning(model).predict(z, verbose=0)
    np.savez(folder / "served.npz", z=z, outputs=outputs)
    (folder / "exports").mkdir()
    found = {"whole": export(model, folder / "exports" / "whole")}
    script = keras.Sequential([keras.Input((3,)), layers.Dense(4), OfThisScript()])
    no_config = NoConfig(np.ones(4, "float32"))
    no_config(np.ones((2, 6), "float32"))
    for name, odd in (("script", script), ("no_config", no_config)):
        kgp.Pruner(odd).update(sparsity=0.5)
        (folder / name).mkdir()
        found[name] = export(odd, folder / name / "saved")
    found |= broken_exports(folder / "broken")
    (folder / "exports.json").write_text(json.dumps(found))


def broken_exports(folder):
    """Return what is said where the TensorFlow process fails in one way or another."""
    folder.mkdir()
    small = keras.Sequential([keras.Input((3,)), layers.Dense(2)])
    limit, other_backends.LIMIT = other_backends.LIMIT, 0.05
    found = {"slow": export(small, folder / "saved")}
    other_backends.LIMIT, run = limit, subprocess.run
    for name, process in (("killed", killed), ("full", full_disk), ("differs", other_outputs)):
        subprocess.run = process
        found[name] = export(small, folder / "saved")
    subprocess.run = run
    # As where it is not installed.
    before = sys.modules.pop("tensorflow", None)
    sys.modules["tensorflow"] = None
    found["missing"] = export(small, folder / "saved")
    del sys.modules["tensorflow"]
    if before is not None:
        sys.modules["tensorflow"] = before
    return found


def killed(command, **kwargs):
    return subprocess.CompletedProcess(command, -9, stderr=b"no memory left")


def full_disk(command, **kwargs):
    answer = {"error": "OSError", "text": "No space left on device"}
    Path(command[-1], "answer.json").write_text(json.dumps(answer))
    return subprocess.CompletedProcess(command, 0, stderr=b"")


def other_outputs(command, **kwargs):
    exchange = Path(command[-1])
    (exchange / "saved_model").mkdir()
    np.savez(exchange / "arrays.npz", output_0=np.full((4, 2), 9))
    answer = {"outputs": 1, "difference": 0.0}
    (exchange / "answer.json").write_text(json.dumps(answer))
    return subprocess.CompletedProcess(command, 0, stderr=b"")


def main(phase, folder, *others):
    keras.utils.set_random_seed(0)
    if phase == "read":
        read_files(folder, others)
        return
    np.savez(folder / "masks.npz", **pruner_masks())
    np.savez(folder / "gradients.npz", **all_gradients())
    write_files(folder)
    if keras.backend.backend() != "tensorflow":
        export_all(folder)


if __name__ == "__main__":
    main(sys.argv[1], *map(Path, sys.argv[2:]))
