"""`compress` on models of many kinds: the target is met, the model is not changed, the recipe is true."""

import itertools

import compressed_models as models
import keras
import numpy as np
import pytest

import keras_ganprune as kgp
from keras_ganprune.applications.compression.training import missed_silently
from keras_ganprune.pruning.structured.costs import Costs

GANS = ("wgan_gp", "dcgan", "conditional_gan", "gan_model", "image_to_image")
needs_tensorflow = pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="the class of the user is of TensorFlow"
)


def settings_for(name):
    return {"metric": models.spread, "higher_is_better": True} if name in GANS else {}


def state(model):
    return [np.array(keras.ops.convert_to_numpy(v)) for v in model.variables]


def same(one, other):
    return len(one) == len(other) and all(map(np.array_equal, one, other))


def recompute(result, name):
    """Return the network that the code of a result makes."""
    make = models.MODELS.get(name) or getattr(models, name)
    model, data = models.trained(make)
    environment = {"model": model, "data": data}
    with missed_silently():
        exec(result.recipe.replace("shuffle=False", "shuffle=False, verbose=0"), environment)
    if "trainer" in environment:
        return kgp.strip_pruning(environment["trainer"].student)
    gan = environment["gan"]
    return kgp.strip_pruning(getattr(gan, "sampler", None) or gan.generator)


def counts(model):
    """Return (weights that are ranked, weights that are kept), read from the masks."""
    report = kgp.sparsity_report(getattr(model, "generator", model))
    return report.total, report.kept


def nearest(network, share):
    """Return the share of the MACs, as near as whole channels allow, that a network can have."""
    groups = kgp.channel_groups(network)
    costs = Costs(groups)
    sizes = itertools.product(*[range(1, group.size + 1) for group in groups])
    return min((costs.macs(keeps) / costs.macs() for keeps in sizes), key=lambda s: abs(s - share))


def zeros(network):
    return sum(int((w == 0).sum()) for w in state(network))


ROWS = [
    ("classifier", "budget"),
    ("gan_model", "sparsity"),
    ("image_to_image", "budget"),
    pytest.param("dcgan", "sparsity", marks=needs_tensorflow),
    *[
        pytest.param(name, kind, marks=[needs_tensorflow] if name == "wgan_gp" else [])
        for name in models.MODELS
        for kind in ("sparsity", "budget")
    ],
]


@pytest.mark.full
@pytest.mark.parametrize(("name", "kind"), ROWS)
def test_one_call_meets_the_target_and_its_code_does_the_same(name, kind):
    make = models.MODELS.get(name) or getattr(models, name)
    model, data = models.trained(make)
    before = state(model)
    request = {"sparsity": 0.8} if kind == "sparsity" else {"budget": kgp.Budget(macs=0.4)}
    baseline = {"baseline": False} if name in ("gan_model", "mobilenet") else {}
    result = kgp.compress(
        model,
        data,
        epochs=4,
        batch_size=16,
        verbose=0,
        **request,
        **baseline,
        **settings_for(name),
    )
    assert same(before, state(model))
    if name in GANS:
        assert type(result.model) is type(model)
    if kind == "sparsity":
        total, kept = counts(result.model)
        assert kept == round(total * 0.2) and result.achieved == 1 - kept / total
        assert zeros(result.network) >= total - kept
    else:
        missed = abs(result.achieved - 0.4)
        # Within 2 %, or the nearest network of whole channels, of which a note tells.
        if name == "image_to_image":
            dense = getattr(model, "generator", model)
            assert missed == pytest.approx(abs(nearest(dense, 0.4) - 0.4)) and missed > 0.008
            assert "The nearest network of whole channels" in result.notes[-1]
        else:
            assert missed <= 0.008 and not [n for n in result.notes if "nearest" in n]
        assert result.network.count_params() < result.dense.count_params()
    assert np.isfinite(list(result.after.values())).all()
    assert not [note for note in result.notes if "could not" in note or "cannot" in note], (
        result.notes
    )
    assert same(state(recompute(result, name)), state(result.network))


@pytest.mark.full
@needs_tensorflow
def test_a_class_that_cannot_be_copied_is_trained_itself_and_goes_back_to_what_held():
    model, data = models.trained(models.gan_with_a_function)
    result = kgp.compress(
        model,
        data,
        sparsity=0.6,
        tolerance=0.45,
        metric=models.density,
        baseline={"score": 1.0},
        epochs=4,
        batch_size=16,
        verbose=0,
    )
    assert result.model is model and "was trained itself" in result.notes[0]
    # The last training was of 0.5, which does not hold.
    assert [row["holds"] for row in result.trials] == [False, True, False]
    report = kgp.sparsity_report(model.generator)
    assert result.achieved == report.sparsity == pytest.approx(0.375, abs=1e-3)
    assert models.density(result.network)["score"] == 1 - result.achieved


@pytest.mark.full
@needs_tensorflow
def test_a_class_whose_copy_changes_the_model_is_trained_itself():
    model, data = models.trained(models.gan_with_an_average)
    settings = {"epochs": 1, "batch_size": 16, "metric": models.density, "verbose": 0}
    result = kgp.compress(model, data, sparsity=0.8, **settings)
    assert result.model is model and "a copy trained the networks of your model" in result.notes[0]
    for network in (model.generator, model.average):
        assert kgp.sparsity_report(network).sparsity == result.achieved
    assert result.before == {"score": 1.0}
    assert result.after["score"] == pytest.approx(0.2, abs=1e-3)


def test_the_masks_of_the_result_hold_in_a_later_fit():
    model = keras.Sequential([keras.Input((16,)), keras.layers.Dense(12), keras.layers.Dense(3)])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile("sgd", loss, metrics=["accuracy"])
    x = np.random.default_rng(0).normal(size=(32, 16)).astype("float32")
    data = x, x[:, :3].argmax(axis=1)
    result = kgp.compress(
        model, data, sparsity=0.5, epochs=4, batch_size=32, baseline=False, verbose=0
    )
    assert result.achieved == 0.5
    result.model.fit(*data, verbose=0)
    assert kgp.sparsity_report(result.model).sparsity == result.achieved
    assert set(result.after) == {"accuracy", "loss"} and result.metric == "accuracy"
