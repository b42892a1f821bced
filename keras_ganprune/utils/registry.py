"""Families of configurable objects (schedules, criteria, losses, ...), and their lookup by identifier."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from typing import Any, TypeVar, cast

import keras

from keras_ganprune.errors import (
    ArgumentTypeError,
    InvalidArgumentError,
    PruningError,
    unknown_name,
)

PACKAGE = "keras_ganprune"

_Class = TypeVar("_Class", bound=type)


def snake_case(name: str) -> str:
    """Return the identifier of a class name: 'PolynomialDecay' -> 'polynomial_decay'."""
    # A single capital letter at the end does not begin a word: 'RigL' -> 'rigl'.
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z].)|(?<=[A-Z])(?=[A-Z][a-z])", "_", name).lower()


class Configurable:
    """Base class of all objects that can be rebuilt from their configuration.

    Subclasses define `get_config`, and `cls(**get_config())` is an equal object.
    """

    def get_config(self) -> dict[str, Any]:
        """Return the constructor arguments by name."""
        return {}

    @classmethod
    def from_config(cls, config: dict[str, Any]):
        """Return a new object with the given configuration."""
        return cls(**config)

    def __eq__(self, other: object) -> bool:
        if type(self) is not type(other) or not isinstance(other, Configurable):
            return False
        return self.get_config() == other.get_config()

    def __hash__(self) -> int:
        return hash((type(self), repr(self.get_config())))

    def __repr__(self) -> str:
        arguments = ", ".join(f"{k}={v!r}" for k, v in self.get_config().items())
        return f"{type(self).__name__}({arguments})"


class Family:
    """The registered classes of one family, by identifier.

    Args:
        kind: Name of the family in error texts, such as 'criterion'.
        base: Base class of all members.
    """

    def __init__(self, kind: str, base: type):
        self.kind = kind
        self.base = base
        self.members: dict[str, type] = {}
        self.aliases: dict[str, Callable[[], Any]] = {}

    def register(self, cls: _Class) -> _Class:
        """Register a class in the family and for Keras serialization. Use it as a class decorator."""
        self.members[snake_case(cls.__name__)] = cls
        return cast("_Class", keras.saving.register_keras_serializable(package=PACKAGE)(cls))

    def _from_config(self, config: dict[str, Any]) -> Any:
        try:
            return keras.saving.deserialize_keras_object(config)
        except PruningError:
            raise
        except Exception as error:
            raise InvalidArgumentError(
                f"The {self.kind} cannot be made from its config {config!r} ({type(error).__name__}: "
                f"{' '.join(str(error).split())[:200]}). Pass the result of "
                "`keras.saving.serialize_keras_object`, or an instance."
            ) from error

    def get(self, identifier: Any, convert: Callable[[Any], Any] | None = None) -> Any:
        """Return the member for a name, a Keras config dict or an instance.

        Args:
            identifier: Snake-case class name (the constructor is called without arguments), config dict of
                `keras.saving.serialize_keras_object`, or an instance, which is returned unchanged.
            convert: Function that may return a member for other identifiers, or None. Defaults to None.

        Raises:
            InvalidArgumentError: The name is unknown, or the class needs arguments.
            ArgumentTypeError: `identifier` is a class or has another type.
        """
        if isinstance(identifier, self.base):
            return identifier
        if convert is not None:
            converted = convert(identifier)
            if converted is not None:
                return converted
        if isinstance(identifier, dict) and "class_name" in identifier:
            return self.get(self._from_config(identifier))
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
            required = [
                p.name
                for p in parameters
                if p.default is p.empty and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)
            ]
            if required:
                raise InvalidArgumentError(
                    f"The {self.kind} {identifier!r} cannot be given by its name alone, because it needs "
                    f"{', '.join(f'`{name}`' for name in required)}. Write `{cls.__name__}(...)`."
                )
            return cls()
        if isinstance(identifier, type) and issubclass(identifier, self.base):
            raise ArgumentTypeError(
                f"The {self.kind} must be an instance, not a class. "
                f"Received: {identifier.__name__}. Write `{identifier.__name__}(...)`."
            )
        raise ArgumentTypeError(
            f"The {self.kind} must be a name, a `{self.base.__name__}` instance or its config. "
            f"Received: {identifier!r} (of type {type(identifier).__name__})."
        )
