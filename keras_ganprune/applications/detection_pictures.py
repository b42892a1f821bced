"""Pictures that compare detectors: a column per network with the boxes that it finds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras
import numpy as np

from keras_ganprune.applications.base import Split
from keras_ganprune.applications.detection_maps import Detections, detected
from keras_ganprune.utils import palette, plotting

_ROWS = 6
_INCHES = 2.0
_SURE = 0.3  # Boxes with a smaller score are not drawn.


def figure(networks: Mapping[str, keras.Model], data: Split) -> Any:
    """Return a figure with a row per image: the boxes of each network, and the true boxes.

    The colour of a box is that of its class.

    Args:
        networks: Title -> detector.
        data: Images, with "boxes", "labels" and "classes" in `extra`.

    Returns:
        A matplotlib figure.
    """
    places = np.unique(np.linspace(0, len(data) - 1, _ROWS).astype(int))
    images = data.x[places]
    columns = {title: detected(network, images) for title, network in networks.items()}
    true = [(data.extra["boxes"][place], data.extra["labels"][place]) for place in places]
    columns["true boxes"] = [Detections(*each, np.ones(len(each[1]))) for each in true]
    figure = plotting.require_plotting().Figure(
        figsize=(_INCHES * len(columns), _INCHES * len(places) + 0.5), layout="constrained"
    )
    axes = figure.subplots(len(places), len(columns), squeeze=False)
    for column, (title, found) in enumerate(columns.items()):
        axes[0, column].set_title(title, fontsize=9)
        for row, image in enumerate(images):
            _draw(axes[row, column], image, found[row], data.extra["classes"])
    return figure


def _draw(axes: Any, image: np.ndarray, found: Detections, classes: tuple[str, ...]) -> None:
    axes.imshow((image + 1.0) / 2.0)
    axes.set_axis_off()
    for box, label, score in zip(found.boxes, found.labels, found.scores, strict=True):
        if score < _SURE:
            continue
        colour = palette.DARK.colour(int(label))
        left, top, right, bottom = (*(box[:2] - 0.5), *(box[:2] + box[2:] - 0.5))
        axes.plot(
            [left, right, right, left, left], [top, top, bottom, bottom, top], color=colour, lw=1.2
        )
        axes.text(
            left,
            top,
            classes[label],
            va="bottom" if top > 8 else "top",
            fontsize=7,
            fontweight="bold",
            color="black",
            bbox={"facecolor": colour, "edgecolor": "none", "pad": 0.8},
        )
    # A box that leaves the image would change the scale.
    axes.set(xlim=(-0.5, image.shape[1] - 0.5), ylim=(image.shape[0] - 0.5, -0.5))
