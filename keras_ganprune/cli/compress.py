"""`keras-ganprune compress`: make a saved model sparse or small, with training on its data."""

from __future__ import annotations

import argparse
import pathlib
from typing import Any

import numpy as np

from keras_ganprune.applications.compression import Compression, compress
from keras_ganprune.cli import saved_models
from keras_ganprune.cli.arguments import Recorder
from keras_ganprune.cli.stopping import stopping
from keras_ganprune.datasets import load
from keras_ganprune.errors import DataError, InvalidArgumentError
from keras_ganprune.exporters.next_export import next_export
from keras_ganprune.gan import GANModel
from keras_ganprune.gan.adversarial_model import AdversarialModel
from keras_ganprune.metrics import ImageQuality
from keras_ganprune.pruning.granularity import Channel
from keras_ganprune.pruning.structured.budget import Budget
from keras_ganprune.utils import files, given_paths, training_data, validation
from keras_ganprune.utils.closing import closing
from keras_ganprune.utils.status_line import EXTRACTOR, StatusLine

HELP = "Make a saved model sparse or small, and train it to keep its quality."
EXAMPLES = (
    "keras-ganprune compress gan.keras images.npz small --sparsity 0.9",
    "keras-ganprune compress model.keras data.npz small --macs 0.25",
    "keras-ganprune compress model.keras data.npz small --latency 0.25 --runtime litert",
    "keras-ganprune compress model.keras data.npz small --tolerance 0.02",
)

_BUDGETS = {
    "macs": "Remaining share of the multiply-accumulates, such as 0.25; channels are cut out.",
    "parameters": "Remaining share of the parameters; channels are cut out.",
    "bytes": "Remaining share of the bytes of the weights; channels are cut out.",
    "latency": "Remaining share of the time of a call in --runtime; channels are cut out.",
}
_FEWEST_IMAGES = 200  # for an extractor of features


def add_arguments(recorder: Recorder) -> None:
    """Add the arguments of the command."""
    recorder.add_argument("model", help="A .keras file of a trained, compiled model or GANModel.")
    recorder.add_argument(
        "data",
        help="What it was trained on: a .npz file with x (and y), a .npy file, a folder of images, or one of "
        "digits, mnist, mnist-5000.",
    )
    recorder.add_argument(
        "output", help="Folder to write: model.keras, saved_model, comparison.md and recipe.py."
    )
    recorder.add_argument(
        "--sparsity",
        type=float,
        default=None,
        help="Share of the weights that become zero, such as 0.9. Defaults to none.",
    )
    for name, text in _BUDGETS.items():
        recorder.add_argument(
            f"--{name}", type=float, default=None, help=f"{text} Defaults to none."
        )
    saved_models.add_runtime(recorder)
    recorder.add_argument(
        "--granularity",
        default=None,
        help="What becomes zero together with --sparsity: '2:4', a block such as '4x1' (whose zeros LiteRT "
        "skips). Defaults to single weights.",
    )
    recorder.add_argument(
        "--round-to",
        type=int,
        default=None,
        help="The number of kept channels per layer is a multiple of this int, such as 8, which ONNX Runtime "
        "needs to be fast. Defaults to any number.",
    )
    recorder.add_argument(
        "--tolerance",
        type=float,
        default=None,
        help="How much worse than dense the quality may be, such as 0.02 for 2 %%; the most that holds is "
        "searched for. Defaults to no search.",
    )
    recorder.add_argument(
        "--target",
        action="append",
        default=None,
        help="Network of a GAN that is compressed. Can be repeated. Defaults to the generator.",
    )
    recorder.add_argument(
        "--epochs",
        type=int,
        default=None,
        help="Epochs of each training; 0 prunes in one shot and repairs the layers. Defaults to 1,000 steps.",
    )
    recorder.add_argument(
        "--batch-size", type=int, default=None, help="Samples per step. Defaults to 32."
    )
    recorder.add_argument(
        "--held-out",
        type=float,
        default=0.2,
        help="Share of the data, the last of it, that judges and is not trained on. Defaults to 0.2.",
    )
    recorder.add_argument(
        "--size",
        type=int,
        default=28,
        help="Height and width of the images of a folder. Defaults to 28.",
    )
    recorder.add_argument(
        "--seed", type=int, default=0, help="Seed of all that is drawn. Defaults to 0."
    )
    recorder.add_argument(
        "--folder",
        default=None,
        help="Folder for the state of the run: the same command goes on after a crash. Defaults to none.",
    )
    recorder.add_argument(
        "--overwrite", action="store_true", help="Replace an existing folder. Defaults to no."
    )
    saved_models.add_import(recorder)


def run(arguments: argparse.Namespace) -> None:
    """Compress the model, write the result, and print it.

    Raises:
        InvalidArgumentError: Several targets are given, or the model is not compiled.
        DataError: The data cannot be read, or does not fit the model.
        OutputError: The folder exists or cannot be written.
        FileFormatError: The file does not exist or cannot be loaded.
    """
    files.check_new_folder(arguments.output, arguments.overwrite)
    files.check_saved_model_path(arguments.output)
    budget = _budget(arguments)
    validation.fraction(arguments.held_out, "held_out")
    model: Any = saved_models.load(arguments.model, arguments.modules)
    x, y = read(arguments.data, arguments.size)
    if y is None and training_data.needs_labels(model):
        raise DataError(
            f"DATA must have labels: '{model.name}' is compiled with a loss that compares them. Received: "
            f"'{arguments.data}' without labels. Write them as 'y' beside 'x' into a .npz file."
        )
    if isinstance(model, GANModel) and not model.conditional:
        y_train = None
    else:
        y_train = y
    split = len(x) - int(arguments.held_out * len(x))
    held_out = None if split == len(x) else (x[split:], None if y is None else y[split:])
    settings: dict[str, Any] = {}
    if isinstance(model, AdversarialModel):
        settings["metric"] = _quality(model, x, y, arguments)
    elif held_out is not None:
        settings["validation_data"] = held_out
    with stopping(lambda: _kept(arguments)):
        result = compress(
            model,
            x[:split] if y_train is None else (x[:split], y_train[:split]),
            sparsity=arguments.sparsity,
            budget=budget,
            granularity=_granularity(arguments, budget),
            target=arguments.target,
            epochs=arguments.epochs,
            batch_size=arguments.batch_size,
            tolerance=arguments.tolerance,
            folder=arguments.folder,
            seed=arguments.seed,
            **settings,
        )
    line = StatusLine()
    with line.doing("Measuring the latency, and writing the files"):
        result.export(arguments.output, overwrite=arguments.overwrite)
    print(f"{result}\n\n{_closing(result, arguments)}")


def _kept(arguments: argparse.Namespace) -> tuple[str, list[str]]:
    """Return what is kept of a compression that was stopped; see `stopping`."""
    if arguments.folder is not None:
        return f"Its state is in '{arguments.folder}', and the same command goes on with it.", []
    text = "Nothing is kept. With --folder, the same command goes on where it was stopped."
    return text, ["--folder", f"{pathlib.Path(arguments.output)}_unfinished"]


def _closing(result: Compression, arguments: argparse.Namespace) -> str:
    """Return the last lines."""
    output = pathlib.Path(arguments.output)
    file = output / "model.keras"
    modules = [word for module in arguments.modules for word in ("--import", module)]
    then = next_export(file, *modules) or ["benchmark", saved_models.without_classes(file)]
    made = f"{file}, beside it a SavedModel, comparison.md and recipe.py."
    return closing(made, result.worth, then)


def _budget(arguments: argparse.Namespace) -> Budget | None:
    given = {name: getattr(arguments, name) for name in ("sparsity", *_BUDGETS)}
    given = {name: value for name, value in given.items() if value is not None}
    if len(given) > 1 or (not given and arguments.tolerance is None):
        raise InvalidArgumentError(
            "Give one of --sparsity, --macs, --parameters, --bytes and --latency, or --tolerance to search. "
            f"Received: {', '.join(f'--{name}' for name in given) or 'none of them'}."
        )
    given.pop("sparsity", None)
    given |= saved_models.runtime(arguments)
    return Budget(**given) if given else None


def _granularity(arguments: argparse.Namespace, budget: Budget | None) -> Any:
    """Return what is removed together, or None for the default.

    Raises:
        InvalidArgumentError: An option is for the other kind of compression.
    """
    if arguments.round_to is not None:
        if budget is None:
            raise InvalidArgumentError(
                "--round-to is for channels, which --macs, --parameters, --bytes and --latency cut out. "
                f"Received: --round-to {arguments.round_to} without them. Leave it out."
            )
        return Channel(round_to=arguments.round_to)
    if arguments.granularity is not None and budget is not None:
        raise InvalidArgumentError(
            "--granularity is for --sparsity. Received: "
            f"--granularity {arguments.granularity} with a budget, which cuts out channels. Leave it out."
        )
    return arguments.granularity


def _quality(model: Any, x: Any, y: Any, arguments: argparse.Namespace) -> ImageQuality | None:
    """Return what judges a `GANModel` by the held-out images, or None if there are too few."""
    if not isinstance(model, GANModel) or x.ndim != 4 or len(x) < _FEWEST_IMAGES:
        return None
    labels = y if y is not None and np.issubdtype(y.dtype, np.integer) and y.ndim == 1 else None
    share = arguments.held_out or 0.2
    with StatusLine().doing(EXTRACTOR):
        return ImageQuality(x, labels, held_out=share, samples=2000, seed=arguments.seed)


def read(data: str, size: int) -> tuple[np.ndarray, np.ndarray | None]:
    """Return (x, y or None) of a file, a folder of images, or a data set.

    Raises:
        DataError: The file cannot be read, or holds no array.
    """
    path = pathlib.Path(data)
    if path.suffix not in (".npy", ".npz"):
        found = load(data, size)
        return found.images, found.labels
    given_paths.check_array_file(path)
    try:
        loaded = np.load(path)
    except (OSError, ValueError) as error:
        raise DataError(f"'{data}' cannot be read as a NumPy file: {error}.") from error
    if isinstance(loaded, np.ndarray):
        return loaded, None
    with loaded:
        arrays = {name: loaded[name] for name in loaded.files}
    x = next((arrays[k] for k in ("x", "x_train", "images") if k in arrays), None)
    y = next((arrays[k] for k in ("y", "y_train", "labels") if k in arrays), None)
    if x is None:
        raise DataError(
            f"A .npz file must hold 'x', and 'y' if there are labels. Received: {sorted(arrays)}. "
            "Write the arrays under these names."
        )
    return x, y
