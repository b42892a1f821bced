"""Which options of the demo are compatible with each other."""

from __future__ import annotations

from keras_ganprune.applications.image_generation import _schedules
from keras_ganprune.applications.image_generation._fields import TARGETS, DemoFields
from keras_ganprune.errors import InvalidArgumentError
from keras_ganprune.pruning.structured import budget as budgets

NAMED_IMAGES = ("mnist", "mnist-5000", "digits")


def check(options: DemoFields) -> None:
    """Check all rules.

    Raises:
        InvalidArgumentError: Two options contradict each other, or an option has no effect.
    """
    _check_length(options)
    _check_unused(options)
    _check_structured(options)
    _check_schedule(options)
    _check_networks(options)


def _check_length(options: DemoFields) -> None:
    if options.steps is not None and options.epochs is not None:
        raise InvalidArgumentError(
            f"Give `steps` or `epochs`, not both. Received: {options.steps} and {options.epochs}."
        )


def _check_unused(options: DemoFields) -> None:
    """Raise an error for an option that has no effect together with the other options."""
    is_folder = options.images not in NAMED_IMAGES
    only_layerwise = options.order != "forward" and options.schedule != "layerwise"
    only_dcgan = options.channels is not None and options.network != "dcgan"
    for name, is_unused, where in (
        ("order", only_layerwise, "the schedule 'layerwise'"),
        ("image_size", options.image_size != 28 and not is_folder, "a folder of images"),
        ("channels", only_dcgan, "the network 'dcgan'"),
    ):
        if is_unused:
            raise InvalidArgumentError(
                f"`{name}` is only for {where}. Received: {getattr(options, name)!r}. Leave it out."
            )


def _check_structured(options: DemoFields) -> None:
    shares = {"macs": options.macs, "parameters": options.parameters}
    given = {name: value for name, value in shares.items() if value is not None}
    if not options.structured:
        if given:
            raise InvalidArgumentError(
                f"`{next(iter(given))}` is only for `structured`, which cuts out whole channels. Add "
                "`structured` (`--structured`), or leave this out."
            )
        return
    if len(given) + (options.sparsity is not None) > 1:
        names = [*given, *(["sparsity"] if options.sparsity is not None else [])]
        raise InvalidArgumentError(
            "Give only one of `macs`, `parameters` and `sparsity` (of the channels). Received: "
            f"{', '.join(names)}."
        )
    for quantity, value in given.items():
        if budgets.get({quantity: value}).fraction == 1.0:
            raise InvalidArgumentError(
                f"`{quantity}` is the remaining share, a fraction below 1. Received: {value!r}."
            )
    for name in ("joint", "balance", "tie"):
        if getattr(options, name):
            raise InvalidArgumentError(
                f"`structured` removes channels of each network separately, so it is not compatible with "
                f"`{name}`. Leave one of the two out."
            )
    unstructured = options.granularity == "unstructured"
    if not unstructured or options.schedule in _schedules.WITHOUT_RISING_END:
        raise InvalidArgumentError(
            "`structured` prunes channels along a rising schedule, and cuts them out at its end. "
            f"Received: granularity={options.granularity!r}, schedule={options.schedule!r}. Leave the "
            "granularity out, and choose a schedule such as 'polynomial'."
        )


def _check_schedule(options: DemoFields) -> None:
    by_threshold = options.schedule in _schedules.THRESHOLDS
    for name, value, is_used in (
        ("sparsity", options.sparsity, not by_threshold),
        ("threshold", options.threshold, by_threshold),
    ):
        if value is not None and not is_used:
            raise InvalidArgumentError(
                f"`{name}` has no meaning for the schedule '{options.schedule}'. Leave it out, or choose "
                f"the schedule '{'threshold' if name == 'threshold' else 'polynomial'}'."
            )


def _check_networks(options: DemoFields) -> None:
    if options.conditional and options.network != "dcgan":
        raise InvalidArgumentError(
            f"`conditional` is only for the network 'dcgan'; '{options.network}' takes no labels. Leave "
            "one of the two out."
        )
    if options.joint and set(options.targets) != set(TARGETS):
        raise InvalidArgumentError(
            "`joint` shares one total between generator and discriminator. Received targets: "
            f"{', '.join(options.targets)}. Name both."
        )
    if options.balance and "discriminator" in options.targets:
        raise InvalidArgumentError(
            "`balance` sets the density of the discriminator, so the discriminator cannot be a target. "
            "Leave one of the two out."
        )
    if options.tie and options.balance:
        raise InvalidArgumentError(
            "`balance` regrows weights of the discriminator, and `tie` shares these weights with the "
            "pruned generator. Leave one of the two out."
        )
    if options.tie and options.network != "dcgan":
        raise InvalidArgumentError(
            f"`tie` needs mirrored convolutions, which '{options.network}' does not have. "
            "Use the network 'dcgan'."
        )
