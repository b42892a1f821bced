"""Text generation: names of places that don't exist, by a 1-D convolutional GAN on letters."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import attrs
import keras
import numpy as np

from keras_ganprune import datasets
from keras_ganprune.applications import learning_rates, text_quality
from keras_ganprune.applications.base import Application, Metric, Source, Split, Splits
from keras_ganprune.applications.dense_training import Plan
from keras_ganprune.applications.markov import MarkovSampler
from keras_ganprune.applications.option_fields import documented, option
from keras_ganprune.applications.options import ApplicationOptions
from keras_ganprune.datasets import letters
from keras_ganprune.errors import InvalidArgumentError
from keras_ganprune.gan import GANModel, latents
from keras_ganprune.utils import palette, plotting

# Noise numbers per letter.
_NOISE = 16
LATENT_DIM = letters.LENGTH * _NOISE
_CRITIC_STEPS = 2
_SEED = 1
_QUICK_NAMES, _QUICK_TEST_NAMES = 9600, 1000


@documented
@attrs.frozen
class TextGenerationOptions(ApplicationOptions):
    """The options of text generation.

    Raises:
        InvalidArgumentError: An option has a wrong value, or both `data` and `country` are given.

    Example:
    >>> TextGenerationOptions(country="Italy").country
    'Italy'
    """

    data: str | None = option(
        None,
        "Path of your own UTF-8 text file with one name per line.",
        default_text="place names of the world",
    )
    country: str | None = option(
        None,
        "Name or two letters of a country whose place names are learned.",
        default_text="the world",
    )

    def __attrs_post_init__(self) -> None:
        super().__attrs_post_init__()
        if self.data is not None and self.country is not None:
            raise InvalidArgumentError(
                "`country` is for the place names of GeoNames, and `data` is a file of your own. Received: "
                f"{self.country!r} and {self.data!r}. Leave one of the two out."
            )


class TextGeneration(Application):
    """Make up names of places.

    Args:
        options: `TextGenerationOptions`.

    Example:
    >>> application = TextGeneration(TextGenerationOptions(quick=True))
    >>> list(application.metrics)
    ['trigram_divergence', 'two_sample_accuracy', 'new', 'unique']
    """

    name = "text-generation"
    help = "make up place names: 1-D convolutional Wasserstein GAN"
    options_class = TextGenerationOptions
    metrics: ClassVar[Mapping[str, Metric]] = {
        "trigram_divergence": Metric("trigram divergence, bits", False, 4),
        "two_sample_accuracy": Metric("told from real names (0.5 is best)", False),
        "new": Metric("share new", True),
        "unique": Metric("share unique", True),
    }
    target = "generator"

    def data(self) -> Splits:
        """Return the letters of place names, or of the names of the user's file."""
        return self._data

    @functools.cached_property
    def _data(self) -> Splits:
        if self.options.data is not None:
            names = datasets.names_file(self.options.data)
        else:
            names = datasets.geonames(self.options.country)
        quick = self.options.quick
        train, validation, test = names.split(_QUICK_TEST_NAMES if quick else 5000)
        if quick:
            train = train.part(0, _QUICK_NAMES)
        known = frozenset(train.names)
        source = Source(names.description, names.license, names.citation)
        return Splits(
            _split(train, known),
            _split(validation, known),
            _split(test, known),
            source,
            f"{names.description}. {len(test):,} of them are held out for the table.",
        )

    def networks(self, data: Splits, width: float = 1.0) -> dict[str, keras.Model]:
        """Return the new generator and discriminator."""
        return {"generator": generator(width), "discriminator": discriminator()}

    def model(self, networks: Mapping[str, keras.Model]) -> GANModel:
        """Return the compiled GAN."""
        gan = GANModel(
            networks["generator"],
            networks["discriminator"],
            latent_dim=LATENT_DIM,
            loss="wasserstein",
            gradient_penalty=0.2,
            discriminator_steps=_CRITIC_STEPS,
            ema_decay=0.998,
            value_range=(0.0, 1.0),
            balance_frequency=0,
            seed=self.options.seed,
        )
        # The critic's optimizer has several steps per step of the generator's.
        dense, further = Plan.of(self, self.data()).steps
        rates = (
            learning_rates.falling(rate, times * dense, times * further)
            for rate, times in ((5e-4, 1), (1e-3, _CRITIC_STEPS))
        )
        gan.compile(*(keras.optimizers.Adam(rate, beta_1=0.0, beta_2=0.9) for rate in rates))
        return gan

    def evaluate(self, network: keras.Model, data: Split) -> dict[str, float]:
        """Return the numbers of as many generated names as there are real ones."""
        return _scores(generated_names(network, len(data), _SEED), data)

    def baselines(self, data: Splits) -> dict[str, dict[str, float]]:
        """Return the numbers of Markov samplers, and of real names that are not in the test set."""
        train, n = data.train.extra["names"], len(data.test)
        samples = {
            f"Markov sampler, order {order}": MarkovSampler(train, order).sample(n, _SEED)
            for order in (1, 2)
        }
        samples["real names"] = list(data.validation.extra["names"][:n])
        return {title: _scores(names, data.test) for title, names in samples.items()}

    def show(self, networks: Mapping[str, keras.Model], data: Split) -> Any:
        """Return a figure with a column of names per network, and their most frequent trigrams."""
        names = {"real": list(data.extra["names"])} | {
            title: generated_names(network, len(data), _SEED) for title, network in networks.items()
        }
        figure = plotting.require_plotting().Figure(
            figsize=(2.4 * len(names) + 1.0, 8.0), layout="constrained"
        )
        above, below = figure.subfigures(2, 1, height_ratios=(3, 2))
        for axes, (title, found) in zip(
            above.subplots(1, len(names), squeeze=False)[0], names.items(), strict=True
        ):
            _draw_names(axes, title, found)
        _draw_trigrams(below.subplots(), names)
        return figure

    def epochs(self) -> tuple[int, int]:
        """Return (epochs of the dense training, epochs of each compression)."""
        return (3, 1) if self.options.quick else (4, 2)

    def batch_size(self) -> int:
        """Return the number of names per step."""
        return 64


def generator(width: float = 1.0) -> keras.Model:
    """Return the generator: latent vectors (n, 192) to one-hot letters (n, 12, 27).

    Each letter has 16 of the latent numbers, and a Dense layer gives all letters a common plan. The outputs
    are exactly one-hot, so the discriminator can't tell names by soft letters. In training the gradient is
    that of the softmax (straight-through estimator).

    Args:
        width: Positive float, factor for the channels. Defaults to 1.

    Example:
    >>> generator(width=0.5).output_shape
    (None, 12, 27)

    References: residual blocks: [WGAN-GP](https://arxiv.org/abs/1704.00028), §5.4; straight-through:
    [Estimating gradients through stochastic neurons](https://arxiv.org/abs/1308.3432), §4.
    """
    layers = keras.layers
    channels = max(8, 8 * round(8 * width))
    z = keras.Input((LATENT_DIM,), name="noise")
    x = layers.Reshape((letters.LENGTH, _NOISE))(z)
    x = layers.Conv1D(channels, 3, padding="same", name="local_noise")(x)
    plan = layers.Dense(channels, activation="relu", name="plan")(z)
    plan = layers.Dense(letters.LENGTH * channels, name="plan_of_letters")(plan)
    x = layers.Add()([x, layers.Reshape((letters.LENGTH, channels))(plan)])
    for _ in range(2):
        y = layers.Conv1D(channels, 3, padding="same")(layers.ReLU()(x))
        y = layers.Conv1D(channels, 3, padding="same")(layers.ReLU()(y))
        x = layers.Add()([x, y])
    symbols = len(letters.SYMBOLS)
    soft = layers.Softmax()(layers.Conv1D(symbols, 1, name="letters")(layers.ReLU()(x)))
    hard = keras.ops.one_hot(keras.ops.argmax(soft, axis=-1), symbols)
    outputs = layers.Add()([soft, keras.ops.stop_gradient(hard - soft)])
    return keras.Model(z, outputs, name="generator")


def discriminator() -> keras.Model:
    """Return the critic: one-hot letters (n, 12, 27) to one number per name.

    Its first layer sees trigrams, its second one half a name.

    Example:
    >>> discriminator().output_shape
    (None, 1)
    """
    layers = keras.layers
    x = inputs = keras.Input((letters.LENGTH, len(letters.SYMBOLS)), name="letters")
    x = layers.LeakyReLU(0.2)(layers.Conv1D(64, 3, padding="same")(x))
    x = layers.LeakyReLU(0.2)(layers.Conv1D(64, 4, strides=2, padding="same")(x))
    x = layers.LeakyReLU(0.2)(layers.Dense(64)(layers.Flatten()(x)))
    return keras.Model(inputs, layers.Dense(1)(x), name="discriminator")


def generated_names(network: keras.Model, n: int, seed: int) -> list[str]:
    """Return `n` names of a generator. A space is a gap that a real name would not have.

    Args:
        network: Generator that maps latent vectors to probabilities of letters (n, 12, 27).
        n: Positive int, number of names.
        seed: Non-negative int, seed of the latent vectors.
    """
    z = latents.draw(n, LATENT_DIM, seed)
    outputs = latents.images_of(network, [z], 1024)
    return letters.decode(np.concatenate([output.argmax(-1) for output in outputs]))


def _split(names: datasets.Names, known: frozenset[str]) -> Split:
    one_hot = np.eye(len(letters.SYMBOLS), dtype="float32")[letters.encode(names.names)]
    return Split(one_hot, extra={"names": names.names, "known": known})


def _scores(names: Sequence[str], data: Split) -> dict[str, float]:
    real = data.extra["names"][: len(names)]
    return {
        "trigram_divergence": text_quality.trigram_divergence(names, real),
        "two_sample_accuracy": text_quality.two_sample_accuracy(names, real),
        "new": text_quality.share_new(names, data.extra["known"]),
        "unique": text_quality.share_unique(names),
    }


def _draw_names(axes: Any, title: str, names: Sequence[str], rows: int = 20) -> None:
    """Write the first names. A gap in a name is a dot."""
    axes.set_axis_off()
    axes.set_title(title, fontsize=11, loc="left")
    for row, name in enumerate(names[:rows]):
        axes.text(
            0.0, 1.0 - (row + 0.5) / rows, name.title(), transform=axes.transAxes, fontsize=10
        )


def _draw_trigrams(axes: Any, names: Mapping[str, Sequence[str]], most: int = 24) -> None:
    """Draw the frequencies of the trigrams that are most frequent in the first list."""
    counts = {title: text_quality.trigrams(found) for title, found in names.items()}
    shown = [trigram for trigram, _ in next(iter(counts.values())).most_common(most)]
    width = 0.85 / len(names)
    for i, (title, count) in enumerate(counts.items()):
        shares = [1000.0 * count[trigram] / sum(count.values()) for trigram in shown]
        axes.bar(
            np.arange(most) + i * width,
            shares,
            width,
            label=title,
            color=palette.LIGHT.colour(i - 1),
        )
    axes.set_xticks(np.arange(most) + 0.4, shown, rotation=60, fontsize=9, family="monospace")
    axes.set(ylabel="per 1,000 trigrams", title="The most frequent trigrams (^ begin, $ end)")
    axes.legend(fontsize=8)
