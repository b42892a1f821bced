"""`keras-ganprune demo [APPLICATION]`: run an application on real data."""

from __future__ import annotations

import argparse

from keras_ganprune.applications import catalog, image_generation, pipeline
from keras_ganprune.applications.base import Application
from keras_ganprune.cli.arguments import Recorder
from keras_ganprune.cli.command_options import add_options, given_options
from keras_ganprune.cli.stopping import stopping

HELP = (
    "Train networks on real data and prune them in fit; then strip, export and report them. Without "
    "APPLICATION: image generation, with all options of pruning."
)
EXAMPLES = (
    "keras-ganprune demo --quick",
    "keras-ganprune demo --sparsity 0.9 --output run90",
    "keras-ganprune demo --structured --macs 0.25",
    "keras-ganprune demo denoising",
)


def add_application(recorder: Recorder, application: str | None, command: str) -> None:
    """Add the argument with the name of an application.

    Args:
        recorder: Recorder of the command.
        application: The application whose options follow, or None: those of image generation.
        command: Name of the command, for its help.
    """
    recorder.add_argument(
        "application",
        nargs="?",
        name="application",
        known=catalog.names(),
        metavar="APPLICATION",
        help=f"One of {', '.join(catalog.names())}. Its options: keras-ganprune {command} APPLICATION "
        "--help. Defaults to image generation with the options below."
        if application is None
        else catalog.get(application).help,
    )


def add_arguments(recorder: Recorder, application: str | None = None) -> None:
    """Add the arguments of the command, which are those of an application."""
    add_application(recorder, application, "demo")
    if application is None:
        recorder.add_argument("--list", action="store_true", help="List the applications, and end.")
        add_options(recorder, image_generation.DemoOptions)
    else:
        add_options(
            recorder, catalog.get(application).options_class, own=f"Options of {application}"
        )


def run(arguments: argparse.Namespace) -> None:
    """Run an application and print its closing text.

    Raises:
        InvalidArgumentError: An option is wrong.
    """
    if arguments.application is None:
        options = image_generation.DemoOptions(
            **given_options(arguments, image_generation.DemoOptions)
        )
        kept = "Nothing is kept: this demo writes its folder at the end. Fewer --steps are faster."
        with stopping(lambda: (kept, None)):
            result = image_generation.run(options)
        print(f"\n{image_generation.closing_text(result)}")
        return
    application = catalog.get(arguments.application)
    options = application.options_class(**given_options(arguments, application.options_class))
    made = application(options)
    with stopping(lambda: _kept(made)):
        result = pipeline.run(made)
    print(f"\n{result}")


def _kept(application: Application) -> tuple[str, list[str] | None]:
    """Return what is kept of a run that was stopped; see `stopping`."""
    folder = pipeline.unfinished(application)
    if not folder.exists():
        return "Nothing was trained yet, so nothing is kept.", []
    return f"What is trained is in '{folder}', and the same command goes on with it.", []
