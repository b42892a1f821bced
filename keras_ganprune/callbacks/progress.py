"""`Progress`: one line that says how far `fit` is, in the place of Keras's bar."""

import warnings
from collections.abc import Sequence

import keras

from keras_ganprune.callbacks.run_progress import RunProgress
from keras_ganprune.callbacks.training_progress import TrainingProgress
from keras_ganprune.errors import InvalidArgumentError, PruningWarning
from keras_ganprune.utils import annotated


class Progress(TrainingProgress):
    """Shows how far `fit` is, in one line that never wraps.

    The line names the phase (compiling, training, pruning 43 % of 80 %, recovering, shrunk, validating), the
    step, the time left, and two numbers. It finds `Prune` and `Shrink` in the same `fit` by itself, and gives
    way to whatever else is printed. In a notebook it is an output that is updated. Where the output is no
    terminal, such as a file, plain lines are printed: the first, the last, and others after 10 s and 10 % of
    the steps, whichever is later. The time left does not count the time of compiling.

    It takes the place of Keras's bar if `fit` gets no `verbose`, or 0. Where `fit(verbose=1)` or 2 asks for
    that bar, it is shown instead, with a warning.

    Args:
        metrics: Name of a log that is shown, or a sequence of names. Defaults to None: the first two of what
            other callbacks measure or monitor, of the losses, and of the other logs.

    Raises:
        ArgumentTypeError: `metrics` is not a text or a sequence of texts.
        InvalidArgumentError: `metrics` is empty, or has a name twice.

    Example:
    >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(5)])
    >>> model.compile("adam", "mse")
    >>> x, y = np.ones((8, 4)), np.ones((8, 5))
    >>> prune = kgp.Prune(kgp.PolynomialDecay(0.8, begin_step=2, end_step=6), frequency=1)
    >>> progress = kgp.Progress(metrics="sparsity")
    >>> _ = model.fit(x, y, batch_size=1, callbacks=[prune, progress])  # doctest: +ELLIPSIS
    compiling, step 0 of 8.
    recovered at 80 %, step 8 of 8, in ... s, sparsity 0.8.
    """

    def __init__(self, metrics: str | Sequence[str] | None = None):
        annotated.check(Progress.__init__, locals())
        names = [metrics] if isinstance(metrics, str) else metrics
        if names is not None and (not names or len(set(names)) < len(names)):
            raise InvalidArgumentError(
                "`metrics` must name logs, each of them once, such as 'loss' or ['fd', 'coverage']. "
                f"Received: {metrics!r}. Leave it out to show what other callbacks monitor, and losses."
            )
        super().__init__(RunProgress(), metrics=None if names is None else tuple(names))

    def __repr__(self) -> str:
        shown = "" if self.metrics is None else f" of {', '.join(map(repr, self.metrics))}"
        return f"<Progress{shown}>"

    def on_train_begin(self, logs=None):
        """Take the place of Keras's bar, and begin the line."""
        self.run = RunProgress()  # a new one for each `fit`
        super().on_train_begin(logs)
        bars = [each for each in self._beside if isinstance(each, keras.callbacks.ProgbarLogger)]
        if bars and self.params.get("verbose") == "auto":
            for bar in bars:
                bar.verbose = 0
        elif bars:
            self._silent = True
            warnings.warn(
                "`Progress` and Keras's bar cannot share a line. Received: "
                f"verbose={self.params.get('verbose')!r}, so Keras's bar is shown. Leave `verbose` out of "
                "`fit`, or pass verbose=0.",
                PruningWarning,
                stacklevel=2,
            )
