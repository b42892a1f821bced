"""`keras-ganprune shrink`: cut channels out of a saved model."""

from __future__ import annotations

import argparse
import dataclasses
import pathlib
from typing import Any

import keras

from keras_ganprune.cli import saved_models
from keras_ganprune.cli.arguments import Recorder
from keras_ganprune.errors import InvalidArgumentError, unknown_name
from keras_ganprune.exporters import export_saved_model
from keras_ganprune.gan.adversarial_model import AdversarialModel
from keras_ganprune.layers.stripping import strip_pruning
from keras_ganprune.metrics import compare_models, profile, sparsity_report
from keras_ganprune.metrics.size_shares import size_shares
from keras_ganprune.pruning import shrink_model
from keras_ganprune.pruning.granularity import Channel
from keras_ganprune.pruning.structured.budget import Budget
from keras_ganprune.utils import files
from keras_ganprune.utils.closing import closing, folded
from keras_ganprune.utils.status_line import StatusLine

HELP = "Cut channels out of a saved model, without training: see compress."
EXAMPLES = (
    "keras-ganprune shrink gan.keras small --macs 0.25",
    "keras-ganprune shrink gan.keras small --latency 0.25 --runtime onnx",
    "keras-ganprune shrink masked.keras small",
)

_SHARES = {
    "sparsity": "Share of the channels to remove, such as 0.5.",
    "macs": "Remaining share of the multiply-accumulates, such as 0.25.",
    "parameters": "Remaining share of the parameters.",
    "bytes": "Remaining share of the bytes of the weights.",
    "latency": "Remaining share of the time of a call in --runtime, which is measured.",
}

# The comparison above says that the SavedModel is the shrunk model, and nothing of quality.
_WARNING = (
    "The network was cut without training, so its quality is not kept: channels that it used are gone. "
    "Train it further, or let `keras-ganprune compress MODEL DATA OUT` cut and train it on your data, "
    "and measure its quality."
)


def add_arguments(recorder: Recorder) -> None:
    """Add the arguments of the command."""
    recorder.add_argument(
        "model",
        help="A .keras file. If it contains a GAN of this package, one network of it is shrunk.",
    )
    recorder.add_argument(
        "output", help="Folder to write: model.keras, saved_model and comparison.md."
    )
    recorder.add_argument(
        "--network",
        default="generator",
        help="Network of a GAN: generator or discriminator. Defaults to generator.",
    )
    saved_models.add_live(recorder, "Shrink")
    for name, text in _SHARES.items():
        recorder.add_argument(
            f"--{name}",
            type=float,
            default=None,
            help=f"{text} Defaults to none: masked channels are removed.",
        )
    saved_models.add_runtime(recorder)
    recorder.add_argument(
        "--criterion",
        default="magnitude",
        help="Score that decides which channels are kept. Defaults to magnitude.",
    )
    recorder.add_argument(
        "--allocation",
        default="uniform",
        help="How the channels to remove are distributed over the layers: uniform or global_ranking. "
        "Defaults to uniform.",
    )
    recorder.add_argument(
        "--round-to",
        type=int,
        default=None,
        help="The number of kept channels per layer is a multiple of this int, such as 8, "
        "which ONNX Runtime needs to be fast. Defaults to any number.",
    )
    recorder.add_argument(
        "--keep",
        action="append",
        default=[],
        metavar="LAYER",
        help="A layer that keeps all its channels. Can be repeated. Defaults to none.",
    )
    recorder.add_argument(
        "--overwrite", action="store_true", help="Replace an existing folder. Defaults to no."
    )
    saved_models.add_import(recorder)


def run(arguments: argparse.Namespace) -> None:
    """Shrink the network, write it as .keras file and SavedModel, and print the comparison.

    Raises:
        InvalidArgumentError: Several shares are given, or the network is unknown.
        OutputError: The folder exists or cannot be written.
        FileFormatError: The file does not exist or cannot be loaded.
    """
    files.check_new_folder(arguments.output, arguments.overwrite)
    files.check_saved_model_path(arguments.output)
    sparsity, budget = _request(arguments)
    cuts = sparsity is not None or budget is not None
    model = _network(arguments)
    line = StatusLine()
    with line.doing("Cutting the channels out"):
        small = shrink_model.shrink(
            model,
            sparsity=sparsity,
            budget=budget,
            criterion=arguments.criterion,
            allocation=arguments.allocation,
            granularity=Channel(round_to=arguments.round_to),
            keep=arguments.keep or None,
            strict=not cuts,  # masks of single weights, as `demo` leaves them, stay as zeros
        )
    with files.new_folder(arguments.output, arguments.overwrite) as work:
        with line.doing("Exporting the network, and measuring the latency"):
            small.save(work / "model.keras")
            exported = export_saved_model(small, work / "saved_model")
            table = compare_models({"before": strip_pruning(model), "shrunk": small})
        (work / "comparison.md").write_text(table.to_markdown() + "\n", encoding="utf-8")
    path = pathlib.Path(arguments.output) / "saved_model"
    print(f"{dataclasses.replace(exported, path=path)}\n{table}")
    zeros = sparsity_report(small)
    if zeros.sparsity:
        share = f"{zeros.sparsity:.1%} of the weights"
        text = f"Single weights that were pruned stay as zeros: {share}."
        print(f"\n{folded(f'{text} They make the compressed file smaller.')}")
    if cuts:
        print(f"\n{folded(_WARNING)}")
    small_file = pathlib.Path(arguments.output) / "model.keras"
    # Without the user's classes, which `benchmark` does not import.
    then = ["benchmark", path] if arguments.modules else ["benchmark", arguments.model, small_file]
    dense = strip_pruning(model)
    worth = size_shares(profile(small, latency=False), profile(dense, latency=False))
    print(closing(f"{small_file}, beside it a SavedModel and comparison.md.", f"{worth}.", then))


def _request(arguments: argparse.Namespace) -> tuple[float | None, Budget | None]:
    """Return the requested sparsity or budget; None for both means to remove the masked channels."""
    given = {name: getattr(arguments, name) for name in _SHARES}
    given = {name: value for name, value in given.items() if value is not None}
    if len(given) > 1:
        raise InvalidArgumentError(
            "Give only one of --sparsity, --macs, --parameters, --bytes and --latency, or none of them to "
            f"remove the masked channels. Received: {', '.join(f'--{name}' for name in given)}."
        )
    sparsity = given.pop("sparsity", None)
    given |= saved_models.runtime(arguments)
    return sparsity, Budget(**given) if given else None


def _network(arguments: argparse.Namespace) -> keras.Model:
    model: Any = saved_models.load(arguments.model, arguments.modules)
    if not isinstance(model, AdversarialModel):
        return model
    networks = saved_models.networks(model)
    average = networks.pop(saved_models.AVERAGED, None)
    if arguments.network not in networks:
        raise InvalidArgumentError(unknown_name("network", arguments.network, networks))
    if arguments.network == "generator" and average is not None and not arguments.live:
        return average
    return networks[arguments.network]
