"""`ApplicationOptions`: the options that every application has."""

from __future__ import annotations

from typing import Any

import attrs

from keras_ganprune.applications.option_fields import documented, option
from keras_ganprune.errors import InvalidArgumentError
from keras_ganprune.layers.mask_ops import validate_sparsity
from keras_ganprune.utils import validation


def check_seed(value: Any, name: str) -> None:
    """Raise `InvalidArgumentError` if a value is not a seed."""
    if not validation.is_int(value) or not 0 <= value < 2**32:
        raise InvalidArgumentError(f"`{name}` must be an int in [0, 2**32). Received: {value!r}.")


def _check_sparsity(value: Any, name: str) -> None:
    if validate_sparsity(value, name) == 0.0:
        raise InvalidArgumentError(
            f"`{name}` must be above 0: the dense network is measured in any case. Received: {value!r}."
        )


def _check_share(value: Any, name: str) -> None:
    if not validation.is_number(value) or not 0.0 < value < 1.0:
        raise InvalidArgumentError(
            f"`{name}` must be the remaining share of the multiply-accumulates, in (0, 1). Received: "
            f"{value!r}. For a quarter, pass 0.25."
        )


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
    )
    output: str | None = option(
        None, "Run folder to write.", default_text="ganprune_ and the name of the application"
    )
    overwrite: bool = option(False, "Replace an existing run folder.", kind=bool, default_text="no")
    quick: bool = option(
        False,
        "Use less data, fewer steps and smaller networks; takes less than a minute.",
        kind=bool,
        default_text="no",
    )
    seed: int = option(0, "Seed of weights, data order and noise.", kind=int, check=check_seed)
    epochs: int | None = option(
        None,
        "Epochs of the dense training. The compressions are longer or shorter in proportion.",
        kind=int,
        default_text="the epochs of the application",
        check=validation.positive_int,
    )
    steps: int | None = option(
        None,
        "Steps of the dense training instead of epochs, rounded up to whole epochs.",
        kind=int,
        default_text="as many as the epochs need",
        check=validation.positive_int,
    )
    batch_size: int | None = option(
        None,
        "Samples per step.",
        kind=int,
        default_text="the batch size of the application",
        check=validation.positive_int,
    )
    compare_narrow: bool = option(
        False,
        "Also train a network that has the fewer multiply-accumulates from the start, with the same teacher "
        "and for as many steps.",
        kind=bool,
        default_text="no",
    )
    sparsity: float = option(
        0.8, "Sparsity of the sparse network, in (0, 1).", kind=float, check=_check_sparsity
    )
    macs: float = option(
        0.25,
        "Remaining share of the multiply-accumulates of the smaller network, in (0, 1).",
        kind=float,
        check=_check_share,
    )

    def __attrs_post_init__(self) -> None:
        if self.steps is not None and self.epochs is not None:
            raise InvalidArgumentError(
                f"Give `steps` or `epochs`, not both. Received: {self.steps} and {self.epochs}."
            )
