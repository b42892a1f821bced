"""Pictures that compare images of several networks: a column per network, a row per image."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from keras_ganprune.utils import plotting

_INCHES = 1.7


def panel(columns: Mapping[str, np.ndarray], notes: Mapping[str, str] | None = None) -> Any:
    """Return a figure with a column for each title and a row for each image.

    Args:
        columns: Title -> images (n, height, width, channels) in [-1, 1].
        notes: Title -> a second line of the title, such as a score. Defaults to none.

    Returns:
        A matplotlib figure.
    """
    rows = min(len(images) for images in columns.values())
    figure = plotting.require_plotting().Figure(
        figsize=(_INCHES * len(columns), _INCHES * rows + 0.5), layout="constrained"
    )
    axes = figure.subplots(rows, len(columns), squeeze=False)
    for column, (title, images) in enumerate(columns.items()):
        note = (notes or {}).get(title)
        axes[0, column].set_title(title if note is None else f"{title}\n{note}", fontsize=9)
        for row in range(rows):
            shown = (np.clip(images[row], -1, 1) + 1) / 2
            grey = shown.shape[-1] == 1
            axes[row, column].imshow(
                shown[..., 0] if grey else shown, cmap="gray" if grey else None, vmin=0, vmax=1
            )
            axes[row, column].axis("off")
    return figure
