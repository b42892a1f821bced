"""What was pruned in a run, read from networks and callbacks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras
import numpy as np

from keras_ganprune.callbacks.prune import Prune
from keras_ganprune.callbacks.shrink import ShrinkEvent
from keras_ganprune.errors import InvalidArgumentError, UnsupportedLayerError
from keras_ganprune.gan import GANModel
from keras_ganprune.layers.mask_store import to_numpy
from keras_ganprune.layers.traversal import masked_weights
from keras_ganprune.pruning.allocation import Tensor
from keras_ganprune.pruning.mask_report import MaskReport
from keras_ganprune.reports.run.run import LayerRow, MaskUpdate, PruneLog


def prunes_of(prunes: Mapping[str, Any]) -> dict[str, PruneLog]:
    """Return the mask updates of each network, or of several that one callback prunes."""
    names: dict[int, list[str]] = {}
    for name, prune in prunes.items():
        names.setdefault(id(prune), []).append(str(name))
    # One callback for two networks has one total.
    return {" and ".join(names[id(p)]): _prune_log(p) for p in prunes.values() if id(p) in names}


def _prune_log(prune: Any) -> PruneLog:
    if isinstance(prune, Prune):
        of = "weights"
        if prune.report is not None:
            shared = prune.report.share is not None
            of = prune.pruner.granularity.of if shared else prune.report.counted
        updates = tuple(MaskUpdate(int(s), float(r), float(a)) for s, r, a in prune.updates)
        return PruneLog(repr(prune.schedule), prune.schedule.quantity, of, updates)
    rows = list(prune)
    reports = [row[1] for row in rows if len(row) == 2 and isinstance(row[1], MaskReport)]
    if len(reports) == len(rows):
        rows = [(step, report.requested, report.achieved) for step, report in rows]
    elif any(len(row) != 3 for row in rows):
        raise InvalidArgumentError(
            "`prunes` must give a `Prune` for each network, or a list of (step, `MaskReport`) or of "
            f"(step, requested, achieved sparsity). Received: {prune!r}."
        )
    quantity = reports[-1].quantity if reports else "sparsity"
    counted = reports[-1].counted if reports else "weights"
    updates = tuple(MaskUpdate(int(s), float(r), float(a)) for s, r, a in rows)
    return PruneLog("", quantity, counted, updates)


def layers_of(
    networks: Any, prunes: Mapping[str, Any]
) -> tuple[dict[str, tuple[LayerRow, ...]], dict[str, tuple[np.ndarray, ...]]]:
    """Return the rows and the masks of each network that has masks."""
    if isinstance(networks, GANModel):
        networks = {"generator": networks.generator, "discriminator": networks.discriminator}
    elif isinstance(networks, keras.layers.Layer):
        networks = {networks.name: networks}
    requested: dict[int, float] = {}
    for prune in prunes.values():
        if isinstance(prune, Prune):
            requested.update(_requested(prune))
    layers, masks = {}, {}
    for name, network in (networks or {}).items():
        if not isinstance(network, keras.layers.Layer):
            raise UnsupportedLayerError(
                "`networks` must be a Keras model, or a dict of name -> model. "
                f"Received for '{name}': {network!r} (of type {type(network).__name__})."
            )
        rows, arrays = [], []
        for weight in masked_weights(network):
            mask = to_numpy(weight.mask).astype(bool)
            kept = int(np.count_nonzero(mask))
            wanted = requested.get(id(weight.variable))
            rows.append(
                LayerRow(weight.layer_path, weight.name, mask.shape, kept, mask.size, wanted)
            )
            arrays.append(mask.copy())
        if rows:
            layers[str(name)], masks[str(name)] = tuple(rows), tuple(arrays)
    return layers, masks


def _requested(prune: Prune) -> dict[int, float]:
    """Return the sparsity that the last update asked of each weight, by the id of its variable."""
    report = prune.report
    if report is None or report.quantity != "sparsity" or report.share is not None:
        return {}
    if report.counted != "weights":
        return {}  # channels and blocks are in several weights
    weights = [(w.path, w.layer_path, id(w.variable)) for w in prune.pruner.ranked]
    each = prune.schedule.targets(
        prune.updates[-1][0], [to_numpy(w.variable) for w in prune.pruner.ranked]
    )
    if each is not None:
        return {key: float(s) for (_, _, key), s in zip(weights, each, strict=True)}
    tensors = [
        Tensor(
            path,
            layer,
            row.shape,
            row.units,
            row.total // row.units if row.total % row.units == 0 else None,
        )
        for (path, layer, _), row in zip(weights, report.rows, strict=True)
    ]
    if prune.pruner.granularity.pattern:
        return {key: report.requested for _, _, key in weights}
    rankings = prune.pruner.allocation.rankings(tensors, report.requested, prune.schedule.final)
    found = {}
    for ranking in rankings:
        if len(ranking.members) == 1 and not ranking.in_weights:
            (i,) = ranking.members
            wanted = ranking.keep if ranking.wanted is None else ranking.wanted
            found[weights[i][2]] = 1.0 - wanted / tensors[i].units
    return found


def channels_of(value: Any, name: str) -> tuple[tuple[str, int, int], ...]:
    """Return rows (path, before, after) of a network that was shrunk."""
    rows = value.groups if isinstance(value, ShrinkEvent) else value
    try:
        return tuple((str(path), int(before), int(after)) for path, before, after in rows)
    except (TypeError, ValueError) as error:
        raise InvalidArgumentError(
            "`channels` must give a `ShrinkEvent` for each network, or rows (path, before, after). "
            f"Received for '{name}': {value!r}."
        ) from error
