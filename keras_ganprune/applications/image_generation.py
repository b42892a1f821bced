"""The demo: train a GAN on real images, prune it in the same `fit`, strip, export, verify, report."""

from __future__ import annotations

import dataclasses
import pathlib
import shutil
import time
from dataclasses import dataclass

import keras
import numpy as np

from keras_ganprune import datasets
from keras_ganprune.applications.networks import dcgan, mlp
from keras_ganprune.applications.options import DemoOptions
from keras_ganprune.backend import tracing
from keras_ganprune.callbacks.prune import Prune
from keras_ganprune.callbacks.shrink import ShrinkEvent
from keras_ganprune.errors import DataError
from keras_ganprune.exporters import ExportReport, export_saved_model
from keras_ganprune.gan import DiffAugment, GANModel, latents
from keras_ganprune.layers.traversal import masked_weights
from keras_ganprune.layers.upgrade import strip_pruning
from keras_ganprune.layers.weight_tying import tie_mirrored
from keras_ganprune.metrics import (
    ImageQuality,
    QualityReport,
    measure_latency,
    profile,
    sparsity_report,
)
from keras_ganprune.metrics.extractor_training import split_at
from keras_ganprune.metrics.quality_report import METRICS
from keras_ganprune.reports.run import Run, record_run, write_run
from keras_ganprune.training.discovery import resolve_target, steps_done
from keras_ganprune.utils import files, plotting, tables

_MINIMUM_FREE_BYTES = 100 * 2**20
_SAMPLES = 40
_COLUMNS = 10  # of a picture; each shows one class, where the networks take labels
_LATENCY_BATCH = 16
_HELD_OUT = 0.2
_JUDGED = 5000
_FEW_IMAGES = 3200  # a fifth of them is ten for each of the 64 features


@dataclass(frozen=True)
class DemoResult:
    """What the demo made.

    Attributes:
        output: The run folder.
        gan: The trained `GANModel`, pruned.
        history: dict, as `History.history`.
        prunes: The `Prune` callback of each network that was pruned; one for both if they share a total.
        dense, pruned: `ExportReport` of the generator when pruning began, and at the end.
        dense_samples, samples: Images of the two, from the same latent vectors and labels.
        real_samples: Real images, of the same classes where the networks take labels.
        seconds: Training time.
        events: Of `structured`, the `ShrinkEvent` of each network.
        latency: Milliseconds that the SavedModel of the dense and of the smaller generator take for a batch.
        quality: `QualityReport`s by name: 'real' (one), 'dense' and 'pruned' or 'shrunk' (one for each of
            three sets of latent vectors); empty if the images were not judged.
        classes: How many classes the networks are told of; None for networks without labels.
    """

    output: pathlib.Path
    options: DemoOptions
    images: datasets.Images
    gan: GANModel
    history: dict[str, list[float]]
    prunes: dict[str, Prune]
    dense: ExportReport
    pruned: ExportReport
    dense_samples: np.ndarray
    samples: np.ndarray
    real_samples: np.ndarray
    seconds: float
    events: dict[str, ShrinkEvent]
    latency: dict[str, float]
    quality: dict[str, list[QualityReport]]
    classes: int | None


class _DensePhase(keras.callbacks.Callback):
    """Exports the generator and draws samples from it, just before pruning begins."""

    def __init__(self, begin_step: int, folder: pathlib.Path, labels: np.ndarray | None):
        super().__init__()
        self.begin_step = begin_step
        self.folder = folder
        self.labels = labels
        self.steps = 0
        self.samples: np.ndarray | None = None
        self.export: ExportReport | None = None
        self.generator: keras.Model | None = None

    # It stands before `Prune`, whose updates come at the end of a batch, but for one at step 0.
    def on_train_batch_begin(self, batch, logs=None):
        self._look()

    def on_train_batch_end(self, batch, logs=None):
        self.steps += 1  # of the generator: one a batch
        self._look()

    def _look(self):
        if self.samples is None and self.steps >= self.begin_step:
            self.take()

    def take(self):
        tracing.sync(self.model)
        self.samples = self.model.generate(_SAMPLES, self.labels, seed=0)
        self.export = export_saved_model(self.model, self.folder, average=True)
        self.generator = strip_pruning(self.model.sampler)


def _steps(gan: GANModel) -> int:
    return steps_done(gan.generator_optimizer)


def _plan(options: DemoOptions, batches: int) -> tuple[int, int, int]:
    """Return (epochs, steps an epoch, steps in all)."""
    default = {"dcgan": 3000, "mlp": 8000}[options.network]
    wanted = options.steps or (default * 3 // 10 if options.quick else default)
    # An epoch is what the progress bar shows: the data set, or 100 steps of a large one.
    per_epoch = batches if batches <= 200 else 100
    epochs = options.epochs or -(-wanted // per_epoch)
    return epochs, per_epoch, epochs * per_epoch


def build(
    options: DemoOptions, image_shape: tuple[int, int, int], classes: int | None = None
) -> GANModel:
    """Return the compiled GAN of the demo, conditional on class numbers below `classes`."""
    if options.network == "mlp":
        networks, latent_dim, rate = mlp(image_shape), 100, 5e-4
    else:
        channels = options.channels or (24 if options.quick else 32)
        networks, latent_dim, rate = dcgan(image_shape, 64, channels, classes), 64, 2e-3
    if options.tie:
        tie_mirrored(*networks)
    wasserstein = options.loss == "wasserstein"
    gan = GANModel(
        *networks,
        latent_dim=latent_dim,
        loss=options.loss,
        ema_decay=0.99,
        # By two of 28 pixels: digits are digits there too, and few images are learnt by heart.
        augmentation=None
        if options.network == "mlp"
        else DiffAugment(0.08, 0.0, seed=options.seed),
        gradient_penalty=10.0 if wasserstein else 0.0,
        discriminator_steps=2 if wasserstein else 1,
        seed=options.seed,
    )
    gan.compile(
        generator_optimizer=keras.optimizers.Adam(rate, beta_1=0.5, beta_2=0.99),
        discriminator_optimizer=keras.optimizers.Adam(rate, beta_1=0.5, beta_2=0.99),
    )
    return gan


def classes_of(options: DemoOptions, images: datasets.Images) -> int | None:
    """Return how many classes the networks are to be told of, or None for networks without labels."""
    if options.conditional and images.labels is None:
        raise DataError(
            f"`conditional` needs images with labels. Received: {images.description}. Leave it out."
        )
    wanted = options.network == "dcgan" if options.conditional is None else options.conditional
    return int(images.labels.max()) + 1 if wanted and images.labels is not None else None


def run(options: DemoOptions) -> DemoResult:
    """Run the demo and write its folder.

    Raises:
        OutputError: the folder exists, cannot be written or has no space; said before training.
        DataError: the images cannot be had.
    """
    output = files.check_new_folder(options.output, options.overwrite)
    files.check_free_space(output, _MINIMUM_FREE_BYTES)
    plotting.require_plotting()
    images = datasets.load(options.images, options.image_size)
    print(f"Data: {images.description}.")
    classes = classes_of(options, images)
    quality = _judge(options, images)
    if quality is not None:
        # The images that judge are not trained on.
        images = images.take(split_at(len(images), _HELD_OUT))
    keras.utils.set_random_seed(options.seed)
    gan = build(options, images.images.shape[1:], classes)
    labels = None if classes is None else images.labels
    shown = None if classes is None else np.arange(_SAMPLES) % _COLUMNS % classes
    batches = -(-len(images) // options.batch_size)
    epochs, per_epoch, steps = _plan(options, batches)
    # Smaller networks want time to make good what they lost.
    schedule = options.plan(int(0.3 * steps), int((0.5 if options.structured else 0.65) * steps))
    shrinks = options.cuts(schedule)
    prunes = options.callbacks(schedule, frequency=max(1, steps // 60))
    print(
        f"Plan: {_networks(options, classes)}, {steps:,} steps of {options.batch_size} images; "
        f"{schedule!r} on the {' and the '.join(options.targets)}{_settings(options)}."
    )
    with files.new_folder(output, options.overwrite) as work:
        dense = _DensePhase(schedule.begin_step, work / "dense", shown)
        started = time.perf_counter()
        callbacks = [dense, *dict.fromkeys(prunes.values()), *shrinks]
        arguments = {"epochs": epochs, "callbacks": callbacks}
        if per_epoch < batches:
            stream = datasets.Batches(
                images.images, labels, options.batch_size, per_epoch, options.seed
            )
            history = gan.fit(stream, **arguments)
        else:
            history = gan.fit(images.images, labels, batch_size=options.batch_size, **arguments)
        seconds = time.perf_counter() - started
        pruned = export_saved_model(gan, work / "generator", average=True)
        result = DemoResult(
            output=output,
            options=options,
            images=images,
            gan=gan,
            history=history.history,
            prunes=prunes,
            dense=dense.export,
            pruned=dataclasses.replace(pruned, path=output / "generator"),
            dense_samples=dense.samples,
            samples=gan.generate(_SAMPLES, shown, seed=0),
            real_samples=_real(images, shown),
            seconds=seconds,
            events={event.name: event for shrink in shrinks for event in shrink.events},
            latency=_latency(gan, work) if options.structured else {},
            quality={}
            if quality is None
            else _judged(quality, dense.generator, gan.sampler, options.structured),
            classes=classes,
        )
        shutil.rmtree(work / "dense")
        gan.save(work / "gan.keras")
        _write(result, work)
    return result


def _networks(options: DemoOptions, classes: int | None) -> str:
    return f"{options.network}{'' if classes is None else f' of {classes} classes'}"


def _real(images: datasets.Images, shown: np.ndarray | None) -> np.ndarray:
    """Return real images, one after the other of the classes that generated ones show."""
    if shown is None:
        return images.images[:_SAMPLES]
    of_class = {c: iter(np.flatnonzero(images.labels == c)) for c in np.unique(shown)}
    return images.images[[next(of_class[c]) for c in shown]]


def _judge(options: DemoOptions, images: datasets.Images) -> ImageQuality | None:
    """Return the judge of the images that will be generated, if they are to be judged."""
    wanted = options.quality
    if wanted is None:
        wanted = not options.quick and images.labels is not None and len(images) >= _FEW_IMAGES
    if not wanted:
        return None
    quality = ImageQuality(
        images.images, images.labels, held_out=_HELD_OUT, samples=_JUDGED, seed=options.seed
    )
    accuracy = quality.extractor.accuracy
    words = "" if accuracy is None else f" of accuracy {accuracy:.1%}"
    print(f"Judge: features of a network{words}, trained on all but the last {_HELD_OUT:.0%}.")
    return quality


def _judged(
    quality: ImageQuality, dense: keras.Model, generator: keras.Model, structured: bool
) -> dict[str, list[QualityReport]]:
    found = {"real": [quality.floor()]}
    for name, network in (("dense", dense), ("shrunk" if structured else "pruned", generator)):
        found[name] = [quality.measure_generator(network, seed=seed) for seed in range(3)]
    return found


def _latency(gan: GANModel, folder: pathlib.Path) -> dict[str, float]:
    """Return the milliseconds that each SavedModel takes for a batch, measured in turns."""
    functions = {name: measure_latency.served(folder / name) for name in ("dense", "generator")}
    z = latents.draw(_LATENCY_BATCH, gan.latent_dim, seed=0)
    labels = np.zeros(_LATENCY_BATCH, "int32")
    return measure_latency.latency(functions, [z, labels] if gan.conditional else z, repeats=50)


def _settings(options: DemoOptions) -> str:
    """Return the settings that are not the defaults, to be read after a comma."""
    usual = DemoOptions()
    names = (
        *("criterion", "granularity", "allocation", "mode", "joint", "balance", "tie"),
        *("structured", "macs", "parameters"),
    )
    given = [n for n in names if getattr(options, n) != getattr(usual, n)]
    return "".join(f", {name}={getattr(options, name)!r}" for name in given)


def _write(result: DemoResult, folder: pathlib.Path) -> None:
    plotting.save_samples(
        folder / "samples.png",
        {
            "real": result.real_samples,
            f"dense, step {_dense_step(result):,}": result.dense_samples,
            _pruned_title(result): result.samples,
        },
        _COLUMNS,
    )
    plotting.save_training(
        folder / "sparsity.png", result.history, result.prunes, _per_epoch(result)
    )
    masks = {
        name: {w.path: w.mask for w in masked_weights(resolve_target(result.gan, name)[0][1])}
        for name in result.prunes
    }
    if result.events:
        plotting.save_channels(
            folder / "channels.png", {name: e.groups for name, e in result.events.items()}
        )
    else:
        plotting.save_masks(folder / "masks.png", masks)
    write_run(_record(result), folder)
    (folder / "report.md").write_text(_markdown(result), encoding="utf-8")


def _record(result: DemoResult) -> Run:
    """Return the run as `keras-ganprune report` reads it."""
    options, event = result.options, result.events.get("generator")
    end = "pruned" if event is None else "shrunk"
    left = profile(result.gan.sampler, latency=False)
    # A masked kernel is multiplied in full, so it costs what it did.
    macs = left.macs if event is None else event.macs[0]
    settings = dataclasses.asdict(options)
    unsaid = ("output", "overwrite", "seed", "steps", "epochs", "quality")
    return record_run(
        history=result.history,
        samples={
            "real": result.real_samples,
            "dense": result.dense_samples,
            end: result.samples,
        },
        networks={
            name: resolve_target(result.gan, name)[0][1]
            for name in result.prunes
            if name not in result.events
        },
        prunes=result.prunes,
        channels=result.events,
        sizes={"dense": [result.dense, {"macs": macs}], end: [left, result.pruned]},
        latency={
            {"dense": "dense", "generator": end}[name]: {
                f"SavedModel, batch of {_LATENCY_BATCH}": ms
            }
            for name, ms in result.latency.items()
        },
        quality=result.quality or None,
        settings={
            **{key: value for key, value in settings.items() if key not in unsaid},
            "step of the dense generator": _dense_step(result),
        },
        seed=options.seed,
        steps=_steps(result.gan),
        seconds=result.seconds,
        data=result.images.description,
    )


def _dense_step(result: DemoResult) -> int:
    return next(iter(result.prunes.values())).schedule.begin_step


def _per_epoch(result: DemoResult) -> float:
    epochs = len(next(iter(result.history.values())))
    return _steps(result.gan) / epochs


def _pruned_title(result: DemoResult) -> str:
    event = result.events.get("generator")
    if event is not None:
        return f"shrunk to {event.macs[1] / event.macs[0]:.0%} of the MACs"
    return f"pruned, {sparsity_report(result.gan.generator).sparsity:.0%} sparse"


def summary(result: DemoResult) -> list[tuple[str, ...]]:
    """Return the closing table: the generator when pruning began, and at the end."""
    event = result.events.get("generator")
    word = "pruned" if event is None else "shrunk"
    # Not the dense network at the end of a run of its own, which had trained for longer.
    dense = f"dense, step {_dense_step(result):,}"
    rows: list[tuple[str, ...]] = [("generator", dense, word, f"{word} / dense")]
    if event is not None:
        for label, (before, after) in (("channels", event.channels), ("MACs", event.macs)):
            rows.append((label, f"{before:,}", f"{after:,}", f"{after / before:.2f}"))
    for label, attribute in (
        ("parameters", "parameters"),
        ("not zero", "nonzero_parameters"),
        ("SavedModel, bytes", "bytes"),
        ("SavedModel, gzipped", "gzip_bytes"),
    ):
        before, after = getattr(result.dense, attribute), getattr(result.pruned, attribute)
        rows.append((label, f"{before:,}", f"{after:,}", f"{after / before:.2f}"))
    if result.quality:
        for name in ("fd", "coverage", *(["label_accuracy"] if result.classes else [])):
            label = METRICS[name].title
            before, after = (
                float(np.mean([getattr(r, name) for r in result.quality[key]]))
                for key in ("dense", word)
            )
            rows.append((label, f"{before:.3f}", f"{after:.3f}", f"{after / before:.2f}"))
    if result.latency:
        before, after = result.latency["dense"], result.latency["generator"]
        label = f"SavedModel, ms a batch of {_LATENCY_BATCH}"
        rows.append((label, f"{before:.2f}", f"{after:.2f}", f"{after / before:.2f}"))
    return rows


def _how_to_serve(result: DemoResult) -> str:
    inputs, more = ("[z, labels]", " and labels int32 (n,)") if result.classes else ("z", "")
    return (
        f"Plain TensorFlow serves it: `tf.saved_model.load('{result.pruned.path}').serve({inputs})`, "
        f"z float32 (n, {result.gan.latent_dim}){more}."
    )


def _requested(prune: Prune) -> str:
    if prune.schedule.quantity == "threshold":
        return f"|w| < {prune.report.requested:g}"
    return f"{prune.report.requested:.4f}"


def _markdown(result: DemoResult) -> str:
    options, gan = result.options, result.gan
    lines = [
        "# A GAN, pruned inside `fit`",
        "",
        f"{result.images.description}. Network {_networks(options, result.classes)}, loss {options.loss}"
        f"{_settings(options)}, "
        f"{_steps(gan):,} steps of {options.batch_size} images, seed {options.seed}; "
        f"trained in {result.seconds:.0f} s.",
        "",
        "![real, dense-phase and pruned samples](samples.png)",
        "",
        "![schedule, achieved sparsity and losses](sparsity.png)",
        "",
        "![channels before and after the cut](channels.png)"
        if result.events
        else "![masks, white where a weight stays](masks.png)",
        "",
        tables.markdown(summary(result)),
        "",
        f"Reloaded from disk, the SavedModel differs from the stripped generator by "
        f"{result.pruned.max_difference:g} at most. The exported generator is the averaged one.",
        _how_to_serve(result),
    ]
    for name, prune in result.prunes.items():
        network = resolve_target(gan, name)[0][1]
        if name in result.events:
            event = result.events[name]
            lines += [
                "",
                f"## Channels of the {name}",
                "",
                f"`{prune.schedule!r}`, a share of the {prune.pruner.granularity.of}: requested "
                f"{_requested(prune)}, achieved {prune.report.achieved:.4f}. Cut at {event}.",
                "",
                tables.markdown(
                    [("made by", "channels before", "after")]
                    + [(path, str(before), str(after)) for path, before, after in event.groups]
                ),
            ]
            continue
        lines += [
            "",
            f"## Sparsity of the {name}",
            "",
            f"`{prune.schedule!r}`: requested {_requested(prune)}, achieved "
            f"{prune.pruner.sparsity:.4f}{' over both networks' if options.joint else ''}.",
            "",
            sparsity_report(network).to_markdown(),
        ]
    return "\n".join(lines) + "\n"
