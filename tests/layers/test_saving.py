"""Loading files with masks, and files that are not what they should be."""

import keras
import numpy as np
import pytest

import keras_ganprune as kgp
from keras_ganprune.errors import FileFormatError, PruningNotice
from keras_ganprune.layers.saving import load_model
from keras_ganprune.layers.tensors import to_numpy


class Subclassed(keras.Model):
    """Makes its layers anew when it is loaded, as every subclassed model does."""

    def __init__(self, units, **kwargs):
        super().__init__(**kwargs)
        self.units = units
        self.dense = keras.layers.Dense(units)

    def call(self, x):
        return self.dense(x)

    def get_config(self):
        return {**super().get_config(), "units": self.units}


def _masks(model):
    return [to_numpy(w.mask).copy() for w in kgp.masked_weights(model)]


def test_masks_of_a_subclassed_model_come_back(tmp_path):
    model = Subclassed(5)
    model(np.ones((2, 4)))
    kgp.Pruner(model).update(sparsity=0.5)
    model.save(tmp_path / "m.keras")
    loaded = load_model(tmp_path / "m.keras", custom_objects={"Subclassed": Subclassed})
    assert len(_masks(loaded)) == 1
    assert np.array_equal(_masks(loaded)[0], _masks(model)[0])


def test_a_folder_is_a_file_that_is_not_zipped(tmp_path):
    model = Subclassed(5)
    model(np.ones((2, 4)))
    kgp.Pruner(model).update(sparsity=0.5)
    model.save(tmp_path / "folder", zipped=False)
    with pytest.raises(
        FileFormatError, match=f"'{tmp_path}/folder' could not be loaded .* Import the"
    ):
        load_model(tmp_path / "folder", custom_objects={"Subclassed": None})
    loaded = load_model(tmp_path / "folder", custom_objects={"Subclassed": Subclassed})
    assert np.array_equal(_masks(loaded)[0], _masks(model)[0])
    (tmp_path / "folder" / "config.json").unlink()
    with pytest.raises(FileFormatError, match=r"has no config\.json"):
        load_model(tmp_path / "folder")


def _attention():
    x = keras.Input((4, 8))
    y = keras.layers.MultiHeadAttention(2, 4)(x, x)
    return keras.Model(x, keras.layers.Dense(3)(y))


def _quantized(mode):
    model = _attention()
    kgp.Pruner(model).update(sparsity=0.5)
    with pytest.warns(PruningNotice, match=rf"cannot be loaded.*`model.quantize\('{mode}'\)`"):
        model.quantize(mode)
    return model


def _lambda(layer):
    return lambda: keras.Sequential([keras.Input((4,)), layer(), keras.layers.Dense(2)])


def _read(make, path, mode=None):
    """Return the model that the advice gives: made again, with the weights of the file."""
    model = make()
    if mode is None:
        kgp.make_prunable(model)
    else:
        model.quantize(mode)
    model.load_weights(path)
    return model


_of_lambda = _lambda(lambda: keras.layers.Lambda(lambda x: x * 2, output_shape=(4,)))
_activation = _lambda(lambda: keras.layers.Dense(3, activation=lambda x: x * 2))
# What Keras writes and does not read: model, text of the advice, what the advice gives.
NOT_READ = {
    "Lambda": (
        _of_lambda,
        r"If you trust the file, call `kgp\.load_model\(path, safe_mode=False\)`",
        lambda path: load_model(path, safe_mode=False),
    ),
    "activation": (
        _activation,
        "whose `activation` is a lambda.*make the model as you did",
        lambda path: _read(_activation, path),
    ),
    "int8": (
        lambda: _quantized("int8"),
        "quantized inside another layer.*same mode",
        lambda path: _read(_attention, path, "int8"),
    ),
    "float8": (
        lambda: _quantized("float8"),
        "quantized inside another layer.*same mode",
        lambda path: _read(_attention, path, "float8"),
    ),
}


@pytest.mark.filterwarnings("ignore:.*(lambda|quantize. method)")
@pytest.mark.parametrize(
    "case", [pytest.param(c, marks=pytest.mark.full if "8" in c else ()) for c in NOT_READ]
)
def test_what_keras_does_not_read_is_said_with_what_does(case, tmp_path):
    make, text, advice = NOT_READ[case]
    model, path = make(), tmp_path / "m.keras"
    model.save(path)
    with pytest.raises(FileFormatError, match=text):
        load_model(path)
    x = np.random.default_rng(0).normal(size=(2, *model.input_shape[1:])).astype("float32")
    assert np.array_equal(to_numpy(advice(path)(x)), to_numpy(model(x)))


def test_a_plain_file_loads_plain(tmp_path):
    keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)]).save(tmp_path / "m.keras")
    assert _masks(load_model(tmp_path / "m.keras")) == []


def test_bad_files(tmp_path):
    with pytest.raises(FileFormatError, match="There is no file"):
        load_model(tmp_path / "none.keras")
    (tmp_path / "text.keras").write_text("not a model")
    with pytest.raises(FileFormatError, match=r"not a `\.keras` file"):
        load_model(tmp_path / "text.keras")
    model = Subclassed(300)
    model(np.ones((2, 4)))
    model.save(tmp_path / "m.keras")
    gone = type("Gone", (Subclassed,), {"__module__": "no_such_module"})(3)
    gone(np.ones((2, 4)))
    gone.save(tmp_path / "gone.keras")
    with pytest.raises(FileFormatError, match="Import the classes of your own first"):
        load_model(tmp_path / "gone.keras")
    damaged = bytearray((tmp_path / "m.keras").read_bytes())
    middle = len(damaged) // 2
    damaged[middle : middle + 2000] = bytes(2000)
    (tmp_path / "d.keras").write_bytes(damaged)
    with pytest.raises(
        FileFormatError, match=r"the checksum of 'model\.weights\.h5' in it is wrong"
    ):
        load_model(tmp_path / "d.keras", custom_objects={"Subclassed": Subclassed})
