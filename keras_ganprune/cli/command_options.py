"""Convert options of an application to arguments of a command, and parsed arguments to option values."""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from typing import Any

from keras_ganprune.applications.option_fields import Option, options_of


def add_options(
    parser: argparse.ArgumentParser, cls: type, names: Iterable[str] | None = None
) -> None:
    """Add one argument per option.

    Args:
        parser: Parser of the command.
        cls: Class of the options, such as `DemoOptions`.
        names: Names of the options to add. Defaults to all.
    """
    for option in _selected(cls, names):
        # argparse would read '%' as a format specifier.
        settings: dict[str, Any] = {
            "default": option.default,
            "help": str(option).replace("%", "%%"),
        }
        if option.kind is not bool:
            parser.add_argument(option.flag, type=option.kind, **settings)
        elif option.default is None:
            parser.add_argument(option.flag, action=argparse.BooleanOptionalAction, **settings)
        else:
            parser.add_argument(option.flag, action="store_true", **settings)


def given_options(
    arguments: argparse.Namespace, cls: type, names: Iterable[str] | None = None
) -> dict[str, Any]:
    """Return the values of the options, by the names of their fields.

    Raises:
        InvalidArgumentError: The text of an option cannot be converted into its value.

    Example:
    >>> from keras_ganprune.applications.image_generation import DemoOptions
    >>> parser = argparse.ArgumentParser()
    >>> add_options(parser, DemoOptions, ["images", "targets"])
    >>> arguments = parser.parse_args(["--data", "digits", "--target", "generator,discriminator"])
    >>> given_options(arguments, DemoOptions, ["images", "targets"])
    {'images': 'digits', 'targets': ('generator', 'discriminator')}
    """
    values = {}
    for option in _selected(cls, names):
        value = getattr(arguments, option.flag.lstrip("-").replace("-", "_"))
        if option.from_text is not None and isinstance(value, str):
            value = option.from_text(value)
        values[option.name] = value
    return values


def _selected(cls: type, names: Iterable[str] | None) -> list[Option]:
    options = options_of(cls)
    return [options[name] for name in (options if names is None else names)]
