"""Convert options of an application to arguments of a command, and parsed arguments to option values."""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Callable, Iterable
from typing import Any

from keras_ganprune.applications.option_fields import Option, options_of
from keras_ganprune.cli.arguments import Recorder
from keras_ganprune.utils import validation

_METAVARS = {int: "N", float: "X"}


def add_options(
    recorder: Recorder, cls: type, names: Iterable[str] | None = None, own: str = "Options"
) -> None:
    """Add one argument per option.

    Args:
        recorder: Recorder of the command.
        cls: Class of the options, such as `DemoOptions`.
        names: Names of the options to add. Defaults to all.
        own: Heading of the options that have none. Defaults to 'Options'.
    """
    options = _selected(cls, names)
    titles = dict.fromkeys(option.group or own for option in options)
    for title, option in itertools.product(titles, options):
        if (option.group or own) == title:
            recorder.group(title)
            _add(recorder, option)
    recorder.group(None)


def _add(recorder: Recorder, option: Option) -> None:
    # argparse would read '%' as a format specifier.
    settings: dict[str, Any] = {
        "default": option.default if option.from_text is None else _as_text(option.default),
        "help": str(option).replace("%", "%%"),
        "name": option.name,
        "known": option.choices,
        # Only checks that need no Keras.
        "check": _light_name(option.check),
    }
    if option.kind is not bool:
        recorder.add_argument(
            option.flag, type=option.kind, metavar=_METAVARS.get(option.kind), **settings
        )
    elif option.default is None:
        recorder.add_argument(option.flag, action=argparse.BooleanOptionalAction, **settings)
    else:
        recorder.add_argument(option.flag, action="store_true", **settings)


def given_options(
    arguments: argparse.Namespace, cls: type, names: Iterable[str] | None = None
) -> dict[str, Any]:
    """Return the values of the options, by the names of their fields.

    Raises:
        InvalidArgumentError: The text of an option cannot be converted into its value.

    Example:
    >>> from keras_ganprune.applications.image_generation import DemoOptions
    >>> from keras_ganprune.cli.arguments import add_to
    >>> recorder, parser = Recorder(), argparse.ArgumentParser()
    >>> add_options(recorder, DemoOptions, ["images", "targets"])
    >>> add_to(parser, recorder.records)
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


def _light_name(check: Callable[..., Any] | None) -> str | None:
    """Return the name of a check of `utils.validation`, or None for one that may need Keras."""
    if check is None or check is not getattr(validation, check.__name__, None):
        return None
    return check.__name__


def _as_text(value: Any) -> str | None:
    """Return a default as the text that the command line would take."""
    return value if value is None or isinstance(value, str) else ",".join(value)


def _selected(cls: type, names: Iterable[str] | None) -> list[Option]:
    options = options_of(cls)
    return [options[name] for name in (options if names is None else names)]
