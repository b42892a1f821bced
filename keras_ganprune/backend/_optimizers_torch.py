"""Masks under PyTorch's own optimizers, which do not apply the constraints of Keras."""

from __future__ import annotations

from typing import Any

import torch  # pyright: ignore[reportMissingImports]

from keras_ganprune.errors import InvalidArgumentError


def attach(optimizer: torch.optim.Optimizer, pruner: Any) -> None:
    """Let a PyTorch optimizer apply the masks of a `Pruner` after each of its steps.

    Raises:
        InvalidArgumentError: The optimizer trains no pruned weight.
    """
    trained = {id(p) for group in optimizer.param_groups for p in group["params"]}
    weights = [w for w in pruner.weights if id(w.variable.value) in trained]
    if not weights:
        raise InvalidArgumentError(
            "`optimizer` must train weights that are pruned. Received: an optimizer that trains "
            f"{len(trained)} parameters, but none of the {len(pruner.weights)} pruned weights. "
            "Pass the optimizer that was made with `model.parameters()`."
        )
    cleared = pruner.updates_made

    @torch.no_grad()
    def clear_slots(*_: Any) -> None:
        nonlocal cleared
        if pruner.updates_made == cleared:
            return
        cleared = pruner.updates_made
        for weight in weights:
            keep = _kept_slots(weight, pruner)
            for slot in optimizer.state.get(weight.variable.value, {}).values():
                if torch.is_tensor(slot) and slot.shape == keep.shape:
                    slot.mul_(keep)

    @torch.no_grad()
    def apply_constraints(*_: Any) -> None:
        for weight in weights:
            # Keras's optimizers apply constraints in the same way. The constraint also applies the user's
            # constraint, and accumulates the updates of pruned entries if the pruning mode needs them.
            weight.variable.assign(weight.variable.constraint(weight.variable))

    optimizer.register_step_pre_hook(clear_slots)
    optimizer.register_step_post_hook(apply_constraints)


def _kept_slots(weight: Any, pruner: Any) -> torch.Tensor:
    """Return a mask of the momentum: False at pruned entries and at entries that the last update regrew."""
    keep = weight.mask.value
    if pruner.mode.collects:
        keep = torch.ones_like(keep)  # The hidden values of pruned weights are trained too.
    grown = pruner.regrown.get(id(weight.variable))
    if grown is not None:
        keep = keep & ~torch.from_numpy(grown).to(keep.device)
    return keep
