"""Layer sensitivity against NumPy oracles, restoration of the model, and the allocation."""

import itertools

import keras
import networks as nets
import numpy as np
import pytest

import keras_ganprune as kgp
from keras_ganprune.errors import ArgumentTypeError, DivergedError, InvalidArgumentError
from keras_ganprune.layers.mask_ops import kept_count
from keras_ganprune.layers.prunable import PrunableLayer
from keras_ganprune.layers.tensors import to_numpy
from keras_ganprune.layers.traversal import masked_weights
from keras_ganprune.metrics.layer_sensitivity import SensitivityReport, SensitivityRow, sensitivity
from keras_ganprune.pruning.allocation import PerLayer

X = np.random.default_rng(0).normal(size=(32, 6)).astype("float32")


def dense_model():
    return nets.filled(
        keras.Sequential(
            [
                keras.Input((6,)),
                keras.layers.Dense(12, "relu", name="first"),
                keras.layers.Dense(5, name="last"),
            ]
        )
    )


def distance_to(outputs):
    return lambda model: float(np.mean((to_numpy(model(X)) - outputs) ** 2))


def without_smallest(kernel, sparsity):
    """Return a kernel whose smallest entries are zero, with a given sparsity."""
    pruned = kernel.size - nets.kept_oracle(kernel.size, sparsity)
    order = np.argsort(np.abs(kernel), axis=None)
    flat = kernel.copy().reshape(-1)
    flat[order[:pruned]] = 0.0
    return flat.reshape(kernel.shape)


def test_values_are_those_of_each_layer_pruned_alone():
    model = dense_model()
    a, b, c, d = model.get_weights()
    outputs = to_numpy(model(X))
    found = sensitivity(model, distance_to(outputs), sparsities=(0.9, 0.5))
    assert found.base == 0.0
    assert [(r.path, r.requested) for r in found.rows] == [
        (path, s) for path in ("first/kernel", "last/kernel") for s in (0.5, 0.9)
    ]
    for row in found.rows:
        kernels = [a, c]
        which = ["first/kernel", "last/kernel"].index(row.path)
        kernels[which] = without_smallest(kernels[which], row.requested)
        expected = np.maximum(X @ kernels[0] + b, 0) @ kernels[1] + d
        assert row.value == pytest.approx(np.mean((expected - outputs) ** 2), rel=1e-4)
        assert row.increase == row.value > 0
        assert row.achieved == pytest.approx(row.requested, abs=0.02)
    assert found.table()[0] == ("layer", "shape", "size", "0.5", "0.9")
    assert (
        len(found.table()) == 3 and "first/kernel" in str(found) and "| ---" in found.to_markdown()
    )
    assert len(found.to_dicts()) == 4


def state(*networks):
    """Return all that pruning might change: values, classes, constraints, masks and hidden values."""
    found = []
    for network in networks:
        found += [(w.path, to_numpy(w).tobytes(), id(w.constraint)) for w in network.weights]
        for layer in network._flatten_layers():
            store = getattr(layer, "pruning_masks", None)
            found.append((layer.name, type(layer), id(store)))
            if store is not None:
                for each in (store.masks, store.hidden):
                    found += [(name, to_numpy(v).tobytes()) for name, v in each.items()]
                found += [(name, v.tobytes()) for name, v in store.chosen.items()]
                found += [
                    (name, id(w.constraint.hidden)) for name, w in store.weights_by_name.items()
                ]
    return found


def plain(model):
    return model


def pruned(model):
    kgp.Pruner(model).update(sparsity=0.6)
    return model


def with_hidden_values(model):
    kgp.Pruner(model, mode=kgp.RigL(restore="previous")).update(
        sparsity=0.6, gradients=[np.ones(w.shape) for w in model.weights if len(w.shape) > 1]
    )
    return model


def soft(model):
    kgp.Pruner(model, mode="soft").update(sparsity=0.6)
    return model


@pytest.mark.parametrize("granularity", ["unstructured", "channel"])
@pytest.mark.parametrize("prepare", [plain, pruned, with_hidden_values, soft])
def test_the_model_is_as_it_was_afterwards(prepare, granularity):
    model = prepare(dense_model())
    before = state(model)
    metric = distance_to(np.zeros((32, 5)))
    sensitivity(model, metric, sparsities=(0.5, 0.9), granularity=granularity)
    assert state(model) == before


def test_the_model_is_as_it_was_when_the_metric_raises():
    model, calls = dense_model(), []

    def metric(model):
        calls.append(model)
        if len(calls) == 3:
            assert isinstance(model.layers[0], PrunableLayer)
            raise RuntimeError("no such image")
        return 1.0

    before = state(model)
    with pytest.raises(RuntimeError, match="no such image"):
        sensitivity(model, metric)
    assert state(model) == before and not isinstance(model.layers[0], PrunableLayer)


def test_a_layer_that_is_sparser_already_stays_so_and_others_are_untouched():
    model = pruned(dense_model())
    zeros = []

    def metric(model):
        zeros.append([int(np.sum(to_numpy(w) == 0)) for w in model.weights[::2]])
        return 1.0

    found = sensitivity(model, metric, sparsities=(0.5, 0.9))
    assert found.before == pytest.approx({"first/kernel": 0.6, "last/kernel": 0.6}, abs=0.01)
    now = zeros[0]
    assert now == [43, 36]
    assert zeros[1:] == [now, [65, now[1]], now, [now[0], 54]]
    assert [row.achieved for row in found.rows[::2]] == pytest.approx([43 / 72, 36 / 60])


def test_the_averaged_generator_is_pruned_alike():
    gan = kgp.GANModel(*nets.dcgan_pair(), nets.LATENT, ema_decay=0.9, seed=0)
    for network in (gan.generator, gan.ema_generator):
        nets.filled(network, seed=3)
    images = gan.generate(16, seed=0)
    zeros = []

    def metric(gan):
        # What `generate` uses is the average.
        zeros.append([int(np.sum(to_numpy(w) == 0)) for w in gan.ema_generator.weights])
        return float(np.mean((gan.generate(16, seed=0) - images) ** 2))

    before = state(gan.generator, gan.ema_generator, gan.discriminator)
    found = sensitivity(gan, metric, sparsities=(0.8,))
    assert state(gan.generator, gan.ema_generator, gan.discriminator) == before
    assert found.base == 0.0 and all(row.increase > 0 for row in found.rows)
    assert [r.path.split("/")[-1] for r in found.rows] == ["kernel"] * 3
    assert all(sum(n > 0 for n in each) == 1 for each in zeros[1:])


@pytest.mark.full
def test_a_sensitivity_analysis_does_not_change_the_training():
    def weights(analyse):
        keras.utils.set_random_seed(0)
        gan = kgp.GANModel(*nets.mlp_pair(), nets.LATENT, seed=1, balance_frequency=0)
        gan.compile()
        for _ in range(2):
            gan.fit(nets.images(16), batch_size=8, shuffle=False, verbose=0)
            if analyse:
                sensitivity(gan, lambda gan: float(np.mean(gan.generate(4, seed=0))))
        return gan.get_weights()

    for one, other in zip(weights(True), weights(False), strict=True):
        np.testing.assert_array_equal(one, other)


def conditional_gan():
    gan = kgp.GANModel(*nets.conditional_pair(), nets.LATENT)
    return gan, lambda gan: float(np.std(gan.generate(6, nets.labels(6), seed=0)))


def subclassed_generator():
    gan = kgp.GANModel(nets.SubclassedGenerator(), nets.mlp_discriminator(), nets.LATENT)
    return gan, lambda gan: float(np.std(gan.generate(6, seed=0)))


def foreign_gan():
    gan = nets.EmaGAN()
    z = np.random.default_rng(0).normal(size=(4, nets.LATENT))
    return gan, lambda gan: float(np.std(to_numpy(gan.ema_generator(z))))


def image_classifier():
    model = nets.classifier()
    return model, lambda model: float(np.std(to_numpy(model(nets.images(4)))))


@pytest.mark.parametrize(
    "make", [conditional_gan, subclassed_generator, foreign_gan, image_classifier]
)
def test_kinds_of_models(make):
    model, metric = make()
    network = getattr(model, "generator", model)
    before = state(model)
    found = sensitivity(model, metric, sparsities=(0.5, 0.9))
    assert state(model) == before
    kernels = [w for w in network.weights if len(w.shape) > 1]
    assert len(found.paths) == len(kernels)
    assert {row.value for row in found.rows} != {found.base}
    # The paths are those that `Prune` knows.
    pruner = kgp.Pruner(network, allocation=found.allocation(0.8))
    assert pruner.update(sparsity=0.8).kept == kept_count(
        sum(int(np.prod(w.shape)) for w in kernels), 0.8
    )


def test_image_quality_counts_by_its_distance():
    class Evaluator:
        def measure_generator(self, model):
            assert model is gan
            return type("Report", (), {"fd": float(np.std(gan.generate(4, seed=0)))})

    gan = kgp.GANModel(*nets.mlp_pair(), nets.LATENT)
    found = sensitivity(gan, Evaluator(), sparsities=(0.9,))
    assert found.base == pytest.approx(float(np.std(gan.generate(4, seed=0))))


def test_direction_and_ruined_networks():
    model = dense_model()
    found = sensitivity(
        model,
        lambda m: 1.0 if np.all(to_numpy(m.weights[0])) else np.nan,
        sparsities=(0.5,),
        direction="max",
    )
    assert [row.increase for row in found.rows] == [np.inf, 0.0]
    # What costs nothing goes first: 30 of the 60 weights of the last layer, none of the first.
    assert found.allocation(30 / 132).named["first/kernel"] == pytest.approx(0.0, abs=1e-9)
    worse = sensitivity(
        model, lambda m: float(np.mean(np.abs(m.weights[0]))), sparsities=(0.5,), direction="max"
    )
    assert worse.rows[0].increase == worse.base - worse.rows[0].value > 0


def test_channels_go_as_groups():
    model = dense_model()
    found = sensitivity(
        model, distance_to(np.zeros((32, 5))), sparsities=(0.5,), granularity="channel"
    )
    assert [(row.size, row.achieved) for row in found.rows] == [(12, 0.5)]


# --- the allocation ------------------------------------------------------------------------------


def made_up(curves, sizes, before=None):
    """Return a report from curves {path: {sparsity: increase}}."""
    rows = [
        SensitivityRow(path, (sizes[path],), sizes[path], s, s, 1.0 + y, y)
        for path, curve in curves.items()
        for s, y in curve.items()
    ]
    return SensitivityReport(tuple(rows), 1.0, before or dict.fromkeys(curves, 0.0))


def predicted(curves, shares):
    """Return the summed increase, by straight lines between the measured points."""
    return sum(
        np.interp(shares[path], [0.0, *curve], [0.0, *curve.values()])
        for path, curve in curves.items()
    )


CURVES = {
    "a": {0.25: 0.1, 0.5: 0.4, 0.75: 2.0},
    "b": {0.25: 0.02, 0.5: 0.04, 0.75: 0.4},
    "c": {0.25: 1.0, 0.5: 3.0, 0.75: 9.0},
}
SIZES = {"a": 40, "b": 80, "c": 20}


@pytest.mark.parametrize("total", [0.1, 0.3, 0.5, 0.6, 0.7])
def test_no_other_allocation_is_predicted_to_cost_less(total):
    found = made_up(CURVES, SIZES).allocation(total)
    assert isinstance(found, PerLayer)
    weights = sum(SIZES.values())
    removed = {path: round(SIZES[path] * found.named[path]) for path in CURVES}
    assert sum(removed.values()) == weights - kept_count(weights, total)
    own = predicted(CURVES, {path: n / SIZES[path] for path, n in removed.items()})
    # Every whole number of weights removed of a and b; c takes what is left.
    others = [
        predicted(CURVES, {"a": i / 40, "b": j / 80, "c": k / 20})
        for i, j in itertools.product(range(31), range(61))
        if 0 <= (k := sum(removed.values()) - i - j) <= 15
    ]
    assert own <= min(others) + 1e-9


def test_layers_that_cost_nothing_share():
    curves = {path: {0.5: 0.0, 0.9: 0.0} for path in ("a", "b")}
    found = made_up(curves, {"a": 100, "b": 100}).allocation(0.5)
    assert found.named == pytest.approx({"a": 0.5, "b": 0.5})


def test_noise_below_zero_counts_as_none():
    curves = {"a": {0.5: -3.0, 0.9: 0.2}, "b": {0.5: 0.0, 0.9: 0.1}}
    found = made_up(curves, {"a": 100, "b": 100}).allocation(0.5)
    assert found.named == pytest.approx({"a": 0.5, "b": 0.5})


def test_what_is_pruned_already_stays():
    found = made_up(CURVES, SIZES, {"a": 0.0, "b": 0.0, "c": 0.5}).allocation(0.1)
    assert found.named["c"] == pytest.approx(0.5, abs=0.03)


@pytest.mark.parametrize("total", [0.05, 0.76])
def test_a_total_that_was_not_measured(total):
    report = made_up(CURVES, SIZES, {"a": 0.5, "b": 0.0, "c": 0.0})
    with pytest.raises(
        InvalidArgumentError, match=r"must be from 0\.1429, the present .* to 0\.7500"
    ):
        report.allocation(total)


def test_prune_takes_it_and_meets_the_total_exactly():
    gan = kgp.GANModel(*nets.mlp_pair(), nets.LATENT, seed=0)
    gan.compile()
    images = gan.generate(8, seed=0)
    found = sensitivity(gan, lambda g: float(np.mean((g.generate(8, seed=0) - images) ** 2)))
    allocation = found.allocation(0.83)
    prune = kgp.Prune(
        kgp.PolynomialDecay(0.83, 1, 4), "generator", 1, allocation=allocation, mode="hard"
    )
    gan.fit(nets.images(32), batch_size=8, verbose=0, callbacks=[prune])
    kept = {w.path: int(to_numpy(w.mask).sum()) for w in masked_weights(gan.generator)}
    sizes = {row.path: row.size for row in found.rows}
    assert sum(kept.values()) == kept_count(sum(sizes.values()), 0.83)
    for path, share in allocation.named.items():
        assert kept[path] == nets.kept_oracle(sizes[path], share)
    assert len(set(allocation.named.values())) == 2


def test_a_tiny_network_meets_its_total_too():
    # 1 of 13 weights is far more than what `PerLayer` lets a total be missed by.
    found = made_up({"a": {0.9: 0.1}, "b": {0.9: 0.2}}, {"a": 8, "b": 5})
    model = keras.Sequential(
        [keras.Input((8,)), keras.layers.Dense(1, name="a"), keras.layers.Dense(5, name="b")]
    )
    for total in (0.3, 0.5, 0.777):
        report = kgp.Pruner(model, allocation=found.allocation(total), mode="soft").update(
            sparsity=total
        )
        assert report.kept == kept_count(13, total)


# --- pictures and bad input ----------------------------------------------------------------------


def test_heat_map(tmp_path):
    image = pytest.importorskip("matplotlib.image")
    curves = {"a": {0.5: 0.0, 0.9: 0.1}, "block/b": {0.5: -0.1, 0.9: np.inf}}
    report = made_up(curves, {"a": 100, "block/b": 100})
    report.save_heat_map(tmp_path / "map.png")
    picture = image.imread(tmp_path / "map.png")
    # Room for two rows and two columns, and not blank.
    assert picture.shape[0] > 200 and picture.shape[1] > 400
    assert len(np.unique(picture[..., 0])) > 10


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        ({"sparsities": (80,)}, InvalidArgumentError, r"For 80 %, pass 0\.8"),
        ({"sparsities": (0.0, 0.5)}, InvalidArgumentError, r"at least one fraction in \(0, 1\)"),
        ({"sparsities": ()}, InvalidArgumentError, "at least one"),
        ({"criterion": "taylor"}, InvalidArgumentError, "must not need gradients"),
        ({"criterion": "magnitud"}, InvalidArgumentError, "Did you mean 'magnitude'"),
        ({"granularity": "2:4"}, InvalidArgumentError, "must allow several sparsities"),
        ({"direction": "up"}, InvalidArgumentError, "Unknown direction 'up'"),
        ({"scope": "firts"}, InvalidArgumentError, "Did you mean 'first'"),
        ({"target": "generator"}, InvalidArgumentError, "Unknown target"),
        ({"metric": 3}, ArgumentTypeError, "function of the model"),
        ({"metric": lambda m: "good"}, ArgumentTypeError, "must return a float"),
        ({"metric": lambda m: np.nan}, DivergedError, "must be finite"),
        ({"model": 3}, ArgumentTypeError, "must be a Keras model"),
    ],
)
def test_bad_input(arguments, error, text):
    model = arguments.get("model", dense_model())
    before = state(model) if model != 3 else None
    with pytest.raises(error, match=text):
        sensitivity(**{"model": model, "metric": lambda m: 1.0, **arguments})
    assert model == 3 or state(model) == before
