"""The step saved with the masks is the clock where the optimizer was not restored with them."""

import warnings

import keras
import networks as nets
import numpy as np
import pytest
from keras import layers
from keras.optimizers import Adam

import keras_ganprune as kgp
from keras_ganprune.errors import PruningWarning
from keras_ganprune.layers.tensors import to_numpy

full = pytest.mark.full
BATCHES, STEPS = 8, 24  # in an epoch, and in the run that is saved
SCHEDULE = kgp.PolynomialDecay(0.8, 2, 40)
X = np.random.default_rng(0).normal(size=(4 * BATCHES, 8)).astype("float32")
Y = np.ones((4 * BATCHES, 4), "float32")

pytestmark = pytest.mark.filterwarnings(
    # Every run here ends before its schedule does.
    "ignore:Training ended at step:keras_ganprune.errors.PruningWarning",
    "ignore::keras_ganprune.errors.PruningNotice",
    "ignore:Skipping variable loading for optimizer",
)


def network():
    return keras.Sequential(
        [keras.Input((8,)), layers.Dense(16, "relu", name="a"), layers.Dense(4, name="b")]
    )


def fit(model, epochs, schedule=SCHEDULE, **options):
    prune = kgp.Prune(schedule, frequency=4, **options)
    model.fit(X, Y, batch_size=4, epochs=epochs, shuffle=False, verbose=0, callbacks=[prune])
    return prune


def trained():
    keras.utils.set_random_seed(0)
    model = network()
    model.compile(Adam(1e-2), "mse")
    return model, fit(model, STEPS // BATCHES, verbose=0)


def compiled(model):
    model.compile(Adam(1e-2), "mse")
    return model


def by_weights_file(model, folder):
    model.save_weights(folder / "m.weights.h5")
    new = kgp.make_prunable(network())
    new.load_weights(folder / "m.weights.h5")
    return compiled(new)


def by_keras(model, folder):
    model.save(folder / "m.keras")
    return compiled(keras.saving.load_model(folder / "m.keras", compile=False))


def by_kgp(model, folder):
    model.save(folder / "m.keras")
    return compiled(kgp.load_model(folder / "m.keras", compile=False))


def weights_after_compile(model, folder):
    model.save_weights(folder / "m.weights.h5")
    new = compiled(kgp.make_prunable(network()))
    new.load_weights(folder / "m.weights.h5")
    return new


LOST = "the schedule continues at step 24"


@pytest.mark.parametrize(
    "way",
    [
        by_kgp,
        *(pytest.param(w, marks=full) for w in (by_weights_file, by_keras, weights_after_compile)),
    ],
)
def test_the_saved_step_is_the_clock(way, tmp_path):
    model, before = trained()
    whole = fit(model, 2, verbose=0)
    model, before = trained()
    new = way(model, tmp_path)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        resumed = fit(new, 1, verbose=0)
    assert sum(LOST in str(warning.message) for warning in caught) == 1
    assert int(new.optimizer.iterations) == BATCHES
    # The updates are those of a run that was not interrupted.
    assert [u[0] for u in resumed.updates] == [26, 30]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        again = fit(new, 1, verbose=0)  # the same optimizer: its count goes on
    assert not any(LOST in str(warning.message) for warning in caught)
    assert [u[0] for u in again.updates] == [34, 38, 40]
    updates = [(step, achieved) for step, _, achieved in resumed.updates + again.updates]
    assert updates == [(step, achieved) for step, _, achieved in whole.updates]
    assert before.updates[-1][2] < resumed.updates[0][2]
    # A new optimizer in the same process begins a new run, as ever.
    with pytest.warns(PruningWarning, match="`hard` masks never return a weight"):
        fresh = fit(compiled(new), 1, kgp.PolynomialDecay(0.9, 4, 8), verbose=0)
    assert [u[0] for u in fresh.updates] == [4, 8]


@full
@pytest.mark.filterwarnings("ignore:the optimizer's state was not restored")
def test_a_second_resumption_adds_up(tmp_path):
    model, _ = trained()
    for number in (1, 2):
        folder = tmp_path / str(number)
        folder.mkdir()
        model = by_kgp(model, folder)
        prune = fit(model, 1, verbose=0)
    assert [u[0] for u in prune.updates] == [34, 38, 40]


@pytest.mark.full
def test_a_restored_optimizer_is_the_clock(tmp_path):
    model, _ = trained()
    model.save(tmp_path / "m.keras")
    new = keras.saving.load_model(tmp_path / "m.keras")
    assert int(new.optimizer.iterations) == STEPS
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Training ended", PruningWarning)
        resumed = fit(new, 1, verbose=0)
    assert [u[0] for u in resumed.updates] == [26, 30]


@full
def test_other_settings_begin_a_new_run_and_say_so(tmp_path, capsys):
    model, before = trained()
    new = by_kgp(model, tmp_path)
    capsys.readouterr()
    with pytest.warns(PruningWarning, match="`hard` masks never return a weight"):
        prune = fit(new, 1, kgp.PolynomialDecay(0.95, 2, 40), verbose=1)
    assert "saved at step 24, by other settings; this schedule starts at step 0" in (
        capsys.readouterr().out
    )
    assert [u[0] for u in prune.updates] == [2, 6]
    # `hard` keeps what is pruned.
    assert all(u[2] == before.updates[-1][2] for u in prune.updates)


@pytest.mark.parametrize("mode", ["soft", pytest.param("rigl", marks=full)])
@pytest.mark.full
def test_a_mode_that_brings_weights_back_says_so(mode, tmp_path):
    model, _ = trained()
    new = by_kgp(model, tmp_path)
    with pytest.warns(PruningWarning, match=r"had sparsity 0\.7\d+ when training began"):
        fit(new, 1, SCHEDULE, mode=mode, verbose=0)


@pytest.mark.full
def test_lost_masks_are_said_when_pruning_starts(tmp_path):
    model, _ = trained()
    new = network()
    new.set_weights(model.get_weights())
    with pytest.warns(PruningWarning, match=r"kgp\.masks_from_zeros"):
        fit(compiled(new), 1, verbose=0)


@full
def test_taken_zeros_are_not_brought_back(tmp_path):
    model, before = trained()
    new = network()
    new.set_weights(model.get_weights())
    kgp.masks_from_zeros(new)
    with pytest.warns(PruningWarning, match="`hard` masks never return a weight"):
        prune = fit(compiled(new), 1, verbose=0)
    assert all(u[2] == pytest.approx(before.updates[-1][2]) for u in prune.updates)


# --- a GAN class of one's own, whose optimizers Keras does not save ---------------------------------


class OwnGAN(nets.GuideGAN):
    """Makes its networks anew, and gets its optimizers in its own `compile`."""

    def get_config(self):
        return {}


def own_gan():
    gan = OwnGAN()
    gan.compile(d_optimizer=Adam(1e-2), g_optimizer=Adam(1e-2))
    return gan


def fit_gan(gan, epochs, **callbacks):
    prune = kgp.Prune(SCHEDULE, "generator", 4, verbose=0)
    gan.fit(
        nets.images(4 * BATCHES),
        batch_size=4,
        epochs=epochs,
        shuffle=False,
        verbose=0,
        callbacks=[prune, *callbacks.values()],
    )
    return prune


@full
@pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="its `train_step` is written for TensorFlow"
)
@pytest.mark.parametrize("how", ["kgp", "weights", "backup"])
def test_a_gan_of_ones_own_goes_on(how, tmp_path):
    gan = own_gan()
    gan.built = True
    backup = keras.callbacks.BackupAndRestore(tmp_path / "backup", delete_checkpoint=False)
    before = fit_gan(gan, 3, backup=backup)
    kept = kgp.sparsity_report(gan.generator).sparsity
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        gan.save(tmp_path / "gan.keras")
        gan.save_weights(tmp_path / "gan.weights.h5")
    more = {}
    if how == "kgp":
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # Keras did not call its own `compile`.
            new = kgp.load_model(tmp_path / "gan.keras", custom_objects={"OwnGAN": OwnGAN})
        new.compile(d_optimizer=Adam(1e-2), g_optimizer=Adam(1e-2))
    else:
        new = own_gan()
        new.built = True
    if how == "weights":
        kgp.make_prunable(new)
        new.load_weights(tmp_path / "gan.weights.h5")
    if how == "backup":
        more = {"backup": keras.callbacks.BackupAndRestore(tmp_path / "backup")}
    else:
        assert kgp.sparsity_report(new.generator).sparsity == kept
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        prune = fit_gan(new, 4 if how == "backup" else 1, **more)
    # A backup is restored with the optimizers, which are built before.
    assert any(LOST in str(warning.message) for warning in caught) == (how != "backup")
    assert [u[0] for u in prune.updates] == [26, 30]
    assert prune.updates[0][2] > kept >= before.updates[-1][2]
    for weight in kgp.masked_weights(new.generator):
        assert not np.any(to_numpy(weight.variable)[~to_numpy(weight.mask)])
