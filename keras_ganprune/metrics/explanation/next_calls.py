"""The calls to make next: lines of code that work on the explained model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from keras_ganprune.metrics.explanation.one_network import NetworkExplanation, NextCall


def next_calls(
    model: Any, networks: Sequence[NetworkExplanation], inside: bool, with_inputs: bool
) -> tuple[NextCall, ...]:
    """Return the calls, the first of which to make next.

    Args:
        model: The explained model.
        networks: What was found of each network.
        inside: Whether the networks are attributes of the model.
        with_inputs: Whether `explain` got `inputs`, which the calls need too.
    """
    network = networks[0]
    where = f"model.{network.name}" if inside else "model"
    more = ", inputs=inputs" if with_inputs else ""
    if network.pruned:
        return _of_pruned(network, where, more)
    masks, cut = network.outcome("masks"), network.outcome("cut")
    calls = []
    compressed = getattr(model, "compiled", False) and not with_inputs
    if masks and compressed:
        target = f", target={network.name!r}" if inside else ""
        calls += [
            NextCall(
                "result = kgp.compress(model, data, sparsity=0.8)",
                "zeros, for a smaller file: trained, and compared with the dense model",
            ),
            NextCall(f"callbacks = [kgp.Prune(0.8{target})]", "the same in a `fit` of your own"),
        ]
    if cut and compressed and not network.keep and "budget" in cut.arguments:
        calls.append(
            NextCall(
                f"result = kgp.compress(model, data, {cut.arguments})",
                "channels cut out: smaller and faster everywhere",
            )
        )
    elif cut:
        keep = f", keep={list(network.keep)!r}" if network.keep else ""
        calls.append(
            NextCall(
                f"small = kgp.shrink({where}, {cut.arguments}{keep}{more})",
                "channels cut out: smaller and faster everywhere; train it afterwards",
            )
        )
    if masks and not compressed:
        calls.append(
            NextCall(
                f"kgp.Pruner({where}).update(sparsity=0.8)",
                "zeros at once; `kgp.Prune(0.8)` in `fit` does it while the model learns",
            )
        )
    if not calls:
        calls.append(
            NextCall(
                f"print(kgp.mask_coverage({where}))", "which layer classes have to be registered"
            )
        )
    return tuple(calls)


def _of_pruned(network: NetworkExplanation, where: str, more: str) -> tuple[NextCall, ...]:
    calls = [
        NextCall(
            f"plain = kgp.strip_pruning({where})",
            "a plain Keras model with the zeros in it, to save and export",
        )
    ]
    if network.outcome("masked channels") is not None:
        cut = NextCall(
            f"small = kgp.shrink({where}{more})",
            "the masked channels cut out: smaller and faster, with the same outputs",
        )
        calls.insert(0, cut)
    return tuple(calls)
