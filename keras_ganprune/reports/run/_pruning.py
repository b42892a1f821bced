"""Mask updates, masks and channels of a run, read from callbacks and networks."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import keras
import numpy as np

from keras_ganprune.callbacks.prune import Prune
from keras_ganprune.callbacks.shrink import ShrinkEvent
from keras_ganprune.errors import ArgumentTypeError, InvalidArgumentError
from keras_ganprune.gan.adversarial_model import AdversarialModel
from keras_ganprune.layers.tensors import to_numpy
from keras_ganprune.layers.traversal import masked_weights
from keras_ganprune.pruning.allocation import Tensor
from keras_ganprune.pruning.mask_report import MaskReport
from keras_ganprune.reports.run.run import LayerRow, MaskUpdate, PruneLog
from keras_ganprune.utils import validation


def prunes_of(prunes: Mapping[str, Any]) -> dict[str, PruneLog]:
    """Return the mask updates by network. Networks that share a callback share one log."""
    names: dict[int, list[str]] = {}
    for name, prune in prunes.items():
        names.setdefault(id(prune), []).append(str(name))
    callbacks = {id(prune): prune for prune in prunes.values()}
    return {" and ".join(names[key]): _prune_log(prune) for key, prune in callbacks.items()}


def _prune_log(prune: Any) -> PruneLog:
    if isinstance(prune, Prune):
        of = "weights"
        if prune.report is not None and prune.pruner is not None:
            of = prune.report.counted
            if prune.report.share is not None:
                # The granularity is `Channel`, whose `of` names the unit of the share.
                of = getattr(prune.pruner.granularity, "of", of)
        return PruneLog(repr(prune.schedule), prune.schedule.quantity, of, _updates(prune.updates))
    rows: list[Any] = list(prune) if isinstance(prune, Iterable) else [()]
    rows = [row if isinstance(row, (list, tuple)) else () for row in rows]
    reports = [row[1] for row in rows if len(row) == 2 and isinstance(row[1], MaskReport)]
    if len(reports) == len(rows):
        rows = [(step, report.requested, report.achieved) for step, report in rows]
    elif any(len(row) != 3 for row in rows):
        raise InvalidArgumentError(
            "`prunes` must contain, for each network, a `Prune` callback, or a list of "
            "(step, `MaskReport`) or of (step, requested sparsity, achieved sparsity). "
            f"Received: {prune!r}."
        )
    quantity = reports[-1].quantity if reports else "sparsity"
    counted = reports[-1].counted if reports else "weights"
    return PruneLog("", quantity, counted, _updates(rows))


def _updates(rows: Any) -> tuple[MaskUpdate, ...]:
    return tuple(
        MaskUpdate(
            validation.non_negative_int(step, "step of an update in `prunes`"),
            validation.number(requested, "requested sparsity in `prunes`", "a finite number"),
            validation.number(achieved, "achieved sparsity in `prunes`", "a finite number"),
        )
        for step, requested, achieved in rows
    )


def layers_of(
    networks: Any, prunes: Mapping[str, Any]
) -> tuple[dict[str, tuple[LayerRow, ...]], dict[str, tuple[np.ndarray, ...]]]:
    """Return the rows and the masks of each network with masks."""
    if isinstance(networks, AdversarialModel):
        networks = {"generator": networks.generator, "discriminator": networks.discriminator}
    elif isinstance(networks, keras.layers.Layer):
        networks = {networks.name: networks}
    requested: dict[int, float] = {}
    for prune in prunes.values():
        if isinstance(prune, Prune):
            requested.update(_requested(prune))
    layers: dict[str, tuple[LayerRow, ...]] = {}
    masks: dict[str, tuple[np.ndarray, ...]] = {}
    if networks is not None and not isinstance(networks, Mapping):
        networks = {type(networks).__name__: networks}  # refused below
    for name, network in (networks or {}).items():
        if not isinstance(network, keras.layers.Layer):
            raise ArgumentTypeError(
                "`networks` must be a Keras model, or a dict of name -> model. "
                f"Received for '{name}': {network!r} (of type {type(network).__name__})."
            )
        rows, arrays = [], []
        for weight in masked_weights(network):
            mask = to_numpy(weight.mask).astype(bool)
            rows.append(
                LayerRow(
                    layer=weight.layer_path,
                    weight=weight.name,
                    shape=mask.shape,
                    kept=int(np.count_nonzero(mask)),
                    total=mask.size,
                    requested=requested.get(id(weight.variable)),
                )
            )
            arrays.append(mask.copy())
        if rows:
            layers[str(name)], masks[str(name)] = tuple(rows), tuple(arrays)
    return layers, masks


def _requested(prune: Prune) -> dict[int, float]:
    """Return the sparsity that the last update requested for each weight, by the id of its variable.

    The dict is empty if no sparsity is requested for single weights: with a threshold, with one ranking over
    all layers, and with channels and blocks, which consist of several weights.
    """
    report, pruner = prune.report, prune.pruner
    if report is None or pruner is None or report.quantity != "sparsity":
        return {}
    if report.share is not None or report.counted != "weights":
        return {}
    keys = [id(weight.variable) for weight in pruner.ranked]
    arrays = [to_numpy(weight.variable) for weight in pruner.ranked]
    targets = prune.schedule.targets(prune.updates[-1][0], arrays)
    if targets is not None:
        return {key: float(target) for key, target in zip(keys, targets, strict=True)}
    if pruner.granularity.pattern:
        return dict.fromkeys(keys, report.requested)
    tensors = [
        Tensor(
            weight.path,
            weight.layer_path,
            row.shape,
            row.units,
            row.total // row.units if row.total % row.units == 0 else None,
        )
        for weight, row in zip(pruner.ranked, report.rows, strict=True)
    ]
    requested = {}
    for ranking in pruner.allocation.rankings(tensors, report.requested, prune.schedule.final):
        if len(ranking.members) == 1 and not ranking.in_weights:
            (i,) = ranking.members
            kept = ranking.keep if ranking.wanted is None else ranking.wanted
            requested[keys[i]] = 1.0 - kept / tensors[i].units
    return requested


def channels_of(value: Any, name: str) -> tuple[tuple[str, int, int], ...]:
    """Return the rows (path, channels before, channels after) of a network that was shrunk."""
    rows = value.groups if isinstance(value, ShrinkEvent) else value
    try:
        return tuple((str(path), int(before), int(after)) for path, before, after in rows)
    except (TypeError, ValueError) as error:
        raise InvalidArgumentError(
            "`channels` must contain, for each network, a `ShrinkEvent` or rows (path, before, after). "
            f"Received for '{name}': {value!r}."
        ) from error
