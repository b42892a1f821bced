"""Every public function and class × each of its arguments × wrong values, and what came of each call.

The rows come from the signatures, so a new name or argument is tried without a new line here. A callable with
required arguments needs an entry in `BASES`.
"""

from __future__ import annotations

import dataclasses
import decimal
import importlib
import inspect
import json
import pathlib
import shutil
import tempfile
import traceback
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np

import keras_ganprune as kgp
from keras_ganprune.errors import PruningError
from keras_ganprune.utils import annotated

FOLDERS = (
    "",
    "callbacks",
    "datasets",
    "exporters",
    "gan",
    "layers",
    "metrics",
    "metrics.layer_sensitivity",
    "pruning",
    "pruning.allocation",
    "pruning.criteria",
    "pruning.granularity",
    "pruning.modes",
    "pruning.one_shot",
    "pruning.schedules",
    "pruning.structured",
    "reports",
    "reports.run",
    "search",
    "training",
    "applications.image_generation",
)
PACKAGE = str(pathlib.Path(kgp.__file__).parent)


# --- wrong values -----------------------------------------------------------------------------------


def model() -> keras.Model:
    """Return a small built network."""
    inner = [
        keras.layers.Dense(6, activation="relu", name="hidden"),
        keras.layers.Dense(3, name="head"),
    ]
    return keras.Sequential([keras.Input((4,)), *inner])


WRONG: dict[str, Callable[[], Any]] = {
    "None": lambda: None,
    "text": lambda: "nonsense",
    "empty_text": lambda: "",
    "bytes": lambda: b"nonsense",
    "True": lambda: True,
    "nan": lambda: float("nan"),
    "inf": lambda: float("inf"),
    "minus": lambda: -1,
    "zero": lambda: 0,
    "percent": lambda: 80,
    "half": lambda: 2.5,
    "complex": lambda: 1j,
    "list": lambda: [],
    "list_of_none": lambda: [None],
    "dict": lambda: {},
    "dict_of_object": lambda: {"a": object()},
    "empty_array": lambda: np.empty(0),
    "array": lambda: np.ones((2, 3, 5), "float32"),
    "nan_array": lambda: np.full((6, 4), np.nan, "float32"),
    "texts": lambda: np.array(["a", "b"]),
    "object": object,
    "class": lambda: int,
    "layer_class": lambda: keras.layers.Dense,
    "function": lambda: len,
    "model": model,
}


class _Unbuilt(keras.Model):
    def call(self, x):
        return x


def exhausted() -> Iterator[int]:
    """Return a generator without entries."""
    return (x for x in ())


# Rarer wrong values, which only the long tests try.
MORE: dict[str, Callable[[], Any]] = {
    "text_number": lambda: "0.5",
    "huge": lambda: 10**400,
    "minus_inf": lambda: -float("inf"),
    "zero_d": lambda: np.array(0.5),
    "decimal": lambda: decimal.Decimal("0.5"),
    "set": lambda: {1, 2},
    "generator": exhausted,
    "mixed": lambda: (1, "a", None),
    "nested": lambda: [[[1]], [2]],
    "symbol": lambda: keras.KerasTensor((2, 3)),
    "complex_array": lambda: np.ones((24, 8, 8, 1), complex),
    "objects": lambda: np.array([object(), None]),
    "dates": lambda: np.array(["2020-01-01"], "datetime64[D]"),
    "infinite": lambda: np.full((24, 8, 8, 1), np.inf, "float32"),
    "unbuilt": _Unbuilt,
    "unbuilt_sequential": lambda: keras.Sequential([keras.layers.Dense(2)]),
    "schedule_class": lambda: kgp.Linear,
    "criterion": lambda: kgp.Magnitude(),
    "callback": lambda: kgp.Prune(0.5),
    "other_keys": lambda: {1: 0.5, None: 2},
    "config_alone": lambda: {"class_name": "Linear"},
    "nan_in_dict": lambda: {"hidden": float("nan")},
    "no_arguments": lambda: lambda: 3,
}


# --- valid calls ------------------------------------------------------------------------------------


def images(n: int = 24) -> np.ndarray:
    """Return images of noise in [-1, 1]."""
    return np.random.default_rng(0).uniform(-1, 1, (n, 8, 8, 1)).astype("float32")


def features(n: int = 30) -> np.ndarray:
    """Return features of noise."""
    return np.random.default_rng(0).standard_normal((n, 3)).astype("float32")


def labels(n: int = 24) -> np.ndarray:
    """Return labels of three classes."""
    return np.arange(n) % 3


def generator(latent: int = 4) -> keras.Model:
    """Return a network from vectors to images."""
    inner = [keras.layers.Dense(64, activation="tanh"), keras.layers.Reshape((8, 8, 1))]
    return keras.Sequential([keras.Input((latent,)), *inner])


def discriminator() -> keras.Model:
    """Return a network from images to logits."""
    inner = [keras.layers.Flatten(), keras.layers.Dense(4), keras.layers.Dense(1)]
    return keras.Sequential([keras.Input((8, 8, 1)), *inner])


def gan() -> kgp.GANModel:
    """Return a GAN of the two."""
    return kgp.GANModel(generator(), discriminator(), latent_dim=4)


def translator() -> keras.Model:
    """Return a network from images to images."""
    return keras.Sequential([keras.Input((8, 8, 1)), keras.layers.Conv2D(1, 3, padding="same")])


def image_gan() -> kgp.ImageToImageGAN:
    """Return a GAN from images to images."""
    return kgp.ImageToImageGAN(translator(), discriminator())


def pixels() -> Any:
    """Return the input of a network that is being built."""
    return keras.Input((8, 8, 1))


def trained_gan() -> kgp.GANModel:
    """Return a GAN that can be trained."""
    made = gan()
    made.compile()
    return made


def pictures() -> str:
    """Return a folder with one picture."""
    from PIL import Image

    path = tempfile.mkdtemp()
    Image.fromarray(np.zeros((8, 8), "uint8")).save(f"{path}/a.png")
    return path


def boxed_pictures() -> str:
    """Return a folder with three pictures and one box in each."""
    path = pictures()
    ids = (0, 1, 2)
    for name in "bc":
        shutil.copy(f"{path}/a.png", f"{path}/{name}.png")
    content = {
        "images": [{"id": i, "file_name": f"{'abc'[i]}.png"} for i in ids],
        "annotations": [{"image_id": i, "category_id": 1, "bbox": [0, 0, 4, 4]} for i in ids],
        "categories": [{"id": 1, "name": "dot"}],
    }
    pathlib.Path(path, "annotations.json").write_text(json.dumps(content), encoding="utf-8")
    return path


def classes_of_pictures() -> str:
    """Return a folder with two sub-folders of ten pictures each."""
    from PIL import Image

    path = pathlib.Path(tempfile.mkdtemp())
    for name in ("one", "two"):
        (path / name).mkdir()
        for number in range(10):
            Image.fromarray(np.zeros((8, 8), "uint8")).save(path / name / f"{number}.png")
    return str(path)


def names_file() -> str:
    """Return a file with 676 names."""
    path = folder("names.txt")
    letters = "abcdefghijklmnopqrstuvwxyz"
    names = [f"{first}an{second}" for first in letters for second in letters]
    pathlib.Path(path).write_text("\n".join(names), encoding="utf-8")
    return path


def compiled() -> keras.Model:
    """Return a model that can be trained."""
    made = model()
    made.compile("sgd", "mse")
    return made


def mirrored() -> tuple[keras.Model, keras.Model]:
    """Return two networks whose kernels have the same shape."""
    up = keras.layers.Conv2DTranspose(1, 3)
    down = keras.layers.Conv2D(8, 3)
    return (
        keras.Sequential([keras.Input((4, 4, 8)), up]),
        keras.Sequential([keras.Input((6, 6, 1)), down]),
    )


def pruned() -> keras.Model:
    """Return a network with masks."""
    network = model()
    kgp.Pruner(network).update(sparsity=0.5)
    return network


def normalized() -> keras.Model:
    """Return a model with batch statistics."""
    return keras.Sequential([keras.Input((4,)), keras.layers.BatchNormalization()])


def extractor() -> kgp.FeatureExtractor:
    """Return an extractor without training."""
    inner = [keras.layers.Flatten(), keras.layers.Dense(5), keras.layers.Dense(3)]
    return kgp.FeatureExtractor(keras.Sequential([keras.Input((8, 8, 1)), *inner]), layer=-2)


def classifier() -> kgp.FeatureExtractor:
    """Return an extractor of a classifier."""
    inner = [keras.layers.Flatten(), keras.layers.Dense(5), keras.layers.Dense(3)]
    network = keras.Sequential([keras.Input((8, 8, 1)), *inner])
    return kgp.FeatureExtractor(network, layer=-2, classes=3)


def quality() -> kgp.ImageQuality:
    """Return a measure of images."""
    return kgp.ImageQuality(images(), extractor=extractor(), samples=12, neighbours=2, cache=False)


def distance(network: Any) -> dict[str, float]:
    """Return a measure of a network."""
    return {"fd": 1.0}


def pruner() -> kgp.Pruner:
    """Return a pruner of a small network."""
    return kgp.Pruner(model())


def scored() -> kgp.Pruner:
    """Return a pruner that needs gradients."""
    return kgp.Pruner(model(), criterion="taylor")


def gradients() -> list[np.ndarray]:
    """Return gradients of its weights."""
    return [np.ones((4, 6), "float32"), np.ones((6, 3), "float32")]


def run() -> Any:
    """Return the record of a run."""
    from keras_ganprune.reports import record_run

    return record_run(history={"loss": [1.0, 0.5]}, samples={"dense": images(4)})


def folder(name: str) -> str:
    """Return a path in a new folder."""
    return str(pathlib.Path(tempfile.mkdtemp()) / name)


def saved(name: str = "model.keras") -> str:
    """Return the path of a saved model."""
    path = folder(name)
    model().save(path)
    return path


def run_folder() -> str:
    """Return the folder of a run."""
    path = folder("run")
    kgp.save_run(path, history={"loss": [1.0, 0.5]}, samples={"dense": images(4)})
    return path


XY = (np.ones((8, 4), "float32"), np.ones((8, 3), "float32"))


def zeros_loss(*_: Any) -> float:
    """Return a constant."""
    return 0.0


# What must be given for a valid call. Values are functions where a call changes the object.
BASES: dict[str, dict[str, Any]] = {
    "AdaptiveSparsity": {"monitor": "loss"},
    "Block": {"shape": (2, 2)},
    "Budget": {"macs": 0.5},
    "ConstantSparsity": {"sparsity": 0.5},
    "Cosine": {"final_sparsity": 0.5, "begin_step": 0, "end_step": 10},
    "Cubic": {"final_sparsity": 0.5, "begin_step": 0, "end_step": 10},
    "Linear": {"final_sparsity": 0.5, "begin_step": 0, "end_step": 10},
    "PolynomialDecay": {"final_sparsity": 0.5, "begin_step": 0, "end_step": 10},
    "Cyclic": {"low": 0.1, "high": 0.5, "period": 10, "begin_step": 0, "end_step": 40},
    "DynamicThreshold": {"final_threshold": 0.5, "begin_step": 0, "end_step": 10},
    "IterativeRewind": {"final_sparsity": 0.5, "rounds": 2, "begin_step": 0, "round_steps": 10},
    "LayerwiseOrder": {"schedule": kgp.Linear(0.5, 0, 10)},
    "OneShot": {"sparsity": 0.5, "step": 3},
    "Threshold": {"threshold": 0.1},
    "Hybrid": {"weights": {"magnitude": 0.5, "random": 0.5}},
    "PerLayer": {"sparsities": {"hidden": 0.5}},
    "NaNGuard": {},
    "Prune": {"schedule": 0.5},
    "Pruner": {"models": model},
    "PruningSummary": {"log_dir": lambda: folder("logs")},
    "QualityMonitor": {"quality": lambda: distance},
    "DiversityGuard": {},
    "Progress": {},
    "SampleGrid": {"path": lambda: folder("grid")},
    "Shrink": {"at": 1, "sparsity": 0.5},
    "GroupLasso": {},
    "NetworkSlimming": {},
    "GrowingL2": {"sparsity": 0.5},
    "FeatureExtractor": {"model": discriminator},
    "ImageQuality": {"real": images, "extractor": extractor, "samples": 12, "cache": False},
    "GANModel": {"generator": generator, "discriminator": discriminator, "latent_dim": 4},
    "ImageToImageGAN": {"generator": translator, "discriminator": discriminator},
    "keep_known_pixels": {"generated": pixels, "image": pixels, "mask": pixels},
    "apply_masks": {"model": model},
    "channel_groups": {"model": model},
    "compress": {
        "model": compiled,
        "data": lambda: XY,
        "sparsity": 0.5,
        "epochs": 1,
        "batch_size": 2,
        "baseline": False,
        "verbose": 0,
    },
    "Distiller": {"student": model},
    "Teach": {"teacher": generator},
    "compare": {"profiles": lambda: {"a": kgp.profile(model(), latency=False)}},
    "compare_models": {"models": lambda: {"a": model()}, "latency": False},
    "copy_masks": {"source": lambda: kgp.make_prunable(model()), "target": model},
    "export": {"model": model, "path": lambda: folder("export"), "latency": False},
    "export_saved_model": {"model": model, "path": lambda: folder("export")},
    "benchmark_files": {"paths": lambda: [saved()], "batch_sizes": (1,), "seconds": 0.01},
    "frechet_distance": {"real_features": features, "fake_features": features},
    "kernel_distance": {"real_features": features, "fake_features": features, "blocks": 2},
    "manifold_metrics": {"real_features": features, "fake_features": features},
    "load_model": {"path": saved},
    "load_run": {"path": run_folder},
    "get": {"identifier": "uniform"},
    "make_prunable": {"model": model},
    "explain": {"model": model},
    "mask_coverage": {"models": model},
    "masked_weights": {"models": lambda: kgp.make_prunable(model())},
    "masks_from_zeros": {"model": model},
    "merge_lora": {"model": model},
    "profile": {"model": model, "latency": False},
    "recalibrate_batch_norm": {"model": normalized, "data": lambda: XY[0]},
    "scale_singular_values": {"network": model},
    "recover": {
        "model": compiled,
        "data": lambda: XY[0],
        "labels": lambda: XY[1],
        "epochs": 1,
        "verbose": 0,
    },
    "repair": {"pruned": pruned, "dense": model, "data": lambda: XY[0]},
    "save_run": {
        "path": lambda: folder("run"),
        "history": {"loss": [1.0, 0.5]},
        "samples": lambda: {"dense": images(4)},
    },
    "record_run": {"history": {"loss": [1.0, 0.5]}, "samples": lambda: {"dense": images(4)}},
    "write_run": {"run": run, "folder": tempfile.mkdtemp},
    "register_rule": {"layer_classes": keras.layers.Dense},
    "register_macs": {"layer_classes": keras.layers.Dense},
    "sensitivity": {"model": model, "metric": lambda: zeros_loss, "sparsities": (0.5,)},
    "shrink": {"model": model, "sparsity": 0.5},
    "sparsity_report": {"model": lambda: kgp.make_prunable(model())},
    "strip_pruning": {"model": model},
    "tie_mirrored": {"generator": lambda: mirrored()[0], "discriminator": lambda: mirrored()[1]},
    "train_extractor": {"images": images, "labels": labels, "epochs": 1, "cache": False},
    "write_report": {"runs": run_folder, "output": lambda: folder("report.html")},
    "FeatureStatistics": {},
    "Batches": {"images": images, "labels": labels, "batch_size": 4, "per_epoch": 2, "seed": 0},
    "load": {"name": "digits"},
    "class_histogram": {"real_labels": labels, "fake_labels": labels},
    "discriminator_accuracy": {"gan": gan, "images": images, "n": 8},
    "latency": {"functions": lambda: {"a": lambda x: x}, "inputs": [], "repeats": 2},
    "mean_interval": {"values": [1.0, 2.0, 3.0]},
    "paired_increase": {"before": [1.0, 2.0, 3.0], "after": [1.0, 2.0, 3.5], "resamples": 50},
    "relative_increase": {"before": [1.0, 2.0], "after": [1.0, 2.5]},
    "psnr": {"images": images, "targets": images},
    "ssim": {
        "images": lambda: np.zeros((2, 16, 16, 1), "float32"),
        "targets": lambda: np.zeros((2, 16, 16, 1), "float32"),
    },
    "train_on_generated": {
        "images": images,
        "labels": labels,
        "real_images": images,
        "real_labels": labels,
        "epochs": 1,
    },
    "image_grid": {"images": images},
    "make_folds": {"n": 10, "folds": 2},
    "SweepPlan": {"steps": 20, "batch_size": 8},
    "sweep": {
        "build": lambda: lambda seed: trained_gan(),
        "images": images,
        "plan": lambda: kgp.SweepPlan(sparsities=(0.5,), seeds=(0,), steps=4, batch_size=8),
        "quality": lambda: quality(),
        "storage": None,
        "progress": False,
    },
    "multi_worker_strategy": {},
    "DemoOptions": {},
    "folder": {"path": pictures},
    "coco_folder": {"path": boxed_pictures, "size": 32},
    "digit_scenes": {"count": 4},
    "class_folders": {"path": classes_of_pictures},
    "names_file": {"path": names_file},
}

# Methods: a function that makes the object, and the arguments of a valid call.
METHODS: dict[str, tuple[Callable[[], Any], dict[str, Any]]] = {
    "Pruner.update": (
        scored,
        {"sparsity": 0.5, "gradients": gradients},
    ),
    "Pruner.check": (pruner, {}),
    "Pruner.attach": (pruner, {"optimizer": lambda: keras.optimizers.SGD()}),
    "Pruner.unit_sparsity": (pruner, {"network": model}),
    "GANModel.generate": (gan, {"n": 2}),
    "GANModel.set_teacher": (gan, {"teacher": generator}),
    "ImageToImageGAN.generate": (image_gan, {"inputs": images}),
    "ImageToImageGAN.set_teacher": (image_gan, {"teacher": translator}),
    "ImageQuality.measure": (quality, {"images": images}),
    "ImageQuality.measure_generator": (quality, {"generator": gan, "n": 12}),
    "FeatureExtractor.features": (extractor, {"images": images}),
    "FeatureExtractor.features_and_probabilities": (classifier, {"images": images}),
    "FeatureExtractor.accuracy_on": (classifier, {"images": images, "labels": labels}),
    "FeatureExtractor.save": (extractor, {"path": lambda: folder("e.keras")}),
    "FeatureStatistics.update": (
        lambda: kgp.metrics.FeatureStatistics(features()),
        {"features": features},
    ),
    "QualityMonitor.is_due": (lambda: kgp.QualityMonitor(distance), {"epoch": 1}),
    "Linear.__call__": (lambda: kgp.Linear(0.5, 0, 10), {"step": 3}),
    "Cyclic.__call__": (lambda: kgp.Cyclic(0.1, 0.5, 10, 0, 40), {"step": 3}),
    "OneShot.__call__": (lambda: kgp.OneShot(0.5, 3), {"step": 3}),
    "ConstantSparsity.__call__": (lambda: kgp.ConstantSparsity(0.5), {"step": 3}),
    "Threshold.__call__": (lambda: kgp.Threshold(0.5), {"step": 3}),
    "DynamicThreshold.__call__": (lambda: kgp.DynamicThreshold(0.5, 0, 10), {"step": 3}),
    "IterativeRewind.__call__": (
        lambda: kgp.IterativeRewind(0.5, 2, begin_step=0, round_steps=10),
        {"step": 3},
    ),
    "Linear.is_update_step": (lambda: kgp.Linear(0.5, 0, 10), {"step": 3, "frequency": 2}),
}


# --- the calls --------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What came of a call.

    Attributes:
        kind: 'ours', 'accepted' or 'foreign'.
        text: The error, or what was returned.
    """

    kind: str
    text: str


# Their tables are with the tests of their own.
ELSEWHERE = {"register_prunable"}
# Results of functions, which people read only.
RESULTS = ("SweepResult", "Compression", "FileReport", "Benchmark", "BenchmarkRow", "Times")
# They download, or take what only the demo makes.
ELSEWHERE |= {
    "mnist",
    "build",
    "classes_of",
    "closing_text",
    "run",
    "summary",
    "draw_mask",
    "Costs",
}


def public() -> dict[str, Callable[..., Any]]:
    """Return the public functions and classes that people call, by name."""
    found: dict[str, Any] = {}
    for name in FOLDERS:
        module = importlib.import_module(f"keras_ganprune.{name}".rstrip("."))
        for entry in getattr(module, "__all__", ()):
            value = getattr(module, entry)
            own = getattr(value, "__module__", "").startswith("keras_ganprune")
            if callable(value) and own and entry not in ELSEWHERE and not _made_by_us(entry, value):
                found.setdefault(entry, value)
    return found


def _made_by_us(name: str, value: Any) -> bool:
    """Return whether a class is a result, a base class or a warning, or has only the arguments of Keras."""
    if not isinstance(value, type):
        return False
    if issubclass(value, Warning | Exception | tuple) or name.startswith("Prunable"):
        return True
    result = dataclasses.is_dataclass(value) and not issubclass(value, kgp.Schedule)
    result = result or name in RESULTS
    return (result and name not in BASES) or not parameters(value)


def parameters(function: Any) -> list[str]:
    """Return the names of the arguments of a function, method or class that has ones of its own."""
    try:
        signature = inspect.signature(function)
    except ValueError:
        return []
    kinds = (inspect.Parameter.VAR_KEYWORD,)
    return [
        p.name for p in signature.parameters.values() if p.kind not in kinds and p.name != "self"
    ]


def _fresh(value: Any) -> Any:
    """Return a value of `BASES` for one call."""
    return value() if inspect.isfunction(value) else value


def _call(function: Callable[..., Any], arguments: dict[str, Any]) -> Any:
    """Call a function, also with the arguments of `*models`."""
    positional = []
    for p in inspect.signature(function).parameters.values():
        if p.kind is p.VAR_POSITIONAL and p.name in arguments:
            positional.append(arguments.pop(p.name))
        elif p.kind is p.POSITIONAL_ONLY and p.name in arguments:
            positional.append(arguments.pop(p.name))
    return function(*positional, **arguments)


def callables() -> Iterator[tuple[str, Callable[[], Callable[..., Any]], dict[str, Any]]]:
    """Yield the name, a function that returns the callable, and the base arguments of all callables."""
    for name, function in public().items():
        yield name, (lambda function=function: function), BASES.get(name, {})
    for name, (make, base) in METHODS.items():
        yield name, (lambda make=make, name=name: getattr(make(), name.split(".")[1])), base


def outcome(make: Callable[[], Any], base: dict[str, Any], name: str | None, value: Any) -> Outcome:
    """Call a function with one wrong argument."""
    function = make()
    arguments = {key: _fresh(entry) for key, entry in base.items() if key != name}
    if name is not None:
        arguments[name] = value
    try:
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            made = " ".join(repr(_call(function, arguments)).split())[:60]
    except PruningError as error:
        return Outcome("ours", f"{type(error).__name__}: {error}")
    except Exception as error:
        frame = traceback.extract_tb(error.__traceback__)[-1]
        ours = frame.filename.startswith(PACKAGE) and str(frame.line).lstrip().startswith("raise")
        place = f"{frame.filename.rsplit('/', 1)[-1]}:{frame.lineno}"
        kind = "ours" if ours else "foreign"
        return Outcome(
            kind, f"{type(error).__name__} at {place}: {' '.join(str(error).split())[:120]}"
        )
    return Outcome("accepted", made)


# --- what may be accepted ---------------------------------------------------------------------------

# Values that the annotation alone makes right. Numbers at the end of a range, what is empty, and what is NaN
# need a line in `RIGHT`, and so does every value of an argument whose annotation is `Any`.
_BY_TYPE = (
    "None",
    "text",
    "True",
    "list_of_none",
    "class",
    "layer_class",
    "function",
    "model",
    "array",
    "text_number",
    "schedule_class",
    "criterion",
    "unbuilt",
    "unbuilt_sequential",
)

# What names layers, whether or not a network has them.
_LAYERS = "None text text_number class layer_class schedule_class function model unbuilt unbuilt_sequential"

# Argument -> values that are right for it. 'Name.argument' is for one callable, 'argument' for all.
RIGHT: dict[str, str] = {
    # Steps and epochs count from 0, and so do seeds and axes.
    "begin_step": "zero",
    "end_step": "zero",
    "rewind_step": "zero",
    "start_from_epoch": "zero",
    # No end of a schedule is later than any int, so its last value is exact.
    "step": "zero half minus huge",
    "epoch": "zero",
    "compress.epochs": "zero",
    "seed": "zero",
    "axis": "zero minus",
    "layer": "zero minus",
    "gap": "zero",
    # Numbers without an upper end.
    "power": "zero percent half",
    "minimum": "percent",
    "tolerance": "zero percent half",
    "distance_tolerance": "zero percent half",
    "brightness": "zero percent half",
    "translation": "zero",
    "contrast": "zero",
    "output": "percent half",
    "Distiller.weight": "zero percent half",
    "Teach.weight": "percent half",
    "GroupLasso.strength": "zero percent half",
    "NetworkSlimming.strength": "zero percent half",
    "delta": "percent half",
    "ceiling": "percent half",
    "features": "zero percent half",
    "gradient_penalty": "zero percent half",
    "r1_penalty": "zero percent half",
    "ridge": "zero percent half",
    "threshold": "zero percent half",
    "thresholds": "percent half",
    "final_threshold": "zero percent half",
    "initial_threshold": "zero percent half",
    "margin": "zero percent half",
    "learning_rate": "percent half",
    "seconds": "zero percent half",
    "steps_per_epoch": "zero percent half",
    # A log may have any value.
    "baseline": "zero minus percent half",
    "BalanceController.low": "zero minus",
    "BalanceController.high": "percent half",
    # Fractions whose range holds 0.
    "sparsity": "zero",
    "final_sparsity": "zero",
    "initial_sparsity": "zero",
    "final": "zero",
    "progress": "zero",
    "overlap": "zero",
    "Cyclic.low": "zero",
    "begin": "zero",
    "label_smoothing": "zero",
    "accuracy": "zero",
    # 0 switches it off.
    "balance_frequency": "zero",
    "histogram_freq": "zero",
    "mask_freq": "zero",
    "image_freq": "zero",
    "PruningSummary.images": "zero",
    "verbose": "zero",
    "warmup": "zero",
    # Which layers a name, a class or a function means is known when the networks are.
    "scope": f"{_LAYERS} texts",
    "keep": f"{_LAYERS} list texts empty_array",
    "drop": "None",
    "target": "list",
    "copies": "list",
    "limits": "dict",
    "metrics": "list",
    # Data of any kind: what a model takes is known at its call.
    "inputs": "None list nan_array",
    "labels": "None",
    "data": "None",
    "schedule": "zero",
    # A dict of results may have no entry.
    **dict.fromkeys(("networks", "prunes", "channels", "sizes", "latency", "quality"), "dict"),
    # A setting may have any value; what JSON cannot hold becomes a text.
    "settings": "dict dict_of_object config_alone nan_in_dict",
    **dict.fromkeys(("record_run.metrics", "record_run.pictures"), "dict"),
    "record_run.seed": "minus",
    "steps": "zero",
    # What is not used is not looked into.
    "growth": "list dict dict_of_object empty_array nan_array texts array mixed nested complex_array objects "
    "dates infinite other_keys config_alone nan_in_dict",
    "distillation": "percent half",
    # Functions of the user may take anything.
    "latency.inputs": " ".join(WRONG | MORE),
    # NaN of a run that diverged stays NaN.
    "before": "nan_array",
    "after": "zero minus nan_array",
    "DemoOptions.targets": "list",
    "seeds": "percent",
    "BalanceController.frequency": "None",
    # For every step one.
    "Shrink.sparsity": "zero list_of_none",
    "Shrink.budget": "list_of_none",
    "Shrink.recalibrate": "True array",
    **dict.fromkeys(("compress.validation_data", "compress.metric"), "None"),
    **dict.fromkeys(("export.calibration", "export.quality"), "None"),
    # One kind of output for each.
    "Distiller.outputs": "list",
    # One criterion stands for a list of one.
    "SweepPlan.criteria": "criterion",
    # An array without axes is a number.
    "Pruner.update.sparsity": "zero_d",
    # Masks are made with the weights, so a model without weights has none.
    "masked_weights.models": "unbuilt unbuilt_sequential",
    "models": "model",
    "layer_classes": "layer_class",
    "config": "None",
    "GANModel.seed": "minus",
    "ImageToImageGAN.seed": "minus",
    "weight": "percent half",
    "adversarial_weight": "zero percent half",
    # No reconstruction loss, or the weight of one.
    "ImageToImageGAN.reconstruction": "list percent half",
    "DiffAugment.seed": "minus",
    "saved_models": "dict",
    "callbacks": "list empty_array",
}


# A function of the user's own raises its own error.
OF_THE_USER = {
    ("sensitivity", "metric", "function"),
    ("sweep", "build", "function"),
    ("sweep", "quality", "function"),
}


def is_right(name: str, function: Any, parameter: str, wrong: str, value: Any) -> bool:
    """Return whether a call may accept a value."""
    for key in (f"{name}.{parameter}", parameter):
        if wrong in RIGHT.get(key, "").split():
            return True
    target = function.__init__ if isinstance(function, type) else function
    if hasattr(function, "__attrs_attrs__"):
        hint, default = annotated._fields(function)[parameter], None
        fields = function.__attrs_attrs__
        default = next(field.default for field in fields if field.name == parameter)
        if wrong == "None" and default is None:
            return True
    else:
        try:
            hint, default = annotated._annotations(target)[parameter]
        except KeyError:
            return False
    if isinstance(value, str) and value == default:
        return True
    whole = int in annotated._members(hint) and float not in annotated._members(hint)
    known = wrong in _BY_TYPE or (wrong == "percent" and whole)
    return known and hint is not Any and annotated._fits(value, hint)


def problems(
    name: str,
    make: Callable[[], Any],
    base: dict[str, Any],
    values: dict[str, Callable[[], Any]] = WRONG,
) -> list[str]:
    """Return what is wrong with the answers of one callable: foreign errors, and what is accepted wrongly."""
    found = []
    first = outcome(make, base, None, None)
    if first.kind != "accepted":
        found.append(f"{name}: the valid call fails: {first.text}")
    for parameter in parameters(make()):
        for wrong, value in values.items():
            made = value()
            answer = outcome(make, base, parameter, made)
            right = answer.kind == "ours" or (name, parameter, wrong) in OF_THE_USER
            if answer.kind == "accepted":
                right = is_right(name, make(), parameter, wrong, made)
            if not right:
                found.append(f"{name}({parameter}={wrong}): {answer.kind}, {answer.text}")
    return found
