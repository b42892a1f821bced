"""What may surprise a user: settings that conflict, or that silently change nothing."""

import warnings

import keras
import numpy as np
import pytest
import tensorflow as tf
from cases import cases
from keras import layers

import keras_ganprune as kgp
from keras_ganprune.errors import ArgumentTypeError, InvalidArgumentError, PruningWarning
from keras_ganprune.layers.tensors import to_numpy

X = np.random.default_rng(0).normal(size=(64, 8)).astype("float32")
Y = np.random.default_rng(1).normal(size=(64, 4)).astype("float32")


def model(**options):
    keras.utils.set_random_seed(0)
    made = keras.Sequential(
        [
            keras.Input((8,)),
            layers.Dense(16, "relu", name="a"),
            layers.Dense(16, "relu", name="b"),
            layers.Dense(4, name="c"),
        ]
    )
    made.compile(keras.optimizers.Adam(1e-2), "mse", **options)
    return made


def fit(made, *callbacks, epochs=1, **options):
    options = {"batch_size": 8, "verbose": 0, "shuffle": False, **options}
    return made.fit(X, Y, epochs=epochs, callbacks=list(callbacks), **options).history


def prune(schedule, *arguments, **options):
    return kgp.Prune(schedule, *arguments, verbose=0, **options)


def zeros(made, *names):
    kernels = [w.numpy() for w in made.trainable_weights if len(w.shape) > 1]
    return 1 - sum(map(np.count_nonzero, kernels)) / sum(k.size for k in kernels)


# --- which network is meant ----------------------------------------------------------------------


class Classifier(keras.Model):
    """A model with a pooling layer called `avg_...`, and layers in a private list."""

    def __init__(self):
        super().__init__()
        self._blocks = [layers.Conv2D(4, 3, name="one"), layers.Conv2D(4, 3, name="two")]
        self.avg_pool = layers.GlobalAveragePooling2D()
        self.drop = layers.Dropout(0.1)
        self.head = layers.Dense(3, name="head")

    def call(self, x, training=False):
        for block in self._blocks:
            x = block(x)
        return self.head(self.drop(self.avg_pool(x), training=training))


@cases(1, "built", [True, False])
def test_a_name_alone_makes_no_average(built, capsys):
    images, labels = np.random.default_rng(0).normal(size=(16, 8, 8, 1)), np.arange(16) % 3
    made = Classifier()
    made.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    if built:
        made(images)
    callback = kgp.Prune(0.5)
    history = made.fit(images, labels, verbose=0, callbacks=[callback]).history
    assert [row.path.split("/")[-2] for row in callback.report] == ["one", "two", "head"]
    assert history["sparsity"] == [0.5]
    assert "average" not in capsys.readouterr().out


class WithAverage(keras.Model):
    def __init__(self):
        super().__init__()
        self.augment = keras.Sequential([keras.Input((8,)), layers.GaussianNoise(0.1)])
        self.net = keras.Sequential([keras.Input((8,)), layers.Dense(6), layers.Dense(4)])
        self.ema_net = keras.models.clone_model(self.net)

    def call(self, x, training=False):
        return self.net(self.augment(x, training=training))


def test_an_average_and_what_cannot_be_pruned_are_left_out(capsys):
    made = WithAverage()
    made.compile("sgd", "mse")
    callback = kgp.Prune(0.5)
    history = fit(made, callback)
    assert [row.path.split("/")[0] for row in callback.report] == [
        made.net.layers[0].name,
        made.net.layers[1].name,
    ]
    assert history["sparsity"] == [0.5]
    assert "'ema_net' looks like a weight average, so it is not a target" in capsys.readouterr().out


@pytest.mark.full
def test_a_stranger_is_no_target_without_a_word():
    other = keras.Sequential([keras.Input((8,)), layers.Dense(4)], name="stranger")
    with pytest.warns(
        PruningWarning, match=r"target 'stranger' is not part of the Sequential that is"
    ):
        fit(model(), prune(0.5, other))


def test_a_strangers_optimizer_counts_no_steps():
    with pytest.raises(InvalidArgumentError, match="the same object that trains the model"):
        fit(model(), prune(0.5, optimizer=keras.optimizers.Adam()))


# --- two callbacks -------------------------------------------------------------------------------


def test_two_callbacks_on_one_layer_are_said_if_one_brings_weights_back():
    with pytest.warns(PruningWarning) as seen:
        fit(model(), prune(kgp.Linear(0.8, 0, 6), None, 2), prune(0.3, None, 2, mode="rigl"))
    text = next(str(w.message) for w in seen if "Two `Prune` callbacks" in str(w.message))
    assert "a/kernel, b/kernel, c/kernel" in text and "RigL(" in text and "`scope`" in text


@pytest.mark.full
def test_two_callbacks_with_layers_of_their_own_share_one_log():
    made = model()
    first = prune(kgp.Linear(0.8, 0, 6), None, 2, scope="a", mode="rigl")
    second = prune(kgp.Linear(0.4, 0, 6), None, 2, scope=["b", "c"])
    history = fit(made, first, second)
    kept = sum(row.kept for row in kgp.sparsity_report(made))
    total = sum(row.total for row in kgp.sparsity_report(made))
    assert history["sparsity"] == [1 - kept / total]


@pytest.mark.full
def test_a_callback_on_another_model_begins_anew():
    callback = prune(0.5)
    fit(model(), callback)
    fit(model(), callback)
    assert len(callback.updates) == len(callback.reports) == 1


# --- a second fit --------------------------------------------------------------------------------


@cases(
    ("soft",),
    "settings",
    [{"granularity": "2:4"}, {"allocation": "erk"}, {"mode": "soft"}],
    ids=str,
)
def test_other_settings_are_another_update(settings):
    made = model()
    fit(made, prune(kgp.OneShot(0.5, 4)))
    again = prune(kgp.OneShot(0.5, 4), **settings)
    with warnings.catch_warnings():
        # Other shares on top of the masks that are there make it sparser than asked for.
        warnings.simplefilter("ignore", PruningWarning)
        fit(made, again)
    assert [step for step, *_ in again.updates] == [4]
    same = prune(kgp.OneShot(0.5, 4), **settings)
    fit(made, same)
    assert same.updates == []


@pytest.mark.full
def test_weights_restored_behind_prune_get_the_mask():
    made = model()
    # It watches a log that is best at the start, and puts the dense weights of then back.
    best = keras.callbacks.EarlyStopping(
        "sparsity", mode="min", patience=4, restore_best_weights=True, start_from_epoch=0
    )
    fit(made, prune(kgp.Linear(0.9, 8, 30), None, 8), best, epochs=8)
    assert zeros(made) == pytest.approx(0.9, abs=0.01)
    np.testing.assert_array_equal(
        kgp.strip_pruning(made).predict(X, verbose=0), made.predict(X, verbose=0)
    )


# --- schedules -----------------------------------------------------------------------------------


@pytest.mark.full
@cases(
    1,
    "schedule",
    [
        kgp.ConstantSparsity(0.5, begin_step=1000),
        kgp.Threshold(0.1, begin_step=1000),
        kgp.AdaptiveSparsity("loss", begin_step=1000),
    ],
    ids=repr,
)
def test_a_begin_that_is_never_reached_is_said(schedule):
    with pytest.warns(
        PruningWarning, match=r"ended at step 8, before the schedule's begin_step 1000"
    ):
        fit(model(), prune(schedule))


@pytest.mark.full
def test_the_logs_of_an_epoch_are_those_of_its_sparsity():
    made = model()
    callback = prune(kgp.AdaptiveSparsity("val_loss", 5.0, increment=0.3, maximum=0.9))
    seen = []

    class Check(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            loss = made.evaluate(X, Y, verbose=0)
            seen.append((logs["sparsity"], round(zeros(made), 3), loss - logs["val_loss"]))

    fit(made, callback, Check(), epochs=4, validation_data=(X, Y))
    assert [round(sparsity, 2) for sparsity, *_ in seen] == [0.0, 0.3, 0.6, 0.9]
    for sparsity, really, difference in seen:
        assert sparsity == pytest.approx(really, abs=1e-3)
        assert abs(difference) < 1e-4
    assert callback.report.achieved == callback.pruner.sparsity


@pytest.mark.full
def test_an_order_that_no_update_can_follow_is_said():
    schedule = kgp.LayerwiseOrder(kgp.Linear(0.8, 0, 8))
    with pytest.warns(PruningWarning, match=r"gives each of 3 tensors 2\.667 steps, but masks are"):
        fit(model(), prune(schedule))
    callback = prune(schedule, None, 1)
    fit(model(), callback)
    shares = [[round(row.sparsity, 1) for row in report] for report in callback.reports]
    assert shares[3] == [0.8, 0.3, 0.0] or shares[3][0] > shares[3][1] > shares[3][2] == 0.0
    assert schedule.crowded(1, 100) is None
    assert kgp.LayerwiseOrder([kgp.OneShot(0.5, 3)]).crowded(1, 100) is None


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"granularity": "channel"}, r"sums over whole channels; use 'unstructured' or a block"),
        ({"criterion": "taylor"}, r"have another unit; use 'magnitude'"),
    ],
)
def test_a_statistic_of_weights_is_for_scores_in_their_unit(settings, text):
    with pytest.raises(InvalidArgumentError, match=text):
        kgp.Prune(kgp.DynamicThreshold(1.0, statistic="std"), **settings)


# --- floors --------------------------------------------------------------------------------------


def test_a_floor_holds_under_a_threshold():
    made = model()
    callback = prune(kgp.Threshold(10.0), allocation=kgp.Uniform(minimum=0.25))
    with pytest.warns(PruningWarning) as seen:
        fit(made, callback)
    assert "would keep 0 units of 'a/kernel', and `minimum` keeps 32" in str(seen[0].message)
    assert [row.kept for row in callback.report] == [32, 64, 16]
    for weight in callback.pruner.weights:
        kept = np.abs(to_numpy(weight.variable))[to_numpy(weight.mask)]
        assert kept.size and kept.all()


def test_a_floor_leaves_a_pattern_nothing_to_say():
    with pytest.raises(InvalidArgumentError, match=r"`minimum` of 0\.9 would have no effect"):
        kgp.Prune(0.5, granularity="2:4", allocation=kgp.Uniform(minimum=0.9))


# --- gradients -----------------------------------------------------------------------------------


@pytest.mark.full
def test_fewer_batches_than_asked_for_are_said(capsys):
    callback = kgp.Prune(kgp.Linear(0.5, 0, 16), None, 2, criterion=kgp.Taylor(batches=8))
    fit(model(), callback, epochs=3)
    assert (
        "every 2 steps, so gradients are averaged over the batches since" in capsys.readouterr().out
    )


@pytest.mark.full
def test_a_late_update_is_noted_at_the_step_that_it_was_made_at():
    made = model()
    fit(made, epochs=3)
    callback = prune(kgp.Linear(0.5, 3, 10, initial_sparsity=0.1), criterion=kgp.Taylor(batches=4))
    with pytest.warns(PruningWarning, match="was at step 24 already, past begin_step 3"):
        fit(made, callback)
    assert [step for step, *_ in callback.updates] == [28]


def test_a_gradient_loss_without_a_use_is_refused():
    with pytest.raises(InvalidArgumentError, match="`gradient_loss` is not used"):
        kgp.Prune(0.5, gradient_loss=lambda model, batch: 0.0)


def test_gradients_of_an_embedding_by_hand():
    rows = keras.Input((3,), dtype="int32")
    made = keras.Model(rows, layers.Flatten()(layers.Embedding(6, 4)(rows)))
    pruner = kgp.Pruner(made, criterion="gradient")
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(made(np.array([[1, 1, 2], [1, 5, 5]])))
    gradients = tape.gradient(loss, [w.variable.value for w in pruner.weights])
    assert isinstance(gradients[0], tf.IndexedSlices)
    pruner.update(sparsity=0.5, gradients=gradients)
    # Rows 1 (three times), 5 (twice) and 2 (once) stay.
    assert np.flatnonzero(to_numpy(pruner.weights[0].mask).any(axis=1)).tolist() == [1, 2, 5]


def test_gradients_of_unknown_weights_are_refused():
    pruner = kgp.Pruner(model(), criterion="gradient")
    with pytest.raises(InvalidArgumentError, match=r"weight in `gradients`: 'd/kernel'"):
        pruner.update(sparsity=0.5, gradients={"d/kernel": np.zeros((4, 4))})


# --- what a criterion falls back to --------------------------------------------------------------


def test_layers_without_a_scale_are_said():
    inputs = keras.Input((6, 6, 2))
    x = layers.BatchNormalization()(layers.Conv2D(4, 3, name="one")(inputs))
    x = layers.BatchNormalization(scale=False)(layers.Conv2D(4, 3, name="two")(x))
    made = keras.Model(inputs, x)
    said = kgp.Pruner(made, criterion="batch_norm_scale").remarks
    assert [text.split(":")[0] for text in said] == ["two/kernel"]
    mixed = kgp.Pruner(made, criterion={"batch_norm_scale": 1.0, "random": 1.0}).remarks
    assert mixed == said


@pytest.mark.parametrize(
    ("make", "shape"),
    [
        (lambda: layers.LSTM(8), (5, 4)),
        (lambda: layers.GRU(8), (5, 4)),
        (lambda: layers.DepthwiseConv2D(3), (8, 8, 8)),
        (lambda: layers.SeparableConv2D(6, 3), (8, 8, 8)),
        (lambda: layers.Embedding(9, 8), (3,)),
        (lambda: layers.EinsumDense("ab,bc->ac", (8,)), (8,)),
    ],
    ids=["lstm", "gru", "depthwise", "separable", "embedding", "einsum"],
)
def test_every_kernel_has_an_initializer_to_come_back_with(make, shape):
    made = keras.Sequential([keras.Input(shape), make()])
    pruner = kgp.Pruner(made, mode=kgp.SET(fraction=0.5, restore="initializer"))
    pruner.update(sparsity=0.5)
    pruner.update(sparsity=0.5)
    for weight in pruner.weights:
        grown = pruner.regrown[id(weight.variable)]
        assert np.count_nonzero(to_numpy(weight.variable)[grown]) == grown.sum() > 0, weight.path


# --- what is refused, and how --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda: kgp.Prune(0.5, criterion="hybrid"), r"'hybrid' cannot be given by its name alone"),
        (
            lambda: kgp.Prune(0.5, allocation="per_layer"),
            r"it needs `sparsities`\. Write `PerLayer",
        ),
        (lambda: kgp.Prune(0.5, granularity="block"), r"needs a block size"),
        (lambda: kgp.Prune("cubic"), r"'cubic' cannot be given by its name alone"),
        (lambda: kgp.Pruner(model(), allocation={"nope": 0.9}), r"layer in `sparsities`: 'nope'"),
        (lambda: kgp.Cyclic(0.1, 0.5, 10, 0, 50, rise=50), r"For 50 %, pass 0\.5"),
        (lambda: kgp.AdaptiveSparsity("loss", increment=10), r"For 10 %, pass 0\.1"),
        (
            lambda: kgp.LayerwiseOrder(kgp.Cubic(0.5, 0, 9), overlap=50),
            r"For 50 %, pass 0\.5",
        ),
        (
            lambda: kgp.PolynomialDecay(0.0, 0.8, 0, 1000),
            r"unlike in TFMOT; use the names of the arguments",
        ),
        (lambda: kgp.Taylor(squared="yes"), r"`squared` must be True or False"),
        (lambda: kgp.Pruner(model()).update(sparsity=np.array(80.0)), r"For 80 %, pass 0\.8"),
    ],
)
def test_refused_with_the_fix(call, text):
    with pytest.raises(InvalidArgumentError, match=text):
        call()


@pytest.mark.parametrize("function", [kgp.strip_pruning, kgp.apply_masks])
def test_what_is_no_model_is_refused(function):
    with pytest.raises(ArgumentTypeError, match=r"must be a Keras 3 model or layer.*Received: 3"):
        function(3)


def test_a_criterion_of_the_wrong_shape_is_refused():
    class Wrong(kgp.Criterion):
        def score(self, weight, gradient=None):
            return np.abs(weight)[:1]

    with pytest.raises(
        InvalidArgumentError, match=r"one score for each of the 128 units of 'a/kernel'"
    ):
        kgp.Pruner(model(), criterion=Wrong()).update(sparsity=0.5)


def test_a_number_in_an_array_is_a_number():
    assert kgp.Pruner(model()).update(sparsity=np.array(0.5)).achieved == 0.5


@pytest.mark.full
def test_a_rewind_step_that_one_call_passes_over_is_explained():
    schedule = kgp.IterativeRewind(0.8, 2, 12, 4, rewind_step=5)
    with pytest.raises(InvalidArgumentError, match="`steps_per_execution`, a multiple of it"):
        fit(model(steps_per_execution=4), prune(schedule), epochs=3)
