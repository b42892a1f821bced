"""What the `Prune` callback has to say when a run is not what its settings ask for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def outside(name: str, model: Any) -> str:
    """The target is no part of the model that is fitted."""
    return (
        f"The target '{name}' is no part of the {type(model).__name__} that is fitted, so "
        "whether it is trained here is not known. Pass a network of that model, or its name."
    )


def cut(network: Any, prune: Any, step: int, others: Sequence[str]) -> str:
    """A target was made smaller before the end of the schedule."""
    more = f" Pruning of {', '.join(map(repr, others))} ends with it." if others else ""
    return (
        f"'{network.name}' was made smaller at step {step}, and {prune!r} ends there, its "
        f"schedule at step {prune.schedule.end_step}.{more} Cut at the end of the schedule or later, and "
        "give networks that are cut at different steps callbacks of their own."
    )


def ended(schedule: Any, step: int, sparsity: float) -> str | None:
    """Training ended before the schedule did, or before it began; None if it did not."""
    begin, end = schedule.begin_step, schedule.end_step
    if step < begin:
        return (
            f"Training ended at step {step}, before the schedule's begin_step {begin}: "
            "nothing was pruned. Train longer, or choose an earlier `begin_step`; another `fit` goes on "
            "from here."
        )
    if end is not None and step < end:
        return (
            f"Training ended at step {step}, before the schedule's end_step {end}: "
            f"sparsity is {sparsity:.4f}, the schedule ends at {schedule(end):g}. "
            "Train longer, or choose an earlier `end_step`; another `fit` goes on from here."
        )
    return None


def jumped(begin: int, step: int, before: float, after: float) -> str:
    """A gradual schedule did not begin gradually."""
    return (
        f"The optimizer was at step {step} already, past begin_step "
        f"{begin}: the masks went from sparsity {before:.4f} to "
        f"{after:.4f} at once. Steps are the optimizer's own count; for a "
        f"gradual start give begin_step={step} or later."
    )


def both(paths: Sequence[str], mode: Any) -> str:
    """Two callbacks choose the masks of one layer, and undo each other's."""
    return (
        f"Two `Prune` callbacks of this `fit` choose the masks of {', '.join(paths[:3])}"
        f"{' and others' if len(paths) > 3 else ''}, and {mode!r} brings "
        "weights back that the other one has pruned: the last update wins. Give them targets "
        "or a `scope` without a layer in common."
    )


def no_gradients(criterion: Any) -> str:
    """An update waited for gradients that never came."""
    return (
        "Nothing was pruned: training ended before any batch gave the gradients that "
        f"{criterion!r} needs."
    )
