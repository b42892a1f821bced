"""`shrink`: masks that can be cut, and masks that cannot."""

import keras
import numpy as np
import pytest
from keras import layers
from shrunk_models import assert_same, noise_batch, random_weights, residual_mlp, small_mlp

import keras_ganprune as kgp
from keras_ganprune.errors import (
    DivergedError,
    ExportError,
    InvalidArgumentError,
)


def test_masks_of_single_weights():
    model = small_mlp()
    kgp.Pruner(model).update(sparsity=0.5)
    with pytest.raises(InvalidArgumentError, match=r"prune single weights.*granularity='channel'"):
        kgp.shrink(model)
    with pytest.raises(InvalidArgumentError, match="nothing to remove"):
        kgp.shrink(small_mlp())


def test_masks_of_each_kernel_by_itself():
    model = small_mlp()
    kgp.Pruner(model, granularity=kgp.Channel(coupled=False)).update(sparsity=0.5)
    text = r"4 channels of the group 'a' are pruned in a/kernel, but not in a/bias, b/kernel.*\nb?"
    with pytest.raises(InvalidArgumentError, match=text):
        kgp.shrink(model)
    with pytest.raises(
        InvalidArgumentError, match=r"a coupled `Channel`\. Received: Channel\(.*coupled=F"
    ):
        kgp.shrink(model, sparsity=0.5, granularity=kgp.Channel(coupled=False))


@pytest.mark.filterwarnings("ignore:.*had values under the mask")
def test_masks_that_disagree():
    model = residual_mlp()
    kgp.Pruner(model, granularity="channel", criterion="random").update(sparsity=0.5)
    mask = model.get_layer("last").kernel.constraint.mask
    by_hand = mask.numpy()
    extra = np.flatnonzero(by_hand.any(axis=0))[0]
    by_hand[:, extra] = False
    mask.assign(by_hand)
    text = (
        r"1 channels of the group 'first' are pruned in last/kernel, but not in first/kernel.*masks of a "
        r"group must agree(.|\n)*out   last/kernel axis 1"
    )
    with pytest.raises(InvalidArgumentError, match=text):
        kgp.shrink(model)
    small = kgp.shrink(model, strict=False)
    assert small.get_layer("last").kernel.shape == (3, 4)
    assert np.sum(~small.get_layer("last").kernel.numpy().any(axis=0)) == 1
    assert_same(model, small, noise_batch(5))


def test_masks_along_an_axis_that_stays():
    z = keras.Input((5,))
    x = layers.Dense(8, name="fixed")(layers.Dense(8, name="free")(z))
    x = layers.LayerNormalization()(x)
    model = random_weights(keras.Model(z, layers.Dense(2, name="head")(x)))
    kgp.Pruner(model, granularity="channel").update(sparsity=0.5)
    kgp.Pruner(model, granularity=kgp.Channel(coupled=False), scope="fixed").update(sparsity=0.5)
    with pytest.raises(InvalidArgumentError, match="fixed/kernel"):
        kgp.shrink(model)


@pytest.mark.filterwarnings("ignore:.*had values under the mask")
def test_masks_of_a_part_of_a_channel():
    image = [layers.Dense(32, name="stem"), layers.Reshape((2, 2, 8)), layers.Conv2D(2, 1)]
    model = random_weights(keras.Sequential([keras.Input((5,)), *image]))
    kgp.Pruner(model, granularity="channel").update(sparsity=0.5)
    mask = model.layers[0].kernel.constraint.mask
    by_hand = mask.numpy()
    by_hand[:, np.flatnonzero(by_hand.any(axis=0))[0]] = False
    mask.assign(by_hand)
    with pytest.raises(InvalidArgumentError, match="stem/kernel"):
        kgp.shrink(model)


def test_channels_that_nothing_reads_go():
    z = keras.Input((5,))
    x = layers.Dense(8, name="wide")(z)
    model = random_weights(keras.Model(z, layers.Dense(2)(x[:, :4])))
    kgp.Pruner(model, granularity="channel").update(sparsity=0.5)
    assert_same(model, kgp.shrink(model), noise_batch(5))


def test_something_stays_of_every_slice():
    image = keras.Input((4, 4, 3))
    x = layers.Conv2D(8, 1, name="wide")(image)
    pooled = [layers.GlobalMaxPooling2D()(part) for part in (x, x[..., :2])]
    x = layers.Concatenate()(pooled)
    model = random_weights(keras.Model(image, layers.Dense(2)(x)))
    kernel = model.get_layer("wide").kernel
    kernel.assign(kernel.numpy() * (np.arange(8) >= 2))  # the two of the slice score lowest
    kgp.shrink(model, sparsity=0.5)


def test_a_sparsity_in_percent_and_other_arguments():
    model = small_mlp()
    with pytest.raises(InvalidArgumentError, match=r"Received: 80\. For 80 %, pass 0\.8"):
        kgp.shrink(model, sparsity=80)
    with pytest.raises(InvalidArgumentError, match="Give one of `sparsity` and `budget`"):
        kgp.shrink(model, sparsity=0.5, budget=kgp.Budget(macs=0.5))
    with pytest.raises(InvalidArgumentError, match="`budget` must be a `Budget` or None"):
        kgp.shrink(model, budget=object())
    with pytest.raises(InvalidArgumentError, match="`limits` can only be used with a `budget`"):
        kgp.shrink(model, sparsity=0.5, limits={"a": 0.5})
    with pytest.raises(InvalidArgumentError, match="has no gradients for"):
        kgp.shrink(model, sparsity=0.5, criterion="taylor")
    with pytest.raises(InvalidArgumentError, match="`granularity` must be 'channel'"):
        kgp.shrink(model, sparsity=0.5, granularity="unstructured")


def test_weights_that_are_not_finite():
    model = small_mlp()
    bias = model.layers[-1].bias
    bias.assign([np.nan, 0.0])
    with pytest.raises(
        ExportError, match=r"Received: NaN on random inputs\. Its weight .*bias has NaN"
    ):
        kgp.shrink(model, sparsity=0.5)
    kgp.Pruner(model, granularity="channel").update(sparsity=0.5)
    with pytest.raises(
        ExportError, match=r"Received: NaN on random inputs\. Its weight .*bias has NaN"
    ):
        kgp.shrink(model)
    model = small_mlp()
    model.layers[0].kernel.assign(np.full((5, 8), np.inf))
    with pytest.raises(DivergedError, match="a/kernel' has 40 value"):
        kgp.shrink(model, sparsity=0.5)


def test_masks_that_are_not_held():
    """Under `soft`, pruned weights may have grown back; then there is nothing to cut."""
    model = small_mlp()
    pruner = kgp.Pruner(model, granularity="channel", mode="soft")
    pruner.update(sparsity=0.5)
    assert not pruner.held
    random_weights(model, seed=1)  # as if trained
    with pytest.raises(InvalidArgumentError, match="nothing to remove"):
        kgp.shrink(model)
    pruner.hold()
    small = kgp.shrink(model)
    assert [layer.units for layer in small.layers] == [4, 3, 2]
    assert_same(model, small, noise_batch(5))
