"""Detection: maps, losses, average precision, network and picture. Training: `test_contract.py`."""

import json

import keras
import numpy as np
import pytest

import keras_ganprune as kgp
from keras_ganprune.applications import detection_maps
from keras_ganprune.applications.detection import Detection, DetectionOptions, detector
from keras_ganprune.applications.detection_losses import BoxLoss, HeatMapLoss
from keras_ganprune.applications.detection_maps import Detections, decode, encode
from keras_ganprune.applications.detection_scores import average_precision
from keras_ganprune.errors import ArgumentTypeError, InvalidArgumentError
from keras_ganprune.pruning import structured

pil = pytest.importorskip("PIL.Image")


def boxes_of(rng, count):
    """Return boxes in images of 64×64 pixels, one in each quarter of it, and their labels."""
    corners = rng.permutation([[0, 0], [0, 32], [32, 0], [32, 32]])[:count]
    sizes = rng.uniform(8, 31, (count, 2))
    places = corners + rng.uniform(0, 1, (count, 2)) * (32 - sizes)
    return np.concatenate([places, sizes], axis=1).astype("float32"), rng.integers(0, 5, count)


def scenes(count=20):
    rng = np.random.default_rng(0)
    return zip(*(boxes_of(rng, number % 5) for number in range(count)), strict=True)


def test_what_is_encoded_is_decoded():
    boxes, labels = scenes()
    maps = encode(boxes, labels, classes=5, size=64)
    assert maps["heat_map"].shape == (20, 16, 16, 5) and maps["heat_map"].max() == 1.0
    # The box is right at every cell that learns it, not only at the centre.
    assert np.sum(maps["boxes"][..., 4] > 0) > 2 * sum(map(len, labels))
    found = decode({"heat_map": maps["heat_map"], "boxes": maps["boxes"][..., :4]})
    for some, kinds, one in zip(boxes, labels, found, strict=True):
        assert np.all(np.diff(one.scores) <= 0)
        sure = one.scores == 1.0
        order, right = np.lexsort(one.boxes[sure].T), np.lexsort(some.T)
        np.testing.assert_allclose(one.boxes[sure][order], some[right], atol=1e-4)
        np.testing.assert_array_equal(one.labels[sure][order], kinds[right])


def test_every_cell_of_an_object_gives_its_box():
    maps = encode([np.array([[10, 20, 24, 30]])], [np.array([0])], classes=1, size=64)
    cells = maps["boxes"][0, ..., 4] > 0
    pixels = detection_maps._pixels(maps["boxes"][..., :4])[0][cells]
    np.testing.assert_allclose(pixels, np.tile([10, 20, 24, 30], (len(pixels), 1)), atol=1e-4)


@pytest.mark.parametrize(
    ("outputs", "error"),
    [({"heat_map": np.zeros((1, 4, 4, 2))}, InvalidArgumentError), ([1, 2], InvalidArgumentError)],
)
def test_outputs_that_are_no_maps(outputs, error):
    with pytest.raises(error, match="a dict with 'heat_map' and 'boxes'"):
        decode(outputs)


def test_the_heat_map_loss_is_that_of_the_paper():
    rng = np.random.default_rng(0)
    boxes, labels = scenes(5)
    y = encode(boxes, labels, classes=5, size=64)["heat_map"]
    p = rng.uniform(0.05, 0.95, y.shape).astype("float32")
    expected = []
    for target, predicted in zip(y, p, strict=True):
        total = 0.0
        for t, q in zip(target.ravel(), predicted.ravel(), strict=True):
            total += (1 - q) ** 2 * np.log(q) if t == 1 else (1 - t) ** 4 * q**2 * np.log(1 - q)
        expected.append(-total / max(1, np.sum(target == 1)))
    assert float(HeatMapLoss()(y, p)) == pytest.approx(np.mean(expected), rel=1e-4)


def test_only_cells_of_objects_have_a_box_loss():
    boxes, labels = scenes(5)
    y = encode(boxes, labels, classes=5, size=64)["boxes"]
    wrong_elsewhere = np.where(y[..., 4:] > 0, y[..., :4], 9.0)
    assert float(BoxLoss()(y, wrong_elsewhere)) == 0.0
    # All four numbers are wrong by 0.5 in the four images that have objects.
    assert float(BoxLoss()(y, wrong_elsewhere + 0.5)) == pytest.approx(4 * 0.5 * 4 / 5)


@pytest.mark.parametrize("loss", [HeatMapLoss(1.5, 3.0, name="mine"), BoxLoss(name="mine")])
def test_losses_are_rebuilt_from_their_config(loss):
    copy = keras.losses.deserialize(keras.losses.serialize(loss))
    assert type(copy) is type(loss) and copy.get_config() == loss.get_config()


TRUE = np.array([[0.0, 0.0, 10.0, 10.0], [30.0, 30.0, 10.0, 10.0]])


@pytest.mark.parametrize(
    ("boxes", "labels", "scores", "ap50", "ap"),
    [
        (TRUE, [0, 1], [0.9, 0.8], 1.0, 1.0),
        (TRUE, [1, 0], [0.9, 0.8], 0.0, 0.0),  # the wrong classes
        (TRUE[:1], [0], [0.9], 0.5, 0.5),  # one class is not found
        # A wrong box that is surer than the right one: half of what is found is right.
        (TRUE[[1, 0, 1]], [0, 0, 1], [0.9, 0.8, 0.7], 0.75, 0.75),
        # An intersection over union of 0.72 is enough for 0.5, ..., 0.7: five of ten.
        (TRUE - [0, 0, 0, 2.8], [0, 1], [0.9, 0.8], 1.0, 0.5),
        (TRUE[:0], [], [], 0.0, 0.0),
    ],
    ids=["right", "classes", "half", "surer", "small", "none"],
)
def test_average_precision(boxes, labels, scores, ap50, ap):
    pytest.importorskip("pycocotools")
    found = [Detections(boxes, np.array(labels, int), np.array(scores))]
    numbers = average_precision(found, [TRUE], [np.array([0, 1])])
    assert numbers == pytest.approx({"ap50": ap50, "ap": ap}, abs=1e-3)


def test_average_precision_prints_nothing(capsys):
    pytest.importorskip("pycocotools")
    average_precision([Detections(TRUE, np.array([0, 1]), np.ones(2))], [TRUE], [np.array([0, 1])])
    assert capsys.readouterr().out == ""


def test_channels_can_be_cut_to_a_quarter_of_the_macs():
    groups = kgp.channel_groups(detector((64, 64, 3), classes=10, channels=8))
    costs = structured.Costs(groups)
    smallest = [np.arange(group.size) == 0 for group in groups]
    assert costs.macs(smallest) < 0.2 * costs.macs()


@pytest.mark.parametrize("size", [0, 60, 16, 64.0])
def test_wrong_image_sizes(size):
    with pytest.raises((InvalidArgumentError, ArgumentTypeError), match="image_size"):
        DetectionOptions(image_size=size)


@pytest.fixture
def own_folder(tmp_path):
    """Return a folder of photos with a bright and a dark square each, which are two classes."""
    rng = np.random.default_rng(0)
    images, annotations = [], []
    for number in range(48):
        pixels = rng.integers(100, 140, (32, 32, 3), dtype="uint8")
        for category, (lefts, value) in enumerate([((0, 4), 255), ((16, 20), 0)]):
            left, top = int(rng.integers(*lefts)), int(rng.integers(0, 20))
            pixels[top : top + 12, left : left + 12] = value
            box = [left, top, 12, 12]
            row = {"image_id": number, "category_id": category, "bbox": box}
            annotations.append({"id": len(annotations), **row})
        pil.fromarray(pixels).save(tmp_path / f"{number:02}.png")
        images.append({"id": number, "file_name": f"{number:02}.png", "width": 32, "height": 32})
    names = [{"id": 0, "name": "bright"}, {"id": 1, "name": "dark"}]
    content = {"images": images, "annotations": annotations, "categories": names}
    (tmp_path / "annotations.json").write_text(json.dumps(content))
    return str(tmp_path)


def test_data_and_picture_of_an_own_folder(own_folder):
    pytest.importorskip("matplotlib")
    application = Detection(DetectionOptions(data=own_folder, image_size=32))
    data = application.data()
    assert [len(part) for part in (data.train, data.validation, data.test)] == [32, 8, 8]
    assert data.train.y["heat_map"].shape == (32, 8, 8, 2)
    assert application.data() is data and own_folder in data.source.name
    # As many steps as for the 5,120 scenes.
    assert application.epochs() == (5 * 160, 8 * 160)
    network = application.networks(data, width=0.25)["network"]
    figure = application.show({"dense": network, "small": network}, data.test)
    assert len(figure.axes) == 6 * 3
    right = [axes for axes in figure.axes if axes.get_title() == "true boxes"]
    assert {text.get_text() for text in right[0].texts} == {"bright", "dark"}


@pytest.mark.full
def test_a_training_finds_the_objects_of_an_own_folder(own_folder):
    pytest.importorskip("pycocotools")
    options = DetectionOptions(data=own_folder, image_size=32, epochs=60)
    application = Detection(options)
    data = application.data()
    keras.utils.set_random_seed(0)
    model = application.model(application.networks(data, width=0.5))
    before = application.evaluate(model, data.test)["ap50"]
    model.fit(data.train.x, data.train.y, batch_size=8, epochs=options.epochs, verbose=0)
    assert before < 0.2 and application.evaluate(model, data.test)["ap50"] > 0.8
