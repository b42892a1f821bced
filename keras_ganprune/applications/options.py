"""`ApplicationOptions`: the options that every application has."""

from __future__ import annotations

import attrs

from keras_ganprune.applications.option_fields import documented, option
from keras_ganprune.errors import InvalidArgumentError
from keras_ganprune.utils import validation


@documented
@attrs.frozen
class ApplicationOptions:
    """The options of an application. Each application adds its own in a subclass.

    A subclass may give a field another default: it defines the field again.

    Raises:
        InvalidArgumentError: An option has a wrong value, or both `epochs` and `steps` are given.

    Example:
    >>> ApplicationOptions(quick=True, macs=0.5).sparsity
    0.8
    """

    data: str | None = option(
        None,
        "Name of the data, or path of your own folder or file.",
        default_text="the data of the application",
        group="Data",
    )
    output: str | None = option(
        None,
        "Run folder to write.",
        default_text="ganprune_ and the name of the application",
        group="Output",
    )
    overwrite: bool = option(
        False,
        "Replace an existing run folder.",
        kind=bool,
        default_text="no",
        group="Output",
    )
    quick: bool = option(
        False,
        "Use less data, fewer steps and smaller networks; takes one to two minutes.",
        kind=bool,
        default_text="no",
        group="Training",
    )
    seed: int = option(
        0,
        "Seed of weights, data order and noise.",
        kind=int,
        check=validation.seed,
        group="Training",
    )
    epochs: int | None = option(
        None,
        "Epochs of the dense training. The compressions are longer or shorter in proportion.",
        kind=int,
        default_text="the epochs of the application",
        check=validation.positive_int,
        group="Training",
    )
    steps: int | None = option(
        None,
        "Steps of the dense training instead of epochs, rounded up to whole epochs.",
        kind=int,
        default_text="as many as the epochs need",
        check=validation.positive_int,
        group="Training",
    )
    batch_size: int | None = option(
        None,
        "Samples per step.",
        kind=int,
        default_text="the batch size of the application",
        check=validation.positive_int,
        group="Training",
    )
    compare_narrow: bool = option(
        False,
        "Also train a network that has the fewer multiply-accumulates from the start, with the same teacher "
        "and for as many steps.",
        kind=bool,
        default_text="no",
        group="Compression",
    )
    sparsity: float = option(
        0.8,
        "Sparsity of the sparse network, in (0, 1).",
        kind=float,
        check=validation.pruned_share,
        group="Compression",
    )
    macs: float = option(
        0.25,
        "Remaining share of the multiply-accumulates of the smaller network, in (0, 1).",
        kind=float,
        check=validation.remaining_share,
        group="Compression",
    )

    def __attrs_post_init__(self) -> None:
        if self.steps is not None and self.epochs is not None:
            raise InvalidArgumentError(
                f"Give `steps` or `epochs`, not both. Received: {self.steps} and {self.epochs}."
            )
