"""`keras-ganprune sweep`: find the sparsity for the demo's networks, on your images."""

from __future__ import annotations

import argparse
import dataclasses
from typing import Any

from keras_ganprune.errors import InvalidArgumentError

_HELD_OUT = 0.2


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    add_networks(parser)
    parser.add_argument(
        "--sparsities",
        default=None,
        help="final sparsities, default 0.5,0.8,0.9,0.95; for --search tpe the lowest and the highest",
    )
    parser.add_argument(
        "--thresholds", default=None, help="instead: prune weights below these, such as 0.01,0.03"
    )
    parser.add_argument(
        "--criteria", default="magnitude", help="such as magnitude (default) or magnitude,random"
    )
    parser.add_argument(
        "--allocation",
        default=None,
        help="global_ranking (default for single weights and sparsities), uniform, erk, ...",
    )
    parser.add_argument(
        "--granularity", default="unstructured", help="unstructured (default), channel, 1x4, ..."
    )
    parser.add_argument(
        "--seeds", type=int, default=3, help="how many runs of each, default 3: seeds 0, 1, 2"
    )
    parser.add_argument(
        "--folds",
        type=int,
        default=None,
        help="cross-validate: train on all but one of so many parts, and judge by that one",
    )
    parser.add_argument("--steps", type=int, default=2000, help="training steps of a run")
    parser.add_argument(
        "--storage",
        default="sweep.db",
        help="SQLite file (default sweep.db) or URL of a database; a sweep that is there is gone on with",
    )
    parser.add_argument("--name", default="sweep", help="of the study in it, default sweep")
    parser.add_argument(
        "--search",
        default="grid",
        help="grid (default), or tpe: look for the highest sparsity within tolerance",
    )
    parser.add_argument("--trials", type=int, default=None, help="of --search tpe: how many")
    parser.add_argument(
        "--metric",
        default="fd",
        help="fd (default), kd, coverage, ...: what is compared with dense",
    )
    parser.add_argument(
        "--samples", type=int, default=5000, help="images that are judged of each run, default 5000"
    )
    parser.add_argument(
        "--tolerance",
        type=float,
        default=0.1,
        help="how much worse than dense is put up with, default 0.1 for 10 %%",
    )
    parser.add_argument(
        "--retry-failed", action="store_true", help="do trials once more that failed"
    )
    parser.add_argument(
        "--output", default="ganprune_sweep", help="folder to write, default ganprune_sweep"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace the folder if it exists")


def add_networks(parser: argparse.ArgumentParser) -> None:
    """Add what every command is told that trains the demo's networks: images, networks, mode."""
    parser.add_argument(
        "--data", default="mnist", help="mnist (default), mnist-5000, digits, or a folder of images"
    )
    parser.add_argument(
        "--image-size", type=int, default=28, help="pixels a side, for a folder of images"
    )
    parser.add_argument("--network", default="dcgan", help="dcgan (default) or mlp")
    parser.add_argument("--channels", type=int, default=None, help="width of the DCGAN, default 32")
    parser.add_argument(
        "--conditional",
        action=argparse.BooleanOptionalAction,
        default=None,
        help="tell both networks the class of each image (default: if there are labels, and the network is "
        "dcgan)",
    )
    parser.add_argument(
        "--loss", default="non_saturating", help="GAN loss, such as hinge or wasserstein"
    )
    parser.add_argument("--batch-size", type=int, default=64, help="images a step, default 64")
    parser.add_argument("--mode", default="hard", help="hard (default), soft, rigl, set or splice")


def run(arguments: argparse.Namespace) -> None:
    """Sweep, print the table and the recommendation, and write them to a folder.

    Raises:
        PruningError: see `sweep`; said before training where it can be.
    """
    from keras_ganprune import datasets
    from keras_ganprune.applications import image_generation
    from keras_ganprune.applications.options import DemoOptions
    from keras_ganprune.metrics import ImageQuality
    from keras_ganprune.metrics.extractor_training import split_at
    from keras_ganprune.search import sweep
    from keras_ganprune.search.plan import SweepPlan
    from keras_ganprune.utils import files, plotting

    plan = _plan(arguments)
    SweepPlan(**plan)  # what it refuses is said before the images are loaded
    options = DemoOptions(
        network=arguments.network,
        images=arguments.data,
        image_size=arguments.image_size,
        channels=arguments.channels,
        conditional=arguments.conditional,
        loss=arguments.loss,
        batch_size=arguments.batch_size,
    )
    output = files.check_new_folder(arguments.output, arguments.overwrite)
    plotting.require_plotting()
    found = datasets.load(arguments.data, arguments.image_size)
    print(f"Data: {found.description}.", flush=True)
    classes = image_generation.classes_of(options, found)
    quality = ImageQuality(
        found.images, found.labels, held_out=_HELD_OUT, samples=arguments.samples
    )
    accuracy = quality.extractor.accuracy
    print(
        f"Judge: {quality.extractor.fingerprint[:8]}"
        + ("" if accuracy is None else f", accuracy {accuracy:.1%}")
        + ".",
        flush=True,
    )
    if plan["folds"] is None:
        # The images that judge are not trained on.
        found = found.take(split_at(len(found), _HELD_OUT))
    shape = found.images.shape[1:]
    result = sweep(
        lambda seed: image_generation.build(
            dataclasses.replace(options, seed=seed), shape, classes
        ),
        found,
        quality=quality,
        storage=arguments.storage,
        name=arguments.name,
        settings={
            "network": options.network,
            "channels": options.channels,
            "classes": classes,
            "loss": options.loss,
        },
        retry_failed=arguments.retry_failed,
        **plan,
    )
    recommendation = result.recommend(arguments.tolerance)
    # If it is there now, another process has done the rest of this sweep, and written the same.
    with files.new_folder(output, overwrite=True) as folder:
        (folder / "table.md").write_text(result.to_markdown() + "\n", encoding="utf-8")
        (folder / "recommendation.md").write_text(f"{recommendation}\n", encoding="utf-8")
        result.save_pareto(folder / "pareto.png", arguments.tolerance)
        result.save_csv(folder / "trials.csv")
    print(f"\n{result}\n\n{recommendation}\n\nLook at {output}/pareto.png and {output}/table.md.")


def _plan(arguments: argparse.Namespace) -> dict[str, Any]:
    """Return the arguments of the sweep itself, checked as far as text goes."""
    from keras_ganprune.metrics.quality_report import METRICS

    if arguments.sparsities is not None and arguments.thresholds is not None:
        raise InvalidArgumentError("Give --sparsities or --thresholds, not both.")
    plan = {
        name: getattr(arguments, name)
        for name in (
            *("seeds", "folds", "steps", "batch_size", "allocation", "mode", "granularity"),
            *("search", "trials", "metric", "tolerance"),
        )
    }
    if plan["allocation"] is None:
        ranked = arguments.granularity == "unstructured" and arguments.thresholds is None
        plan["allocation"] = "global_ranking" if ranked else "uniform"
    for name in ("sparsities", "thresholds"):
        given = getattr(arguments, name)
        if given is not None:
            plan[name] = _numbers(given, f"--{name}")
    plan["criteria"] = tuple(c.strip() for c in arguments.criteria.split(",") if c.strip())
    metric = METRICS.get(arguments.metric)
    plan["direction"] = "min" if metric is None else metric.direction
    return plan


def _numbers(text: str, name: str) -> tuple[float, ...]:
    """Return the numbers of a text such as '0.5,0.8'.

    Example:
    >>> _numbers("0.5, 0.8", "--sparsities")
    (0.5, 0.8)
    """
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError as error:
        raise InvalidArgumentError(
            f"{name} must be numbers with commas between them, such as 0.5,0.8. Received: {text!r}."
        ) from error
