"""Data of all kinds that `fit` takes: arrays in structures, and streams of batches."""

import compressed_models as models
import keras
import numpy as np
import pytest

import keras_ganprune as kgp
from keras_ganprune.applications.compression.outputs import kinds_of_outputs
from keras_ganprune.errors import DataError

RNG = np.random.default_rng(0)
A, B = (RNG.normal(size=(48, n)).astype("float32") for n in (6, 4))
Y = A.sum(axis=1, keepdims=True) + B.sum(axis=1, keepdims=True)
SETTINGS = {"epochs": 4, "baseline": False, "verbose": 0}


class Stream(keras.utils.PyDataset):
    """The batches of some arrays."""

    def __init__(self, *parts):
        super().__init__()
        self.parts = parts

    def __len__(self):
        return 3

    def __getitem__(self, index):
        rows = slice(16 * index, 16 * index + 16)
        return tuple(keras.tree.map_structure(lambda a: a[rows], part) for part in self.parts)


def tensorflow_stream(*parts):
    tf = pytest.importorskip("tensorflow")
    return tf.data.Dataset.from_tensor_slices(parts).batch(16, drop_remainder=True)


def two_inputs():
    keras.utils.set_random_seed(0)
    a, b = keras.Input((6,), name="a"), keras.Input((4,), name="b")
    h = keras.layers.Concatenate()([keras.layers.Dense(8, "relu")(a), keras.layers.Dense(8)(b)])
    ends = [keras.layers.Dense(1, name=name)(h) for name in ("one", "two")]
    model = keras.Model([a, b], ends)
    model.compile("adam", ["mse", "mae"])
    return model


def weights(model):
    return [np.array(keras.ops.convert_to_numpy(v)) for v in model.weights]


STRUCTURES = {
    "list": ([A, B], [Y, -Y]),
    "tuple": ((A, B), (Y, -Y)),
    "dict": ({"a": A, "b": B}, [Y, -Y]),
    "sample weights": ([A, B], [Y, -Y], np.ones(48, "float32")),
}


@pytest.fixture(scope="module")
def of_tuples():
    return kgp.compress(two_inputs(), STRUCTURES["tuple"], sparsity=0.5, **SETTINGS)


@pytest.mark.full
@pytest.mark.parametrize("name", [name for name in STRUCTURES if name != "tuple"])
def test_several_inputs_in_any_structure(name, of_tuples):
    data = STRUCTURES[name]
    result = kgp.compress(two_inputs(), data, sparsity=0.5, validation_data=data, **SETTINGS)
    for one, other in zip(weights(result.network), weights(of_tuples.network), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)
    assert result.achieved == 0.5


STREAMS = {
    "PyDataset": lambda: Stream((A, B), (Y, -Y)),
    "tf.data": lambda: tensorflow_stream((A, B), (Y, -Y)),
}


@pytest.mark.full
@pytest.mark.parametrize("name", STREAMS)
@pytest.mark.parametrize("kind", ["sparsity", "budget"])
def test_a_stream_of_batches(name, kind):
    request = {"sparsity": 0.5} if kind == "sparsity" else {"budget": kgp.Budget(macs=0.5)}
    stream = STREAMS[name]()
    result = kgp.compress(two_inputs(), stream, validation_data=stream, **request, **SETTINGS)
    assert result.achieved == pytest.approx(0.5, rel=0.05) and result.steps == 12
    model, batches = two_inputs(), {"model": two_inputs(), "data": stream}
    exec(result.recipe.replace("shuffle=False", "shuffle=False, verbose=0"), batches)
    made = kgp.strip_pruning(batches["trainer"].student)
    assert all(map(np.array_equal, weights(made), weights(result.network))) and model is not made


@pytest.mark.parametrize("make", [Stream, tensorflow_stream])
def test_the_outputs_of_a_stream_are_known_by_its_first_batch(make):
    model, (x, y) = models.classifier()
    assert kinds_of_outputs(model, make(x, y)) == kinds_of_outputs(model, x) == ["softmax"]


@pytest.mark.parametrize(
    ("data", "text"),
    [
        ((batch for batch in [(A, Y)]), "a generator of an unknown number of batches.*PyDataset"),
        (
            Stream(A[:, :3], Y),
            r"must be what 'sequential.* takes.*\(None, 6\).*Received: \(16, 3\)",
        ),
    ],
    ids=["no length", "shape"],
)
def test_streams_that_are_refused(data, text):
    model = keras.Sequential([keras.Input((6,)), keras.layers.Dense(1)])
    model.compile("adam", "mse")
    with pytest.raises(DataError, match=text):
        kgp.compress(model, data, sparsity=0.5, **SETTINGS)
