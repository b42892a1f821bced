"""`compress(epochs=0)`: nothing is trained, the target is met, and the recipe does the same."""

import compressed_models as models
import keras
import numpy as np
import pytest

import keras_ganprune as kgp
from keras_ganprune.applications.compression.training import missed_silently
from keras_ganprune.errors import InvalidArgumentError

needs_tensorflow = pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="the class of the user is of TensorFlow"
)
LATER = (
    "gan_model",
    "conditional_gan",
    "image_to_image",
    "two_inputs",
    "transformer",
    "unet",
    "lstm",
)


def state(model):
    return [np.array(keras.ops.convert_to_numpy(v)) for v in model.variables]


def same(one, other):
    return len(one) == len(other) and all(map(np.array_equal, one, other))


def made(name):
    return models.trained(models.MODELS.get(name) or getattr(models, name))


def compressed(model, data, **request):
    if getattr(model, "generator", None) is not None:
        request |= {"metric": models.spread, "higher_is_better": True}
    return kgp.compress(model, data, epochs=0, verbose=0, **request)


def plain(model):
    return kgp.strip_pruning(getattr(model, "sampler", getattr(model, "generator", model)))


def recomputed(result, name):
    """Return the network that the code of a result makes."""
    model, data = made(name)
    environment = {"model": model, "data": data}
    with missed_silently():
        exec(result.recipe, environment)
    return plain(environment["model"])


ROWS = [
    ("classifier", "sparsity"),
    pytest.param("classifier", "budget", marks=pytest.mark.full),
    *[
        pytest.param(name, kind, marks=pytest.mark.full)
        for name in LATER
        for kind in ("sparsity", "budget")
    ],
]


@pytest.mark.parametrize(("name", "kind"), ROWS)
def test_the_target_is_met_without_training(name, kind):
    model, data = made(name)
    before = state(model)
    request = {"sparsity": 0.5} if kind == "sparsity" else {"budget": kgp.Budget(macs=0.5)}
    result = compressed(model, data, **request)
    assert same(before, state(model))
    assert result.steps == 0 and not result.history and not result.baseline
    assert result.before and result.after
    if kind == "sparsity":
        assert result.achieved == pytest.approx(0.5, abs=1e-3)
    else:
        assert result.network.count_params() < result.dense.count_params()
    assert same(state(recomputed(result, name)), state(result.network))


@pytest.mark.full
@needs_tensorflow
@pytest.mark.parametrize("name", ["wgan_gp", "gan_with_an_average", "gan_with_a_function"])
def test_a_gan_class_of_the_users(name):
    model, data = made(name)
    result = compressed(model, data, sparsity=0.5)
    assert result.achieved == pytest.approx(0.5, abs=1e-3)


@pytest.mark.full
def test_the_outputs_are_nearer_than_those_of_masks_alone():
    model, data = made("classifier")
    x = data[0]
    result = compressed(model, data, sparsity=0.6)
    alone = kgp.strip_pruning(model)
    kgp.Pruner(alone, allocation="global_ranking").update(sparsity=0.6)
    wanted, found, worse = (
        np.array(m.predict(x, verbose=0)) for m in (result.dense, result.network, alone)
    )
    assert np.linalg.norm(found - wanted) < 0.9 * np.linalg.norm(worse - wanted)


@pytest.mark.full
def test_a_tolerance_compares_with_the_network_before():
    model, data = made("classifier")
    with pytest.raises(InvalidArgumentError, match="Nothing is within the tolerance"):
        compressed(model, data, sparsity=0.98, tolerance=0.01, metric=zeros, higher_is_better=False)
    result = compressed(model, data, sparsity=0.7, tolerance=0.9)
    assert result.achieved == pytest.approx(0.7, abs=1e-3)


def zeros(network):
    return float(sum(np.sum(w == 0) for w in state(network)))


@pytest.mark.full
def test_a_model_trains_on_under_its_masks():
    model, data = made("classifier")
    result = compressed(model, data, sparsity=0.5)
    result.model.fit(*data, epochs=1, verbose=0)
    assert kgp.sparsity_report(result.model).sparsity == pytest.approx(0.5, abs=1e-3)
