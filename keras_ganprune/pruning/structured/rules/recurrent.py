"""Rules of recurrent layers."""

from __future__ import annotations

import numpy as np
from keras import layers

from keras_ganprune.pruning.structured.channels import Axes
from keras_ganprune.pruning.structured.rules.elementwise import activated
from keras_ganprune.pruning.structured.rules.registry import register_rule


def _recurrent_config(layer, config, sizes):
    return {**config, "units": sizes.weight("cell.recurrent_kernel")[0]}


@register_rule(layers.LSTM, layers.GRU, layers.SimpleRNN, config=_recurrent_config)
def recurrent(layer, channels, x, initial_state=None, mask=None, training=None):
    """A unit has one column in every gate, and is read again at the next step."""
    cell = layer.cell
    gates = cell.kernel.shape[1] // cell.units
    channels.reads(layer, "cell.kernel", 0, channels.keeps_only(x, -1, "they are steps in time"))
    columns = channels.makes(layer, "cell.kernel", 1)
    new_labels = columns[: cell.units]
    channels.tie(np.tile(new_labels, gates), columns)
    channels.tie(channels.makes(layer, "cell.recurrent_kernel", 1), columns)
    channels.reads(layer, "cell.recurrent_kernel", 0, new_labels)
    channels.along(layer, "cell.bias", -1, columns)
    states = initial_state if isinstance(initial_state, (list, tuple)) else [initial_state]
    for state in states:
        if isinstance(state, Axes):
            channels.tie(new_labels, state[-1])
    # A stateful layer keeps its states between two batches. They are variables, but no weights.
    for place in range(len(layer.states or ())):
        channels.state(layer, f"states.{place}", -1, new_labels)
    # The state of a unit begins at zero, and stays zero if the candidate is zero.
    candidate = activated(channels, cell.activation, Axes((None, cell.units), (None, new_labels)))
    from_zero = initial_state is None and not layer.stateful
    outputs = [
        Axes.fixed(shape).along(shape, -1, new_labels, zero=candidate.zero and from_zero)
        for shape in channels.shapes
    ]
    return outputs if len(outputs) > 1 else outputs[0]
