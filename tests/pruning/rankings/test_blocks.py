"""Residual blocks that are found, masked and left out, and layers that are dropped by name."""

import architectures
import keras
import networks as nets
import numpy as np
import pytest
from architectures import ARCHITECTURES, sample_inputs
from cases import cases
from keras import layers, ops
from keras.optimizers import Adam
from networks import value
from residual_networks import blocks_of, generator

import keras_ganprune as kgp
from keras_ganprune.errors import InvalidArgumentError, PruningWarning
from keras_ganprune.pruning import compatibility


def inside(block):
    """Return the kinds of the layers of a block that have weights, without those around them."""
    holders = dict.fromkeys(id(w.layer) for w in block.weights)
    return [
        next(w.layer for w in block.weights if id(w.layer) == key).__class__.__name__
        for key in holders
    ]


def assert_same(one, other, x, tolerance=1e-5):
    old, new = (keras.tree.flatten(m(x, training=False)) for m in (one, other))
    for a, b in zip(map(value, old), map(value, new), strict=True):
        assert a.shape == b.shape
        np.testing.assert_allclose(b, a, rtol=0, atol=tolerance * np.max(np.abs(a)))


# --- which are found -----------------------------------------------------------------------------

_CONV_NORM = ["Conv2D", "GroupNormalization"]
FOUND = {
    # The 1x1 convolution of the other side is a shortcut.
    "sngan_generator": [["BatchNormalization", "Conv2D", "BatchNormalization", "Conv2D"]] * 2,
    "sngan_discriminator": [["Conv2D", "Conv2D"]] * 2,
    "cyclegan_resnet_generator": [_CONV_NORM * 2] * 2,
    # Of the long way around both only the trunk is left.
    "srgan_generator": [["Conv2D", "BatchNormalization", "PReLU", "Conv2D", "BatchNormalization"]]
    * 2,
    "transformer_generator": [["MultiHeadAttention"], ["Dense", "Dense"]],
    "subclassed_generator": [["Conv2D", "BatchNormalization"] * 2],
    "attention_generator": [["Conv2D"] * 4],
    "unet_pix2pix": [],  # joins by concatenation
    "dcgan_generator": [],
    "nested_generator": [],  # its only block is called twice
    "se_block_classifier": [],  # multiplies
}


@pytest.mark.parametrize("name", FOUND)
def test_blocks_of_architectures(name):
    found = blocks_of(ARCHITECTURES[name]())
    assert [inside(block) for block in found] == FOUND[name]
    assert not any(block.dead for block in found)


@pytest.mark.full
def test_blocks_of_mobilenet():
    model = keras.applications.MobileNetV2(
        weights=None, input_shape=(32, 32, 3), classes=3, alpha=0.35
    )
    found = blocks_of(model)
    # 17 bottlenecks; those with a stride, or another width than the one before, add nothing.
    adds = [block.name.split("/")[-1] for block in found]
    assert adds == [f"block_{i}_add" for i in (2, 4, 5, 7, 8, 9, 11, 12, 14, 15)]
    for block, number in zip(found, (2, 4, 5, 7, 8, 9, 11, 12, 14, 15), strict=True):
        layer = f"block_{number}"
        assert {w.layer_path.rsplit("/", 1)[-1] for w in block.weights} == {
            f"{layer}_{part}"
            for part in (
                *("expand", "expand_BN", "depthwise", "depthwise_BN"),
                *("project", "project_BN"),
            )
        }
        assert len(block.means) == 3
        assert [w.name for w in block.weights if w.kernel] == ["kernel"] * 3


def test_what_a_block_has():
    model = generator(2)
    first = blocks_of(model)[0]
    assert [f"{w.layer_path}/{w.name}" for w in first.weights] == [
        *("a0/kernel", "n0/gamma", "n0/beta", "p0/alpha", "b0/kernel", "b0/bias")
    ]
    assert [w.kernel for w in first.weights] == [True, False, False, False, True, False]
    assert [mean is model.get_layer("n0").moving_mean for mean in first.means] == [True]
    assert repr(first) == "add0: adds a0, n0, p0, b0"


def branch(x, *between, last=None):
    """Return the sum of x and a branch of it."""
    y = layers.Conv2D(x.shape[-1], 3, padding="same", activation="relu")(x)
    for layer in between:
        y = layer(y)
    y = (last or layers.Conv2D(x.shape[-1], 3, padding="same"))(y)
    return layers.Add()([x, y])


def network(build, outputs=2):
    x = keras.Input((6, 6, 3))
    y = build(layers.Conv2D(4, 3, padding="same")(x))
    return keras.Model(x, layers.Dense(outputs)(layers.GlobalAveragePooling2D()(y)))


def activated(activation, bias=True):
    """Return a build whose branch ends in an activation."""
    last = layers.Conv2D(4, 3, padding="same", activation=activation, use_bias=bias)
    return lambda x: branch(x, last=last)


@pytest.mark.parametrize("activation", ["relu", "tanh", "silu", "gelu", None])
def test_activations_that_keep_zero(activation):
    assert len(blocks_of(network(activated(activation)))) == 1


@pytest.mark.parametrize("activation", ["sigmoid", "softplus", "exponential", "hard_sigmoid"])
def test_a_branch_that_would_not_be_zero_is_no_block(activation):
    # With all weights at zero it would still add f(0).
    assert blocks_of(network(activated(activation))) == []
    as_layer = network(
        lambda x: layers.Add()(
            [x, layers.Activation(activation)(layers.Conv2D(4, 3, padding="same")(x))]
        )
    )
    assert blocks_of(as_layer) == []
    # In front of the last kernel it does no harm.
    assert len(blocks_of(network(lambda x: branch(x, layers.Activation(activation))))) == 1


def test_a_gate_in_front_of_the_addition():
    def gated(x):
        y = layers.Conv2D(4, 3, padding="same")(x)
        gate = layers.Dense(4, "sigmoid")(layers.GlobalAveragePooling2D(keepdims=True)(y))
        return layers.Add()([x, layers.Multiply()([y, gate])])

    (block,) = blocks_of(network(gated))
    assert inside(block) == ["Conv2D", "Dense"]


def test_a_normalization_without_a_scale_at_the_end():
    def normalized(x, **options):
        y = layers.Conv2D(4, 3, padding="same")(x)
        return layers.Add()([x, layers.BatchNormalization(**options)(y)])

    for options in ({}, {"scale": False}, {"center": False}):
        assert len(blocks_of(network(lambda x, o=options: normalized(x, **o)))) == 1


@pytest.mark.parametrize(
    "join",
    [
        layers.Concatenate(),
        layers.Subtract(),
        layers.Multiply(),
        layers.Maximum(),
        layers.Average(),
    ],
    ids=lambda layer: type(layer).__name__,
)
def test_only_what_is_added_can_be_left_out(join):
    assert blocks_of(network(lambda x: join([x, layers.Conv2D(4, 3, padding="same")(x)]))) == []


def test_an_addition_of_three():
    def three(x):
        return layers.Add()([x, *(layers.Conv2D(4, 3, padding="same")(x) for _ in range(2))])

    assert blocks_of(network(three)) == []


def test_plus_is_an_addition():
    def plus(x):
        return x + layers.Conv2D(4, 3, padding="same")(x)

    assert len(blocks_of(network(lambda x: plus(plus(x))))) == 2
    assert (
        len(blocks_of(network(lambda x: ops.add(x, layers.Conv2D(4, 3, padding="same")(x))))) == 1
    )


def test_a_long_way_around_other_blocks_is_none():
    def around(x):
        return layers.Add()([x, branch(branch(x))])

    found = blocks_of(network(around))
    assert [inside(block) for block in found] == [["Conv2D", "Conv2D"]] * 2


def test_a_layer_that_is_called_twice_is_in_no_block():
    shared = layers.Conv2D(4, 3, padding="same", name="shared")

    def twice(x):
        return branch(branch(x, last=shared), last=shared)

    assert blocks_of(network(twice)) == []
    assert len(blocks_of(network(lambda x: branch(twice(x))))) == 1


def test_what_is_used_elsewhere_too_is_in_no_block():
    x = keras.Input((6, 6, 3))
    y = layers.Conv2D(4, 3, padding="same")(x)
    features = layers.Conv2D(4, 3, padding="same", name="features")(y)
    z = layers.Conv2D(4, 3, padding="same", name="last")(features)
    out = layers.Add()([y, z])
    (block,) = blocks_of(keras.Model(x, [out, features]))
    # What another output shows stays; the last kernel alone makes the branch zero.
    assert {w.layer_path for w in block.weights} == {"last"}
    assert blocks_of(keras.Model(x, [out, z])) == []


def test_branches_of_another_shape_are_none():
    def spread(x):
        # (batch, 1, 1, 4) is added to every place: what is left has another shape only on this side.
        y = layers.Dense(4)(layers.GlobalAveragePooling2D(keepdims=True)(x))
        return layers.Add()([y, layers.Conv2D(4, 3, padding="same", name="main")(x)])

    assert blocks_of(network(spread)) == []


def test_a_sum_of_two_inputs_is_no_block():
    noise, label = keras.Input((5,)), keras.Input((3,))
    x = layers.Add()([layers.Dense(8)(noise), layers.Dense(8)(label)])
    assert blocks_of(keras.Model([noise, label], layers.Dense(2)(x))) == []


def test_a_sum_of_two_embeddings_is_no_block():
    tokens, places = (keras.Input((6,), dtype="int32") for _ in range(2))
    x = layers.Embedding(9, 4)(tokens) + layers.Embedding(6, 4)(places)
    x = x + layers.Dense(4)(layers.Dense(8, "relu")(x))
    (block,) = blocks_of(keras.Model([tokens, places], layers.Dense(2)(x)))
    assert inside(block) == ["Dense", "Dense"]


# --- masks ---------------------------------------------------------------------------------------


def latents(n=7):
    return np.random.default_rng(3).standard_normal((n, nets.LATENT)).astype("float32")


def mean_magnitude(model, blocks):
    """Return the mean |w| in the kernels of each block."""
    found = []
    for i in range(blocks):
        kernels = [np.abs(value(model.get_layer(f"{part}{i}").kernel)) for part in "ab"]
        found.append(sum(k.sum(dtype=np.float64) for k in kernels) / sum(k.size for k in kernels))
    return np.array(found)


def best(scores, count):
    keep = np.zeros(len(scores), bool)
    keep[np.argsort(-np.asarray(scores), kind="stable")[:count]] = True
    return keep


def dead_of(model, blocks):
    """Return which blocks are masked, asserting that each of them is masked whole or not at all."""
    gone = []
    masks = {w.path: w for w in kgp.masked_weights(model)}
    for i in range(blocks):
        own = {
            p: w
            for p, w in masks.items()
            if p.split("/")[0] in (f"a{i}", f"n{i}", f"p{i}", f"b{i}")
        }
        empty = [not np.any(value(w.mask)) for w in own.values()]
        full = [bool(np.all(value(w.mask))) for w in own.values()]
        assert all(empty) or all(full)
        for w in own.values():
            assert np.any(value(w.variable)) == full[0]
        gone.append(empty[0])
    return np.array(gone)


@cases(1, "scale", [True, False])
@cases(((0.5, 2),), ("sparsity", "count"), [(0.25, 3), (0.5, 2), (0.6, 2), (0.99, 1)])
def test_blocks_are_masked_whole(sparsity, count, scale):
    model = nets.filled(generator(scale=scale), seed=1)
    scores = mean_magnitude(model, 4)
    pruner = kgp.Pruner(model, granularity="layer")
    report = pruner.update(sparsity=sparsity)
    assert nets.kept_oracle(4, sparsity) == count
    np.testing.assert_array_equal(dead_of(model, 4), ~best(scores, count))
    (row,) = report
    assert (row.path, row.kept, row.total, row.units) == ("generator/blocks", count, 4, 4)
    assert report.counted == "blocks"
    assert report.achieved == pruner.sparsity == pruner.unit_sparsity(model) == 1 - count / 4
    for i, gone in enumerate(dead_of(model, 4)):
        assert np.any(value(model.get_layer(f"n{i}").moving_mean)) == (not gone)
    # Nothing outside of a block has a mask.
    assert {w.path.split("/")[0][0] for w in kgp.masked_weights(model)} <= set("anpb")
    small = kgp.shrink(model)
    assert_same(model, small, latents())
    kept = [layer.name for layer in small.layers]
    for i, gone in enumerate(dead_of(model, 4)):
        assert (f"add{i}" in kept) == (not gone)
        assert (f"a{i}" in kept) == (not gone)
    gone_parameters = sum(
        model.get_layer(f"{part}{i}").count_params()
        for part in "anpb"
        for i in np.flatnonzero(dead_of(model, 4))
    )
    assert small.count_params() == model.count_params() - gone_parameters
    assert [block.dead for block in blocks_of(small)] == [False] * count


@cases(
    1,
    "name",
    [
        *("sngan_generator", "sngan_discriminator", "cyclegan_resnet_generator"),
        *("srgan_generator", "transformer_generator"),
    ],
)
def test_architectures_without_a_block(name):
    model = architectures.shake(ARCHITECTURES[name]())
    found = blocks_of(model)
    scores = [
        sum(np.abs(value(w.variable)).sum(dtype=np.float64) for w in b.weights if w.kernel)
        / sum(value(w.variable).size for w in b.weights if w.kernel)
        for b in found
    ]
    report = kgp.Pruner(model, granularity="layer").update(sparsity=0.5)
    assert (report.kept, report.total) == (1, 2)
    assert [block.dead for block in blocks_of(model)] == (~best(scores, 1)).tolist()
    small = kgp.shrink(model)
    assert small.count_params() < model.count_params()
    assert_same(model, small, sample_inputs(model, batch=13))
    assert len(blocks_of(small)) == 1


def test_ties_and_one_that_stays():
    model = generator(3)
    for weight in model.trainable_weights:
        weight.assign(np.full(weight.shape, 0.25))
    kgp.Pruner(model, granularity="layer").update(sparsity=0.9)
    np.testing.assert_array_equal(dead_of(model, 3), [False, True, True])


def test_a_block_stays_pruned():
    model = nets.filled(generator(3))
    pruner = kgp.Pruner(model, granularity="layer")
    pruner.update(sparsity=0.4)
    first = dead_of(model, 3)
    for i in range(3):  # other scores
        model.get_layer(f"a{i}").kernel.assign(model.get_layer(f"a{i}").kernel * (i + 1.0))
    pruner.update(sparsity=0.7)
    second = dead_of(model, 3)
    assert first.sum() == 1
    assert second.sum() == 2
    assert not np.any(first & ~second)
    with pytest.warns(PruningWarning, match=r"1 blocks kept, not 2.*never return"):
        pruner.update(sparsity=0.4)
    assert "1 networks with blocks in 18 tensors" in repr(pruner)


def test_other_criteria():
    model = nets.filled(generator(3), seed=2)
    pruner = kgp.Pruner(model, granularity="layer", criterion="taylor")
    rng = np.random.default_rng(0)
    grads = {w.path: rng.normal(size=tuple(w.mask.shape)).astype("float32") for w in pruner.weights}
    scores = []
    for i in range(3):
        kernels = [(f"{part}{i}/kernel", model.get_layer(f"{part}{i}").kernel) for part in "ab"]
        total = sum(np.abs(value(k) * grads[path]).sum(dtype=np.float64) for path, k in kernels)
        scores.append(total / sum(value(k).size for _, k in kernels))
    pruner.update(sparsity=0.5, gradients=grads)
    np.testing.assert_array_equal(dead_of(model, 3), ~best(scores, 2))


def test_one_ranking_over_two_networks():
    pair = nets.filled(generator(3)), nets.filled(generator(3, name="other"))
    for weight in pair[1].weights:
        weight.assign(weight * 2.0)
    report = kgp.Pruner(*pair, granularity="layer", allocation="global_ranking").update(
        sparsity=0.5
    )
    # All of the other one are larger.
    assert [(row.path, row.kept) for row in report] == [
        *(("generator/blocks", 1), ("other/blocks", 2))
    ]


def test_blocks_in_scope():
    model = nets.filled(generator(4))
    pruner = kgp.Pruner(model, granularity="layer", scope=["?1", "?2", "?3"])
    report = pruner.update(sparsity=0.99)
    assert (report.kept, report.total) == (1, 3)
    assert not any(w.path.split("/")[0].endswith("0") for w in kgp.masked_weights(model))
    with pytest.raises(InvalidArgumentError, match=r"'generator' has 1 residual blocks.*`scope`"):
        kgp.Pruner(nets.filled(generator(4)), granularity="layer", scope=["?1", "a2"])


def test_blocks_with_spectral_norm_in_scope():
    model = ARCHITECTURES["sngan_discriminator"]()
    assert len(kgp.Pruner(model, granularity="layer", scope=layers.Conv2D).groups[0]) > 0


def test_paths_are_those_of_the_masks():
    model = nets.filled(generator(2))
    pruner = kgp.Pruner(model, granularity="layer")
    assert {w.path for w in pruner.weights} == {w.path for w in kgp.masked_weights(model)}


@pytest.mark.parametrize("name", ["attention_generator", "dcgan_generator"])
def test_networks_with_too_few_blocks(name):
    model = ARCHITECTURES[name]()
    with pytest.raises(
        InvalidArgumentError, match=r"has [01] residual blocks.*one always stays.*drop=\['conv_3'\]"
    ):
        kgp.Pruner(model, granularity="layer")
    assert kgp.masked_weights(model) == []


@pytest.mark.parametrize("mode", ["soft", "rigl", "set", "splice"])
def test_a_masked_block_cannot_return(mode):
    with pytest.raises(
        InvalidArgumentError,
        match=r"has no gradient, so with .* it could never return; use mode='hard'",
    ):
        kgp.Pruner(generator(), granularity="layer", mode=mode)
    with pytest.raises(InvalidArgumentError, match="could never return"):
        kgp.Prune(0.5, "generator", granularity="layer", mode=mode)


def test_what_else_does_not_go_with_blocks():
    with pytest.raises(InvalidArgumentError, match="compares whole channels"):
        kgp.Pruner(generator(), granularity="layer", criterion="geometric_median")
    chosen = compatibility.get("l1", "layer", "uniform", "hard", kgp.Cyclic(0.2, 0.5, 4, 0, 20))
    with pytest.raises(InvalidArgumentError, match="needs weights to return"):
        compatibility.check(chosen)
    with pytest.raises(InvalidArgumentError, match=r"must be 'channel' or a coupled `Channel`"):
        kgp.shrink(generator(), sparsity=0.5, granularity="layer")


def test_channels_of_a_network_without_some_blocks():
    model = nets.filled(generator(3), seed=2)
    kgp.Pruner(model, granularity="layer").update(sparsity=0.6)
    gone = dead_of(model, 3)
    assert gone.sum() == 2
    small = kgp.shrink(model)
    # Cut, then masked and cut again.
    kgp.Pruner(small, granularity="channel").update(sparsity=0.5)
    smaller = kgp.shrink(small)
    assert_same(small, smaller, latents())
    assert smaller.count_params() < small.count_params()
    # Or both masked first: the channels of what is left are those that the same pruner would choose.
    kgp.Pruner(model, granularity="channel", scope=[f"a{np.flatnonzero(~gone)[0]}"]).update(
        sparsity=0.5
    )
    both = kgp.shrink(model)
    assert_same(model, both, latents())
    assert len(blocks_of(both)) == 1
    assert both.count_params() < small.count_params()


def test_stripped_and_copied():
    model, twin = nets.filled(generator()), nets.filled(generator(), seed=7)
    kgp.Pruner(model, granularity="layer").update(sparsity=0.5)
    kgp.copy_masks(model, twin)
    np.testing.assert_array_equal(dead_of(model, 4), dead_of(twin, 4))
    plain = kgp.strip_pruning(model)
    assert kgp.masked_weights(plain) == []
    np.testing.assert_array_equal(value(plain(latents())), value(model(latents())))
    # Zeros alone say which blocks are gone.
    assert kgp.shrink(plain).count_params() == kgp.shrink(model).count_params()


# --- in `fit` ------------------------------------------------------------------------------------


@pytest.mark.full
def test_in_fit_and_in_a_file(tmp_path):
    gan = kgp.GANModel(
        generator(), nets.mlp_discriminator(), nets.LATENT, ema_decay=0.9, seed=1,
        balance_frequency=0,
    )  # fmt: skip
    gan.compile(Adam(1e-2, 0.5), Adam(1e-2, 0.5))
    prune = kgp.Prune(
        kgp.PolynomialDecay(0.5, 1, 5), "generator", 2, granularity="layer", verbose=0
    )
    watch = nets.Watch(gan.generator, gan.ema_generator)
    history = gan.fit(
        nets.images(), batch_size=8, epochs=2, verbose=0, callbacks=[prune, watch]
    ).history
    assert watch.leaks == []
    assert history["generator_block_sparsity"] == [0.5, 0.5]
    masks = [value(w.mask) for w in kgp.masked_weights(gan.generator)]
    assert history["generator_sparsity"][-1] == pytest.approx(
        1 - sum(m.sum() for m in masks) / sum(m.size for m in masks)
    )
    assert [report.kept for report in prune.reports] == [4, 2, 2]
    gone = dead_of(gan.generator, 4)
    assert gone.sum() == 2
    np.testing.assert_array_equal(gone, dead_of(gan.ema_generator, 4))
    for i in np.flatnonzero(gone):
        assert not np.any(value(gan.generator.get_layer(f"n{i}").moving_mean))
    for network_ in (gan.generator, gan.ema_generator):
        small = kgp.shrink(network_)
        assert_same(network_, small, latents())
        assert len(blocks_of(small)) == 2
    gan.save(tmp_path / "gan.keras")
    loaded = kgp.load_model(tmp_path / "gan.keras")
    np.testing.assert_array_equal(gone, dead_of(loaded.generator, 4))
    watch = nets.Watch(loaded.generator)
    loaded.fit(nets.images(16), batch_size=8, verbose=0, callbacks=[watch])
    assert watch.leaks == []
    np.testing.assert_array_equal(gone, dead_of(loaded.generator, 4))
    assert kgp.shrink(loaded.generator).count_params() == kgp.shrink(gan.generator).count_params()


# --- layers that are left out by name ------------------------------------------------------------


def sequential():
    return nets.filled(
        keras.Sequential(
            [
                keras.Input((6, 6, 2)),
                layers.Conv2D(4, 3, name="conv_1"),
                layers.Conv2D(4, 3, padding="same", activation="relu", name="conv_2"),
                layers.BatchNormalization(name="norm"),
                layers.Dropout(0.5, name="drop"),
                layers.Conv2D(4, 3, padding="same", name="conv_3"),
                layers.Flatten(name="flat"),
                layers.Dense(3, name="head"),
            ]
        )
    )


def images(n=7):
    return np.random.default_rng(0).standard_normal((n, 6, 6, 2)).astype("float32")


@pytest.mark.parametrize(
    ("drop", "gone"),
    [
        ("conv_3", {"conv_3"}),
        (["conv_2", "norm"], {"conv_2", "norm"}),
        ("conv_[23]", {"conv_2", "conv_3"}),
        (layers.BatchNormalization, {"norm"}),
        (layers.Dropout, {"drop"}),
        (lambda layer: layer.name == "conv_2", {"conv_2"}),
    ],
)
def test_layers_are_left_out(drop, gone):
    model = sequential()
    before = model.get_weights()
    short = kgp.shrink(model, drop=drop)
    kept = [layer for layer in model.layers if layer.name not in gone]
    names = [layer.name for layer in short.layers if not isinstance(layer, layers.InputLayer)]
    assert names == [layer.name for layer in kept]
    assert short.count_params() == sum(layer.count_params() for layer in kept)
    x = y = images()
    for layer in kept:
        y = layer(y, training=False) if isinstance(layer, layers.Dropout) else layer(y)
    np.testing.assert_allclose(value(short(x)), value(y), rtol=1e-5, atol=1e-6)
    # The model itself is as it was.
    for one, other in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_layers_are_left_out_before_channels_are_cut():
    model = sequential()
    short = kgp.shrink(model, drop="conv_3")
    both = kgp.shrink(model, drop="conv_3", sparsity=0.5)
    assert both.count_params() == kgp.shrink(short, sparsity=0.5).count_params()
    x = images()
    np.testing.assert_allclose(
        value(both(x)), value(kgp.shrink(short, sparsity=0.5)(x)), rtol=1e-5, atol=1e-6
    )
    budget = kgp.Budget(parameters=0.6)
    cut = kgp.shrink(model, drop="conv_3", budget=budget)
    assert abs(cut.count_params() / short.count_params() - 0.6) <= 0.6 * 0.02


def test_layers_of_a_branch():
    model = nets.filled(generator(2))
    short = kgp.shrink(model, drop=["a0", "b0"])
    assert {"add0", "n0", "p0"} <= {layer.name for layer in short.layers}
    assert not {"a0", "b0"} & {layer.name for layer in short.layers}
    layer = model.get_layer
    x = model.layers[2](layer("stem")(latents()))
    y = layer("p0")(layer("n0")(x))
    x = layer("add0")([x, y])
    x = layer("add1")([x, layer("b1")(layer("p1")(layer("n1")(layer("a1")(x))))])
    np.testing.assert_allclose(
        value(short(latents())), value(layer("image")(x)), rtol=1e-5, atol=1e-6
    )


@pytest.mark.parametrize(
    ("drop", "text"),
    [
        ("conv_1", r"must keep the shape of its one input. 'conv_1' makes \(None, 4, 4, 4\) of"),
        (["conv_3", "head"], r"'head' makes \(None, 3\) of \(None, 64\). Leave it out of `drop`"),
        ("flat", r"'flat' makes \(None, 64\) of \(None, 4, 4, 4\)"),
        ("conv_9", r"Unknown layer in .*'conv_9'. Did you mean 'conv_[123]'"),
        (["conv_3", "nothing"], r"Unknown layer in .*'nothing'"),
        (layers.Conv1D, r"must match at least one"),
        ([], r"must name at least one layer"),
    ],
)
def test_what_cannot_be_left_out(drop, text):
    with pytest.raises(InvalidArgumentError, match=text):
        kgp.shrink(sequential(), drop=drop)


def test_an_addition_cannot_be_left_out():
    with pytest.raises(InvalidArgumentError, match=r"must keep the shape of its one input. 'add0'"):
        kgp.shrink(generator(2), drop="add0")


@pytest.mark.parametrize("drop", ["conv_9", []])
def test_the_text_names_the_argument(drop):
    with pytest.raises(InvalidArgumentError, match="`drop`"):
        kgp.shrink(sequential(), drop=drop)


def test_a_model_with_masks():
    model = sequential()
    kgp.Pruner(model).update(sparsity=0.5)
    with pytest.raises(
        InvalidArgumentError, match=r"without masks.*conv_1/kernel. Shrink the masked model first"
    ):
        kgp.shrink(model, drop="conv_3")
    # Masks that prune nothing are no hindrance.
    kgp.shrink(kgp.make_prunable(sequential()), drop="conv_3")
