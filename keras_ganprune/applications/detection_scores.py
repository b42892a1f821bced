"""Average precision of detections, as COCO measures it."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence
from typing import Any

import numpy as np

from keras_ganprune.applications.base import Metric
from keras_ganprune.applications.detection_maps import Detections
from keras_ganprune.datasets import packages

METRICS = {
    "ap50": Metric("AP50", higher_is_better=True),
    "ap": Metric("AP", higher_is_better=True),
}


def average_precision(
    found: Sequence[Detections], boxes: Sequence[np.ndarray], labels: Sequence[np.ndarray]
) -> dict[str, float]:
    """Return the average precision of pycocotools, as a mean over the classes.

    Args:
        found: `Detections` of each image.
        boxes: For each image an array (objects, 4): left, top, width, height in pixels.
        labels: For each image an array (objects,) of class numbers.

    Returns:
        "ap50": a box is found if its intersection over union is 0.5 or more. "ap": the mean of AP over 0.5,
        0.55, ..., 0.95. Both are in [0, 1].

    Raises:
        DataError: pycocotools is not installed.

    Example:
    >>> from keras_ganprune.applications.detection_maps import Detections
    >>> from keras_ganprune.applications.detection_scores import average_precision
    >>> boxes, labels = [np.array([[0, 0, 10, 10]])], [np.array([0])]
    >>> found = [Detections(np.array([[0, 0, 10, 6]]), np.array([0]), np.array([0.9]))]
    >>> {name: round(value, 2) for name, value in average_precision(found, boxes, labels).items()}
    {'ap50': 1.0, 'ap': 0.3}

    Reference: [COCO](https://arxiv.org/abs/1405.0312), [detection evaluation](https://cocodataset.org/#detection-eval).
    """
    annotations: list[dict[str, Any]] = []
    for image, (some, kinds) in enumerate(zip(boxes, labels, strict=True)):
        for box, kind in zip(np.asarray(some, "float64"), kinds, strict=True):
            annotations.append(
                {
                    "id": len(annotations) + 1,  # COCOeval takes 0 for "not found"
                    "image_id": image,
                    "category_id": int(kind),
                    "bbox": box.tolist(),
                    "area": float(box[2] * box[3]),
                    "iscrowd": 0,
                }
            )
    rows = [
        (image, *box, score, label)
        for image, one in enumerate(found)
        for box, score, label in zip(one.boxes, one.scores, one.labels, strict=True)
    ]
    if not annotations or not rows:
        return dict.fromkeys(METRICS, 0.0)
    with contextlib.redirect_stdout(io.StringIO()):  # it prints its progress
        truth = packages.require("pycocotools.coco").COCO()
        truth.dataset = {
            "info": {},
            "images": [{"id": image} for image in range(len(boxes))],
            "annotations": annotations,
            "categories": [
                {"id": kind} for kind in sorted({a["category_id"] for a in annotations})
            ],
        }
        truth.createIndex()
        results = truth.loadRes(np.array(rows, "float64"))
        evaluation = packages.require("pycocotools.cocoeval").COCOeval(truth, results, "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return {"ap50": float(evaluation.stats[1]), "ap": float(evaluation.stats[0])}
