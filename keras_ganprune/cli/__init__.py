"""The command line: keras-ganprune demo | sweep | shrink | export | report."""

from __future__ import annotations

import argparse
import dataclasses
import os
import pathlib
import sys
from collections.abc import Sequence

from keras_ganprune.cli import report, sweep
from keras_ganprune.errors import PruningError


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="keras-ganprune",
        description="Prune Keras 3 GANs inside model.fit, and ship the result.",
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    _demo_arguments(
        commands.add_parser("demo", help="train, prune, strip, export and report a GAN")
    )
    sweep.add_arguments(
        commands.add_parser("sweep", help="find the sparsity by training at several")
    )
    export = commands.add_parser("export", help="write a saved model as a stripped SavedModel")
    export.add_argument("model", help="a .keras file; of a GANModel the generator is exported")
    export.add_argument("output", help="folder to write")
    export.add_argument(
        "--live",
        action="store_true",
        help="of a GANModel with an averaged generator, export the live one",
    )
    export.add_argument("--overwrite", action="store_true", help="replace the folder if it exists")
    _shrink_arguments(
        small := commands.add_parser("shrink", help="cut pruned channels out of a saved model")
    )
    show = commands.add_parser(
        "report", help="make a page of runs, or print the sparsity of a saved model"
    )
    report.add_arguments(show)
    for command in (export, small):
        report.add_import(command)
    return parser


def _shrink_arguments(small: argparse.ArgumentParser) -> None:
    small.add_argument("model", help="a .keras file; of a GANModel the generator is shrunk")
    small.add_argument(
        "output", help="folder to write: model.keras, saved_model and the comparison"
    )
    small.add_argument(
        "--network", default="generator", help="of a GANModel: generator (default) or discriminator"
    )
    small.add_argument(
        "--live",
        action="store_true",
        help="of a GANModel with an averaged generator, shrink the live one",
    )
    for name, what in (
        ("sparsity", "share of the channels to remove, such as 0.5"),
        ("macs", "what is to be left of the multiply-accumulates, such as 0.25"),
        ("parameters", "what is to be left of the parameters"),
        ("bytes", "what is to be left of the bytes of the weights"),
    ):
        small.add_argument(
            f"--{name}", type=float, default=None, help=f"{what}; without any, what is masked goes"
        )
    small.add_argument(
        "--criterion", default="magnitude", help="which channels stay, default magnitude"
    )
    small.add_argument(
        "--allocation", default="uniform", help="uniform (default) or global_ranking"
    )
    small.add_argument("--round-to", type=int, default=None, help="keep multiples of it, such as 8")
    small.add_argument(
        "--keep", action="append", default=[], metavar="LAYER", help="a layer to leave alone"
    )
    small.add_argument("--overwrite", action="store_true", help="replace the folder if it exists")


def _demo_arguments(demo: argparse.ArgumentParser) -> None:
    sweep.add_networks(demo)
    demo.add_argument(
        "--target",
        default="generator",
        help="generator (default), discriminator, or both as generator,discriminator",
    )
    demo.add_argument(
        "--schedule",
        default=None,
        help="polynomial (default), cubic, linear, cosine, one_shot, cyclic, iterative_rewind, layerwise, "
        "adaptive, threshold or dynamic_threshold",
    )
    demo.add_argument(
        "--sparsity",
        type=float,
        default=None,
        help="final sparsity in [0, 1), default 0.8, or that of a pattern such as 2:4",
    )
    demo.add_argument(
        "--threshold",
        type=float,
        default=None,
        help="prune weights below it, default 0.03 (dynamic_threshold: below so many standard deviations "
        "of their tensor, default 1)",
    )
    demo.add_argument(
        "--order",
        default="forward",
        help="of the schedule layerwise: forward (default) or backward",
    )
    demo.add_argument(
        "--criterion",
        default=None,
        help="taylor (default where it goes with the rest), magnitude, l2, gradient, "
        "discriminator_saliency, batch_norm_scale, geometric_median, random, or a mix such as "
        "magnitude=1,taylor=0.5",
    )
    demo.add_argument(
        "--granularity",
        default="unstructured",
        help="unstructured (default), channel, a pattern such as 2:4 or a block such as 1x4 (the last "
        "kernel of a generator of grey images is only one output wide)",
    )
    demo.add_argument(
        "--allocation",
        default=None,
        help="global_ranking (default where it goes with the rest), uniform, erk, or sparsities by layer "
        "such as dense*=0.9",
    )
    demo.add_argument(
        "--joint", action="store_true", help="one total over both networks, of both targets"
    )
    demo.add_argument(
        "--balance",
        action="store_true",
        help="let the balance of the game set the density of the discriminator",
    )
    demo.add_argument(
        "--tie", action="store_true", help="share the mirrored kernels of the two networks"
    )
    demo.add_argument(
        "--structured",
        action="store_true",
        help="prune whole channels, cut them out when the schedule ends, and train the smaller network on",
    )
    demo.add_argument(
        "--macs",
        type=float,
        default=None,
        help="of --structured: what is to be left of the multiply-accumulates, default 0.25",
    )
    demo.add_argument(
        "--parameters",
        type=float,
        default=None,
        help="of --structured: what is to be left of the parameters",
    )
    demo.add_argument("--steps", type=int, default=None, help="training steps")
    demo.add_argument("--epochs", type=int, default=None, help="epochs, instead of --steps")
    demo.add_argument("--output", default="ganprune_run", help="run folder, default ganprune_run")
    demo.add_argument(
        "--overwrite", action="store_true", help="replace the run folder if it exists"
    )
    demo.add_argument("--seed", type=int, default=0)
    demo.add_argument("--quick", action="store_true", help="a small run, under a minute")
    demo.add_argument(
        "--quality",
        action=argparse.BooleanOptionalAction,
        default=None,
        help="judge the images of the dense and of the pruned generator by held-out real ones (default: if "
        "not --quick, and there are labels and 3,200 images)",
    )


def _demo(arguments: argparse.Namespace) -> None:
    from keras_ganprune.applications import image_generation as demo
    from keras_ganprune.applications.options import mixture
    from keras_ganprune.metrics import sparsity_report
    from keras_ganprune.utils import tables

    schedule = arguments.schedule
    if schedule is None:
        schedule = "threshold" if arguments.threshold is not None else "polynomial"
    options = demo.DemoOptions(
        network=arguments.network,
        images=arguments.data,
        image_size=arguments.image_size,
        targets=tuple(t.strip() for t in arguments.target.split(",") if t.strip()),
        schedule=schedule,
        sparsity=arguments.sparsity,
        threshold=arguments.threshold,
        order=arguments.order,
        criterion=mixture(arguments.criterion or "") or arguments.criterion,
        granularity=arguments.granularity,
        allocation=mixture(arguments.allocation or "") or arguments.allocation,
        mode=arguments.mode,
        joint=arguments.joint,
        balance=arguments.balance,
        tie=arguments.tie,
        structured=arguments.structured,
        macs=arguments.macs,
        parameters=arguments.parameters,
        conditional=arguments.conditional,
        loss=arguments.loss,
        steps=arguments.steps,
        epochs=arguments.epochs,
        batch_size=arguments.batch_size,
        channels=arguments.channels,
        output=arguments.output,
        overwrite=arguments.overwrite,
        seed=arguments.seed,
        quick=arguments.quick,
        quality=arguments.quality,
    )
    result = demo.run(options)
    print()
    print(tables.text(demo.summary(result)))
    for name in result.prunes:
        if name in result.events:
            print(f"{name}: cut at {result.events[name]}")
            continue
        table = sparsity_report(getattr(result.gan, name))
        print(
            f"{name}: sparsity {table.sparsity:.4f}, {table.kept:,} of {table.total:,} weights kept"
        )
    if result.options.joint:
        pruner = result.prunes["generator"].pruner
        print(f"both: sparsity {pruner.sparsity:.4f}, spread by {pruner.allocation!r}")
    print(
        f"SavedModel reloaded and compared: largest difference {result.pruned.max_difference:g}. "
        f"Trained in {result.seconds:.0f} s.\n"
        f"Look at {result.output}/samples.png and {result.output}/report.md."
    )


def _export(arguments: argparse.Namespace) -> None:
    from keras_ganprune.exporters import export_saved_model
    from keras_ganprune.utils import files

    files.check_new_folder(arguments.output, arguments.overwrite)
    model = report.load(arguments.model, arguments.modules)
    average = "averaged generator" in report.networks(model) and not arguments.live
    print(
        export_saved_model(model, arguments.output, average=average, overwrite=arguments.overwrite)
    )


def _shrink(arguments: argparse.Namespace) -> None:
    from keras_ganprune.errors import InvalidArgumentError, unknown_name
    from keras_ganprune.exporters import export_saved_model
    from keras_ganprune.gan import GANModel
    from keras_ganprune.layers.upgrade import strip_pruning
    from keras_ganprune.metrics import compare_models
    from keras_ganprune.pruning.granularity import Channel
    from keras_ganprune.pruning.shrink_model import shrink
    from keras_ganprune.pruning.structured.budget import Budget
    from keras_ganprune.utils import files

    files.check_new_folder(arguments.output, arguments.overwrite)
    shares = {name: getattr(arguments, name) for name in ("macs", "parameters", "bytes")}
    shares = {name: value for name, value in shares.items() if value is not None}
    if len(shares) + (arguments.sparsity is not None) > 1:
        raise InvalidArgumentError(
            "Give one of --sparsity, --macs, --parameters and --bytes, or none to remove what is masked."
        )
    budget = Budget(**shares) if shares else None
    model = report.load(arguments.model, arguments.modules)
    if isinstance(model, GANModel):
        networks = report.networks(model)
        average = networks.pop("averaged generator", None)
        if arguments.network not in networks:
            raise InvalidArgumentError(unknown_name("network", arguments.network, networks))
        model = networks[arguments.network]
        if arguments.network == "generator" and average is not None and not arguments.live:
            model = average
    small = shrink(
        model,
        sparsity=arguments.sparsity,
        budget=budget,
        criterion=arguments.criterion,
        allocation=arguments.allocation,
        granularity=Channel(round_to=arguments.round_to),
        keep=arguments.keep or None,
    )
    with files.new_folder(arguments.output, arguments.overwrite) as work:
        small.save(work / "model.keras")
        written = export_saved_model(small, work / "saved_model")
        table = compare_models({"before": strip_pruning(model), "shrunk": small})
        (work / "comparison.md").write_text(table.to_markdown() + "\n", encoding="utf-8")
    path = pathlib.Path(arguments.output) / "saved_model"
    print(f"{dataclasses.replace(written, path=path)}\n{table}")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code: 0, or 2 with a line that says why."""
    arguments = _parser().parse_args(argv)
    # TensorFlow's start-up notes would hide ours.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    commands = {
        "demo": _demo,
        "export": _export,
        "report": report.run,
        "shrink": _shrink,
        "sweep": sweep.run,
    }
    try:
        commands[arguments.command](arguments)
    except PruningError as error:
        print(f"keras-ganprune: error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("keras-ganprune: stopped.", file=sys.stderr)
        return 130
    return 0
