"""The repair of one network, layer by layer, in the order of the calls."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from keras_ganprune.backend.operations import ops
from keras_ganprune.errors import DataError, DivergedError, PruningError
from keras_ganprune.layers.inference import run
from keras_ganprune.layers.tensors import to_numpy
from keras_ganprune.layers.traversal import masked_weights, walk
from keras_ganprune.pruning.one_shot.least_squares import Pairs, best_change, norm2
from keras_ganprune.pruning.one_shot.linear_layers import LinearLayer, kernel_of
from keras_ganprune.pruning.one_shot.recorded_calls import first_calls, inputs_of, is_known
from keras_ganprune.pruning.one_shot.report import RepairReport, RepairRow
from keras_ganprune.pruning.one_shot.statistics import matching, moments, rescaled

# An error below this share of the size of the outputs is rounding.
_EXACT = 1e-12
_BatchNorm = keras.layers.BatchNormalization


class NetworkRepair:
    """Restores the outputs of each layer of a network.

    Args:
        pruned: Network with masks.
        dense: The network before pruning.
        batches: Inputs of the network.
        ridge, iterations, match_moments: As for `repair`.
    """

    def __init__(
        self,
        pruned: keras.layers.Layer,
        dense: keras.layers.Layer,
        batches: Sequence[Any],
        ridge: float,
        iterations: int,
        match_moments: bool,
    ):
        self.pruned, self.dense = pruned, dense
        self.batches = batches
        self.ridge, self.iterations = ridge, iterations
        self.match_moments = match_moments
        self.masks = {id(w.variable): w.mask for w in masked_weights(pruned)}
        self.partners = {
            id(layer): (path, layer, other)
            for (path, layer), (_, other) in zip(walk(pruned), walk(dense), strict=True)
        }
        # Layers that draw numbers in inference draw the same ones in both networks. Private attribute of
        # Keras: there is no public list of the generators of random numbers.
        self.values = [
            (there.state, ops.convert_to_tensor(here.state))
            for _, layer, other in self.partners.values()
            for here, there in zip(layer._seed_generators, other._seed_generators, strict=True)
        ]

    def run(self) -> RepairReport:
        """Repair all layers.

        Raises:
            DataError: A network cannot be called with a batch.
            DivergedError: The output of a network is not finite. No weight was changed.
        """
        targets, before = self._outputs()
        candidates = [
            layer
            for _, layer, _ in self.partners.values()
            if isinstance(layer, _BatchNorm) or kernel_of(layer) is not None
        ]
        calls = first_calls(self.pruned, candidates, self.batches[0], [])
        rows, left_out, statistics = [], [], 0
        for key, inputs in calls.items():
            path, layer, dense = self.partners[key]
            if not self._may_change(layer):
                continue
            known = all(map(is_known, inputs))
            if isinstance(layer, _BatchNorm):
                if known and self.match_moments:
                    self._match_statistics(layer, dense, len(inputs))
                    statistics += 1
            elif known and LinearLayer(layer).is_linear(inputs[0][:2]):
                rows.append(self._repair(path, layer, dense, len(inputs)))
            else:
                left_out.append(path)
        after = self._error(targets)
        samples = sum(int(keras.tree.flatten(batch)[0].shape[0]) for batch in self.batches)
        return RepairReport(tuple(rows), before, after, samples, statistics, tuple(left_out))

    # --- the outputs of the whole network -------------------------------------------------------------

    def _outputs(self) -> tuple[list[Any], float]:
        """Return the outputs of the dense network, and the error of the pruned one."""
        for network in (self.dense, self.pruned):
            try:
                run(network, self.batches[0], self.values if network is self.dense else [])
            except PruningError:
                raise
            except Exception as error:
                raise DataError(
                    f"`data` must hold batches that '{network.name}' can be called with. Received: a batch "
                    f"on which it raises {type(error).__name__}: {' '.join(str(error).split())[:300]}"
                ) from error
        targets = [_floats(run(self.dense, batch, self.values)) for batch in self.batches]
        before = self._error(targets)
        if not all(np.all(np.isfinite(to_numpy(y))) for batch in targets for y in batch):
            raise DivergedError(
                f"The outputs of `dense` must be finite. Received: NaN or infinite outputs of "
                f"'{self.dense.name}'. Go back to a good state of its weights."
            )
        if not np.isfinite(before):
            raise DivergedError(
                f"The outputs of `pruned` must be finite. Received: NaN or infinite outputs of "
                f"'{self.pruned.name}'. Prune a network with finite weights."
            )
        return targets, before

    def _error(self, targets: list[Any]) -> float:
        missed = size = 0.0
        for batch, wanted in zip(self.batches, targets, strict=True):
            outputs = _floats(run(self.pruned, batch))
            missed += norm2([a - b for a, b in zip(outputs, wanted, strict=True)])
            size += norm2(wanted)
        return relative(missed, size)

    # --- one layer ------------------------------------------------------------------------------------

    def _may_change(self, layer: keras.layers.Layer) -> bool:
        """Return whether a layer may get new weights.

        One that is frozen in a network that is trained may not, unless pruning has changed it. An averaged
        copy is frozen as a whole.
        """
        if layer.trainable or not self.pruned.trainable_weights:
            return True
        return any(id(variable) in self.masks for variable in layer.variables)

    def _inputs(self, layer: keras.layers.Layer, dense: keras.layers.Layer, count: int) -> Any:
        seen = inputs_of(self.pruned, layer, count, self.batches, [])
        return seen, inputs_of(self.dense, dense, count, self.batches, self.values)

    def _keeps(self, variables: Sequence[keras.Variable]) -> list[Any]:
        return [
            ops.convert_to_tensor(self.masks[id(v)])
            if id(v) in self.masks
            else ops.ones(v.shape, "bool")
            for v in variables
        ]

    def _repair(
        self, path: str, layer: keras.layers.Layer, dense: keras.layers.Layer, count: int
    ) -> RepairRow:
        pruned, reference = LinearLayer(layer), LinearLayer(dense)
        inputs, theirs = self._inputs(layer, dense, count)
        keeps = self._keeps(pruned.variables)
        reached = [pruned.reached(x, keeps) for x in inputs]
        targets = [keep * reference.outputs(x) for x, keep in zip(theirs, reached, strict=True)]
        del theirs
        pairs = Pairs(inputs, targets, reached)
        residuals = pairs.residuals(pruned)
        size, before = norm2(targets), norm2(residuals)
        after = before
        if before > _EXACT * size:
            change = best_change(pruned, pairs, residuals, keeps, self.ridge, self.iterations)
            values = [v + step for v, step in zip(pruned.values(), change, strict=True)]
            after = self._improved(pruned, pairs, values, before)
            if self.match_moments:
                outputs = [
                    keep * pruned.outputs(x) for x, keep in zip(inputs, reached, strict=True)
                ]
                values = rescaled(pruned, outputs, targets)
                if values is not None:
                    after = self._improved(pruned, pairs, values, before, after)
        kept = sum(int(np.count_nonzero(to_numpy(keep))) for keep in keeps)
        total = sum(int(np.prod(v.shape)) for v in pruned.variables)
        return RepairRow(path, kept, total, relative(before, size), relative(after, size))

    def _improved(
        self,
        layer: LinearLayer,
        pairs: Pairs,
        values: Sequence[Any],
        limit: float,
        present: float | None = None,
    ) -> float:
        """Give a layer new weights if its error is below a limit then; return its error.

        Args:
            layer: Layer of the pruned network.
            pairs: Its inputs and targets.
            values: New values of its variables.
            limit: The error must be lower.
            present: The error now. Defaults to None: the limit.
        """
        old = [np.array(to_numpy(v)) for v in layer.variables]
        for variable, value in zip(layer.variables, values, strict=True):
            variable.assign(ops.cast(value, variable.dtype))
        error = norm2(pairs.residuals(layer))
        if error < limit:
            return error
        for variable, value in zip(layer.variables, old, strict=True):  # also if it is not finite
            variable.assign(value)
        return limit if present is None else present

    def _match_statistics(self, layer: Any, dense: Any, count: int) -> None:
        inputs, theirs = self._inputs(layer, dense, count)
        seen, wanted = moments(inputs, layer.axis), moments(theirs, dense.axis)
        mean, variance = matching(layer, dense, seen, wanted)
        layer.moving_mean.assign(mean.astype("float32"))
        layer.moving_variance.assign(variance.astype("float32"))


def _floats(outputs: Any) -> list[Any]:
    """Return the outputs of a network that are floats, in float32."""
    leaves: list[Any] = keras.tree.flatten(outputs)  # pyright: ignore[reportAssignmentType]
    return [
        ops.cast(x, "float32")
        for x in leaves
        if "float" in keras.backend.standardize_dtype(x.dtype)
    ]


def relative(error: float, size: float) -> float:
    """Return sqrt(error / size); 0 if both are 0."""
    return float(np.sqrt(error / size)) if size else float(np.sqrt(error))
