"""`Compression`: what `compress` made, how good it is, and the code that makes it again."""

from __future__ import annotations

import functools
import os
from collections.abc import Mapping
from typing import Any

import attrs
import keras

from keras_ganprune.errors import MissingPackageError, PruningError
from keras_ganprune.exporters import export_saved_model
from keras_ganprune.metrics import compare_models, profile
from keras_ganprune.metrics.comparison import Comparison, ComparisonRow
from keras_ganprune.metrics.size_shares import size_shares
from keras_ganprune.utils import files
from keras_ganprune.utils.notebook import Block, CodeBlock, ShownInNotebooks, TableBlock

_DENSE, _AFTER, _BEFORE = "dense, equal steps", "compressed", "before"


@attrs.define(eq=False, repr=False)
class Compression(ShownInNotebooks):
    """The result of `compress`.

    Attributes:
        model: The compressed model in the form that was passed to `compress`: a GAN, or a compiled network.
            Its masks hold in a later `fit`.
        network: The plain network that is shipped: without masks, and without the channels that were cut.
        dense: A plain copy of the network as it was before.
        history: Dict, name of a log -> one value per epoch of the training that made the result.
        before: Dict, name of a metric -> value of the network before; {} without a metric.
        baseline: The same of the dense network that was trained on for the same number of steps; {} if it
            was not trained.
        after: The same of the compressed network.
        metric: Name of the metric that decides, or None.
        higher_is_better: Whether a higher value of it is better, or None if that is not known.
        requested: The request as text, such as 'sparsity 0.9'.
        achieved: Float, the achieved sparsity, or the share of the quantity of a budget that stays.
        steps: Int, number of training steps of the result.
        trials: List of dicts, one per training, with what was tried and what came out.
        notes: List of sentences: what could not be done as usual, and what was done instead.
        recipe: Python code that does the same with the callbacks of this package.
    """

    model: keras.Model
    network: keras.Model
    dense: keras.Model
    history: dict[str, list[float]]
    before: dict[str, float]
    baseline: dict[str, float]
    after: dict[str, float]
    metric: str | None
    higher_is_better: bool | None
    requested: str
    achieved: float
    steps: int
    trials: list[dict[str, Any]]
    notes: list[str]
    recipe: str

    @functools.cached_property
    def table(self) -> Comparison:
        """A `Comparison`: metrics, parameters, multiply-accumulates, bytes and latency.

        Its columns are the dense network that was trained on, the compressed one, and the network before.
        It is made when it is read for the first time, since the latency is measured then.
        """
        models = {_DENSE: self.dense, _AFTER: self.network}
        try:
            costs = compare_models(models, repeats=10)
        except PruningError:  # sizes of inputs are not known, so nothing can be timed
            costs = compare_models(models, latency=False)
        columns = {_DENSE: self.baseline, _AFTER: self.after, _BEFORE: self.before}
        if not self.baseline:
            columns = {_BEFORE: self.before, _AFTER: self.after}
        names = dict.fromkeys(name for numbers in columns.values() for name in numbers)
        rows = [
            ComparisonRow(name, tuple(numbers.get(name) for numbers in columns.values()))
            for name in names
        ]
        # Training changes no cost of the dense network.
        for row in costs.rows:
            dense, small = row.values
            values = [small if column == _AFTER else dense for column in columns]
            rows.append(ComparisonRow(row.quantity, tuple(values)))
        return Comparison(tuple(columns), tuple(rows), costs.uncounted)

    def export(self, path: str | os.PathLike[str], *, overwrite: bool = False) -> None:
        """Write the network, the table and the recipe into a folder.

        The files are model.keras, saved_model/ (if TensorFlow is installed), comparison.md and recipe.py.

        Args:
            path: The folder.
            overwrite: Whether to replace an existing folder. Defaults to False.

        Raises:
            OutputError: The folder exists, or cannot be written.
            DifferentOutputsError: The SavedModel does not compute what the network computes.
        """
        with files.new_folder(path, overwrite) as work:
            self.network.save(work / "model.keras")
            try:
                files.check_tensorflow()
                export_saved_model(self.network, work / "saved_model")
            except MissingPackageError:
                pass  # the .keras file is there
            (work / "comparison.md").write_text(f"{self.table.to_markdown()}\n", encoding="utf-8")
            (work / "recipe.py").write_text(self.recipe, encoding="utf-8")

    def __str__(self) -> str:
        lines = [self._headline(), str(self.table)]
        lines += [f"- {note}" for note in self.notes]
        return "\n".join([*lines, "", "The same as code:", "", self.recipe.rstrip()])

    def _headline(self) -> str:
        text = f"{self.requested}: achieved {self.achieved:.4f}, in {self.steps:,} steps"
        if self.metric is None or self.metric not in self.after:
            return f"{text}."
        return f"{text}; {self.metric} {_against(self.after, self.baseline or self.before, self.metric)}."

    @property
    def worth(self) -> str:
        """Sentence: the deciding metric against dense, and which shares of the dense network are left."""
        try:
            small, dense = (profile(each, latency=False) for each in (self.network, self.dense))
        except PruningError:  # the costs cannot be counted
            return self._headline()
        return f"{self._headline().rstrip('.')}; {size_shares(small, dense)}."

    def __repr__(self) -> str:
        return f"<Compression {self._headline()}>"

    def _blocks(self) -> list[Block]:
        table = self.table
        return [
            self._headline(),
            TableBlock(table.table()),
            *table.notes(),
            *self.notes,
            "The same as code:",
            CodeBlock(self.recipe.rstrip()),
        ]


def _against(after: Mapping[str, float], reference: Mapping[str, float], name: str) -> str:
    if name not in reference:
        return f"{after[name]:.4g}"
    return f"{after[name]:.4g}, dense {reference[name]:.4g}"
