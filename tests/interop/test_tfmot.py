"""`convert` keeps the outputs, masks and schedules of models that TFMOT has pruned."""

import re
import sys

import keras
import numpy as np
import paths
import pytest
import tensorflow as tf
import tensorflow_model_optimization as tfmot
import tf_keras
from tf_keras import layers

import keras_ganprune as kgp
from keras_ganprune.errors import (
    ArgumentTypeError,
    ExportError,
    FileFormatError,
    InvalidArgumentError,
    PruningWarning,
    UnbuiltModelError,
    UnsupportedLayerError,
)
from keras_ganprune.interop.tfmot import Shifted, convert
from keras_ganprune.layers import traversal
from keras_ganprune.layers.tensors import to_numpy
from keras_ganprune.pruning import schedules

sparsity = tfmot.sparsity.keras
prune = sparsity.prune_low_magnitude
DECAY = sparsity.PolynomialDecay(0.2, 0.8, begin_step=0, end_step=1000, frequency=100)

# --- networks ------------------------------------------------------------------------------------


def sequential():
    return tf_keras.Sequential(
        [
            layers.Dense(8, activation="relu", input_shape=(6,), name="first"),
            layers.Dropout(0.2),
            layers.Dense(3, kernel_regularizer="l2", kernel_constraint="max_norm", name="second"),
            layers.Softmax(),
        ],
        name="plain",
    )


def functional():
    x = tf_keras.Input((8, 8, 2))
    y = layers.Conv2D(4, 3, padding="same", use_bias=False)(x)
    y = layers.LeakyReLU(0.2)(layers.BatchNormalization()(y))
    skip = layers.Conv2D(4, 1, name="skip/conv")(x)
    y = layers.MaxPooling2D()(layers.Add()([y, skip]))
    return tf_keras.Model(x, layers.Dense(2)(layers.GlobalAveragePooling2D()(y)))


def nested():
    inner = tf_keras.Sequential([layers.Dense(5, input_shape=(4,)), layers.ReLU()], name="inner")
    x = tf_keras.Input((4,))
    deep = tf_keras.Model(x, layers.Dense(4)(inner(x)), name="deep")
    x = tf_keras.Input((4,))
    return tf_keras.Model(x, layers.Dense(2)(deep(deep(x))))


def shared():
    both = layers.Dense(4, name="both")
    x, y = tf_keras.Input((4,)), tf_keras.Input((4,))
    return tf_keras.Model([x, y], layers.Concatenate()([both(x), both(both(y))]))


def several_inputs_and_outputs():
    z, label = tf_keras.Input((5,), name="z"), tf_keras.Input((1,), name="label", dtype="int32")
    y = layers.Flatten()(layers.Embedding(10, 3)(label))
    y = layers.Dense(6, activation="relu")(layers.Concatenate()([z, y]))
    return tf_keras.Model([z, label], [layers.Dense(2)(y), layers.Dense(1)(y)])


def gan_generator():
    return tf_keras.Sequential(
        [
            layers.Dense(4 * 4 * 6, use_bias=False, input_shape=(5,)),
            layers.BatchNormalization(),
            layers.LeakyReLU(),
            layers.Reshape((4, 4, 6)),
            layers.Conv2DTranspose(4, 5, strides=2, padding="same", use_bias=False),
            layers.BatchNormalization(),
            layers.ReLU(),
            layers.Conv2DTranspose(1, 5, strides=2, padding="same", activation="tanh"),
        ],
        name="generator",
    )


def embedding_and_recurrent():
    # The input is of floats, as the default of tf_keras has it.
    return tf_keras.Sequential(
        [
            layers.Embedding(9, 4, input_length=6),
            layers.GRU(5, return_sequences=True),
            layers.RNN([layers.LSTMCell(4), layers.GRUCell(3)], return_sequences=True),
            layers.SimpleRNN(4, return_sequences=True),
            layers.LSTM(3),
        ]
    )


def volumes():
    return tf_keras.Sequential(
        [
            layers.Conv3D(3, 2, input_shape=(5, 5, 5, 2)),
            layers.Conv3DTranspose(2, 2),
            layers.Reshape((-1, 2)),
            layers.Conv1D(3, 3, padding="causal"),
            layers.AveragePooling1D(5),
            layers.Flatten(),
        ]
    )


def attention():
    x = tf_keras.Input((5, 4))
    return tf_keras.Model(x, layers.MultiHeadAttention(2, 3)(x, x))


WRAPPED_WHOLE = (
    sequential,
    functional,
    nested,
    shared,
    several_inputs_and_outputs,
    gan_generator,
    embedding_and_recurrent,
    volumes,
    attention,
)


def inside_wrappers():
    return tf_keras.Sequential(
        [
            tf_keras.Input((4, 6, 6, 2)),
            layers.TimeDistributed(layers.SpectralNormalization(layers.Conv2D(3, 3))),
            layers.TimeDistributed(layers.Flatten()),
            layers.Bidirectional(layers.LSTM(3, return_sequences=True)),
            layers.TimeDistributed(prune(layers.Dense(4), DECAY)),
            prune(layers.Dense(4), DECAY),
        ]
    )


def network_inside_a_wrapper():
    # tf_keras lists the statistics of the normalization last, Keras 3 in place.
    x = tf_keras.Input((4,))
    y = layers.Dense(4)(layers.BatchNormalization()(prune(layers.Dense(4), DECAY)(x)))
    inner = tf_keras.Model(x, y)
    return tf_keras.Sequential([tf_keras.Input((3, 4)), layers.TimeDistributed(inner)])


def depthwise():
    return tf_keras.Sequential(
        [
            tf_keras.Input((8, 8, 3)),
            layers.DepthwiseConv2D(3, depth_multiplier=2),
            layers.SeparableConv2D(4, 3),
            layers.UpSampling2D(2, interpolation="bilinear"),
            prune(layers.Conv2D(2, 3), DECAY),
            layers.Reshape((-1, 2)),
            layers.SeparableConv1D(3, 3),
            layers.Conv1DTranspose(2, 3, strides=2),
            layers.LayerNormalization(),
        ]
    )


def arithmetic():
    x = tf_keras.Input((4,))
    y = prune(layers.Dense(4), DECAY)(2 * x - 1)
    return tf_keras.Model(x, (1 - y) * x + y / 2 + x - y)


def dictionaries():
    a, b = tf_keras.Input((2,), name="a"), tf_keras.Input((3,), name="b")
    y = prune(layers.Dense(4), DECAY)(layers.Concatenate()([a, b]))
    return tf_keras.Model({"b": b, "a": a}, {"second": layers.Dense(2)(y), "first": y})


def states():
    x, state = tf_keras.Input((5, 3)), tf_keras.Input((4,))
    y, last = layers.GRU(4, return_state=True)(x, initial_state=state)
    return tf_keras.Model(
        [x, state], prune(layers.Dense(2), DECAY)(layers.Concatenate()([y, last]))
    )


def function_layer():
    return tf_keras.Sequential(
        [
            prune(layers.Dense(4, input_shape=(3,)), DECAY),
            layers.Lambda(lambda x, factor: factor * tf.sin(x), arguments={"factor": 2.0}),
            layers.Dense(2, activation=layers.LeakyReLU(0.1)),
        ]
    )


WRAPPED_IN_PARTS = (
    inside_wrappers,
    network_inside_a_wrapper,
    depthwise,
    arithmetic,
    dictionaries,
    states,
    function_layer,
)


SLOW = (inside_wrappers, embedding_and_recurrent, volumes, attention, arithmetic, dictionaries)
SLOW += (depthwise, nested, states)


def wrappers_of(model):
    found = {id(w): w for w in model._flatten_layers() if type(w).__name__ == "PruneLowMagnitude"}
    return list(found.values())


def in_training(model, step=300):
    """Give a wrapped model masks, statistics and a step, as after some training, but at once."""
    rng = np.random.default_rng(1)
    for wrapper in wrappers_of(model):
        for _, mask, _ in wrapper.pruning_vars:
            mask.assign(rng.random(mask.shape) < 0.6)
        wrapper.pruning_step.assign(step)
    for layer in model._flatten_layers():
        if isinstance(layer, layers.BatchNormalization):
            for weight in layer.weights:
                weight.assign(rng.uniform(0.5, 1.5, weight.shape))
    return model


def wrapped(build, step=300, **params):
    model = build()
    if build in WRAPPED_WHOLE:
        model = prune(model, **{"pruning_schedule": DECAY, **params})
    return in_training(model, step)


def inputs_of(model, n=3):
    rng = np.random.default_rng(2)
    whole = any(isinstance(layer, layers.Embedding) for layer in model._flatten_layers())
    values = [
        rng.integers(0, 9, (n, *t.shape[1:])).astype(t.dtype.as_numpy_dtype)
        if whole and t.shape.rank < 3 and t.shape[-1] != 5
        else rng.standard_normal((n, *t.shape[1:])).astype("float32")
        for t in model.inputs
    ]
    return tf.nest.pack_sequence_as(model._nested_inputs, [tf.constant(v) for v in values])


def assert_same_outputs(old, new, inputs):
    before = old(inputs, training=False)
    after = new(inputs, training=False)
    tf.nest.assert_same_structure(before, after, check_types=False)
    for a, b in zip(tf.nest.flatten(before), tf.nest.flatten(after), strict=True):
        np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=1e-5, atol=1e-6)


def masks_of(model):
    """Return (mask, weight) of every masked weight, in an order that does not depend on names."""
    pairs = [(to_numpy(w.mask), to_numpy(w.variable)) for w in kgp.masked_weights(model)]
    return sorted(((m.shape, m.tobytes(), v.tobytes()) for m, v in pairs))


# --- outputs and masks ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "build",
    [
        pytest.param(build, marks=pytest.mark.full if build in SLOW else [])
        for build in WRAPPED_WHOLE + WRAPPED_IN_PARTS
    ],
)
def test_wrapped_model_keeps_outputs_and_masks(build):
    old = wrapped(build)
    pruning_vars = [entry for wrapper in wrappers_of(old) for entry in wrapper.pruning_vars]
    stored = [w.numpy() for w in old.weights]
    expected = {}
    for weight, mask, _ in pruning_vars:  # a shared layer is listed by each of its wrappers
        keep = mask.numpy().astype(bool)
        value = np.where(keep, weight.numpy(), np.float32(0))
        expected[id(weight)] = (keep.shape, keep.tobytes(), value.tobytes())
    converted = convert(old)
    assert masks_of(converted.model) == sorted(expected.values())
    assert isinstance(converted.model, keras.Model)
    assert converted.max_difference < 1e-5
    # TFMOT's weights were not masked before the comparison, and are not after it.
    for weight, value in zip(old.weights, stored, strict=True):
        np.testing.assert_array_equal(weight.numpy(), value)
    assert_same_outputs(old, converted.model, inputs_of(old))


@pytest.mark.parametrize(
    "build",
    [
        pytest.param(sequential, marks=pytest.mark.full),
        pytest.param(nested, marks=pytest.mark.full),
        gan_generator,
        pytest.param(embedding_and_recurrent, marks=pytest.mark.full),
    ],
)
def test_stripped_model_keeps_outputs_and_zeros(build):
    old = wrapped(build)
    old(inputs_of(old))  # TFMOT masks its weights in the forward pass
    old = sparsity.strip_pruning(old)
    converted = convert(old)
    kernels = [w for w in converted.model.weights if "kernel" in w.name or "embeddings" in w.name]
    masked = {id(w.variable): w.mask for w in kgp.masked_weights(converted.model)}
    assert {id(w) for w in kernels} == set(masked)
    for kernel in kernels:
        np.testing.assert_array_equal(to_numpy(masked[id(kernel)]), to_numpy(kernel) != 0)
    assert 0.3 < kgp.sparsity_report(converted.model).sparsity < 0.5
    assert_same_outputs(old, converted.model, inputs_of(old))
    assert converted.parts == ()
    assert converted.schedule is None
    assert converted.frequency is None
    assert converted.prunes() == []


def test_names_structure_and_trainable_are_converted():
    old = functional()
    old.get_layer("skip/conv").trainable = False
    new = convert(wrapped(lambda: prune(old, DECAY))).model
    assert new.name == old.name
    # Keras 3 has no slash in names.
    assert [layer.name for layer in new.layers] == [
        layer.name.replace("/", "_") for layer in old.layers
    ]
    assert not new.get_layer("skip_conv").trainable
    assert len(new.trainable_weights) == len(old.trainable_weights)
    new = convert(wrapped(sequential)).model
    assert isinstance(new, keras.Sequential)
    assert [layer.name for layer in new.layers][::2] == ["first", "second"]
    assert isinstance(new.layers[2].kernel_regularizer, keras.regularizers.L2)
    assert isinstance(new.layers[2].kernel.constraint.inner, keras.constraints.MaxNorm)


def test_frozen_network_stays_frozen():
    old = nested()
    old.get_layer("deep").trainable = False
    new = convert(old).model
    assert not new.get_layer("deep").trainable
    assert len(new.trainable_weights) == 2


def test_layer_shared_by_two_networks_stays_shared():
    trunk = layers.Dense(4, name="trunk")
    parts = [
        tf_keras.Sequential([tf_keras.Input((3,)), trunk, layers.Dense(2)], name=name)
        for name in ("left", "right")
    ]
    x = tf_keras.Input((3,))
    old = tf_keras.Model(x, [part(x) for part in parts])
    new = convert(old).model
    assert len(new.weights) == len(old.weights) == 6
    assert new.get_layer("left").layers[0] is new.get_layer("right").layers[0]
    old = wrapped(lambda: prune(old, DECAY))
    (weight,) = [w for w in kgp.masked_weights(convert(old).model) if "trunk" in w.path]
    # Two wrappers around one layer: each masks the weight in its turn.
    first, second = [w.pruning_vars[0][1] for w in wrappers_of(old) if w.layer.name == "trunk"]
    np.testing.assert_array_equal(to_numpy(weight.mask), (first * second).numpy() == 1)


def test_only_wrapped_layers_become_prunable():
    old = tf_keras.Sequential(
        [prune(layers.Dense(4, input_shape=(3,), name="sparse")), layers.Dense(2, name="dense")]
    )
    new = convert(old).model
    assert [path for path, _ in traversal.prunable_layers(new)] == ["sparse"]
    assert type(new.layers[1]) is keras.layers.Dense


@pytest.mark.full
def test_masks_survive_saving_and_training(tmp_path):
    new = convert(wrapped(gan_generator)).model
    before = [w.mask.numpy() for w in kgp.masked_weights(new)]
    new.compile("adam", "mse")
    new.fit(np.ones((8, 5)), np.ones((8, 16, 16, 1)), batch_size=4, verbose=0)
    new.save(tmp_path / "new.keras")
    again = keras.saving.load_model(tmp_path / "new.keras")
    for weight, mask in zip(kgp.masked_weights(again), before, strict=True):
        np.testing.assert_array_equal(weight.mask.numpy(), mask)
        assert not to_numpy(weight.variable)[~mask].any()


def test_fixed_batch_size_and_half_precision():
    old = tf_keras.Sequential(
        [
            layers.LSTM(3, stateful=True, batch_input_shape=(2, 4, 3)),
            layers.Dense(2, dtype="mixed_float16"),
            prune(layers.Dense(2), DECAY),
        ]
    )
    new = convert(in_training(old)).model
    assert new.input_shape == (2, 4, 3)
    assert new.layers[1].compute_dtype == "float16"
    assert new.layers[1].variable_dtype == "float32"
    # The comparison left no trace in the states.
    assert not any(to_numpy(state).any() for state in new.layers[0].states)


@pytest.mark.full
def test_padding_mask_that_tfmot_loses():
    old = tf_keras.Sequential(
        [layers.Embedding(9, 4, mask_zero=True, input_length=5), layers.GRU(3)]
    )
    rows = np.array([[1, 2, 0, 0, 0], [3, 0, 0, 0, 0]])
    assert_same_outputs(old, convert(old).model, rows)
    old = in_training(prune(old, DECAY))
    with pytest.warns(
        PruningWarning, match="'embedding.*`mask_zero=True`, which has no effect ins"
    ):
        new = convert(old).model
    assert not new.layers[0].mask_zero
    assert_same_outputs(old, new, rows)


def test_layer_that_is_all_zero_is_not_pruned():
    old = tf_keras.Sequential(
        [
            layers.Dense(3, input_shape=(2,)),
            layers.Dense(2, kernel_initializer="zeros", name="last"),
        ]
    )
    with pytest.warns(PruningWarning, match="All entries of 'last/kernel' are zero"):
        new = convert(old).model
    assert new.layers[1].pruning_masks.masks["kernel"].numpy().all()


class Scale(tf_keras.layers.Layer):
    """A layer of the user's own, prunable for TFMOT."""

    def __init__(self, start=2.0, **kwargs):
        super().__init__(**kwargs)
        self.start = start

    def build(self, input_shape):
        self.scale = self.add_weight(
            "scale",
            shape=(input_shape[-1],),
            initializer=tf_keras.initializers.Constant(self.start),
        )

    def call(self, x):
        return x * self.scale

    def get_prunable_weights(self):
        return [self.scale]

    def get_config(self):
        return {**super().get_config(), "start": self.start}


class NewScale(keras.layers.Layer):
    def __init__(self, start=2.0, **kwargs):
        super().__init__(**kwargs)
        self.start = start

    def build(self, input_shape):
        self.scale = self.add_weight(shape=(input_shape[-1],), name="scale")

    def call(self, x):
        return x * self.scale


class TwoScales(NewScale):
    def build(self, input_shape):
        super().build(input_shape)
        self.more = self.add_weight(shape=(1,), name="more")


class WrongScale(NewScale):
    def call(self, x):
        return x * self.scale + 1.0


def double_relu(x):
    return 2 * tf.nn.relu(x)


def test_custom_function():
    old = tf_keras.Sequential([layers.Dense(3, double_relu, input_shape=(4,), name="mine")])
    text = r"(?s)'mine' \(Dense\) cannot be rebuilt.*double_relu.*does not know: `custom_objects="
    with pytest.raises(UnsupportedLayerError, match=text):
        convert(old)
    assert_same_outputs(
        old, convert(old, custom_objects={"double_relu": double_relu}).model, np.ones((2, 4))
    )


def own_layer():
    return tf_keras.Sequential([tf_keras.Input((3,)), prune(Scale(3.0, name="mine"), DECAY)])


def test_custom_layer():
    with pytest.raises(UnsupportedLayerError, match=r"'mine' \(Scale\).*not one of tf_keras's own"):
        convert(own_layer())
    with pytest.raises(
        UnsupportedLayerError, match=r"'mine'.*not prunable. Call\n?.*register_prunable"
    ):
        convert(own_layer(), custom_objects={"Scale": NewScale})
    text = r"'mine' \(Scale\) cannot be converted: its weights have the shapes \[\(3,\)\] in tf_keras, and"
    with pytest.raises(UnsupportedLayerError, match=text):
        convert(own_layer(), custom_objects={"Scale": TwoScales})
    kgp.register_prunable(NewScale, ["scale"])
    old = in_training(own_layer())
    new = convert(old, custom_objects={"Scale": NewScale}).model
    assert new.layers[0].start == 3.0
    np.testing.assert_array_equal(
        to_numpy(new.layers[0].scale), 3.0 * wrappers_of(old)[0].pruning_vars[0][1].numpy()
    )


# --- the remaining schedule ----------------------------------------------------------------------


@pytest.mark.parametrize("offset", [1, 50, 300, 999])
@pytest.mark.parametrize(
    "theirs",
    [
        DECAY,
        sparsity.PolynomialDecay(0.1, 0.9, begin_step=120, end_step=1100, power=2, frequency=7),
        sparsity.ConstantSparsity(0.6, begin_step=20, frequency=30),
        sparsity.ConstantSparsity(0.6, begin_step=0, end_step=1300, frequency=1),
    ],
)
def test_rest_of_a_schedule_is_that_of_tfmot(theirs, offset):
    rest = Shifted(theirs, offset)
    for step in (0, 1, 2, 99, 100, 101, 400, 699, 700, 2000):
        should_prune, value = (x.numpy() for x in theirs(tf.constant(step + offset, tf.int64)))
        if step + offset >= theirs.begin_step:
            np.testing.assert_allclose(rest(step), value, atol=1e-6)
        # The end step is ours: TFMOT leaves it out where `frequency` does not meet it.
        if step and step + offset != theirs.end_step:
            assert rest.is_update_step(step, theirs.frequency) == should_prune
    assert not rest.is_update_step(0, 1)
    if rest.end_step is not None:
        assert rest.is_update_step(rest.end_step, 1000)


def test_rest_of_a_schedule_round_trips():
    rest = Shifted(schedules.PolynomialDecay(0.8, 0, 1000), 300)
    assert Shifted(**rest.get_config()) == rest
    assert schedules.get(keras.saving.serialize_keras_object(rest)) == rest
    assert eval(repr(rest), {**vars(schedules), "Shifted": Shifted}) == rest
    assert Shifted(schedules.Threshold(0.1), 2).quantity == "threshold"
    assert (rest.begin_step, rest.end_step) == (0, 700)
    assert rest.latest_update_step(0, 650, 100) == 600
    with pytest.raises(InvalidArgumentError, match=r"`offset` must be a positive int.*Received: 0"):
        Shifted(rest, 0)
    with pytest.raises(InvalidArgumentError, match="below the schedule's end_step 1000"):
        Shifted(schedules.PolynomialDecay(0.8, 0, 1000), 1000)


def fit_old(model, steps):
    rng = np.random.default_rng(0)
    x, y = (
        rng.normal(size=(steps, *shape[1:])) for shape in (model.input_shape, model.output_shape)
    )
    model.compile("adam", "mse")
    callback = sparsity.UpdatePruningStep()
    model.fit(x, y, batch_size=1, verbose=0, callbacks=[callback])
    return model


def fit_new(model, steps, callbacks):
    rng = np.random.default_rng(0)
    x, y = (
        rng.normal(size=(steps, *shape[1:])) for shape in (model.input_shape, model.output_shape)
    )
    model.compile("adam", "mse")
    return model.fit(x, y, batch_size=1, verbose=0, callbacks=callbacks)


def test_training_goes_on_to_the_exact_end():
    decay = sparsity.PolynomialDecay(0.2, 0.8, begin_step=0, end_step=20, frequency=3)
    old = fit_old(prune(sequential(), decay), 8)
    converted = convert(old)
    assert converted.schedule == Shifted(schedules.get(decay), 8)
    assert converted.frequency == 3
    assert converted.parts[0].step == 8
    (callback,) = converted.prunes(verbose=0)
    history = fit_new(converted.model, 14, [callback])
    # Steps 9, 12, 15, 18 and 20 of the old clock.
    assert [step for step, *_ in callback.updates] == [1, 4, 7, 10, 12]
    for step, requested, _ in callback.updates:
        np.testing.assert_allclose(requested, decay(tf.constant(step + 8))[1].numpy(), atol=1e-6)
    for weight in kgp.masked_weights(converted.model):
        n = weight.mask.shape.num_elements()
        assert np.count_nonzero(to_numpy(weight.variable)) == max(1, round(n * 0.2))
    assert history.history["sparsity"][-1] == pytest.approx(0.8, abs=0.01)


def test_schedule_before_its_first_step_is_whole():
    converted = convert(prune(sequential(), DECAY))
    assert converted.schedule == schedules.get(DECAY)
    assert all(w.mask.numpy().all() for w in kgp.masked_weights(converted.model))


@pytest.mark.parametrize("step", [1000, pytest.param(1500, marks=pytest.mark.full)])
def test_schedule_that_is_over_leaves_nothing_to_do(step):
    converted = convert(wrapped(sequential, step))
    assert converted.schedule is None
    assert converted.frequency == 100
    assert converted.prunes() == []
    before = masks_of(converted.model)[0][1]
    fit_new(converted.model, 2, [])
    assert masks_of(converted.model)[0][1] == before


def test_layers_with_their_own_schedules():
    constant = sparsity.ConstantSparsity(0.5, 0, frequency=2)
    old = tf_keras.Sequential(
        [
            tf_keras.Input((8,)),
            prune(layers.Dense(16, name="a"), DECAY),
            layers.Dense(8, name="dense"),
            prune(layers.Dense(8, name="block"), constant, block_size=(2, 2)),
            prune(layers.Dense(4, name="max"), constant, (4, 2), block_pooling_type="MAX"),
            prune(layers.Dense(6, name="b"), DECAY),
        ]
    )
    converted = convert(in_training(old, 300))
    assert [part.layers for part in converted.parts] == [("a", "b"), ("block",), ("max",)]
    assert [part.frequency for part in converted.parts] == [100, 2, 2]
    units = [kgp.Unstructured(), kgp.Block((2, 2), pool="mean"), kgp.Block((4, 2), pool="max")]
    assert [part.granularity for part in converted.parts] == units
    assert len(converted.prunes()) == 3
    with pytest.raises(InvalidArgumentError, match="do not share one `schedule`"):
        _ = converted.schedule
    with pytest.raises(InvalidArgumentError, match="do not share one `frequency`"):
        _ = converted.frequency


@pytest.mark.full
def test_blocks_go_on_as_blocks():
    constant = sparsity.ConstantSparsity(0.75, 0, frequency=2)
    old = tf_keras.Sequential([tf_keras.Input((8,)), prune(layers.Dense(8), constant, (2, 2))])
    converted = convert(fit_old(old, 1))
    fit_new(converted.model, 3, converted.prunes())
    (weight,) = kgp.masked_weights(converted.model)
    blocks = to_numpy(weight.mask).reshape(4, 2, 4, 2).sum(axis=(1, 3))
    assert sorted(set(blocks.ravel())) == [0, 4]
    assert np.count_nonzero(blocks) == 4


@pytest.mark.full
def test_m_by_n_stays_as_it_is():
    old = tf_keras.Sequential([prune(layers.Dense(6, input_shape=(8,)), sparsity_m_by_n=(2, 4))])
    fresh = convert(old)
    assert fresh.parts[0].granularity == kgp.NM(keep=2, of=4)
    converted = convert(fit_old(old, 2))
    (weight,) = kgp.masked_weights(converted.model)
    mask = to_numpy(weight.mask)
    np.testing.assert_array_equal(mask.reshape(2, 4, 6).sum(axis=1), 2)
    np.testing.assert_array_equal(mask, wrappers_of(old)[0].pruning_vars[0][1].numpy() == 1)
    assert converted.schedule is None  # TFMOT chooses them once
    fit_new(converted.model, 2, converted.prunes())
    np.testing.assert_array_equal(to_numpy(weight.variable) != 0, mask)
    # One that has not begun begins here.
    fit_new(fresh.model, 2, fresh.prunes())
    (weight,) = kgp.masked_weights(fresh.model)
    np.testing.assert_array_equal(to_numpy(weight.mask).reshape(2, 4, 6).sum(axis=1), 2)


def test_the_two_agree_on_patterns():
    kernel = np.random.default_rng(3).normal(size=(3, 3, 8, 5)).astype("float32")
    old = tf_keras.Sequential(
        [prune(layers.Conv2D(5, 3, input_shape=(5, 5, 8), use_bias=False), sparsity_m_by_n=(2, 4))]
    )
    old.layers[0].layer.kernel.assign(kernel)
    wrapper = wrappers_of(old)[0]
    theirs = wrapper.pruning_obj._maybe_update_block_mask(wrapper.layer.kernel)[1].numpy()
    new = keras.Sequential([keras.Input((5, 5, 8)), keras.layers.Conv2D(5, 3, use_bias=False)])
    new.set_weights([kernel])
    kgp.Pruner(new, granularity=kgp.NM(keep=2, of=4)).update(sparsity=0.5)
    np.testing.assert_array_equal(to_numpy(kgp.masked_weights(new)[0].mask), theirs == 1)


def test_kernels_that_tfmot_leaves_dense():
    old = prune(tf_keras.Sequential([layers.SeparableConv2D(2, 2, input_shape=(5, 5, 2))]), DECAY)
    with pytest.warns(
        PruningWarning, match="'separable_conv2d.*depthwise_kernel' dense. A `Prune`"
    ):
        converted = convert(in_training(old))
    masks = converted.model.layers[0].pruning_masks.masks
    assert masks["depthwise_kernel"].numpy().all()
    assert not masks["pointwise_kernel"].numpy().all()


class OwnSchedule(sparsity.PruningSchedule):
    def __call__(self, step):
        return tf.constant(True), tf.constant(0.5)

    def get_config(self):
        return {}


def test_custom_schedule():
    with pytest.warns(
        PruningWarning, match="'first' has a class that is not part of TFMOT .OwnSchedule"
    ):
        converted = convert(
            tf_keras.Sequential([prune(sequential().get_layer("first"), OwnSchedule())])
        )
    assert converted.prunes() == []
    assert len(kgp.masked_weights(converted.model)) == 1


@pytest.mark.full
def test_generator_goes_on_in_a_gan():
    decay = sparsity.PolynomialDecay(0.0, 0.9, begin_step=0, end_step=6, frequency=2)
    converted = convert(in_training(prune(gan_generator(), decay), 3))
    discriminator = keras.Sequential(
        [keras.Input((16, 16, 1)), keras.layers.Flatten(), keras.layers.Dense(1)]
    )
    gan = kgp.GANModel(converted.model, discriminator, latent_dim=5)
    gan.compile(keras.optimizers.Adam(1e-3), keras.optimizers.Adam(1e-3))
    images = np.random.default_rng(0).uniform(-1, 1, (8, 16, 16, 1)).astype("float32")
    history = gan.fit(
        images, batch_size=2, verbose=0, callbacks=converted.prunes("generator", verbose=0)
    )
    assert history.history["generator_sparsity"][-1] == pytest.approx(0.9, abs=0.01)


# --- files ---------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5")
@pytest.mark.parametrize(
    "name",
    [
        pytest.param("old.h5", marks=pytest.mark.full),
        "old.keras",
        pytest.param("folder", marks=pytest.mark.full),
    ],
)
def test_file_that_tf_keras_saved(name, tmp_path):
    old = wrapped(sequential if name == "folder" else gan_generator)
    expected = convert(old)
    old.save(tmp_path / name)
    converted = convert(str(tmp_path / name))
    assert masks_of(converted.model) == masks_of(expected.model)
    assert converted.parts == expected.parts
    assert_same_outputs(old, converted.model, inputs_of(old))


def test_files_that_do_not_fit(tmp_path):
    with pytest.raises(FileFormatError, match=r"There is no file '.*no.h5'"):
        convert(tmp_path / "no.h5")
    sequential().save_weights(tmp_path / "weights.h5")
    with pytest.raises(
        FileFormatError, match=r"could not be loaded by tf_keras .*not weights alone"
    ):
        convert(tmp_path / "weights.h5")
    (tmp_path / "text.keras").write_text("nothing")
    with pytest.raises(FileFormatError, match=r"text.keras' could not be loaded by tf_keras"):
        convert(tmp_path / "text.keras")
    new = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    new.save(tmp_path / "new.keras")
    with pytest.raises(
        FileFormatError, match=r"was saved by Keras 3.*call `keras_ganprune.make_pru"
    ):
        convert(tmp_path / "new.keras")


@pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5")
def test_file_of_keras_3_in_the_old_format(tmp_path):
    keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)]).save(tmp_path / "new.h5")
    with pytest.raises(FileFormatError, match=r"new.h5' was saved by Keras 3"):
        convert(tmp_path / "new.h5")


# --- refused models ------------------------------------------------------------------------------


class Subclassed(tf_keras.Model):
    def __init__(self):
        super().__init__(name="mine")
        self.network = sequential()

    def call(self, x):
        return self.network(x)


def with_layer(*more):
    return lambda: tf_keras.Sequential([layers.Dense(6, input_shape=(4,)), *more])


def with_operation(operation):
    x = tf_keras.Input((4,))
    return lambda: tf_keras.Model(x, operation(layers.Dense(4)(x)))


WRONG_TYPES = {
    "a Keras 3 model": (
        lambda: keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)]),
        r"must be a tf_keras model.*This is a Keras 3 model already: call `keras_ganprune.make_pr",
    ),
    "a layer": (
        lambda: prune(layers.Dense(2)),
        r"This is a layer: put it into a model, `tf_keras.S",
    ),
    "a list": (
        lambda: prune([layers.Dense(2)]),
        r"must be a tf_keras model.*\(of type builtins.list",
    ),
    "nothing": (
        lambda: None,
        r"must be a tf_keras model. Received: None.*Pass the model, or the pat",
    ),
}

REFUSED = {
    "a subclassed model": (
        Subclassed,
        r"'mine' \(Subclassed\), a subclassed model. Write its class",
    ),
    "one inside": (with_layer(Subclassed()), r"'mine' \(Subclassed\), a subclassed model"),
    "a layer of Keras 2 only": (
        with_layer(layers.ThresholdedReLU(name="old")),
        r"'old' \(ThresholdedReLU\) cannot be converted: Keras 3 has no layer of that name.*custom_obj",
    ),
    "an option of Keras 2 only": (
        with_layer(layers.Reshape((2, 3)), layers.LSTM(2, time_major=True, name="old")),
        r"'old' \(LSTM\) cannot be rebuilt.*has no option `time_major`, here True",
    ),
    "an operation": (with_operation(tf.sin), r"'tf.math.sin.*only \+, - and \* can"),
    "a division": (with_operation(lambda x: 1 / x), r"'tf.math.truediv.*only \+, - and \* can"),
    "a slice": (with_operation(lambda x: x[:, :2]), r"\(SlicingOpLambda\) cannot be converted"),
    "a sparse input": (
        lambda: tf_keras.Sequential([tf_keras.Input((3,), sparse=True, name="s"), layers.Dense(2)]),
        r"Only dense inputs can be converted. Received: input 's', a SparseTensorSpec",
    ),
    "nothing to prune": (
        lambda: tf_keras.Sequential([layers.ReLU(input_shape=(3,))]),
        "has no layer that can be pruned",
    ),
}


@pytest.mark.parametrize("case", WRONG_TYPES)
def test_argument_that_is_not_a_model(case):
    build, text = WRONG_TYPES[case]
    with pytest.raises(ArgumentTypeError, match=f"(?s){text}"):
        convert(build())


@pytest.mark.parametrize("case", REFUSED)
def test_refused_with_the_reason(case):
    build, text = REFUSED[case]
    with pytest.raises(UnsupportedLayerError, match=f"(?s){text}"):
        convert(build())


def test_unbuilt_model():
    with pytest.raises(
        UnbuiltModelError, match=r"must be built before it is converted. Call it once"
    ):
        convert(tf_keras.Sequential([layers.Dense(2)]))


def test_layer_that_computes_something_else_is_named():
    old = tf_keras.Sequential(
        [
            layers.Dense(3, input_shape=(4,), name="same"),
            layers.Dense(3, activation="hard_sigmoid", name="other"),
        ]
    )
    with pytest.raises(
        ExportError,
        match=r"must give the outputs of .*The first layer that differs is 'other' \(Dense",
    ):
        convert(old)
    x, y = tf_keras.Input((3,)), tf_keras.Input((3,))
    mine = prune(Scale(name="mine"), DECAY)
    old = tf_keras.Model([x, y], layers.Dense(2)(layers.Add()([layers.Dense(3)(x), mine(y)])))
    kgp.register_prunable(WrongScale, ["scale"])
    with pytest.raises(
        ExportError, match=r"The first layer that differs is 'mine' \(Scale\), by 1"
    ):
        convert(old, custom_objects={"Scale": WrongScale})
    assert convert(old, custom_objects={"Scale": WrongScale}, tolerance=1e6).max_difference > 0.01


def test_outputs_that_cannot_be_compared():
    old = sequential()
    old.layers[0].bias.assign(np.full(8, np.nan))
    with pytest.raises(ExportError, match=r"'plain' .Sequential. must be finite to be compared"):
        convert(old)


def test_custom_inputs():
    zeros = np.zeros((2, 6), "float32")
    assert convert(wrapped(sequential), inputs=zeros).max_difference < 1e-6
    x, label = np.zeros((2, 5), "float32"), np.array([[9], [3]])
    convert(wrapped(several_inputs_and_outputs), inputs=[x, label])


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"tolerance": 0}, "`tolerance` must be a positive number.*Received: 0"),
        ({"tolerance": "1"}, "`tolerance` must be a positive number"),
        ({"custom_objects": [Scale]}, "`custom_objects` must be a dictionary from names"),
        ({"custom_objects": {"Scale": Scale}}, "must hold Keras 3 classes. 'Scale' is a tf_keras"),
        (
            {"custom_objects": {"Dense": print}},
            r"`custom_objects\['Dense'\]` must be a Keras 3 layer",
        ),
    ],
)
def test_bad_arguments(arguments, text):
    with pytest.raises(InvalidArgumentError, match=text):
        convert(sequential(), **arguments)


@pytest.mark.parametrize(
    ("module", "package"),
    [
        ("tf_keras", "tf_keras"),
        ("tensorflow_model_optimization", "tensorflow-model-optimization"),
    ],
)
def test_package_that_is_not_installed(module, package, monkeypatch):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ImportError, match=f"(?s)`{module}` is needed.*`pip install {package}`"):
        convert("old.h5")


# --- the page for people who move over -----------------------------------------------------------

PAGE = (paths.DOCS / "from_tfmot.md").read_text(encoding="utf-8")


@pytest.mark.full
@pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5")
def test_snippet_of_the_page_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (snippet,) = re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL)
    names: dict = {"__name__": "page"}
    exec(compile(snippet, "docs/from_tfmot.md", "exec"), names)
    assert "1 schedule to continue; its outputs differ by" in capsys.readouterr().out
    sparsities = [row.sparsity for row in kgp.sparsity_report(names["model"])]
    np.testing.assert_allclose(sparsities, 0.8, atol=0.01)


def test_names_on_the_page_exist():
    for name in re.findall(r"`(Prune|Pruner|NM|Block|make_prunable|strip_pruning)\b", PAGE):
        assert hasattr(kgp, name)
    for call in ("ConstantSparsity(0.5, 0, end_step=9)", "PolynomialDecay(0.8, 0, 9, 0.1, 3)"):
        eval(call, vars(kgp))
    assert kgp.Prune(sparsity.ConstantSparsity(0.5, 0, frequency=7)).frequency == 7


def tfmot_mask(kernel, target):
    old = tf_keras.Sequential(
        [
            tf_keras.Input((kernel.shape[0],)),
            prune(layers.Dense(kernel.shape[1]), sparsity.ConstantSparsity(target, 0)),
        ]
    )
    return wrappers_of(old)[0].pruning_obj._update_mask(tf.constant(kernel))[1].numpy()


def kept_here(kernel, target):
    model = keras.Sequential([keras.Input((kernel.shape[0],)), keras.layers.Dense(kernel.shape[1])])
    model.layers[0].kernel.assign(kernel)
    return kgp.Pruner(model).update(sparsity=target).kept


@pytest.mark.full
def test_numbers_on_the_page():
    equal = np.ones((4, 5), "float32")
    assert tfmot_mask(equal, 0.5).sum() == 20
    assert kept_here(equal, 0.5) == 10
    ten = np.arange(1, 11, dtype="float32").reshape(5, 2)
    assert tfmot_mask(ten, 0.85).sum() == 1
    assert kept_here(ten, 0.85) == 2
    decay = sparsity.PolynomialDecay(0.0, 0.8, begin_step=0, end_step=1000, frequency=300)
    steps = [t for t in range(1001) if decay(tf.constant(t))[0]]
    assert steps[-1] == 900
    assert decay(tf.constant(900))[1].numpy() == pytest.approx(0.7992)
    assert schedules.get(decay).is_update_step(1000, 300)


@pytest.mark.full
def test_claims_on_the_page_about_tfmot():
    every = sparsity.ConstantSparsity(0.5, 0, frequency=3)
    old = prune(sequential(), every)
    (first, *_) = wrappers_of(old)
    weight, mask, _ = first.pruning_vars[0]
    fit_old(old, 2)
    assert mask.numpy().all()  # the first batch is step 1
    old(np.zeros((1, 6)), training=True)
    assert first.pruning_step.numpy() == 3  # every call in training mode counts
    assert np.mean(mask.numpy()) == 0.5
    old.train_on_batch(np.ones((2, 6)), np.eye(3)[:2])
    # Not masked between steps: the gradient of the last one is in the pruned entries.
    assert (weight.numpy()[mask.numpy() == 0] != 0).any()
    assert sparsity.strip_pruning(old).layers[0] is first.layer
