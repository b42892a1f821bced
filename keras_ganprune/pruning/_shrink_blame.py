"""Says why a layer of a smaller network computes something else, and what helps."""

from __future__ import annotations

from dataclasses import dataclass

import keras

from keras_ganprune.layers.copy_state import is_of_keras
from keras_ganprune.pruning._shrink_numbers import Gap
from keras_ganprune.pruning.structured.graph import Call
from keras_ganprune.pruning.structured.rebuild import Builder
from keras_ganprune.pruning.structured.rules import entry_of


@dataclass(frozen=True, eq=False)
class Parted:
    """The first call whose new operation gives something else.

    Attributes:
        call: The call.
        gap: How far the outputs are apart.
        draws: Whether the user's own layer gives other outputs when it is called again.
    """

    call: Call
    gap: Gap
    draws: bool = False


def reason(parted: Parted, builder: Builder) -> str:
    """Return why the outputs of a call differ, as sentences that begin with the layer."""
    call = parted.call
    # A layer with masks has a class of this package; its name is that of the plain class.
    cls = getattr(call.operation, "plain_class", type(call.operation))
    kind = cls.__name__
    begin = f"They part at '{call.path}' ({kind}), with {parted.gap}. "
    if parted.draws:
        return begin + (
            "It draws random numbers in inference, so its outputs cannot be compared. Pass `verify=False` "
            "if the rest of the network is known to be right."
        )
    if not isinstance(call.operation, keras.layers.Layer):
        return begin + _REPORT
    if "call" in vars(call.operation):
        return begin + (
            "The `call` of this one layer object was replaced, so a new layer of its class computes "
            "something else. Write a subclass with that `call`."
        )
    entry = entry_of(call.operation)
    if builder.is_whole(call) or entry is None:
        return begin + _rebuilt(cls)
    if entry.is_of_user:
        return begin + (
            f"The rule of `register_rule({kind})` leaves something out: an axis of a weight, or channels "
            "that the layer mixes (`channels.fix`). A constant that has an entry per channel must be a "
            f"weight that the rule names. Or leave the layer alone with `keep=['{call.path}']`."
        )
    if not is_of_keras(cls):
        return (
            begin
            + (
                f"`{kind}` follows the rule of `{_parent(cls)}`, but its copy computes something "
                "else. "
            )
            + _own_class(cls)
            + f" Or leave its channels alone with `keep=['{call.path}']`."
        )
    return begin + _REPORT


_REPORT = (
    "This is a fault of keras_ganprune: please report it with the model. Until then, name the layer in "
    "front of it in `keep`."
)


def _rebuilt(cls: type) -> str:
    if is_of_keras(cls):
        return "Nothing of it was cut; it was built again from its configuration. " + _REPORT
    return "Nothing of it was cut, but its copy computes something else. " + _own_class(cls)


def _own_class(cls: type) -> str:
    return (
        f"`{cls.__name__}.get_config` must return all arguments of the constructor, and a constant that the "
        "constructor makes must be a weight (`add_weight(..., trainable=False)`) or follow from these "
        "arguments."
    )


def _parent(cls: type) -> str:
    return next(base.__name__ for base in cls.__mro__ if is_of_keras(base))
