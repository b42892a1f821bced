"""Boxes as maps that a network can learn, and back: a peak for each centre, and a box at each cell."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import attrs
import keras
import numpy as np

from keras_ganprune.backend.operations import ops
from keras_ganprune.errors import InvalidArgumentError
from keras_ganprune.layers.tensors import to_numpy
from keras_ganprune.utils import annotated, validation

#: Pixels per cell of the maps, in each direction.
STRIDE = 4
# Standard deviation of a peak, as share of the width and height of its box.
_SPREAD = 1 / 6
# Cells with at least this height of a peak learn the box.
_LEARNS = 0.3
_BATCH = 64


@attrs.frozen(eq=False)
class Detections:
    """Objects found in an image, the surest first.

    Attributes:
        boxes: float32 array (objects, 4): left, top, width, height in pixels.
        labels: int64 array (objects,) of class numbers.
        scores: float32 array (objects,) in [0, 1].
    """

    boxes: np.ndarray
    labels: np.ndarray
    scores: np.ndarray


def encode(
    boxes: Sequence[np.ndarray], labels: Sequence[np.ndarray], classes: int, size: int
) -> dict[str, np.ndarray]:
    """Return the maps that a network should give for boxes.

        heat map = exp(-dx^2 / (2 (w/6)^2) - dy^2 / (2 (h/6)^2)), with 1 at the cell of the centre

    Args:
        boxes: For each image an array (objects, 4): left, top, width, height in pixels.
        labels: For each image an array (objects,) of class numbers.
        classes: Number of classes.
        size: Height and width of the images in pixels, a multiple of 4.

    Returns:
        Dict of float32 arrays with g = size / 4. "heat_map": (n, g, g, classes). "boxes": (n, g, g, 5): from
        the middle of the cell to the centre of the box (x, y), its width and height, all in cells; then the
        weight of the cell in the loss.

    Example:
    >>> from keras_ganprune.applications.detection_maps import encode
    >>> maps = encode([np.array([[8, 4, 8, 16]])], [np.array([1])], classes=2, size=32)
    >>> maps["heat_map"][0, 3, 3], maps["boxes"][0, 3, 3]
    (array([0., 1.], dtype=float32), array([-0.5, -0.5,  2. ,  4. ,  1. ], dtype=float32))

    References: [Objects as points](https://arxiv.org/abs/1904.07850), Section 3; peaks with the proportions
    of the box, and boxes that are learned around the centre: [TTFNet](https://arxiv.org/abs/1909.00700),
    Section 3.
    """
    grid = size // STRIDE
    heat = np.zeros((len(boxes), grid, grid, classes), "float32")
    learned = np.zeros((len(boxes), grid, grid, 5), "float32")
    middles = np.arange(grid) + 0.5
    for image, (some, kinds) in enumerate(zip(boxes, labels, strict=True)):
        for box, kind in zip(np.asarray(some, "float64") / STRIDE, kinds, strict=True):
            centre, extent = box[:2] + box[2:] / 2, box[2:]
            column, row = np.clip(centre.astype(int), 0, grid - 1)
            x, y = middles - centre[0], middles - centre[1]
            across = np.exp(-0.5 * ((middles - middles[column]) / (_SPREAD * extent[0])) ** 2)
            down = np.exp(-0.5 * ((middles - middles[row]) / (_SPREAD * extent[1])) ** 2)
            peak = down[:, None] * across
            heat[image, ..., kind] = np.maximum(heat[image, ..., kind], peak)
            # Where two objects meet, a cell learns the box of the nearer one.
            near = (peak >= _LEARNS) & (peak > learned[image, ..., 4])
            values = np.broadcast_arrays(-x, -y[:, None], *extent, peak)
            learned[image][near] = np.stack(values, axis=-1)[near]
    return {"heat_map": heat, "boxes": learned}


def decode(outputs: Any, most: int = 20) -> list[Detections]:
    """Return the objects in the outputs of a detector: the peaks of its heat map.

    A cell is a peak if no neighbour has a higher value for its class.

    Args:
        outputs: Dict of the detector: "heat_map" (n, g, g, classes) and "boxes" (n, g, g, 4).
        most: Positive int, largest number of objects of an image. Defaults to 20.

    Returns:
        List with `Detections` for each image.

    Raises:
        InvalidArgumentError: `outputs` has not these maps.

    Example:
    >>> from keras_ganprune.applications.detection_maps import decode, encode
    >>> maps = encode([np.array([[8, 4, 8, 16]])], [np.array([1])], classes=2, size=32)
    >>> found = decode({"heat_map": maps["heat_map"], "boxes": maps["boxes"][..., :4]}, most=1)
    >>> found[0].boxes, found[0].labels, found[0].scores
    (array([[ 8.,  4.,  8., 16.]], dtype=float32), array([1]), array([1.], dtype=float32))

    Reference: [Objects as points](https://arxiv.org/abs/1904.07850), Section 3.1, "From points to bounding
    boxes".
    """
    annotated.check(decode, locals())
    most = validation.positive_int(most, "most")
    if not isinstance(outputs, dict) or not {"heat_map", "boxes"} <= set(outputs):
        raise InvalidArgumentError(
            "`outputs` must be a dict with 'heat_map' and 'boxes', as the detector returns it. Received: "
            f"{list(outputs) if isinstance(outputs, dict) else type(outputs).__name__}."
        )
    heat = ops.convert_to_tensor(outputs["heat_map"])
    highest = ops.max_pool(heat, 3, strides=1, padding="same")
    peaks = to_numpy(ops.where(heat >= highest, heat, 0.0))
    located = _pixels(to_numpy(outputs["boxes"]))
    return [_strongest(*image, most) for image in zip(peaks, located, strict=True)]


def detected(network: keras.Model, images: np.ndarray) -> list[Detections]:
    """Return what a detector finds in images.

    Args:
        network: The detector.
        images: Array (n, height, width, 3) in [-1, 1].
    """
    found = []
    # Not `predict`, which compiles a function for each network.
    for start in range(0, len(images), _BATCH):
        found += decode(network(images[start : start + _BATCH], training=False))
    return found


def _pixels(boxes: np.ndarray) -> np.ndarray:
    """Return left, top, width and height in pixels for each cell."""
    rows, columns = (np.arange(n) + 0.5 for n in boxes.shape[1:3])
    centres = boxes[..., :2] + np.stack(np.meshgrid(columns, rows), axis=-1)
    sizes = np.maximum(boxes[..., 2:], 0.0)
    return (STRIDE * np.concatenate([centres - sizes / 2, sizes], axis=-1)).astype("float32")


def _strongest(peaks: np.ndarray, boxes: np.ndarray, most: int) -> Detections:
    places = np.argsort(-peaks, axis=None, kind="stable")[:most]
    places = places[peaks.ravel()[places] > 0.0]
    rows, columns, labels = np.unravel_index(places, peaks.shape)
    return Detections(boxes[rows, columns], labels.astype("int64"), peaks.ravel()[places])
