"""What 'dense' is called in every column, row and card of a report."""

from __future__ import annotations

from keras_ganprune.reports.run import Run


def shown(run: Run, name: str) -> str:
    """Return the name of a network or of samples, as a reader needs it.

    'dense' is the dense network that was trained on, without pruning, for as many steps as the others. It is
    named so where the run says that.

    Example:
    >>> run = Run({"loss": [1.0]}, samples={}, equal_steps=True)
    >>> shown(run, "dense"), shown(run, "pruned")
    ('dense, equal steps', 'pruned')
    """
    if name != "dense" or run.equal_steps is None:
        return name
    return "dense, equal steps" if run.equal_steps else "dense, fewer steps"
