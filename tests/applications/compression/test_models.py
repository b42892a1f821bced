"""`compress` on models of many kinds: the target is met, the model is not changed, the recipe is true."""

import compressed_models as models
import keras
import numpy as np
import pytest

import keras_ganprune as kgp
from keras_ganprune.applications.compression.training import missed_silently

GANS = ("wgan_gp", "conditional_gan", "gan_model", "image_to_image")
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


ROWS = [
    ("classifier", "budget"),
    ("gan_model", "sparsity"),
    ("image_to_image", "budget"),
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
    baseline = {"baseline": False} if name == "gan_model" else {}
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
    assert (
        type(result.model) is type(model) or result.model.__class__.__name__ == type(model).__name__
    )
    if kind == "sparsity":
        assert result.achieved == pytest.approx(0.8, abs=2e-3)
    else:
        assert result.achieved == pytest.approx(0.4, rel=0.1)
        assert result.network.count_params() < result.dense.count_params()
    assert np.isfinite(list(result.after.values())).all()
    assert not [note for note in result.notes if "could not" in note or "cannot" in note], (
        result.notes
    )
    assert same(state(recompute(result, name)), state(result.network))


def test_the_masks_of_the_result_hold_in_a_later_fit():
    model, data = models.trained(models.classifier)
    result = kgp.compress(
        model, data, sparsity=0.5, epochs=1, batch_size=16, baseline=False, verbose=0
    )
    assert result.achieved == 0.5
    result.model.fit(*data, verbose=0)
    assert kgp.sparsity_report(result.model).sparsity == result.achieved
    assert set(result.after) == {"accuracy", "loss"} and result.metric == "accuracy"


@pytest.mark.full
def test_a_dense_model_is_trained_for_as_many_steps_and_can_be_shared():
    model, data = models.trained(models.classifier)
    first = kgp.compress(
        model, data, sparsity=0.5, epochs=4, validation_data=data, batch_size=16, verbose=0
    )
    trainer = kgp.Distiller.of(model)
    batches = kgp.datasets.Batches(*data, batch_size=16, per_epoch=6, seed=0)
    keras.utils.set_random_seed(0)
    trainer.fit(batches, epochs=4, shuffle=False, verbose=0)
    trainer.student.compile("sgd", "sparse_categorical_crossentropy", metrics=["accuracy"])
    expected = trainer.student.evaluate(*data, batch_size=256, verbose=0, return_dict=True)
    assert first.baseline == pytest.approx(expected) and first.steps == 24
    second = kgp.compress(
        model, data, sparsity=0.7, epochs=4, validation_data=data, baseline=first, verbose=0
    )
    assert second.baseline == first.baseline and len(second.trials) == 1


@pytest.mark.full
def test_a_tolerance_ends_with_the_highest_that_held_and_twice_the_same():
    model, data = models.trained(models.classifier, epochs=10)
    results = [
        kgp.compress(model, data, sparsity=0.97, tolerance=0.1, epochs=6, verbose=0)
        for _ in range(2)
    ]
    one, two = results
    assert one.trials == two.trials and same(state(one.network), state(two.network))
    reference = one.baseline["accuracy"]
    for trial in one.trials[1:]:
        assert trial["holds"] == (trial["accuracy"] >= 0.9 * reference)
    held = [trial["achieved"] for trial in one.trials[1:] if trial["holds"]]
    assert one.achieved == max(held) < 0.97
