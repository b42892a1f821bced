"""What a `Pruner` remarks on the networks that it prunes."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import keras

from keras_ganprune.errors import PruningWarning
from keras_ganprune.layers.covered_kernels import NOTABLE_SHARE, coverage
from keras_ganprune.pruning.rankings.base import RankedWeights
from keras_ganprune.pruning.rankings.weights import frozen_remark
from keras_ganprune.pruning.settings import PruningSettings


class Remarks:
    """The remarks of a `Pruner`.

    Kernels that cannot be masked are also said by a `PruningWarning`, if they are more than a small share.

    Args:
        models: The networks.
        settings: What is pruned, and how.
        ranked: The weights and their rankings.

    Attributes:
        texts: List of str, all remarks.
        frozen: The remark on layers that are not trainable now, or None.
        warned: The remark that was also a warning, or None.
    """

    def __init__(
        self,
        models: Sequence[keras.layers.Layer],
        settings: PruningSettings,
        ranked: RankedWeights,
    ):
        self.texts = list(ranked.remarks)
        self.frozen = frozen_remark(ranked.weights)
        self.warned: str | None = None
        # Coupled channels reach all layers, also those that cannot be pruned by themselves.
        found = None if settings.coupled else coverage(models, settings.scope)
        text = None if found is None else found.remark()
        if found is not None and text is not None:
            self.texts.append(text)
            if 1.0 - found.share > NOTABLE_SHARE:
                self.warned = text
                warnings.warn(
                    f"{text} To prune the other layers without this warning, name them in `scope`.",
                    PruningWarning,
                    stacklevel=4,
                )
        self.texts += [self.frozen] if self.frozen else []
        for ranking in ranked.rankings:
            self.texts += ranking.remarks

    def to_print(self) -> list[str]:
        """Return the remarks that were not said by a warning, and that hold before the first step.

        Which layers are frozen is only known once a step was made, see `FrozenWeights`.
        """
        return [text for text in self.texts if text not in (self.warned, self.frozen)]
