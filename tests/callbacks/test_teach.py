"""`Teach`: the gradient that it adds, and that nothing of it is left behind."""

import keras
import numpy as np
import pytest

import keras_ganprune as kgp
from keras_ganprune.errors import InvalidArgumentError

BACKEND = keras.backend.backend()
needs_tensorflow = pytest.mark.skipif(BACKEND != "tensorflow", reason="the class is of TensorFlow")


class Model(keras.Model):
    """A class with a training step of its own, whose own loss has no gradient."""

    def __init__(self, network):
        super().__init__()
        self.G = network
        self.opt = keras.optimizers.SGD(1.0)
        self.opt.build(network.trainable_variables)
        self.built = True

    def train_step(self, z):
        import tensorflow as tf

        with tf.GradientTape() as tape:
            loss = 0.0 * tf.reduce_sum(self.G(z, training=True))
        weights = self.G.trainable_variables
        self.opt.apply_gradients(zip(tape.gradient(loss, weights), weights, strict=True))
        return {"loss": loss}


def network(kernel):
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1, use_bias=False)])
    model.set_weights([np.array(kernel, "float32")])
    return model


@needs_tensorflow
def test_it_adds_the_gradient_of_the_distance_and_leaves_nothing_behind():
    model = Model(network([[0.0], [0.0]]))
    model.compile()
    z = np.array([[1.0, 2.0], [3.0, -4.0]], "float32")
    teach = kgp.Teach(network([[5.0], [0.0]]), "G", weight=2.0)
    model.fit(z, batch_size=2, verbose=0, callbacks=[teach])
    # d/dw 2 * mean |z w - 5 z_1| at w = 0: -2 * mean(z), since both differences are negative.
    np.testing.assert_allclose(model.G.get_weights()[0], [[4.0], [-2.0]], atol=1e-6)
    assert "call" not in vars(model.G) and "apply" not in vars(model.opt)
    model.fit(z, batch_size=2, verbose=0)
    np.testing.assert_allclose(model.G.get_weights()[0], [[4.0], [-2.0]], atol=1e-6)


@pytest.mark.skipif(BACKEND != "jax", reason="about JAX")
def test_on_jax_it_says_that_it_cannot_be_used():
    model = Model(network([[0.0], [0.0]]))
    model.compile()
    with pytest.raises(InvalidArgumentError, match="needs TensorFlow or PyTorch"):
        model.fit(np.ones((2, 2)), callbacks=[kgp.Teach(network([[1.0], [1.0]]), "G")])
