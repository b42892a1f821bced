"""Hand-kept weight averages of pruned networks, which must carry the same masks."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

from keras_ganprune.errors import InvalidArgumentError
from keras_ganprune.layers.mask_store import to_numpy
from keras_ganprune.layers.prunable import copy_masks, is_built
from keras_ganprune.training import discovery


def _fingerprint(network: keras.layers.Layer) -> float:
    """Return a number that changes when the kernels of a network move.

    Not its vectors: batch statistics move in a frozen teacher that is run in training mode.
    """
    kernels = [w for w in network.weights if len(w.shape) > 1]
    return float(sum(np.sum(to_numpy(w), dtype=np.float64) for w in kernels[:4]))


class Copies:
    """Finds hand-kept weight averages of the pruned networks, and gives them the same masks."""

    def __init__(
        self, model: keras.Model, targets, chosen: Any, say, what: str = "gets the same masks"
    ):
        self.model = model
        self.what = what
        self.targets = targets
        self.say = say
        self.found: list[tuple[keras.layers.Layer, keras.layers.Layer]] = []
        self.automatic = chosen == "auto"
        self._first_seen: dict[int, float] = {}
        if not self.automatic and chosen:
            for name, copy in discovery.resolve_target(model, chosen):
                self._accept_chosen(name, copy)
        if self.automatic:
            # Seen before the first batch, so that one update in one epoch is enough to see a move.
            for other in discovery.networks(model).values():
                if is_built(other):
                    self._first_seen[id(other)] = _fingerprint(other)

    def _accept_chosen(self, name: str, copy: keras.layers.Layer) -> None:
        shapes = [tuple(w.shape) for w in copy.weights]
        for _, network in self.targets:
            if [tuple(w.shape) for w in network.weights] == shapes:
                self.found.append((network, copy))
                return
        raise InvalidArgumentError(
            f"`copies` must name networks with the weight shapes of a pruned one. '{name}' fits none "
            f"of: {', '.join(n or 'the model' for n, _ in self.targets)}."
        )

    def look(self) -> None:
        """Accept an untrained twin of a pruned network as its copy once its weights have moved."""
        if not self.automatic:
            return
        known = {id(copy) for _, copy in self.found} | {id(n) for _, n in self.targets}
        for target_name, network in self.targets:
            if network is self.model:
                continue
            for name, other in discovery.possible_copies(self.model, network).items():
                if id(other) in known:
                    continue
                now = _fingerprint(other)
                if self._first_seen.setdefault(id(other), now) == now:
                    continue  # a frozen teacher never moves
                self.found.append((network, other))
                known.add(id(other))
                self.say(f"'{name}' is an average of '{target_name}' and {self.what}")

    def sync(self) -> None:
        self.look()
        for network, copy in self.found:
            copy_masks(network, copy)
