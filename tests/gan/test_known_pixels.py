"""`keep_known_pixels`: what it refuses. That known pixels stay is tested with the GANs that use it."""

import keras
import pytest
from image_pairs import SHAPE, SIDE, data

import keras_ganprune as kgp
from keras_ganprune.errors import ArgumentTypeError, InvalidArgumentError


def test_known_pixels_need_tensors_of_one_size():
    image, mask = keras.Input(SHAPE), keras.Input(SHAPE)
    colours = keras.Input((SIDE, SIDE, 3))
    assert kgp.keep_known_pixels(colours, keras.Input((SIDE, SIDE, 3)), mask).shape[-1] == 3
    with pytest.raises(InvalidArgumentError, match="`image` must have the shape of `generated`"):
        kgp.keep_known_pixels(colours, image, mask)
    with pytest.raises(InvalidArgumentError, match="`mask` the same, or one channel"):
        kgp.keep_known_pixels(image, image, keras.Input((4, 4, 1)))
    with pytest.raises(ArgumentTypeError, match="`image` must be a Keras tensor"):
        kgp.keep_known_pixels(image, data()[1], mask)
