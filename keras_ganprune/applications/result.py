"""`ApplicationResult`: the networks of an application with their numbers, and its closing text."""

from __future__ import annotations

import pathlib
from typing import Any

import attrs

from keras_ganprune.applications.base import Application, Splits
from keras_ganprune.applications.measured_networks import MeasuredNetwork
from keras_ganprune.metrics.size_shares import size_shares
from keras_ganprune.reports.run import Run
from keras_ganprune.reports.tables.cells import Table
from keras_ganprune.reports.tables.comparison import comparison
from keras_ganprune.utils import tables, terminal
from keras_ganprune.utils.closing import closing, folded
from keras_ganprune.utils.notebook import Block, ShownInNotebooks, TableBlock


@attrs.frozen(eq=False)
class ApplicationResult(ShownInNotebooks):
    """The result of an application.

    Attributes:
        output: The run folder.
        application: The application, with its options.
        data: Its data.
        networks: Title in the table -> `MeasuredNetwork`: 'dense' first.
        baselines: Name -> numbers of what the networks have to beat.
        run: The run, as the folder has it.

    Example:
    >>> from keras_ganprune.applications import catalog, pipeline
    >>> application = catalog.get("image-generation")
    >>> result = pipeline.run(application(application.options_class(quick=True)))  # doctest: +SKIP
    >>> result.networks["80 % sparse"].metrics  # doctest: +SKIP
    """

    output: pathlib.Path
    application: Application
    data: Splits
    networks: dict[str, MeasuredNetwork]
    baselines: dict[str, dict[str, float]]
    run: Run

    @property
    def table(self) -> Table:
        """The table of all networks and baselines."""
        table = comparison(self.run)
        assert table is not None  # noqa: S101  (an application has metrics)
        return table

    def _blocks(self) -> list[Block]:
        table = self.table
        return [TableBlock([table.header, *table.rows]), table.note, *self._notes()]

    def _notes(self) -> list[str]:
        reports = [network.exported for network in self.networks.values()]
        differences = [report.max_difference for report in reports if report is not None]
        proof = (
            "Each SavedModel was reloaded and compared with its network: largest difference "
            f"{max(differences):g}. "
            if differences
            else "TensorFlow is not installed, so there are `.keras` files and no SavedModels. "
        )
        return [f"{proof}Trained in {self.run.seconds or 0.0:.0f} s.", self._closing()]

    def _closing(self) -> str:
        """Return what was made, what it is worth, and the next command."""
        networks = list(self.networks.values())
        names = ", ".join(each.branch.name for each in networks)
        made = f"{self.output} with report.html, picture_0.png and the networks: {names}."
        then: list[Any] = ["report", self.output]
        if self.run.latency:
            measured = [self.output / f"{each.branch.name}.keras" for each in networks]
            then = ["benchmark", *measured, "--run", self.output]
        return closing(made, self._worth(), then)

    def __str__(self) -> str:
        table = self.table
        proof, end = self._notes()
        cells = tables.fitted([table.header, *table.rows], terminal.columns())
        return "\n".join([cells, "", folded(table.note), folded(proof), end])

    def _worth(self) -> str:
        """Return the quality and the size of each network against dense."""
        name, metric = next(iter(self.application.metrics.items()))
        dense, *others = self.networks.values()
        texts = [
            f"{each.branch.title}: {metric.title} {each.metrics[name]:.{metric.digits}f}, "
            f"{size_shares(each.costs, dense.costs)}"
            for each in others
        ]
        return "; ".join([*texts, f"dense: {dense.metrics[name]:.{metric.digits}f}"]) + "."
