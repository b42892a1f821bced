"""One description per option of an application.

The class, its documentation and the command line are generated from these descriptions.
"""

from __future__ import annotations

import inspect
import textwrap
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import attrs

from keras_ganprune.errors import InvalidArgumentError, unknown_name
from keras_ganprune.utils import annotated

T = TypeVar("T")

_METADATA_KEY = "option"


@dataclass(frozen=True)
class Option:
    """The description of one option.

    Attributes:
        name: Name of the field.
        default: Default value.
        help: One or two sentences, without the default.
        default_text: The default in words.
        choices: Valid names, or empty.
        flag: Name on the command line, such as '--image-size'.
        kind: Type on the command line: str, int, float or bool. A bool with the default False is a switch;
            with the default None it also has a '--no-' form.
        from_text: Function that converts the text of the command line into the value, or None.
        check: Function (value, name) that raises an error for a wrong value, or None.
        group: Heading of the help under which the option stands.
    """

    name: str
    default: Any
    help: str
    default_text: str
    choices: tuple[str, ...]
    flag: str
    kind: type
    from_text: Callable[[str], Any] | None
    check: Callable[[Any, str], Any] | None
    group: str

    def __str__(self) -> str:
        choices = f" One of {', '.join(self.choices)}." if self.choices else ""
        return f"{self.help}{choices} Defaults to {self.default_text}."


def option(
    default: Any,
    help: str,
    *,
    kind: type = str,
    default_text: str = "",
    choices: Iterable[str] = (),
    flag: str = "",
    from_text: Callable[[str], Any] | None = None,
    check: Callable[[Any, str], Any] | None = None,
    group: str = "",
) -> Any:
    """Return a field of an attrs class that describes an option.

    Args:
        default: Default value.
        help: One or two sentences, without the default.
        kind: Type on the command line: str, int, float or bool. Defaults to str.
        default_text: The default in words. Defaults to the value.
        choices: Valid names. Defaults to (): any value is valid.
        flag: Name on the command line. Defaults to the name of the field.
        from_text: Function that converts the text of the command line into the value. Defaults to None: no
            conversion.
        check: Function (value, name) that raises an error for a wrong value. None is not checked if it is the
            default. Defaults to None: no check.
        group: Heading of the help under which the option stands. Defaults to '': the application's own.
    """
    choices = tuple(choices)

    def validate(instance: Any, attribute: attrs.Attribute, value: Any) -> None:
        if value is None and default is None:
            return
        annotated.check_field(type(instance), attribute.name, value)
        if choices and value not in choices:
            raise InvalidArgumentError(unknown_name(attribute.name, value, choices))
        if check is not None:
            check(value, attribute.name)

    description = {
        "default": default,
        "help": help,
        "default_text": default_text or str(default),
        "choices": choices,
        "flag": flag,
        "kind": kind,
        "from_text": from_text,
        "check": check,
        "group": group,
    }
    return attrs.field(default=default, validator=validate, metadata={_METADATA_KEY: description})


def options_of(cls: type) -> dict[str, Option]:
    """Return the options of a class by the names of their fields.

    Example:
    >>> @attrs.frozen
    ... class Options:
    ...     image_size: int = option(28, "Side of an image in pixels.", kind=int)
    >>> options_of(Options)["image_size"].flag, str(options_of(Options)["image_size"])
    ('--image-size', 'Side of an image in pixels. Defaults to 28.')
    """
    options = {}
    for field in attrs.fields(cls):
        if _METADATA_KEY in field.metadata:
            description = dict(field.metadata[_METADATA_KEY])
            flag = description.pop("flag") or f"--{field.name.replace('_', '-')}"
            options[field.name] = Option(name=field.name, flag=flag, **description)
    return options


def documented(cls: type[T]) -> type[T]:
    """Add the section "Args:" to the docstring of a class, from the descriptions of its options."""
    lines = ["Args:"]
    for name, described in options_of(cls).items():
        text = f"{name}: {described}"
        lines += textwrap.wrap(
            text, 100, initial_indent=" " * 4, subsequent_indent=" " * 8, break_on_hyphens=False
        )
    before, heading, after = inspect.cleandoc(cls.__doc__ or "").partition("Raises:")
    cls.__doc__ = f"{before}{chr(10).join(lines)}\n\n{heading}{after}"
    return cls


def names(text: str) -> tuple[str, ...]:
    """Return the names in a text, which are separated by commas.

    Example:
    >>> names("generator, discriminator")
    ('generator', 'discriminator')
    """
    return tuple(part.strip() for part in text.split(",") if part.strip())


def name_or_mixture(text: str) -> str | Mapping[str, float]:
    """Return a text without '=' unchanged, and a text such as 'magnitude=1,taylor=0.5' as a dict.

    Raises:
        InvalidArgumentError: A part of the text is not a name and a number.

    Example:
    >>> name_or_mixture("taylor"), name_or_mixture("dense*=0.9,conv*=0.5")
    ('taylor', {'dense*': 0.9, 'conv*': 0.5})
    """
    if "=" not in text:
        return text
    weights = {}
    for part in text.split(","):
        name, _, number = part.rpartition("=")
        try:
            weights[name.strip()] = float(number)
        except ValueError:
            name = ""
        if not name.strip():
            raise InvalidArgumentError(
                "Several names must be written as NAME=NUMBER,NAME=NUMBER, such as "
                f"magnitude=1,taylor=0.5. Received: {text!r}."
            )
    return weights
