"""Networks whose weights are mostly rows of embeddings are not ranked by gradients of a few batches."""

import keras
import numpy as np
import pytest

import keras_ganprune as kgp
from keras_ganprune.applications.compression.looked_up import share_looked_up


def reader(rows: int) -> keras.Model:
    model = keras.Sequential(
        [
            keras.Input((3,), dtype="int32"),
            keras.layers.Embedding(rows, 4),
            keras.layers.Flatten(),
            keras.layers.Dense(5),
        ]
    )
    model.compile("adam", "mse")
    return model


@pytest.mark.parametrize("rows, share", [(195, 780 / 845), (10, 40 / 105)])
def test_share(rows, share):
    assert share_looked_up([reader(rows)]) == pytest.approx(share)


def test_magnitude_where_most_weights_are_looked_up():
    x = np.random.default_rng(0).integers(0, 200, (16, 3)).astype("int32")
    data = x, np.ones((16, 5), "float32")
    arguments = {"sparsity": 0.5, "epochs": 4, "batch_size": 8, "baseline": False, "verbose": 0}
    result = kgp.compress(reader(200), data, **arguments)
    assert 'criterion="magnitude"' in result.recipe
    assert any("rows of embeddings" in note for note in result.notes)
