"""Files that version 0.1.0 wrote load, and training goes on from them; see `fixtures/version_0_1/make.py`."""

import gzip
import importlib.util
import pathlib

import keras
import numpy as np
import pytest

import keras_ganprune as kgp

FOLDER = pathlib.Path(__file__).parent / "fixtures" / "version_0_1"
pytestmark = pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="the arrays are those of TensorFlow"
)


def load_script():
    spec = importlib.util.spec_from_file_location("make_version_0_1", FOLDER / "make.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


make = load_script()


@pytest.fixture
def unpack(tmp_path):
    """Return a function that unpacks a file into the temporary folder."""

    def unpacked(name):
        path = tmp_path / name
        path.write_bytes(gzip.decompress((FOLDER / f"{name}.gz").read_bytes()))
        return path

    return unpacked


def assert_equal(gan, name, tolerance=0.0, samples=True):
    arrays = make.arrays(gan)
    with np.load(FOLDER / f"{name}.npz") as expected:
        assert set(arrays) == set(expected)
        for key in expected:
            if key == "samples" and not samples:
                continue
            np.testing.assert_allclose(
                arrays[key], expected[key], rtol=tolerance, atol=tolerance, err_msg=key
            )


def test_a_pruned_gan_loads_and_trains_on(unpack):
    gan = keras.saving.load_model(unpack("gan.keras"))
    assert_equal(gan, "saved", samples=False)
    make.fit(gan, 3)
    # Other processors round otherwise.
    assert_equal(gan, "trained_on", tolerance=2e-5)
    for weight in kgp.masked_weights(gan.generator, gan.discriminator):
        mask = np.asarray(weight.mask)
        assert np.count_nonzero(mask) == round(mask.size * 0.25)
        assert not np.asarray(weight.variable)[~mask].any()


def test_a_weights_file_loads(unpack):
    gan = make.gan()
    kgp.make_prunable(gan.generator)
    kgp.make_prunable(gan.discriminator)
    gan.load_weights(unpack("gan.weights.h5"))
    assert_equal(gan, "saved", samples=False)


def test_a_run_folder_loads():
    run = kgp.load_run(FOLDER / "run")
    assert run.seed == 1 and run.settings == {"sparsity": 0.75}
    assert set(run.samples) == {"dense", "pruned"}
    assert len(run.prunes["generator"].updates) == 4
    assert run.layers["pruned"]


def test_a_study_is_resumed_without_training(unpack, monkeypatch):
    def no_fit(*arguments, **settings):
        raise AssertionError("every trial has ended")

    monkeypatch.setattr(kgp.GANModel, "fit", no_fit)
    result = make.sweep(unpack("study.db"))
    assert len(result.trials) == 2
