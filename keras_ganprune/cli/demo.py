"""`keras-ganprune demo [APPLICATION]`: run an application on real data."""

from __future__ import annotations

import argparse

from keras_ganprune.applications import catalog, image_generation, pipeline
from keras_ganprune.cli.arguments import Recorder
from keras_ganprune.cli.command_options import add_options, given_options

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
        choices=catalog.names(),
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
        print(f"\n{image_generation.closing_text(image_generation.run(options))}")
        return
    application = catalog.get(arguments.application)
    options = application.options_class(**given_options(arguments, application.options_class))
    print(f"\n{pipeline.run(application(options))}")
