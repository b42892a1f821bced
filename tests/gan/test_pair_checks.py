"""Arguments, networks and data that `ImageToImageGAN` refuses before the first step."""

import functools

import keras
import numpy as np
import pytest
from image_pairs import SHAPE, SIDE, Batches, compiled, data, fit, pair, patches, unet
from keras import layers

import keras_ganprune as kgp
from keras_ganprune.errors import (
    ArgumentTypeError,
    DataError,
    InvalidArgumentError,
    PruningWarning,
    UnbuiltModelError,
)

BAD_ARGUMENTS = [
    ({"adversarial_weight": -1}, "`adversarial_weight` must be a non-negative number"),
    ({"adversarial_weight": 0, "reconstruction": None}, "The generator must have a loss"),
    ({"reconstruction": "l3"}, "Unknown reconstruction loss 'l3'"),
    ({"reconstruction": 0}, "`weight` must be a positive number"),
    ({"reconstruction": kgp.PerceptualLoss(layers="other")}, "`layers` must be names of layers"),
    ({"discriminator_sees": "image_and_result"}, "the discriminator must have 2 input"),
    ({"discriminator_sees": "all"}, "`discriminator_sees`"),
    ({"balance_frequency": -1}, "`balance_frequency` must be"),
]


@pytest.mark.parametrize(("options", "match"), BAD_ARGUMENTS, ids=str)
def test_bad_arguments(options, match):
    with pytest.raises(InvalidArgumentError, match=match):
        kgp.ImageToImageGAN(*pair(), **options)


def test_bad_types():
    generator, discriminator = pair()
    for networks, match in (
        (("a", discriminator), "`generator` must be"),
        ((generator, None), "`discriminator` must be"),
    ):
        with pytest.raises(ArgumentTypeError, match=match):
            kgp.ImageToImageGAN(*networks)
    with pytest.raises(InvalidArgumentError, match="must be two networks"):
        kgp.ImageToImageGAN(generator, generator)
    with pytest.raises(ArgumentTypeError, match="reconstruction loss must be a name"):
        kgp.ImageToImageGAN(generator, discriminator, reconstruction=object())
    with pytest.raises(ArgumentTypeError, match="`network` must be"):
        kgp.PerceptualLoss("vgg")
    with pytest.raises(UnbuiltModelError, match="has no weights yet"):
        kgp.PerceptualLoss(keras.Sequential([layers.Dense(3)]))
    with pytest.raises(InvalidArgumentError, match="uses the discriminator of the GAN"):
        kgp.PerceptualLoss().distance(data()[1], data()[1])


def wide(shape):
    """A discriminator of the result alone, of another shape."""
    image = keras.Input(shape)
    return keras.Model(image, layers.Conv2D(1, 3)(image))


@pytest.mark.parametrize(
    ("networks", "options", "match"),
    [
        (lambda: (unet("image"), patches("image mask")), {}, "result, .image, result., or the 1"),
        (lambda: (unet(), wide((4, 4, 1))), {}, "must have the shapes of what it sees"),
        (
            lambda: (unet(), patches("")),
            {"reconstruction": kgp.PerceptualLoss(wide((SIDE, SIDE, 3)))},
            "must take the images that the generator makes",
        ),
        (
            lambda: (
                keras.Model(x := keras.Input(SHAPE), [layers.ReLU()(x), layers.ReLU()(x)]),
                patches(""),
            ),
            {},
            "must return one image",
        ),
    ],
)
def test_networks_that_do_not_fit(networks, options, match):
    with pytest.raises(InvalidArgumentError, match=match):
        kgp.ImageToImageGAN(*networks(), **options)


def test_augmentation_needs_images_of_one_size():
    small, result = keras.Input((4, 4, 1)), keras.Input(SHAPE)
    generator = keras.Model(small, layers.UpSampling2D(2)(layers.Conv2D(1, 1)(small)))
    seen = layers.Concatenate()([layers.UpSampling2D(2)(small), result])
    discriminator = keras.Model([small, result], layers.Conv2D(1, 3)(seen))
    with pytest.raises(InvalidArgumentError, match="they must have one height and width"):
        kgp.ImageToImageGAN(generator, discriminator, augmentation=kgp.DiffAugment())


@functools.cache
def untrained():
    return compiled()


(X, M), Y = data()
BAD_DATA = [
    (None, Y, "takes inputs and targets as arrays"),
    ("images", Y, "takes inputs and targets as arrays"),
    ((X, M), None, "one target image for each input.* no targets"),
    ((X, M), (Y, Y), "a tuple of 2 as targets"),
    (X, Y, r"takes 2 input\(s\), \['image', 'mask'\]. Received: 1"),
    ((X, M, M), Y, "Received: 3"),
    ({"image": X, "hole": M}, Y, r"names of the generator's inputs.*\['image', 'hole'\]"),
    ((X, M), Y[:5], "8 of image, 8 of mask, 5 of targets"),
    ((X, M[:5]), Y, "8 of image, 5 of mask, 8 of targets"),
    ((X, M[:, ::2]), Y, r"shapes that the generator takes, .* Received: .*\(4, 8, 1\)"),
    ((X, M), Y[:, ::2], r"Targets must have the shape .* Received: \(4, 8, 1\)"),
    ((X, np.full_like(M, np.nan)), Y, "The values of 'mask' must be finite"),
    ((X, M), Y * np.inf, "The values of 'targets' must be finite"),
    ((X, M.astype(str)), Y, "The values of 'mask' must be numbers"),
    ((X[:0], M[:0]), Y[:0], "The data is empty"),
    (([X[0], X[1, :4]], [M[0], M[1]]), Y[:2], "several sizes"),
]


@pytest.mark.parametrize(("x", "y", "match"), BAD_DATA, ids=range(len(BAD_DATA)))
def test_bad_data(x, y, match):
    gan = untrained()
    with pytest.raises(DataError, match=match):
        fit(gan, x, y)


def test_bad_data_in_streams_validation_and_generate():
    gan = untrained()
    with pytest.raises(DataError, match=r"must be finite.*\(in the first batch\)"):
        fit(gan, Batches((X, M), Y * np.nan), batch_size=None)
    with pytest.raises(DataError, match="5 of targets"):
        fit(gan, (X, M), Y, validation_data=((X, M), Y[:5]))
    with pytest.raises(DataError, match="sample weights"):
        fit(gan, Weighted((X, M), Y), batch_size=None)
    for inputs, match in (((X, M[:5]), "5 of mask"), (X, "Received: 1"), ((X, M[:, :4]), "shapes")):
        with pytest.raises(DataError, match=match):
            gan.generate(inputs)
    with pytest.raises(InvalidArgumentError, match="`batch_size`"):
        gan.generate((X, M), batch_size=0)


class Weighted(Batches):
    def __getitem__(self, i):
        return (*super().__getitem__(i), np.ones(4))


def test_masks_of_another_size_for_a_network_of_any_size():
    image, mask = keras.Input((None, None, 1)), keras.Input((None, None, 1))
    generator = keras.Model(
        [image, mask], layers.Conv2D(1, 3, padding="same")(layers.Concatenate()([image, mask]))
    )
    result = keras.Input((None, None, 1))
    gan = compiled((generator, keras.Model(result, layers.Conv2D(1, 3)(result))))
    with pytest.raises(DataError, match="cannot take inputs of these sizes together"):
        fit(gan, (X, M[:, ::2, ::2]), Y)


@pytest.mark.parametrize(
    ("x", "y", "name"),
    [
        ((X, M), (Y + 1) * 127.5, "targets"),
        ((X, 255 * M), Y, "mask"),
        (((X + 1) * 127.5, M), Y, "image"),
    ],
)
def test_a_wrong_range_is_warned_of(x, y, name):
    gan = compiled()
    with pytest.warns(PruningWarning, match=f"The values of '{name}' lie in .*masks to 0 and 1"):
        fit(gan, x, y)


def test_noise_beyond_the_range_is_no_fault(recwarn):
    fit(compiled(), (X + np.float32(0.3), M), Y)
    assert [w for w in recwarn if issubclass(w.category, PruningWarning)] == []
