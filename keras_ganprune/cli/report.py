"""`keras-ganprune report`: the page of runs, or the sparsity of a saved model."""

from __future__ import annotations

import argparse
import importlib
import os
import pathlib
import sys
from collections.abc import Sequence
from typing import Any

from keras_ganprune.errors import InvalidArgumentError, PruningError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument(
        "runs",
        nargs="+",
        metavar="RUN",
        help="run folders, side by side on one page; or a .keras file, whose sparsity is printed",
    )
    parser.add_argument(
        "--output",
        default=None,
        metavar="PAGE",
        help="HTML page to write, default report.html; Markdown goes beside it",
    )
    parser.add_argument("--title", default=None, help="title of the page")
    parser.add_argument("--overwrite", action="store_true", help="replace the page if it exists")
    parser.add_argument("--markdown", action="store_true", help="of a .keras file, print Markdown")
    add_import(parser)


def add_import(parser: argparse.ArgumentParser) -> None:
    """Add `--import`, for commands that load a .keras file."""
    parser.add_argument(
        "--import",
        dest="modules",
        action="append",
        default=[],
        metavar="MODULE",
        help="Python module to import first, with classes of your own",
    )


def run(arguments: argparse.Namespace) -> None:
    """Write the page of run folders, or print the sparsity of saved models.

    Raises:
        InvalidArgumentError: folders and files together, or an option of the other.
        FileFormatError, OutputError, MissingPackageError: as `write_report` and `load_model`.
    """
    paths = [pathlib.Path(path) for path in arguments.runs]
    models = [path for path in paths if path.suffix == ".keras" or path.is_file()]
    if models and len(models) < len(paths):
        folder = next(path for path in paths if path not in models)
        raise InvalidArgumentError(
            "Give run folders, for a page, or .keras files, for their sparsity. Received both: "
            f"'{folder}' and '{models[0]}'."
        )
    page = {"--output": arguments.output, "--title": arguments.title}
    page["--overwrite"] = arguments.overwrite or None
    if models:
        _check_unused(page, "the page of run folders", models[0])
        for path in models:
            if len(models) > 1:
                print(f"# {path}\n")
            _print_sparsity(path, arguments.modules, arguments.markdown)
        return
    printed = {"--markdown": arguments.markdown or None, "--import": arguments.modules or None}
    _check_unused(printed, "a .keras file", paths[0])
    from keras_ganprune.reports import write_report

    output = "report.html" if arguments.output is None else arguments.output
    print(write_report(paths, output, arguments.title, overwrite=arguments.overwrite))


def _check_unused(options: dict[str, Any], where: str, path: pathlib.Path) -> None:
    for name, value in options.items():
        if value is not None:
            raise InvalidArgumentError(f"{name} is for {where}. Received: '{path}'. Leave it out.")


def _print_sparsity(path: pathlib.Path, modules: Sequence[str], markdown: bool) -> None:
    from keras_ganprune.metrics import sparsity_report

    for name, network in networks(load(path, modules)).items():
        table = sparsity_report(network)
        if markdown:
            print(f"## {name}\n\n{table.to_markdown()}\n")
        else:
            print(f"{name}\n{table}\n" if len(table) else f"{name}: not pruned\n")


def load(path: str | os.PathLike, modules: Sequence[str] = ()) -> Any:
    """Load a .keras file, after some modules with classes of its own.

    Raises:
        PruningError: a module cannot be imported.
        FileFormatError: the file is not there, or cannot be loaded.
    """
    from keras_ganprune.layers import saving

    for module in modules:
        sys.path.insert(0, os.getcwd())
        try:
            importlib.import_module(module)
        except ImportError as error:
            raise PruningError(f"--import {module}: {error}.") from error
    return saving.load_model(path)


def networks(model: Any) -> dict[str, Any]:
    """Return the networks of a model: of a `GANModel` up to three, of any other itself."""
    from keras_ganprune.gan import GANModel

    if not isinstance(model, GANModel):
        return {model.name: model}
    found = {"generator": model.generator, "discriminator": model.discriminator}
    if model.ema_generator is not None:
        found["averaged generator"] = model.ema_generator
    return found
