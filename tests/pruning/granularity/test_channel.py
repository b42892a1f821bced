"""`Channel` in one kernel, and what is refused."""

import keras
import numpy as np
import pytest

from keras_ganprune.errors import InvalidArgumentError
from keras_ganprune.layers import mask_ops
from keras_ganprune.layers.kernel_axes import KernelAxes, kernel_axes
from keras_ganprune.pruning.granularity import NM, Channel

DENSE = KernelAxes((-2,), (-1,))


def test_channel_rows_of_the_design():
    # L1 of the rows: 0.6 and 1.5, so a threshold of 0.5 takes none of them and 1.0 the first.
    kernel = np.array([[0.1, 0.2, 0.3], [-0.4, 0.5, -0.6]])
    unit = Channel("in").resolve(DENSE)
    pooled = unit.pool(np.abs(kernel))
    np.testing.assert_allclose(pooled, [0.6, 1.5])
    assert mask_ops.threshold_mask(pooled, 0.5).all()
    mask = unit.expand(mask_ops.threshold_mask(pooled, 1.0), kernel.shape)
    np.testing.assert_array_equal(mask, [[False] * 3, [True] * 3])


def test_channel_has_the_axis_order_of_each_layer():
    for cls in (keras.layers.Conv2D, keras.layers.Conv2DTranspose):
        layer = cls(7, 3)
        layer.build((None, 9, 9, 5))
        axes = kernel_axes(layer, "kernel")
        shape = tuple(layer.kernel.shape)
        for name, channels in (("out", 7), ("in", 5)):
            unit = Channel(name).resolve(axes)
            assert unit.pool(np.ones(shape)).shape == (channels,)
            assert unit.unit_sizes(shape) == 9 * 35 // channels


def test_channel_of_attention_is_one_dimension_of_one_head():
    unit = Channel("out", coupled=False).resolve(KernelAxes((-3,), (-2, -1)))
    assert unit == Channel((-2, -1))
    assert unit.pool(np.ones((5, 2, 3))).shape == (2, 3)
    assert unit.unit_sizes((5, 2, 3)) == 5


def test_channel_sums_in_double():
    scores = np.full((200_000, 1), 0.1, np.float32)
    want = 200_000 * np.float64(np.float32(0.1))
    assert Channel(1).pool(scores)[0] == pytest.approx(want, rel=1e-12)


def test_channel_mask_can_be_written():
    mask = Channel(0).expand(np.array([True, False]), (2, 3))
    mask[0, 0] = False
    assert mask.sum() == 2


@pytest.mark.parametrize(
    ("axis", "shape", "text"),
    [
        (
            2,
            (3, 4),
            r"`axis` must be an axis of the kernel\. Received: axis=2 .*shape \(3, 4\), .* 2\.",
        ),
        (-3, (3, 4), "axis=-3 .*Choose another axis, or leave the layer out of `scope`"),
        (0, (), r"shape \(\), which has 0"),
        ((0, 5), (3, 4), "axis=5"),
        ((0, -2), (3, 4), r"must name each axis once\. Received: axis=\(0, -2\)"),
        (
            "out",
            (3, 4),
            r"Channel\(axis='out'\) cannot know which axis .*Call `resolve\(kernel_axes",
        ),
        ("in", (3, 4), "or pass the axis as an int"),
    ],
)
def test_channel_that_does_not_fit(axis, shape, text):
    unit = Channel(axis)
    for use in (
        unit.check,
        unit.unit_sizes,
        lambda shape: unit.pool(np.ones(shape)),
        lambda shape: unit.alive(np.ones(shape, bool)),
        lambda shape: unit.expand(np.ones(1, bool), shape),
    ):
        with pytest.raises(InvalidArgumentError, match=text):
            use(shape)


@pytest.mark.parametrize("axis", ["output", None, 1.0, True, (), [], (0, "in"), (True,), {0}])
def test_channel_bad_axis(axis):
    with pytest.raises(InvalidArgumentError, match="`axis` must be 'out', 'in', an int or a tuple"):
        Channel(axis)


@pytest.mark.parametrize("unit", [NM(), Channel("in")])
def test_no_input_channels(unit):
    with pytest.raises(
        InvalidArgumentError, match="its input channels, but this weight has no such axis"
    ):
        unit.resolve(KernelAxes((), (-1,)))


def test_no_output_channels():
    with pytest.raises(
        InvalidArgumentError, match="over its output channels, but this weight has no such axis"
    ):
        Channel().resolve(KernelAxes((-1,), ()))
