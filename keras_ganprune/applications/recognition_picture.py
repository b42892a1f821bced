"""The picture of recognition: images with what each network says of them, and ROC curves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from keras_ganprune.utils import optional_imports, palette, plotting

_SHOWN = 8
_RIGHT, _WRONG = 2, 1  # colours of the palette


def draw(
    images: np.ndarray,
    labels: np.ndarray,
    classes: Sequence[str],
    probabilities: Mapping[str, np.ndarray],
    notes: Mapping[str, str],
) -> Any:
    """Return a figure: images, under each the answer of each network, and below the ROC curves.

    Args:
        images: Array (n, height, width, channels) in [-1, 1].
        labels: Int array (n,), the right classes.
        classes: Names of the classes.
        probabilities: Title -> array (n, classes).
        notes: Title -> words for the legend of the curves, such as a score.
    """
    places = examples(labels, len(classes))
    lines = 0.25 * len(probabilities)
    figure = plotting.require_plotting().Figure(
        figsize=(1.7 * len(places) + 1.5, 6.4 + lines), layout="constrained"
    )
    above, below = figure.subfigures(2, 1, height_ratios=(2.2 + lines, 4.2))
    axes = above.subplots(1, len(places))
    for row, title in enumerate(probabilities):
        _write(axes[0], -0.08, row, title, palette.LIGHT.ink, "right")
    for column, place in enumerate(places):
        right = int(labels[place])
        _draw_image(axes[column], images[place], classes[right])
        for row, each in enumerate(probabilities.values()):
            said = int(each[place].argmax())
            text = f"{'' if said == right else 'wrong: '}{classes[said]} {each[place][said]:.0%}"
            colour = palette.LIGHT.colour(_RIGHT if said == right else _WRONG)
            _write(axes[column], 0.5, row, text, colour, "center")
    _draw_curves(below.subplots(), labels, probabilities, notes)
    return figure


def examples(labels: np.ndarray, classes: int) -> np.ndarray:
    """Return places of images that are spread over the data, equally many of each class.

    Args:
        labels: Int array (n,).
        classes: Number of classes.

    Example:
    >>> examples(np.array([0, 1] * 8), 2)
    array([ 0,  4,  8, 14,  1,  5,  9, 15])
    """
    per_class = max(1, _SHOWN // classes)
    chosen = []
    for label in range(min(classes, _SHOWN)):
        of_class = np.flatnonzero(labels == label)
        if len(of_class):
            chosen.append(of_class[np.linspace(0, len(of_class) - 1, per_class).astype(int)])
    return np.concatenate(chosen)


def _draw_image(axes: Any, image: np.ndarray, name: str) -> None:
    shown = (np.clip(image, -1, 1) + 1) / 2
    grey = shown.shape[-1] == 1
    axes.imshow(shown[..., 0] if grey else shown, cmap="gray" if grey else None, vmin=0, vmax=1)
    axes.set_title(name, fontsize=9)
    axes.set_axis_off()


def _write(axes: Any, x: float, row: int, text: str, colour: str, side: str) -> None:
    """Write a line below an image."""
    place = {"transform": axes.transAxes, "fontsize": 8, "ha": side, "va": "center"}
    axes.text(x, -0.13 * (row + 1), text, color=colour, **place)


def _draw_curves(
    axes: Any,
    labels: np.ndarray,
    probabilities: Mapping[str, np.ndarray],
    notes: Mapping[str, str],
) -> None:
    """Draw ROC curves. With more than two classes, each class against the others, all in one curve."""
    measure = optional_imports.require("sklearn.metrics", "applications", "Curves")
    for number, (title, each) in enumerate(probabilities.items()):
        if each.shape[1] == 2:
            false, true, _ = measure.roc_curve(labels, each[:, 1])
        else:
            one_hot = np.eye(each.shape[1])[labels]
            false, true, _ = measure.roc_curve(one_hot.ravel(), each.ravel())
        label = f"{title}: {notes[title]}"
        axes.plot(false, true, color=palette.LIGHT.colour(number), label=label)
    axes.plot([0, 1], [0, 1], color=palette.LIGHT.line, linestyle=":", label="by chance")
    axes.set(xlabel="false positive rate", ylabel="true positive rate", aspect="equal")
    axes.legend(loc="lower right", fontsize=8)
