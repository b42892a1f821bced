"""`keras-ganprune sweep [APPLICATION]`: find the best sparsity for the networks of an application."""

from __future__ import annotations

import argparse
import pathlib
from collections.abc import Sequence
from typing import Any

import attrs

from keras_ganprune import datasets, search
from keras_ganprune.applications import catalog, image_generation
from keras_ganprune.applications.image_generation import DemoOptions
from keras_ganprune.applications.option_fields import options_of
from keras_ganprune.applications.sweeping import NOT_SWEPT, sweep_application
from keras_ganprune.cli.arguments import Recorder
from keras_ganprune.cli.command_options import add_options, given_options
from keras_ganprune.cli.demo import add_application
from keras_ganprune.cli.stopping import stopping
from keras_ganprune.errors import InvalidArgumentError, unknown_name
from keras_ganprune.metrics import ImageQuality
from keras_ganprune.metrics.extractor_training import split_at
from keras_ganprune.metrics.quality_report import METRICS
from keras_ganprune.search.plan import SweepPlan
from keras_ganprune.search.storage import check_usable
from keras_ganprune.utils import files, plotting, validation
from keras_ganprune.utils.closing import closing, folded
from keras_ganprune.utils.status_line import EXTRACTOR, StatusLine

HELP = "Find the best sparsity by training the networks of an application at several sparsities."
EXAMPLES = (
    "keras-ganprune sweep --data digits --sparsities 0.5,0.8,0.9 --seeds 2",
    "keras-ganprune sweep --search tpe --sparsities 0.5,0.98 --trials 12",
    "keras-ganprune sweep text-classification",
)

_HELD_OUT = 0.2
# Options that the demo shares with the sweep.
_NETWORK_OPTIONS = (
    *("images", "image_size", "network", "channels", "conditional", "loss", "batch_size"),
)
# What the command after a sweep repeats: of the demo, and of another sweep.
_PRUNING = ("allocation", "granularity", "mode")
_REPEATED = ("criteria", "seeds", "folds", "steps", "samples", "metric", "tolerance", "storage")
_PLAN_OPTIONS = (
    *("seeds", "folds", "steps", "batch_size", "allocation", "mode", "granularity"),
    *("search", "trials", "metric", "tolerance"),
)


def add_arguments(recorder: Recorder, application: str | None = None) -> None:
    """Add the arguments of the command. Some are those of an application."""
    add_application(recorder, application, "sweep")
    if application is None:
        add_options(recorder, DemoOptions, _NETWORK_OPTIONS)
    else:
        options = (*_own_options(application), "batch_size")
        title = f"Options of {application}"
        add_options(recorder, catalog.get(application).options_class, options, title)
    _add_pruning(recorder)
    _add_search(recorder, application)
    _add_output(recorder)


def _own_options(name: str) -> list[str]:
    """Return the names of the options of an application that a sweep does not set itself."""
    return [key for key in options_of(catalog.get(name).options_class) if key not in NOT_SWEPT]


def _add_pruning(recorder: Recorder) -> None:
    add_options(recorder, DemoOptions, ("mode",))
    recorder.group("Pruning")
    recorder.add_argument(
        "--sparsities",
        default=None,
        help="Final sparsities, separated by commas; for --search tpe, the lowest and the highest. "
        "Defaults to 0.5,0.8,0.9,0.95.",
    )
    recorder.add_argument(
        "--thresholds",
        default=None,
        help="Thresholds instead of sparsities, such as 0.01,0.03: smaller weights are pruned. Defaults to "
        "none.",
    )
    recorder.add_argument(
        "--criteria",
        default="magnitude",
        help="Criteria, separated by commas, such as magnitude,random. Defaults to magnitude.",
    )
    recorder.add_argument(
        "--allocation",
        default=None,
        help="Sparsity of each layer: global_ranking, uniform, erk, ... Defaults to global_ranking for "
        "single weights without thresholds, otherwise to uniform.",
    )
    recorder.add_argument(
        "--granularity",
        default="unstructured",
        help="What is pruned as a unit: unstructured, channel, 1x4, ... Defaults to unstructured.",
    )


def _add_search(recorder: Recorder, name: str | None) -> None:
    recorder.group("Search")
    recorder.add_argument(
        "--seeds",
        type=int,
        default=3,
        help="Number of runs per setting, with the seeds 0, 1, ... Defaults to 3.",
    )
    if name is None:
        _add_folds_and_samples(recorder)
    recorder.add_argument(
        "--steps",
        type=int,
        default=2000 if name is None else None,
        help="Training steps per run. Defaults to "
        + ("2000." if name is None else "the steps of the application."),
    )
    recorder.add_argument(
        "--search",
        default="grid",
        help="grid, or tpe to search for the highest sparsity within the tolerance. Defaults to grid.",
    )
    recorder.add_argument(
        "--trials",
        type=int,
        default=None,
        help="Number of trials; required with --search tpe. Defaults to none.",
    )
    metrics = [] if name is None else list(catalog.get(name).metrics)
    recorder.add_argument(
        "--metric",
        default="fd" if name is None else None,
        help="Metric that is compared with dense: "
        + ("fd, kd, coverage, ..." if name is None else f"{' or '.join(metrics)}.")
        + f" Defaults to {'fd' if name is None else metrics[0]}.",
    )
    recorder.add_argument(
        "--tolerance",
        type=float,
        default=0.1,
        help="Maximum relative degradation against dense. Defaults to 0.1, which is 10 %%.",
    )


def _add_folds_and_samples(recorder: Recorder) -> None:
    recorder.add_argument(
        "--folds",
        type=int,
        default=None,
        help="Number of folds for cross-validation: each run trains on all folds except one, and is "
        "evaluated on the remaining fold. Defaults to no cross-validation.",
    )
    recorder.add_argument(
        "--samples",
        type=int,
        default=5000,
        help="Number of generated images that are evaluated per run. Defaults to 5000.",
    )


def _add_output(recorder: Recorder) -> None:
    recorder.group("Output")
    recorder.add_argument(
        "--storage",
        default="sweep.db",
        help="SQLite file or URL of a database; an existing sweep is resumed. Defaults to sweep.db.",
    )
    recorder.add_argument(
        "--name", default="sweep", help="Name of the study in the storage. Defaults to sweep."
    )
    recorder.add_argument(
        "--retry-failed", action="store_true", help="Run failed trials again. Defaults to no."
    )
    recorder.add_argument(
        "--output", default="ganprune_sweep", help="Folder to write. Defaults to ganprune_sweep."
    )
    recorder.add_argument(
        "--overwrite", action="store_true", help="Replace an existing folder. Defaults to no."
    )


def run(arguments: argparse.Namespace) -> None:
    """Run the sweep, print its table and recommendation, and write them to a folder.

    Raises:
        InvalidArgumentError: An argument is wrong, or the study in the storage has other settings.
        DataError: The images cannot be loaded.
        OutputError: The folder exists or cannot be written.
        MissingPackageError: Optuna, matplotlib, scipy or scikit-learn is not installed.
    """
    output = files.check_new_folder(arguments.output, arguments.overwrite)
    check_usable(arguments.storage)  # before the feature extractor is trained
    plotting.require_plotting()
    with stopping(lambda: _kept(arguments)):
        if arguments.application is not None:
            result = _sweep_application(arguments)
        else:
            result = _sweep_images(arguments)
    _write(result, arguments, output)


def _kept(arguments: argparse.Namespace) -> tuple[str, list[str]]:
    """Return what is kept of a sweep that was stopped; see `stopping`."""
    text = f"The runs that have ended are in '{arguments.storage}', and the same command goes on with them."
    return text, []


def _sweep_images(arguments: argparse.Namespace) -> search.SweepResult:
    plan = _plan(arguments)
    SweepPlan(**plan)  # checks the arguments before the images are loaded
    options = DemoOptions(**given_options(arguments, DemoOptions, _NETWORK_OPTIONS))
    line = StatusLine()
    with line.doing("Loading the images"):
        images = datasets.load(options.images, options.image_size)
    line.say(f"Data: {images.description}.")
    classes = image_generation.classes_of(options, images)
    quality = _evaluator(images, arguments.samples)
    if plan["folds"] is None:
        # The GAN is not trained on the images that the evaluator holds out.
        images = images.take(split_at(len(images), _HELD_OUT))
    height, width, channels = images.images.shape[1:]
    return search.sweep(
        lambda seed: image_generation.build(
            attrs.evolve(options, seed=seed), (height, width, channels), classes
        ),
        images,
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


def _sweep_application(arguments: argparse.Namespace) -> search.SweepResult:
    name = arguments.application
    cls = catalog.get(name)
    application = cls(
        cls.options_class(**given_options(arguments, cls.options_class, _own_options(name)))
    )
    if arguments.metric is not None and arguments.metric not in application.metrics:
        raise InvalidArgumentError(unknown_name("metric", arguments.metric, application.metrics))
    plan = {**_settings(arguments), "mode": arguments.mode}
    return sweep_application(
        application,
        plan,
        storage=arguments.storage,
        name=arguments.name,
        retry_failed=arguments.retry_failed,
    )


def _write(result: search.SweepResult, arguments: argparse.Namespace, output: pathlib.Path) -> None:
    """Write the folder of a sweep, and print its table and recommendation."""
    recommendation = result.recommend(arguments.tolerance)
    # If the folder exists now, another process of this sweep has written it, with the same content.
    with files.new_folder(output, overwrite=True) as folder:
        (folder / "table.md").write_text(result.to_markdown() + "\n", encoding="utf-8")
        (folder / "recommendation.md").write_text(f"{recommendation}\n", encoding="utf-8")
        result.save_pareto(folder / "pareto.png", arguments.tolerance)
        result.save_csv(folder / "trials.csv")
    made = f"{output} with pareto.png, table.md, recommendation.md and trials.csv."
    then = _next(recommendation, arguments)
    text = "\n".join(folded(line) for line in str(recommendation).splitlines())
    print(f"\n{result}\n\n{text}\n\n{closing(made, '', then)}")


def _next(recommendation: search.Recommendation, arguments: argparse.Namespace) -> list[Any]:
    """Return the words of the next command: the demo with what is recommended, or a gentler sweep."""
    name = arguments.application
    if name is None:
        cls, names = DemoOptions, _NETWORK_OPTIONS
    else:
        cls = catalog.get(name).options_class
        names = (*_own_options(name), "batch_size")
    words = [] if name is None else [name]
    for option in options_of(cls).values():
        value = getattr(arguments, option.flag.lstrip("-").replace("-", "_"), option.default)
        if option.name not in names or value == option.default:
            continue
        if isinstance(value, bool):
            words.append(option.flag if value else option.flag.replace("--", "--no-", 1))
        else:
            words += [option.flag, str(value)]
    if recommendation.requested is not None:
        threshold = recommendation.quantity == "threshold"
        sparsity = recommendation.sparsity if threshold else recommendation.requested
        words += ["--sparsity", f"{sparsity:.4g}"]
        if name is None:
            words += ["--criterion", recommendation.criterion, *_flags(arguments, _PRUNING)]
        return ["demo", *words]
    nearest = recommendation.nearest
    gentler = 0.25 if nearest is None else round(nearest.sparsity / 2, 4)
    words += ["--sparsities", f"{gentler:g}", "--name", f"{arguments.name}-lower"]
    words += ["--output", f"{arguments.output}-lower", *_flags(arguments, (*_PRUNING, *_REPEATED))]
    return ["sweep", *words]


def _flags(arguments: argparse.Namespace, names: Sequence[str]) -> list[str]:
    """Return the given arguments of these names as words."""
    values = {name: getattr(arguments, name, None) for name in names}
    return [
        word
        for name, value in values.items()
        if value is not None
        for word in (f"--{name}", str(value))
    ]


def _evaluator(images: datasets.Images, samples: int) -> ImageQuality:
    with StatusLine().doing(EXTRACTOR):
        quality = ImageQuality(images.images, images.labels, held_out=_HELD_OUT, samples=samples)
    accuracy = quality.extractor.accuracy
    words = "" if accuracy is None else f", accuracy {accuracy:.1%}"
    print(f"Feature extractor: {quality.extractor.fingerprint[:8]}{words}.", flush=True)
    return quality


def _plan(arguments: argparse.Namespace) -> dict[str, Any]:
    """Return the arguments of the sweep of images."""
    plan = _settings(arguments)
    # A metric that is not measured would be found out behind the first run only.
    if arguments.metric not in METRICS:
        raise InvalidArgumentError(unknown_name("metric", arguments.metric, METRICS))
    validation.int_at_least(arguments.samples, "samples", 4)
    plan["direction"] = METRICS[arguments.metric].direction
    return plan


def _settings(arguments: argparse.Namespace) -> dict[str, Any]:
    """Return the fields of `SweepPlan` that the arguments give."""
    if arguments.sparsities is not None and arguments.thresholds is not None:
        raise InvalidArgumentError("Give --sparsities or --thresholds, not both.")
    plan = {name: getattr(arguments, name, None) for name in _PLAN_OPTIONS}
    if plan["allocation"] is None:
        ranked = arguments.granularity == "unstructured" and arguments.thresholds is None
        plan["allocation"] = "global_ranking" if ranked else "uniform"
    for name in ("sparsities", "thresholds"):
        text = getattr(arguments, name)
        if text is not None:
            plan[name] = _numbers(text, f"--{name}")
    plan["criteria"] = tuple(c.strip() for c in arguments.criteria.split(",") if c.strip())
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
            f"{name} must be numbers that are separated by commas, such as 0.5,0.8. Received: {text!r}."
        ) from error
