"""Detection: which objects are in an image, and where; a one-shot detector with a heat map."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any, ClassVar

import attrs
import keras

from keras_ganprune.applications import detection_pictures, detection_scores, learning_rates
from keras_ganprune.applications.base import Application, Metric, Source, Split, Splits
from keras_ganprune.applications.dense_training import Plan
from keras_ganprune.applications.detection_losses import BoxLoss, HeatMapLoss
from keras_ganprune.applications.detection_maps import detected, encode
from keras_ganprune.applications.image_blocks import small_start
from keras_ganprune.applications.option_fields import documented, option
from keras_ganprune.applications.options import ApplicationOptions
from keras_ganprune.datasets import coco_folder, digit_scenes, digits_on_photos
from keras_ganprune.datasets.scenes import Scenes
from keras_ganprune.errors import InvalidArgumentError
from keras_ganprune.utils import validation

_SCENES, _QUICK_SCENES = 5120, 1024
_CHANNELS = 32
_BLOCKS, _QUICK_BLOCKS = 2, 1


def _check_size(value: Any, name: str) -> None:
    if not validation.is_int(value) or value < 32 or value % 8:
        raise InvalidArgumentError(
            f"`{name}` must be a multiple of 8, at least 32. Received: {value!r}."
        )


@documented
@attrs.frozen
class DetectionOptions(ApplicationOptions):
    """The options of detection.

    Raises:
        InvalidArgumentError: An option has a wrong value.

    Example:
    >>> DetectionOptions(image_size=96).image_size
    96
    """

    data: str | None = option(
        None,
        "Path of your own folder of images with a file annotations.json in COCO format.",
        default_text="handwritten digits on photos",
    )
    image_size: int = option(
        64,
        "Height and width of the images in pixels. Images of a folder are resized to fit.",
        kind=int,
        check=_check_size,
    )


class Detection(Application):
    """Finds objects: a network gives a heat map of their centres for each class, and their boxes.

    Args:
        options: `DetectionOptions`.

    Example:
    >>> from keras_ganprune.applications.detection import Detection, DetectionOptions
    >>> list(Detection(DetectionOptions()).metrics)
    ['ap50', 'ap']

    Reference: [Objects as points](https://arxiv.org/abs/1904.07850), Section 3.
    """

    name: ClassVar[str] = "detection"
    help: ClassVar[str] = "find handwritten digits on photos: one-shot detector with a heat map"
    options_class: ClassVar[type] = DetectionOptions
    metrics: ClassVar[Mapping[str, Metric]] = detection_scores.METRICS

    def data(self) -> Splits:
        """Return images; the targets are the maps of their boxes."""
        return self._data

    @functools.cached_property
    def _data(self) -> Splits:
        options = self.options
        if options.data is not None:
            scenes = coco_folder(options.data, options.image_size)
            source = Source(
                f"the folder '{options.data}'", "that of your images", "your own images"
            )
        else:
            scenes = digit_scenes(options.image_size, self._scenes, options.seed)
            source = Source(
                "handwritten digits on photos", digits_on_photos.LICENSE, digits_on_photos.CITATION
            )
        parts = {name: _split(part) for name, part in scenes.items()}
        described = "; ".join(f"{name}: {part.description}" for name, part in scenes.items())
        return Splits(**parts, source=source, description=f"{described}.")

    @property
    def _scenes(self) -> int:
        return _QUICK_SCENES if self.options.quick else _SCENES

    def networks(self, data: Splits, width: float = 1.0) -> dict[str, keras.Model]:
        """Return the new network by the name 'network'."""
        blocks = _QUICK_BLOCKS if self.options.quick else _BLOCKS
        classes = len(data.train.extra["classes"])
        channels = max(4, round(width * _CHANNELS))
        return {"network": detector(data.train.x.shape[1:], classes, channels, blocks)}

    def model(self, networks: Mapping[str, keras.Model]) -> keras.Model:
        """Return the network, compiled with the losses of both maps."""
        network = networks["network"]
        rate = learning_rates.falling(2e-3, *Plan.of(self, self.data()).steps)
        network.compile(
            keras.optimizers.Adam(rate),
            loss={"heat_map": HeatMapLoss(), "boxes": BoxLoss()},
        )
        return network

    def evaluate(self, network: keras.Model, data: Split) -> dict[str, float]:
        """Return AP50 and AP."""
        found = detected(network, data.x)
        return detection_scores.average_precision(found, data.extra["boxes"], data.extra["labels"])

    def show(self, networks: Mapping[str, keras.Model], data: Split) -> Any:
        """Return images with the boxes that each network finds, and with the true boxes."""
        return detection_pictures.figure(networks, data)

    def epochs(self) -> tuple[int, int]:
        """Return (epochs of the dense training, epochs of each compression).

        A folder with fewer images has more epochs, so that there are about as many steps.
        """
        dense, branch = (3, 2) if self.options.quick else (5, 8)
        if self.options.data is None:
            return dense, branch
        passes = max(1, round(self._scenes / len(self.data().train)))
        return passes * dense, passes * branch

    def batch_size(self) -> int:
        """Return the number of images per step."""
        return 8


def _split(scenes: Scenes) -> Split:
    maps = encode(scenes.boxes, scenes.labels, len(scenes.classes), scenes.images.shape[1])
    extra = {"boxes": scenes.boxes, "labels": scenes.labels, "classes": scenes.classes}
    return Split(scenes.images, maps, extra)


def detector(shape: tuple[int, ...], classes: int, channels: int, blocks: int = 2) -> keras.Model:
    """Return a network that gives a heat map and boxes at a quarter of the size of the image.

    Args:
        shape: (height, width, channels) of the image, both sizes multiples of 8.
        classes: Number of classes.
        channels: Channels at a quarter of the size; there are twice as many at an eighth.
        blocks: Number of residual blocks at an eighth of the size. Defaults to 2.

    Returns: Keras model that maps images in [-1, 1] to a dict: "heat_map" (n, height / 4, width / 4, classes)
        in [0, 1], and "boxes" (n, height / 4, width / 4, 4).

    Example:
    >>> from keras_ganprune.applications.detection import detector
    >>> network = detector((64, 64, 3), classes=10, channels=8)
    >>> tuple(network(np.zeros((1, 64, 64, 3)))["heat_map"].shape)
    (1, 16, 16, 10)

    References: [Objects as points](https://arxiv.org/abs/1904.07850), Section 3; a smaller scale and back:
    [Feature pyramid networks](https://arxiv.org/abs/1612.03144), Fig. 3.
    """
    layers = keras.layers
    image = keras.Input(shape, name="image")
    # All layers that add up share a group of channels, so the few of the first layer are not cut alone.
    x = _convolved(image, channels, "half", 4, 2)
    pooled = layers.AveragePooling2D(2, name="pooled")(x)
    x = layers.Add(name="quarter_add")([pooled, _convolved(x, channels, "quarter", 3, 2)])
    x = fine = _residual(x, channels, "fine")
    x = _convolved(x, 2 * channels, "eighth", 3, 2)
    for block in range(blocks):
        x = _residual(x, 2 * channels, f"coarse_{block}")
    x = layers.UpSampling2D(2, name="up")(_convolved(x, channels, "coarse", 1))
    x = _residual(layers.Add(name="scales")([fine, x]), channels, "both")
    # Nearly all cells have no centre: the network begins with a probability of 0.1.
    rare: Any = keras.initializers.Constant(-2.19)
    heat_map = layers.Conv2D(
        classes,
        1,
        activation="sigmoid",
        kernel_initializer=small_start(),
        bias_initializer=rare,
        name="heat_map",
    )(x)
    boxes = layers.Conv2D(4, 1, kernel_initializer=small_start(), name="boxes")(x)
    return keras.Model(image, {"heat_map": heat_map, "boxes": boxes}, name="detector")


def _convolved(x: Any, channels: int, name: str, kernel: int, strides: int = 1) -> Any:
    layers = keras.layers
    x = layers.Conv2D(channels, kernel, strides, "same", use_bias=False, name=name)(x)
    x = layers.BatchNormalization(name=f"{name}_norm")(x)
    return layers.ReLU(name=f"{name}_relu")(x)


def _residual(x: Any, channels: int, name: str) -> Any:
    layers = keras.layers
    y = _convolved(x, channels, f"{name}_a", 3)
    y = layers.Conv2D(channels, 3, padding="same", use_bias=False, name=f"{name}_b")(y)
    y = layers.BatchNormalization(name=f"{name}_b_norm")(y)
    return layers.ReLU(name=f"{name}_relu")(layers.Add(name=f"{name}_add")([x, y]))
