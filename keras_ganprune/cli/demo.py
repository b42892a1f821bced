"""`keras-ganprune demo [APPLICATION]`: run an application on real data."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from keras_ganprune.applications import catalog, image_generation, pipeline
from keras_ganprune.applications.base import Application
from keras_ganprune.cli.command_options import add_options, given_options
from keras_ganprune.cli.stopping import stopping
from keras_ganprune.errors import InvalidArgumentError
from keras_ganprune.utils import tables

HELP = (
    "Train networks on real data and prune them in fit; then strip, export and report them. Without "
    "APPLICATION: image generation, with all options of pruning."
)


def application_named(arguments: Sequence[str]) -> str | None:
    """Return the name of an application that the arguments of a command begin with, or None.

    Raises:
        InvalidArgumentError: There is no application with this name.

    Example:
    >>> application_named(["image-generation", "--quick"]), application_named(["--quick"])
    ('image-generation', None)
    """
    if not arguments or arguments[0].startswith("-"):
        return None
    catalog.get(arguments[0])
    return arguments[0]


def add_application(
    parser: argparse.ArgumentParser, arguments: Sequence[str], command: str
) -> str | None:
    """Add the argument with the name of an application; return the name, or None without one.

    Args:
        parser: Parser of the command.
        arguments: The given arguments of the command.
        command: Name of the command, for its help.
    """
    name = application_named(arguments)
    parser.set_defaults(named=name)
    parser.add_argument(
        "application",
        nargs="?",
        metavar="APPLICATION",
        help=f"One of {', '.join(catalog.names())}. Its options: keras-ganprune {command} APPLICATION "
        "--help. Defaults to image generation with the options below."
        if name is None
        else catalog.get(name).help,
    )
    return name


def add_arguments(parser: argparse.ArgumentParser, arguments: Sequence[str] = ()) -> None:
    """Add the arguments of the command. They depend on the application that the given arguments name."""
    name = add_application(parser, arguments, "demo")
    if name is None:
        parser.add_argument("--list", action="store_true", help="List the applications, and end.")
        add_options(parser, image_generation.DemoOptions)
    else:
        add_options(parser, catalog.get(name).options_class)


def check_place(arguments: argparse.Namespace) -> None:
    """Raise unless the name of the application comes before its options, which depend on it.

    Raises:
        InvalidArgumentError: It comes later, or there is no application with this name.
    """
    if arguments.application != arguments.named:
        catalog.get(arguments.application)
        command = getattr(arguments, "command", "demo")
        raise InvalidArgumentError(
            "The name of an application must come before its options. Received: "
            f"'{arguments.application}' after them. Write `keras-ganprune {command} "
            f"{arguments.application}` first."
        )


def run(arguments: argparse.Namespace) -> None:
    """Run an application and print its closing text.

    Raises:
        InvalidArgumentError: The name of the application does not come first, or an option is wrong.
    """
    check_place(arguments)
    if getattr(arguments, "list", False):
        rows = [("application", "what it does")]
        rows += [(name, catalog.get(name).help) for name in catalog.names()]
        print(tables.text(rows, left=2))
        return
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
