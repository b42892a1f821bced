"""What a `Pruner` has to say when an update did not come to what was asked for."""

from __future__ import annotations

from keras_ganprune.pruning.allocation import Allocation
from keras_ganprune.pruning.mask_report import MaskReport


def emptied(path: str, threshold: float, best_score: float, left: int, floor: int) -> str:
    """A threshold would have left too little of a tensor."""
    if floor == 1:
        text = (
            f"Threshold {threshold:g} is above every score of '{path}', and would "
            f"empty it; its largest unit ({best_score:.3g}) is kept. "
        )
    else:
        text = (
            f"Threshold {threshold:g} would leave {left} units of '{path}', and `minimum` "
            f"keeps {floor}. "
        )
    return f"{text}Lower the threshold, or leave the layer out of `scope`."


def total(report: MaskReport, found: str, sparser: bool, allocation: Allocation) -> str:
    """A sparsity was not reached, or is passed already."""
    if sparser:
        reason = "`hard` masks never return a weight, and the network is sparser than that already"
    else:
        reason = (
            "at least `minimum` of every tensor is kept, which is "
            f"{allocation.minimum} for {type(allocation).__name__}"
        )
    return f"Sparsity {report.requested:g} was requested, {report.achieved:.4f} achieved ({found}): {reason}."
