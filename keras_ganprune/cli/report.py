"""`keras-ganprune report`: the page of runs, or the sparsity of a saved model."""

from __future__ import annotations

import argparse
import pathlib
from collections.abc import Sequence
from typing import Any

from keras_ganprune.cli import saved_models
from keras_ganprune.cli.arguments import Recorder
from keras_ganprune.errors import InvalidArgumentError
from keras_ganprune.exporters.next_export import next_export
from keras_ganprune.metrics import sparsity_report
from keras_ganprune.metrics.explanation import explain
from keras_ganprune.reports import write_report
from keras_ganprune.utils.closing import closing

HELP = "Write the page of runs, or print what is, or can be, pruned in a saved model."
EXAMPLES = (
    "keras-ganprune report ganprune_run",
    "keras-ganprune report run80 run90 --output both.html",
    "keras-ganprune report gan.keras",
)


def add_arguments(recorder: Recorder) -> None:
    """Add the arguments of the command."""
    recorder.add_argument(
        "runs",
        nargs="+",
        metavar="RUN",
        help="Run folders, which are shown side by side on one page; or .keras files, whose sparsity is "
        "printed, or, if nothing is pruned, what can be.",
    )
    recorder.add_argument(
        "--output",
        default=None,
        metavar="PAGE",
        help="HTML page to write; Markdown is written beside it. Defaults to report.html in the folder of "
        "the run, or here for several runs.",
    )
    recorder.add_argument(
        "--title", default=None, help="Title of the page. Defaults to the names of the runs."
    )
    recorder.add_argument(
        "--overwrite",
        action="store_true",
        help="Replace a file that is no report. A report is replaced without it. Defaults to no.",
    )
    recorder.add_argument(
        "--markdown",
        action="store_true",
        help="Print the sparsity of a .keras file as Markdown. Defaults to no.",
    )
    saved_models.add_import(recorder)


def run(arguments: argparse.Namespace) -> None:
    """Write the page of run folders, or print the sparsity of saved models.

    Raises:
        InvalidArgumentError: Run folders and .keras files are mixed, or an option has no effect for the given
            paths.
        FileFormatError: A run or a file does not exist, is damaged or cannot be loaded.
        OutputError: The page exists or cannot be written.
        MissingPackageError: A package of the page is not installed.
    """
    paths = [pathlib.Path(path) for path in arguments.runs]
    models = [path for path in paths if path.suffix == ".keras" or path.is_file()]
    if models and len(models) < len(paths):
        folder = next(path for path in paths if path not in models)
        raise InvalidArgumentError(
            "Give either run folders (for a page) or .keras files (for their sparsity). Received both: "
            f"'{folder}' and '{models[0]}'."
        )
    page_options = {
        "--output": arguments.output,
        "--title": arguments.title,
        "--overwrite": arguments.overwrite or None,
    }
    model_options = {
        "--markdown": arguments.markdown or None,
        "--import": arguments.modules or None,
    }
    if models:
        _check_unused(page_options, "run folders", models[0])
        for path in models:
            if len(models) > 1:
                print(f"# {path}\n")
            _print_sparsity(path, arguments.modules, arguments.markdown)
        if not arguments.markdown:
            words = [word for module in arguments.modules for word in ("--import", module)]
            then = next_export(models[0], *words) or (None if words else ["benchmark", models[0]])
            print(closing("", "", then))
        return
    _check_unused(model_options, ".keras files", paths[0])
    page = write_report(paths, arguments.output, arguments.title, overwrite=arguments.overwrite)
    print(page)
    networks = sorted(paths[0].glob("*.keras"))
    then = ["benchmark", *networks, "--run", paths[0]] if networks else None
    print(closing(f"the page {page.html}.", "", then))


def _check_unused(options: dict[str, Any], where: str, path: pathlib.Path) -> None:
    for name, value in options.items():
        if value is not None:
            raise InvalidArgumentError(
                f"{name} can only be used with {where}. Received: '{path}'. Leave {name} out."
            )


def _print_sparsity(path: pathlib.Path, modules: Sequence[str], markdown: bool) -> None:
    """Print the sparsity of the networks of a file; where nothing is pruned, what could be."""
    model = saved_models.load(path, modules)
    found = {name: sparsity_report(each) for name, each in saved_models.networks(model).items()}
    # Without masks and zeros, nothing was pruned.
    pruned = {name: table.masked or table.sparsity for name, table in found.items()}
    if not markdown and not any(pruned.values()):
        print(explain(model))
        return
    for name, table in found.items():
        if markdown:
            print(f"## {name}\n\n{table.to_markdown()}\n")
        else:
            print(f"{name}\n{table}\n" if pruned[name] else f"{name}: not pruned\n")
