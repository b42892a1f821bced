"""One way for every family (schedules, criteria, losses, ...) to turn an identifier into an object."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from typing import Any

import keras

from keras_ganprune.errors import InvalidArgumentError, UnsupportedLayerError, unknown_name

PACKAGE = "keras_ganprune"


def snake_case(name: str) -> str:
    """Return the identifier of a class name: 'PolynomialDecay' -> 'polynomial_decay'."""
    # A last single capital begins no word: 'RigL' -> 'rigl'.
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z].)|(?<=[A-Z])(?=[A-Z][a-z])", "_", name).lower()


class Configurable:
    """Base of all objects that are rebuilt from their configuration.

    Subclasses define `get_config`; `cls(**get_config())` gives an equal object.
    """

    def get_config(self) -> dict[str, Any]:
        return {}

    @classmethod
    def from_config(cls, config: dict[str, Any]):
        return cls(**config)

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and self.get_config() == other.get_config()

    def __hash__(self) -> int:
        return hash((type(self), repr(self.get_config())))

    def __repr__(self) -> str:
        arguments = ", ".join(f"{k}={v!r}" for k, v in self.get_config().items())
        return f"{type(self).__name__}({arguments})"


class Family:
    """The known members of one family, by identifier.

    Args:
        kind: Word used in error texts, such as 'criterion'.
        base: Class of which every member is an instance.
    """

    def __init__(self, kind: str, base: type):
        self.kind = kind
        self.base = base
        self.members: dict[str, type] = {}
        self.aliases: dict[str, Callable[[], Any]] = {}

    def register(self, cls: type) -> type:
        """Class decorator: make `cls` known here and to Keras serialization."""
        self.members[snake_case(cls.__name__)] = cls
        return keras.saving.register_keras_serializable(package=PACKAGE)(cls)

    def get(self, identifier: Any, convert: Callable[[Any], Any] | None = None):
        """Return the member for a name, a Keras config dict or an instance.

        Raises:
            InvalidArgumentError: the name is not known.
            UnsupportedLayerError: `identifier` is of a kind that cannot be used.
        """
        if isinstance(identifier, self.base):
            return identifier
        if convert is not None:
            converted = convert(identifier)
            if converted is not None:
                return converted
        if isinstance(identifier, dict) and "class_name" in identifier:
            return self.get(keras.saving.deserialize_keras_object(identifier))
        if isinstance(identifier, str):
            if identifier in self.aliases:
                return self.aliases[identifier]()
            if identifier not in self.members:
                raise InvalidArgumentError(
                    unknown_name(
                        self.kind,
                        identifier,
                        self.members,
                        f"Or pass a `{self.base.__name__}` instance.",
                    )
                )
            cls = self.members[identifier]
            parameters = inspect.signature(cls).parameters.values()
            needed = [
                p.name
                for p in parameters
                if p.default is p.empty and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)
            ]
            if needed:
                raise InvalidArgumentError(
                    f"The {self.kind} {identifier!r} cannot be given by its name alone: it needs "
                    f"{', '.join(f'`{name}`' for name in needed)}. Write `{cls.__name__}(...)`."
                )
            return cls()
        if isinstance(identifier, type) and issubclass(identifier, self.base):
            raise UnsupportedLayerError(
                f"Expected an instance of a {self.kind}, not its class. "
                f"Received: {identifier.__name__}. Write `{identifier.__name__}(...)`."
            )
        raise UnsupportedLayerError(
            f"A {self.kind} must be a name, a `{self.base.__name__}` instance or its config. "
            f"Received: {identifier!r} (of type {type(identifier).__name__})."
        )
