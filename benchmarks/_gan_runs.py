"""The runs of the quality benchmark: one recipe, many variants, each branching from a common dense phase."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import pathlib
import re
import tempfile
import time

import _gan_data
import numpy as np
from _gan_recipes import Recipe, Variant, build_networks, resolved


def kept(folder: pathlib.Path, seed: int, base: float, kind: str) -> pathlib.Path:
    """Return the file of what the variants of a seed share: 'phase' or 'dense'."""
    wide = "" if base == 1.0 else f"_width{base:g}"
    return folder / f"seed{seed}{wide}_{kind}.keras"


def prepare_process() -> None:
    """Set what must be set before a backend starts."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    # On CPUs without AVX-512, TensorFlow leaves oneDNN off; a step takes half the time with it.
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")


def build(recipe: Recipe, seed: int, width: float = 1.0):
    """Return a compiled GAN; only the generator has another width."""
    import keras

    import keras_ganprune as kgp

    keras.utils.clear_session()  # layer names, which the variants use, start from 0 again
    keras.utils.set_random_seed(seed)
    # The generator first, so that its layers have the same names at every width.
    generator = build_networks(recipe, width)[0]
    discriminator = build_networks(recipe)[1]
    augmentation = None
    if recipe.translation or recipe.brightness or recipe.contrast:
        augmentation = kgp.DiffAugment(
            recipe.translation, recipe.brightness, recipe.contrast, seed=seed
        )
    gan = kgp.GANModel(
        generator,
        discriminator,
        recipe.latent_dim,
        recipe.loss,
        ema_decay=recipe.ema_decay,
        r1_penalty=recipe.r1_penalty,
        augmentation=augmentation,
        balance_frequency=0,
        seed=seed,
    )
    rates = []
    for rate in (recipe.rate, recipe.discriminator_rate or recipe.rate):
        if recipe.final_rate != 1.0:
            rate = keras.optimizers.schedules.CosineDecay(
                rate, recipe.steps, alpha=recipe.final_rate
            )
        rates.append(rate)
    gan.compile(
        *(
            keras.optimizers.Adam(rate, beta_1=recipe.beta_1, beta_2=recipe.beta_2)
            for rate in rates
        ),
        steps_per_execution=steps_at_once(),
    )
    return gan


def steps_at_once() -> int:
    """Return how many steps run between two looks of the callbacks: several on JAX, in one loop."""
    import keras

    return int(os.environ.get("STEPS_AT_ONCE", 1)) if keras.backend.backend() == "jax" else 1


def fuse(gan) -> None:
    """On JAX, let the steps of one execution run in one compiled loop, not one by one from Python.

    On a GPU a step of a small GAN is over sooner than Python has asked for the next one.
    """
    if steps_at_once() == 1:
        return
    import jax
    from keras import tree

    def make_train_function(force=False):
        if gan.train_function is not None and not force:
            return
        step = gan.train_step

        def loop(state, batches):
            def one(state, batch):
                logs, state = step(state, batch)
                return tuple(list(part) for part in state), logs

            state, logs = jax.lax.scan(one, tuple(list(part) for part in state), batches)
            return tree.map_structure(lambda x: x[-1], logs), state

        compiled = jax.jit(loop, donate_argnums=0)

        def train_function(state, iterator):
            batches = [next(iterator)]
            for _ in range(steps_at_once() - 1):
                try:
                    batches.append(next(iterator))
                except StopIteration:
                    break
            stacked = tree.map_structure(lambda *x: np.stack([np.asarray(v) for v in x]), *batches)
            return compiled(state, stacked)

        gan.train_function = train_function

    object.__setattr__(gan, "make_train_function", make_train_function)


def train(gan, recipe: Recipe, seed: int, until: int, callbacks=()):
    """Train from the step that the optimizers stand at."""
    import keras_ganprune as kgp
    from keras_ganprune import datasets as data
    from keras_ganprune.training.discovery import steps_done

    class Later(data.Batches):
        def __getitem__(self, index):
            return super().__getitem__(start + index)

    start = steps_done(gan.generator_optimizer)
    x, y = _gan_data.training_images(recipe.data)
    labels = y if recipe.conditional else None
    if until > start:
        fuse(gan)
        gan.fit(
            Later(x, labels, recipe.batch_size, until - start, seed),
            verbose=0,
            callbacks=[kgp.NaNGuard(), *callbacks],
        )
    return gan


def callbacks(variant: Variant, recipe: Recipe):
    """Return the callbacks that make a variant."""
    import keras_ganprune as kgp

    begin, end = int(recipe.begin * recipe.steps), int(recipe.end * recipe.steps)
    if variant.macs is not None:
        # Each of several cuts leaves the same share of what was there.
        cuts = range(variant.cuts)
        first = begin if variant.cut_at is None else int(variant.cut_at * recipe.steps)
        shrink = {
            "recalibrate": _statistics_from(recipe),
            "at": [first + 1 + (end - first) * cut // variant.cuts for cut in cuts],
            "target": list(variant.targets),
            "budget": [kgp.Budget(macs=variant.macs ** ((cut + 1) / variant.cuts)) for cut in cuts],
            "verbose": 0,
        }
        return [kgp.Shrink(**{**shrink, **variant.shrink})]
    if variant.sparsity is None:
        return []
    if variant.schedule == "rewind":
        schedule = kgp.IterativeRewind(
            variant.sparsity,
            rounds=4,
            begin_step=begin + (end - begin) // 5,
            round_steps=(end - begin) // 5,
            rewind_step=begin,
        )
    else:
        schedule = kgp.PolynomialDecay(variant.sparsity, begin_step=begin, end_step=end)
    chosen = [
        kgp.Prune(
            schedule,
            target=name,
            frequency=max(1, recipe.steps // 100),
            verbose=0,
            **variant.prune,
        )
        for name in variant.targets
    ]
    if variant.masked is not None:
        chosen.append(
            kgp.Shrink(
                recalibrate=_statistics_from(recipe),
                at=end + 1,
                target=list(variant.targets),
                verbose=0,
            )
        )
    return chosen


def regularizers(variant: Variant, recipe: Recipe):
    """Return the callbacks that go before those of `callbacks`."""
    import keras_ganprune as kgp

    made = []
    for name, more in variant.regularizers:
        settings = {"target": list(variant.targets), "verbose": 0, **more}
        if name == "GrowingL2":  # what `Shrink` will cut
            settings["begin_step"] = int(recipe.begin * recipe.steps)
            settings["budget"] = kgp.Budget(macs=variant.macs)
        made.append(getattr(kgp, name)(**settings))
    return made


def _statistics_from(recipe: Recipe):
    """Return what the batch statistics of a cut network come from: labels, where it needs them."""
    images, labels = _gan_data.training_images(recipe.data)
    return (images[:1024], labels[:1024]) if recipe.conditional else True


def dense_phase(recipe: Recipe, seed: int, folder: pathlib.Path, base: float = 1.0) -> None:
    """Train the dense phase that the variants of a seed have in common, and save it."""
    gan = build(recipe, seed, base)
    train(gan, recipe, seed, int(recipe.begin * recipe.steps))
    _save(gan, kept(folder, seed, base, "phase"))


def _save(model, path: pathlib.Path) -> None:
    # Beside its place first, so that a killed run leaves no half file there.
    partial = path.with_name(f"partial_{path.name}")
    model.save(partial)
    partial.replace(path)


def run(recipe: Recipe, variant: Variant, seed: int, folder: pathlib.Path) -> dict:
    """Train one variant to the end, evaluate its exported and reloaded generator, and return the row."""
    import keras

    import keras_ganprune as kgp
    from keras_ganprune.layers.traversal import prunable_layers

    started = time.perf_counter()
    variant = resolved(variant, recipe)
    if variant.label == "untrained":
        gan = build(recipe, seed)
    else:
        if variant.from_scratch:
            gan = build(recipe, seed, variant.width)
        else:
            gan = kgp.load_model(kept(folder, seed, variant.base, "phase"))
        if variant.distillation is not None:
            teacher = keras.models.load_model(kept(folder, seed, variant.base, "dense"))
            gan.set_teacher(teacher, kgp.Distillation(**variant.distillation))
        train(
            gan,
            recipe,
            seed,
            recipe.steps,
            [*regularizers(variant, recipe), *callbacks(variant, recipe)],
        )
    trained = time.perf_counter() - started
    generator = gan.sampler
    kernels = [layer for _, layer in prunable_layers(generator)]
    achieved = kgp.sparsity_report(generator).sparsity if kernels else 0.0
    plain = kgp.strip_pruning(generator)
    if variant.is_dense:
        _save(plain, kept(folder, seed, variant.base, "dense"))
    profile = kgp.profile(plain)
    row = {
        "variant": variant.label,
        "seed": seed,
        "steps": recipe.steps,
        "sparsity": achieved,
        "parameters": profile.parameters,
        "nonzero": profile.nonzero,
        "macs": profile.macs,
    }
    with _exported(plain) as (kind, reloaded):
        row["artefact"] = kind
        # The same images for both judges.
        settings = {"n": recipe.samples, "seed": 1_000 + seed}
        report = _gan_data.evaluator(recipe.data).measure_generator(reloaded, **settings)
        second = _gan_data.second_evaluator(recipe.data).measure_generator(reloaded, **settings)
    _draw(
        plain,
        recipe,
        folder / f"seed{seed}_{re.sub(r'[^a-z0-9]+', '_', variant.label.lower())}.png",
    )
    row.update(report.to_dict(), fd_second=second.fd)
    row["seconds"] = trained
    return row


def _draw(generator, recipe: Recipe, path: pathlib.Path) -> None:
    """Write a picture of the same 40 latent vectors for every row, to look at."""
    from keras_ganprune.gan import latents
    from keras_ganprune.utils import plotting

    inputs = [latents.draw(40, recipe.latent_dim, 0)]
    if recipe.conditional:
        classes = int(_gan_data.training_images(recipe.data)[1].max()) + 1
        inputs.append(np.arange(40) % classes)
    images = generator.predict(inputs if recipe.conditional else inputs[0], verbose=0)
    grid = plotting.image_grid(images, columns=10)
    pixels = np.uint8(np.round(255.0 * grid))
    pillow = plotting.require_pillow()
    pillow.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels).save(path)


def run_floor(recipe: Recipe) -> dict:
    """Return the row of the training images themselves: what a perfect generator gets."""
    images = _gan_data.training_images(recipe.data)[0]
    row = {"variant": "real images", "seed": 0, "steps": 0, "artefact": "none", "seconds": 0.0}
    second = _gan_data.second_evaluator(recipe.data).measure(images)
    report = _gan_data.evaluator(recipe.data).measure(images)
    return {**row, **report.to_dict(), "fd_second": second.fd}


@contextlib.contextmanager
def _exported(plain):
    """Give (kind of file, what `measure_generator` takes) of the generator, written and read again."""
    import keras

    import keras_ganprune as kgp
    from keras_ganprune.gan import latents
    from keras_ganprune.utils import files

    with tempfile.TemporaryDirectory() as place:
        if importlib.util.find_spec("tensorflow") is None or len(plain.inputs) > 1:
            plain.save(f"{place}/generator.keras")
            yield "keras file", keras.models.load_model(f"{place}/generator.keras")
            return
        kgp.export_saved_model(plain, f"{place}/generator")
        served = files.tensorflow().saved_model.load(f"{place}/generator")

        def generate(n, seed):
            z = latents.draw(n, plain.input_shape[-1], seed)
            return np.concatenate([served.serve(z[i : i + 500]).numpy() for i in range(0, n, 500)])

        yield "SavedModel", generate
