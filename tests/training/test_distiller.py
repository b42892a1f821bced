"""`Distiller`: the loss, the copy of a compiled model, and what is refused."""

import keras
import numpy as np
import pytest

import keras_ganprune as kgp
from keras_ganprune.errors import InvalidArgumentError, UnbuiltModelError

X, Y = np.random.default_rng(0).normal(size=(16, 4)).astype("float32"), np.zeros((16, 2), "float32")


def network(activation=None, outputs=2):
    dense = keras.layers.Dense(outputs, activation=activation)
    return keras.Sequential([keras.Input((4,)), dense])


def loss_of(student, teacher, kind, weight):
    distiller = kgp.Distiller(student, teacher, weight, kind)
    distiller.compile(keras.optimizers.SGD(0.0), "mse")
    return distiller.fit(X, Y, batch_size=16, verbose=0).history


@pytest.mark.parametrize(
    ("kind", "activation", "distance"),
    [
        ("values", None, lambda s, t: np.mean((s - t) ** 2) / np.var(t)),
        ("softmax", "softmax", lambda s, t: np.mean(np.sum(t * np.log(t / s), -1))),
        (
            "sigmoid",
            "sigmoid",
            lambda s, t: np.mean(t * np.log(t / s) + (1 - t) * np.log((1 - t) / (1 - s))),
        ),
    ],
)
def test_the_loss_is_the_compiled_one_plus_the_weighted_distance(kind, activation, distance):
    student, teacher = network(activation), network(activation)
    s, t = (model.predict(X, verbose=0).astype("float64") for model in (student, teacher))
    history = loss_of(student, teacher, kind, 3.0)
    expected = distance(s, t)
    assert history["distillation_loss"] == pytest.approx([expected], rel=1e-4)
    assert history["loss"] == pytest.approx([np.mean(s**2) + 3.0 * expected], rel=1e-4)


def test_without_a_teacher_the_loss_is_the_compiled_one():
    student = network()
    expected = np.mean(student.predict(X, verbose=0) ** 2)
    history = loss_of(student, None, "values", 1.0)
    assert history["loss"] == pytest.approx([expected], rel=1e-5) and list(history) == ["loss"]


def test_a_copy_of_a_compiled_model_goes_on_as_the_model_does():
    model = network()
    model.compile("adam", "mse", metrics=["mae"])
    model.fit(X, Y, shuffle=False, verbose=0)
    distiller = kgp.Distiller.of(model)
    ours = distiller.fit(X, Y, epochs=2, shuffle=False, verbose=0).history
    theirs = model.fit(X, Y, epochs=2, shuffle=False, verbose=0).history
    assert ours.keys() == theirs.keys() and ours["mae"] == pytest.approx(theirs["mae"])
    for one, two in zip(model.get_weights(), distiller.student.get_weights(), strict=True):
        np.testing.assert_allclose(one, two, rtol=1e-6)


def test_what_is_refused():
    with pytest.raises(InvalidArgumentError, match="Call its `compile`"):
        kgp.Distiller.of(network())
    with pytest.raises(UnbuiltModelError, match="`student` has no weights"):
        kgp.Distiller(keras.Sequential([keras.layers.Dense(1)]))
    distiller = kgp.Distiller(network(), network(), outputs=["values", "softmax"])
    with pytest.raises(InvalidArgumentError, match="1 and 1 outputs, 2 entries"):
        distiller.distance(np.ones((1, 2)), np.ones((1, 2)))
