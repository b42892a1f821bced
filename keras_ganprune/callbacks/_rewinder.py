"""The weights of an early step, kept to rewind to: lottery tickets."""

from __future__ import annotations

from collections.abc import Sequence

import keras
import numpy as np

from keras_ganprune.errors import InvalidArgumentError
from keras_ganprune.layers.mask_store import memory
from keras_ganprune.layers.tensors import to_numpy
from keras_ganprune.training import discovery
from keras_ganprune.training.snapshot import mask_stores


class Rewinder:
    """Keeps the weights of some networks at one step, and restores them.

    The copy is saved with the weights of the first network, so that a resumed run can rewind too.

    Args:
        model: The model that is fitted.
        networks: The pruned networks.
        step: Int, the optimizer step at which the weights are kept.
        everything: Whether all networks of the model are rewound, not only the pruned ones.
    """

    def __init__(
        self,
        model: keras.Model,
        networks: Sequence[keras.layers.Layer],
        step: int,
        everything: bool,
    ):
        self.model = model
        self.step = step
        self.networks = list(networks)
        if everything:
            self.networks += list(discovery.networks(model).values()) or [model]
        self.store = memory(networks[0])

    def _weights(self) -> list[keras.Variable]:
        return list({id(w): w for network in self.networks for w in network.weights}.values())

    def _names(self) -> list[str]:
        return [f"rewind_{i:05d}" for i in range(len(self._weights()))]

    @property
    def ready(self) -> bool:
        """Whether the weights of `step` are kept."""
        arrays = self.store.arrays
        # Another schedule may have kept weights of another step before.
        if "rewind_step" not in arrays or int(arrays["rewind_step"]) != self.step:
            return False
        return all(name in arrays for name in self._names())

    def look(self, step: int) -> None:
        """Keep the weights if `step` is the step to keep them at.

        Raises:
            InvalidArgumentError: The step has passed, and the weights were not kept.
        """
        if self.ready or step < self.step:
            return
        if step > self.step:
            raise InvalidArgumentError(
                f"The weights to rewind to are those at step {self.step}, but training is at step "
                f"{step} already and they were not kept. Give `rewind_step={step}` or later (with "
                "`steps_per_execution`, a multiple of it: the steps of one call are seen together)."
            )
        for name, weight in zip(self._names(), self._weights(), strict=True):
            self.store.arrays[name] = np.array(to_numpy(weight))
        self.store.arrays["rewind_step"] = np.array(self.step, dtype=np.int64)

    def rewind(self) -> None:
        """Restore the weights and reset the optimizers, except for their count of steps."""
        weights = self._weights()
        for name, weight in zip(self._names(), weights, strict=True):
            weight.assign(self.store.arrays[name])
        # The kept weights are dense, also those of networks that another callback prunes.
        for network in self.networks:
            for store in mask_stores(network):
                store.apply()
        known = {id(w) for w in weights}
        for optimizer in discovery.optimizers(self.model):
            averages = {id(slot) for _, slot in discovery.slots(optimizer, only_averages=True)}
            # Private: the only slots (of Adagrad, Ftrl) that do not begin at 0.
            sums = {id(slot) for slot in getattr(optimizer, "_accumulators", None) or ()}
            for variable, slot in discovery.slots(optimizer):
                if id(variable) not in known:
                    continue
                if id(slot) in averages:
                    # An average (`use_ema`) begins at the weights, since Keras writes it over them.
                    # (A copy: on JAX both variables would hold the same array.)
                    slot.assign(np.array(to_numpy(variable)))
                else:
                    begin = optimizer.initial_accumulator_value if id(slot) in sums else 0.0
                    slot.assign(np.full(slot.shape, begin, dtype="float32"))
