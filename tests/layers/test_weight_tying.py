"""Tied kernels: which layers are pairs, which are refused, and that each shared kernel has one mask."""

import keras
import networks as nets
import numpy as np
import pytest
from keras import layers
from tied_networks import (
    NAMED,
    assert_one_mask,
    conv,
    dense_pair,
    subclassed_pair,
    symmetric_discriminator,
    symmetric_generator,
    symmetric_pair,
    tied_pair,
)

import keras_ganprune as kgp
from keras_ganprune.errors import (
    ArgumentTypeError,
    InvalidArgumentError,
    UnbuiltModelError,
    UnsupportedLayerError,
)
from keras_ganprune.layers.weight_sharing import share_again, shared_positions
from keras_ganprune.layers.weight_tying import tie_mirrored

# --- which layers are tied, and what is left of them -----------------------------------------------


def test_mirrored_pairs_share_one_variable():
    generator, discriminator = symmetric_pair()
    kernels = [nets.value(conv(discriminator, f"down_{i}").kernel).copy() for i in (1, 2)]
    before = [w.path for w in generator.weights]
    trainable = len(generator.trainable_weights)
    tied = tie_mirrored(generator, discriminator)
    assert [(p.generator, p.discriminator, p.shape) for p in tied] == [
        ("up_2", "down_1", (3, 3, 1, 4)),
        ("up_1", "down_2", (3, 3, 4, 6)),
    ]
    for pair, kernel in zip(tied, kernels, strict=True):
        one, two = conv(generator, pair.generator), conv(discriminator, pair.discriminator)
        assert one.kernel is two.kernel is pair.variable
        np.testing.assert_array_equal(nets.value(one.kernel), kernel)  # the discriminator's value
        assert one.bias is not two.bias
        assert one.trainable_weights[0] is one.kernel  # where the old one stood
    # The same number of weights in the same order, the tied ones under the discriminator's names.
    after = [w.path for w in generator.weights]
    assert len(generator.trainable_weights) == trainable
    assert [i for i, (a, b) in enumerate(zip(before, after, strict=True)) if a != b] == [2, 8]
    assert [after[2], after[8]] == [tied[1].variable.path, tied[0].variable.path]


def test_outputs_are_those_of_the_shared_kernel():
    generator, discriminator = symmetric_pair()
    z = np.random.default_rng(0).normal(size=(3, nets.LATENT)).astype("float32")
    generator.predict(z, verbose=0)  # compiled with the kernels of its own
    tie_mirrored(generator, discriminator)
    twin = symmetric_generator()
    twin.set_weights(generator.get_weights())
    np.testing.assert_array_equal(generator(z), twin(z))
    np.testing.assert_allclose(generator.predict(z, verbose=0), twin(z), atol=1e-6)
    conv(discriminator, "down_1").kernel.assign_add(np.ones((3, 3, 1, 4)))
    assert np.abs(generator.predict(z, verbose=0) - nets.value(twin(z))).max() > 0.01


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_every_rank(rank):
    down = getattr(layers, f"Conv{rank}D")
    up = getattr(layers, f"Conv{rank}DTranspose")
    generator = keras.Sequential([keras.Input((*(4,) * rank, 5)), up(3, 3), up(2, 3)])
    discriminator = keras.Sequential([keras.Input((*(8,) * rank, 2)), down(3, 3), down(5, 3)])
    tied = tie_mirrored(generator, discriminator)
    assert [p.shape for p in tied] == [(*(3,) * rank, 2, 3), (*(3,) * rank, 3, 5)]
    assert generator(np.ones((1, *(4,) * rank, 5))).shape == (1, *(8,) * rank, 2)


def test_layers_without_a_partner_are_skipped():
    generator = keras.Sequential(
        [
            keras.Input((4, 4, 8)),
            layers.Conv2DTranspose(4, 3, name="a"),
            layers.Conv2DTranspose(4, 5, name="odd"),
            layers.Conv2DTranspose(1, 3, name="b"),
        ]
    )
    discriminator = keras.Sequential(
        [
            keras.Input((12, 12, 1)),
            layers.Conv2D(4, 3, name="first"),
            layers.Conv2D(4, 1, name="point"),
            layers.Conv2D(8, 3, groups=1, name="second"),
            layers.Conv2D(8, 3, groups=2, name="grouped"),  # (3, 3, 4, 8) as well
        ]
    )
    tied = tie_mirrored(generator, discriminator)
    assert [(p.generator, p.discriminator) for p in tied] == [("b", "first"), ("a", "second")]


def test_nested_and_subclassed_networks():
    generator, discriminator = subclassed_pair()
    assert generator.head.kernel is conv(discriminator, "down_1").kernel
    inner = keras.Sequential([keras.Input((8, 8, 1)), layers.Conv2D(4, 3, name="down")], name="in")
    outer = keras.Sequential([keras.Input((8, 8, 1)), inner])
    generator = keras.Sequential([keras.Input((6, 6, 4)), layers.Conv2DTranspose(1, 3, name="up")])
    (pair,) = tie_mirrored(generator, outer)
    assert pair.discriminator == "in/down"


def test_tying_again_changes_nothing():
    pair = symmetric_pair()
    first = tie_mirrored(*pair)
    weights = list(map(id, pair[0].weights))
    second = tie_mirrored(*pair)
    assert (
        first == second
        and [a.variable is b.variable for a, b in zip(first, second, strict=True)] == [True] * 2
    )
    assert list(map(id, pair[0].weights)) == weights


@pytest.mark.parametrize("by", ["name", "path", "object"])
def test_named_pairs(by):
    generator, discriminator = dense_pair()
    a, b = conv(generator, "a"), conv(discriminator, "b")
    pair = (a, b) if by == "object" else ("a", "b") if by == "name" else ("a*", "b*")
    (tied,) = tie_mirrored(generator, discriminator, [pair])
    assert a.kernel is b.kernel is tied.variable
    assert a._kernel is b._kernel
    with pytest.raises(InvalidArgumentError, match="No transposed convolution"):
        tie_mirrored(generator, discriminator)


def test_no_pair_lists_the_shapes_of_both_sides():
    with pytest.raises(
        InvalidArgumentError,
        match=r"generator has conv2d_transpose\w* \(3, 3, 6, 6\), the discriminator "
        r"conv2d\w* \(3, 3, 1, 5\), conv2d\w* \(3, 3, 5, 5\)",
    ):
        tie_mirrored(nets.dcgan_generator(6), nets.dcgan_discriminator(5))
    with pytest.raises(InvalidArgumentError, match="generator has none, the discriminator none"):
        tie_mirrored(*nets.mlp_pair())


@pytest.mark.parametrize(
    ("pairs", "match"),
    [
        ([("a", "out")], r"kernels of the same shape. Received: \(4, 4\) and \(4, 1\)"),
        (["ab"], "list of .layer of the generator, layer of the discriminator"),
        ([("a",)], "list of"),
        ([("a", "*")], r"must name one layer. '\*' matches b, out"),
        ([("c", "b")], "Unknown layer in `scope`"),
        ([("a", "b"), ("dense*", "b")], "names b of the discriminator more than once"),
        ([], "Name the layers"),
    ],
)
def test_pairs_that_cannot_be(pairs, match):
    generator, discriminator = dense_pair()
    kernel = conv(generator, "a").kernel
    with pytest.raises(InvalidArgumentError, match=match):
        tie_mirrored(generator, discriminator, pairs)
    assert conv(generator, "a").kernel is kernel


def wrapped(wrapper):
    generator, discriminator = symmetric_pair()
    if wrapper == "discriminator":
        return generator, symmetric_discriminator(wrap=layers.SpectralNormalization)
    up = layers.SpectralNormalization(layers.Conv2DTranspose(1, 3, name="up"), name="norm")
    return keras.Sequential([keras.Input((4, 4, 4)), up]), discriminator


def lora(side):
    generator, discriminator = dense_pair()
    layer = conv(generator, "a") if side == "generator" else conv(discriminator, "b")
    layer.enable_lora(2)
    return generator, discriminator


def quantized():
    generator, discriminator = dense_pair()
    conv(discriminator, "b").quantize("int8")
    return generator, discriminator


def recurrent():
    generator = keras.Sequential([keras.Input((3, 4)), layers.LSTM(4, name="a")])
    return generator, keras.Sequential([keras.Input((3, 4)), layers.LSTM(4, name="b")])


def mixed():
    return symmetric_generator(dtype="mixed_bfloat16"), symmetric_discriminator()


def frozen(side):
    pair = symmetric_pair()
    pair[side].trainable = False
    return pair


def used_twice():
    """The generator uses its kernel in another layer too."""

    class Reuse(layers.Layer):
        def __init__(self, source):
            super().__init__(name="reuse")
            self.source = source

        def build(self, shape):
            self.again = self.source.kernel

        def call(self, x):
            return x @ self.again

    generator, discriminator = dense_pair()
    layer = conv(generator, "a")
    x = keras.Input((4,))
    return keras.Model(x, Reuse(layer)(layer(x)), name="generator"), discriminator


def in_both():
    """The discriminator's layer is one of the generator's already."""
    generator, discriminator = dense_pair()
    shared = conv(discriminator, "b")
    x = keras.Input((4,))
    return keras.Model(x, conv(generator, "a")(shared(x)), name="generator"), discriminator


UNSUPPORTED = {
    "'spectral_normalization.* may rewrite it": (lambda: wrapped("discriminator"), None),
    "the wrapper 'norm' .SpectralNormalization.": (lambda: wrapped("generator"), None),
    "'a' .Dense. is quantized or has LoRA": (lambda: lora("generator"), NAMED),
    "'b' .Dense. is quantized or has LoRA": (lambda: lora("discriminator"), NAMED),
    "computed, not stored, and cannot be shared": (quantized, NAMED),
    "exactly one kernel to be tied. Received: cell.kernel": (recurrent, NAMED),
}
INVALID = {
    "Received: mixed_bfloat16 and float32": (mixed, None),
    "'up_2' is frozen": (lambda: frozen(0), None),
    "'down_1' is frozen": (lambda: frozen(1), None),
    "because reuse uses one of the two kernels too": (used_twice, NAMED),
    "because b uses one of the two kernels too": (in_both, NAMED),
}


@pytest.mark.parametrize("match", UNSUPPORTED)
def test_layers_that_have_no_kernel_of_their_own_to_share(match):
    make, pairs = UNSUPPORTED[match]
    with pytest.raises(UnsupportedLayerError, match=match):
        tie_mirrored(*make(), pairs)


@pytest.mark.parametrize("match", INVALID)
def test_layers_that_cannot_share_with_each_other(match):
    make, pairs = INVALID[match]
    with pytest.raises(InvalidArgumentError, match=match):
        tie_mirrored(*make(), pairs)


def test_networks_of_another_type_are_refused():
    with pytest.raises(ArgumentTypeError, match="`generator` must be a Keras 3 model"):
        tie_mirrored(1, symmetric_discriminator())


def test_unbuilt_networks_are_refused():
    with pytest.raises(UnbuiltModelError, match="`generator` must be built before its kernels"):
        tie_mirrored(nets.unbuilt_pair()[0], symmetric_discriminator())


@pytest.mark.parametrize(
    ("kind", "value"), [("constraint", nets.Clip(0.1)), ("regularizer", keras.regularizers.L2(0.1))]
)
def test_what_the_generator_would_lose_is_refused_what_the_other_has_stays(kind, value):
    generator, discriminator = symmetric_pair()
    with pytest.raises(
        InvalidArgumentError, match=rf"has a kernel {kind} \(\w+\), which would be lost"
    ):
        tie_mirrored(symmetric_generator(**{f"kernel_{kind}": value}), discriminator)
    pruned = kgp.make_prunable(symmetric_generator(**{f"kernel_{kind}": value}))
    with pytest.raises(InvalidArgumentError, match=f"Remove `kernel_{kind}` there"):
        tie_mirrored(pruned, discriminator)
    tied = tie_mirrored(generator, symmetric_discriminator(**{f"kernel_{kind}": value}))
    assert getattr(tied[0].variable, kind) is not None


def test_a_wrapper_that_holds_the_kernel_is_refused():
    class Renorm(layers.Wrapper):
        def build(self, shape):
            super().build(shape)
            self.kernel = self.layer.kernel

        def call(self, x):
            return self.layer(x)

    generator, _ = symmetric_pair()
    with pytest.raises(
        UnsupportedLayerError, match=r"the wrapper 'renorm' .Renorm. may rewrite it"
    ):
        tie_mirrored(
            generator,
            symmetric_discriminator(
                wrap=lambda x: Renorm(x, name="renorm") if x.name == "down_1" else x
            ),
        )


# --- one mask --------------------------------------------------------------------------------------


def orders():
    generator, discriminator = symmetric_pair()
    steps = {
        "g": lambda: kgp.make_prunable(generator),
        "d": lambda: kgp.make_prunable(discriminator),
        "t": lambda: tie_mirrored(generator, discriminator),
    }
    return generator, discriminator, steps


@pytest.mark.parametrize("order", ["gdt", "dgt", "gtd", "dtg", "tgd", "tdg"])
def test_one_mask_whatever_comes_first(order):
    generator, discriminator, steps = orders()
    for step in order:
        steps[step]()
    assert_one_mask(generator, discriminator)
    report = kgp.Pruner(discriminator).update(sparsity=0.5)
    assert (report.kept, report.total) == (18 + 108 + 12, 36 + 216 + 24)
    assert_one_mask(generator, discriminator)
    for network, rest in ((generator, nets.LATENT * 24), (discriminator, 24)):
        table = kgp.sparsity_report(network)
        dense = rest if network is generator else rest // 2
        assert (table.kept, table.total) == (18 + 108 + dense, 36 + 216 + rest)


def test_the_masks_of_networks_that_were_pruned_before():
    generator, discriminator = symmetric_pair()
    kgp.Pruner(discriminator).update(sparsity=0.5)
    mask = nets.value(conv(discriminator, "down_1").kernel.constraint.mask).copy()
    kgp.Pruner(generator).update(sparsity=0.9)
    tie_mirrored(generator, discriminator)
    np.testing.assert_array_equal(nets.value(conv(generator, "up_2").kernel) != 0, mask)
    # Only the generator has masks: they go along to the discriminator's kernel.
    generator, discriminator = symmetric_pair()
    kgp.Pruner(generator).update(sparsity=0.5)
    mask = nets.value(conv(generator, "up_2").kernel.constraint.mask).copy()
    tie_mirrored(generator, discriminator)
    np.testing.assert_array_equal(nets.value(conv(discriminator, "down_1").kernel) != 0, mask)
    assert nets.leaks(generator) == {}


def test_networks_that_changed_cannot_share_again():
    positions = shared_positions(*tied_pair())
    with pytest.raises(InvalidArgumentError, match="do not have the same layers any more"):
        share_again(*nets.mlp_pair(), positions)
    with pytest.raises(InvalidArgumentError, match="Build the networks as they were"):
        share_again(*dense_pair(), positions)
