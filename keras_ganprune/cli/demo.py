"""`keras-ganprune demo`, and one command per further application."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from keras_ganprune.applications import image_generation
from keras_ganprune.cli.command_options import add_options, given_options


@dataclass(frozen=True)
class Application:
    """An application as a command: its options become arguments, and its closing text is printed.

    Attributes:
        help: One line for the list of commands.
        options: An attrs class whose fields are made by `option_fields.option`.
        start: Function that runs the application with such options and returns a result.
        closing_text: Function that returns the text to print about a result.
    """

    help: str
    options: type
    start: Callable[[Any], Any]
    closing_text: Callable[[Any], str]

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Add the arguments of the command."""
        add_options(parser, self.options)

    def run(self, arguments: argparse.Namespace) -> None:
        """Run the application and print its closing text."""
        result = self.start(self.options(**given_options(arguments, self.options)))
        print(f"\n{self.closing_text(result)}")


# Command -> application.
APPLICATIONS = {
    "demo": Application(
        "Train a GAN on real images and prune it in the same fit; then strip, export and report it.",
        image_generation.DemoOptions,
        image_generation.run,
        image_generation.closing_text,
    ),
}
