"""A user's folder of images with boxes in COCO format."""

from __future__ import annotations

import json
import math
import os
import pathlib
from typing import Any

import numpy as np

from keras_ganprune.datasets import packages
from keras_ganprune.datasets.image_folder import read_image
from keras_ganprune.datasets.images import scaled
from keras_ganprune.datasets.scenes import Scenes
from keras_ganprune.errors import DataError
from keras_ganprune.utils import annotated, validation

_FILE = "annotations.json"
_FEWEST_IMAGES = 3
_FIELDS = {
    "images": ("id", "file_name"),
    "annotations": ("image_id", "category_id", "bbox"),
    "categories": ("id", "name"),
}
# Annotation tools round, so a box may leave its image by this many pixels.
_ROUNDING = 1.0


def coco_folder(path: str | os.PathLike[str], size: int = 64) -> dict[str, Scenes]:
    """Return images with boxes from a folder with a file annotations.json, in three splits.

    An image is resized so that it fits into a square, in its proportions, and padded with grey at its right
    or bottom. Its boxes are scaled with it. Annotations of crowds (`iscrowd`) are left out. Validation and
    test have a sixth of the images each. No image is in two splits.

    Args:
        path: Path of the folder. Paths of images in annotations.json begin at this folder.
        size: Positive int, height and width of the images in pixels. Defaults to 64.

    Returns:
        Dict with "train", "validation" and "test": `Scenes`, whose classes are the categories with boxes.

    Raises:
        DataError: The folder or its annotations.json is missing or not in COCO format, an image is missing,
            named twice or has another size than written there, a box is empty or outside its image, a number
            of an image or category is unknown, there are no boxes, or fewer than three images; or Pillow is
            not installed.
        InvalidArgumentError: `size` is not positive.

    Example:
    >>> scenes = kgp.datasets.coco_folder("photos", size=96)  # doctest: +SKIP
    >>> scenes["train"].classes  # doctest: +SKIP
    ('cat', 'dog')

    Reference: [COCO](https://cocodataset.org/#format-data), "Data format", object detection.
    """
    annotated.check(coco_folder, locals())
    size = validation.positive_int(size, "size")
    path = pathlib.Path(path)
    file = path / _FILE
    content = _content(file)
    images = content["images"]
    _check_images(images, file)
    annotations = _annotations(content, file)
    # Categories without a box are left out: nothing could be learned of them.
    used = {annotation["category_id"] for annotation in annotations}
    categories = [category for category in content["categories"] if category["id"] in used]
    numbers = {category["id"]: number for number, category in enumerate(categories)}
    of_image: dict[Any, list[dict[str, Any]]] = {image["id"]: [] for image in images}
    for annotation in annotations:
        of_image[annotation["image_id"]].append(annotation)
    pixels, boxes, labels = [], [], []
    for image in images:
        some = of_image[image["id"]]
        array = _read(path, image)
        drawn = [_box(a["bbox"], image["file_name"], array.shape, file) for a in some]
        array, factor = _fitted(array, size)
        pixels.append(array)
        boxes.append(factor * np.array(drawn, "float32").reshape(-1, 4))
        labels.append(np.array([numbers[a["category_id"]] for a in some], "int64"))
    names = tuple(str(category["name"]) for category in categories)
    return _splits(np.stack(pixels), boxes, labels, names, path)


def _content(file: pathlib.Path) -> dict[str, list[dict[str, Any]]]:
    """Return what is in annotations.json, if it has the lists and fields of COCO."""
    if not file.is_file():
        raise DataError(
            f"The data must be a folder with images and a file {_FILE} in COCO format. There is no file "
            f"'{file}'. Write it there with an annotation tool."
        )
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise DataError(
            f"'{file}' must be a JSON file. It cannot be read: {error}. Export it again."
        ) from error
    for name, fields in _FIELDS.items():
        rows = content.get(name) if isinstance(content, dict) else None
        if not isinstance(rows, list):
            raise DataError(
                f"'{file}' must be in COCO format: an object with the lists {', '.join(_FIELDS)}. There is "
                f"no list '{name}'. Export the annotations in COCO format."
            )
        for row in rows:
            missing = [f for f in fields if not isinstance(row, dict) or f not in row]
            if missing:
                raise DataError(
                    f"Each entry of '{name}' in '{file}' must have {' and '.join(map(repr, fields))}. "
                    f"Received: {row!r}. Export the annotations in COCO format."
                )
    return content


def _check_images(images: list[dict[str, Any]], file: pathlib.Path) -> None:
    for field, words in (("id", "number"), ("file_name", "file")):
        values = [image[field] for image in images]
        twice = [value for value in values if values.count(value) > 1]
        if twice:
            raise DataError(
                f"Each image in '{file}' must have a {words} of its own. Received twice: {twice[0]!r}. "
                "Remove one of them."
            )
    if len(images) < _FEWEST_IMAGES:
        raise DataError(
            f"There must be at least {_FEWEST_IMAGES} images: for training, validation and test. Received: "
            f"{len(images)} in '{file}'. Add images."
        )


def _annotations(content: dict[str, list[dict[str, Any]]], file: pathlib.Path) -> list[Any]:
    """Return the annotations that are no crowds, if there are any, and their image and category exist."""
    annotations = [row for row in content["annotations"] if not row.get("iscrowd")]
    if not annotations:
        raise DataError(
            f"'{file}' must have at least one box. Its list 'annotations' has none. Draw boxes with an "
            "annotation tool, and export them in COCO format."
        )
    for field, name in (("image_id", "images"), ("category_id", "categories")):
        known = {row["id"] for row in content[name]}
        unknown = [row for row in annotations if row[field] not in known]
        if unknown:
            raise DataError(
                f"The '{field}' of each box in '{file}' must be an 'id' of '{name}'. Received: "
                f"{unknown[0]!r}. Correct the number, or remove the box."
            )
    return annotations


def _read(path: pathlib.Path, image: dict[str, Any]) -> np.ndarray:
    """Return an image as uint8 array, if its size is that of annotations.json."""
    array = read_image(path / str(image["file_name"]), 3)
    height, width = array.shape[:2]
    said = (image.get("width", width), image.get("height", height))
    if said != (width, height):
        raise DataError(
            f"Each image must have the size that {_FILE} says, {said[0]}×{said[1]} pixels. Received: "
            f"'{path / str(image['file_name'])}' with {width}×{height}. Put the image there for which the "
            "boxes were drawn, or draw them again."
        )
    return array


def _fitted(array: np.ndarray, size: int) -> tuple[np.ndarray, float]:
    """Return an image that is resized to fit into a square, and padded; and the factor of its size."""
    pil = packages.require("PIL.Image")
    factor = size / max(array.shape[:2])
    height, width = (max(1, round(factor * n)) for n in array.shape[:2])
    method = pil.Resampling.BOX if factor < 1 else pil.Resampling.BICUBIC
    resized = np.asarray(pil.fromarray(array).resize((width, height), method))
    below, right = size - height, size - width
    return np.pad(resized, ((0, below), (0, right), (0, 0)), constant_values=128), factor


def _box(bbox: Any, name: str, shape: tuple[int, ...], file: pathlib.Path) -> list[float]:
    """Return left, top, width and height of a box, if it lies in its image."""
    numbers = isinstance(bbox, list) and all(
        isinstance(n, (int, float)) and math.isfinite(n) for n in bbox
    )
    if not numbers or len(bbox) != 4 or bbox[2] <= 0 or bbox[3] <= 0:
        raise DataError(
            f"The 'bbox' of each box in '{file}' must be [left, top, width, height] in pixels, the last two "
            f"above 0. Received: {bbox!r} for the image '{name}'. Correct it, or remove the box."
        )
    left, top, width, height = bbox
    if (
        min(left, top) < -_ROUNDING
        or left + width > shape[1] + _ROUNDING
        or top + height > shape[0] + _ROUNDING
    ):
        raise DataError(
            f"Each box in '{file}' must lie in its image. Received: [left, top, width, height] = {bbox} in "
            f"'{name}', which has {shape[1]}×{shape[0]} pixels. Pixels are counted from the left and top, "
            "from 0. Correct the box, or remove it."
        )
    return bbox


def _splits(
    images: np.ndarray,
    boxes: list[np.ndarray],
    labels: list[np.ndarray],
    classes: tuple[str, ...],
    path: pathlib.Path,
) -> dict[str, Scenes]:
    """Return about a sixth of the images for validation and a sixth for the test."""
    count, held_out = len(images), max(1, len(images) // 6)
    # Images beside each other are often of one scene. So the splits are ranges.
    places = {
        "train": slice(0, count - 2 * held_out),
        "validation": slice(count - 2 * held_out, count - held_out),
        "test": slice(count - held_out, count),
    }
    result = {}
    for name, part in places.items():
        some = tuple(labels[part])
        found = sum(map(len, some))
        if not found:
            raise DataError(
                f"Each part of the data must have boxes. The images {part.start + 1} to {part.stop}, which "
                f"are for {name}, have none. Write the images in '{path / _FILE}' in another order."
            )
        text = f"{len(some):,} images with {found:,} boxes"
        result[name] = Scenes(scaled(images[part], 255.0), tuple(boxes[part]), some, classes, text)
    return result
