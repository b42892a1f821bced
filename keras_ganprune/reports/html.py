"""The HTML page of a report: one file without scripts, which loads no other file."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from keras_ganprune.reports.figures import DrawnRun
from keras_ganprune.reports.images import Picture
from keras_ganprune.reports.page_content import page_content
from keras_ganprune.utils import optional_imports
from keras_ganprune.utils.palette import DARK, LIGHT


def require_page() -> Any:
    """Return jinja2, which fills the page. Call it before a training whose end writes a page.

    Raises:
        MissingPackageError: jinja2 is not installed.
    """
    return optional_imports.require("jinja2", "demo", "Reports")


def page(drawn: Sequence[DrawnRun], together: Sequence[Picture], title: str) -> str:
    """Return the page of one run, or of several runs side by side.

    Args:
        drawn: The runs with their pictures.
        together: Charts of all runs together; empty for one run.
        title: Title of the page.

    Raises:
        MissingPackageError: jinja2 is not installed.
    """
    jinja2 = require_page()
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("keras_ganprune.reports", "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    return environment.get_template("page.html.j2").render(
        page=page_content(drawn, together, title),
        light=LIGHT.variables(),
        dark=DARK.variables(),
    )
