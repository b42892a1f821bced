"""What a network would have left after masks, and after a cut."""

from __future__ import annotations

import contextlib
import math
import random
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import keras

from keras_ganprune.errors import InvalidArgumentError, PruningError, PruningNotice, PruningWarning
from keras_ganprune.layers.traversal import never_called
from keras_ganprune.layers.upgrade import checked_upgrades
from keras_ganprune.metrics.explanation.masks import zeros_by_masks
from keras_ganprune.metrics.explanation.one_network import Outcome
from keras_ganprune.metrics.model_profile import profile
from keras_ganprune.metrics.sparsity import count_parameters
from keras_ganprune.pruning.shrink_model import shrink
from keras_ganprune.pruning.structured.budget import Budget
from keras_ganprune.pruning.structured.costs import item_bytes


def present_outcome(network: keras.Model, inputs: Any, traced: bool) -> Outcome:
    """Return the costs of a network as it is.

    Args:
        network: Built network.
        inputs: As for `profile`.
        traced: Whether its calls can be followed. Otherwise it is run, except where that would build layers.
    """
    if traced or not never_called(network):
        try:
            return _costs("now", "now", network, inputs)
        except PruningError:
            pass  # its inputs are not known
    weights = {id(w): w for w in network.weights}.values()
    counts = count_parameters(weights)
    size = sum(math.prod(w.shape) * item_bytes(w) for w in weights)
    return Outcome("now", "now", *counts, None, size)


def _costs(
    what: str, kind: Any, network: keras.Model, inputs: Any = None, code: str = ""
) -> Outcome:
    costs = profile(network, latency=False, inputs=inputs)
    counts = costs.parameters, costs.nonzero, costs.macs, costs.bytes
    return Outcome(what, kind, *counts, code)


def masked_outcome(network: keras.layers.Layer, now: Outcome) -> tuple[Outcome | None, str]:
    """Return what `Prune(0.8)` leaves and warns of; or None and why the network cannot have masks."""
    try:
        with _silent() as said:
            checked_upgrades(network)
    except PruningError as error:
        return None, str(error)
    nonzero = now.nonzero - zeros_by_masks(network, 0.8)
    what = "80% sparsity (masks)"
    after = replace(now, what=what, kind="masks", nonzero=nonzero, arguments="0.8")
    return after, " ".join(said)


# What is tried in this order: (words, arguments of `shrink`, the same as code).
_CUTS: tuple[tuple[str, dict[str, Any], str], ...] = (
    ("1/4 of the MACs (cut)", {"budget": Budget(macs=0.25)}, "budget=kgp.Budget(macs=0.25)"),
    (
        "1/4 of the parameters (cut)",
        {"budget": Budget(parameters=0.25)},
        "budget=kgp.Budget(parameters=0.25)",
    ),
    ("1/2 of the channels (cut)", {"sparsity": 0.5}, "sparsity=0.5"),
)


def cut_outcome(
    network: keras.Model, keep: Sequence[str], inputs: Any
) -> tuple[Outcome | None, str]:
    """Return what `shrink` leaves of a quarter of the MACs, by cutting a copy.

    If the MACs are not known it is a quarter of the parameters, and if that is not possible half of the
    channels.

    Args:
        network: Built network.
        keep: Layers that are left alone.
        inputs: As for `shrink`.

    Returns: (outcome or None, what was in the way or '').
    """
    reasons: list[str] = []
    for what, arguments, code in _CUTS:
        try:
            with _silent() as said:
                small = shrink(network, **arguments, keep=list(keep) or None, inputs=inputs)
                left = _costs(what, "cut", small, code=code)
        except InvalidArgumentError as error:
            reasons.append(str(error))
        except PruningError as error:
            return None, str(error)
        else:
            return left, "\n".join([*reasons[:1], *said])
    return None, "\n".join(reasons[:1])


def as_masked(network: keras.Model, inputs: Any) -> Outcome | None:
    """Return what `shrink` leaves if it cuts out what masks have pruned; None if no channel is masked."""
    try:
        with _silent():
            small = shrink(network, inputs=inputs)
            return _costs("masked channels cut out", "masked channels", small)
    except PruningError:
        return None


@contextlib.contextmanager
def _silent() -> Iterator[list[str]]:
    """Yield a list that gets the texts of our warnings; a copy draws no random number of the user's."""
    said: list[str] = []
    state = random.getstate()
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            yield said
        said += [
            str(w.message)
            for w in caught
            if issubclass(w.category, (PruningWarning, PruningNotice))
        ]
    finally:
        random.setstate(state)
