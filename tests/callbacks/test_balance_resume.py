"""`BalanceController`: interrupted and resumed runs, further `fit`s, and guards."""

import functools

import keras
import networks as nets
import numpy as np
import pytest
from balance_runs import (
    ABOVE,
    INSIDE,
    Look,
    assert_density,
    controller,
    densities,
    fit,
    full,
    gan_model,
    kept_at,
    scripted,
)
from interruptions import BreakAt
from keras.optimizers import Adam

import keras_ganprune as kgp
from keras_ganprune.errors import PruningWarning


def assert_same(one, two):
    """Assert that two GANs have the same weights, masks and slots, bit by bit."""
    for a, b in zip(one.weights, two.weights, strict=True):
        np.testing.assert_array_equal(nets.value(a), nets.value(b))
    pairs = zip(
        kgp.masked_weights(one.discriminator), kgp.masked_weights(two.discriminator), strict=True
    )
    for a, b in pairs:
        np.testing.assert_array_equal(nets.value(a.mask), nets.value(b.mask))
    for name in ("generator_optimizer", "discriminator_optimizer"):
        pairs = zip(getattr(one, name).variables, getattr(two, name).variables, strict=True)
        for a, b in pairs:
            np.testing.assert_array_equal(nets.value(a), nets.value(b))


RESUMED = {"frequency": 5, "begin_step": 2, "increment": 0.1}
RESUMED_BAND = (-1.0, 1.0)


def resumable(epochs, mode, *callbacks):
    keras.utils.set_random_seed(11)
    gan = gan_model(balance_frequency=2, make=lambda: Adam(1e-2, 0.5))
    callback = controller(*RESUMED_BAND, mode=mode, **RESUMED)
    fit(gan, callback, *callbacks, epochs=epochs)
    return gan, callback


@functools.cache
def uninterrupted(mode):
    return resumable(4, mode)


@pytest.mark.parametrize("mode", ["rigl", "set"])
@pytest.mark.full
def test_backup_and_restore_is_as_if_uninterrupted(mode, tmp_path):
    """The backup of the first epoch's end lies between two updates, after a measurement."""
    whole, all_of_it = uninterrupted(mode)
    assert len({density for _, density in densities(all_of_it)}) > 2
    backup = lambda: keras.callbacks.BackupAndRestore(str(tmp_path), delete_checkpoint=False)  # noqa: E731
    with pytest.raises(KeyboardInterrupt):
        resumable(4, mode, backup(), BreakAt(14))
    gan, callback = resumable(4, mode, backup())
    # At step 8 or after: no update is made twice, none is left out.
    assert densities(callback) == [pair for pair in densities(all_of_it) if pair[0] > 8]
    assert callback.density == all_of_it.density
    assert int(gan.discriminator_optimizer.iterations) == 32
    assert_same(whole, gan)


@pytest.mark.full
@pytest.mark.parametrize(
    ("mode", "how"),
    [full("splice", "file"), ("set", "new_callback"), full("rigl", "same_callback")],
)
def test_another_fit_goes_on_where_the_last_one_stopped(mode, how, tmp_path):
    whole, all_of_it = uninterrupted(mode)
    gan, first = resumable(2, mode)
    density = first.density
    assert density != 0.5
    if how == "file":
        gan.save(tmp_path / "gan.keras")
        gan = kgp.load_model(tmp_path / "gan.keras")
    second = first if how == "same_callback" else controller(*RESUMED_BAND, mode=mode, **RESUMED)
    look = Look()
    fit(gan, look, second, epochs=2)
    # At step 17, before the update that is due there.
    assert look.kept()[0] == kept_at(density, [s["mask"].size for s in look.states[0]])
    made = densities(first) if how == "same_callback" else densities(first) + densities(second)
    assert made == densities(all_of_it)
    assert second.density == all_of_it.density
    assert_same(whole, gan)


@pytest.mark.full
def test_another_fit_in_the_band_exchanges_nothing():
    gan = gan_model()
    for _ in range(3):
        before = [nets.value(w.mask).copy() for w in kgp.masked_weights(gan.discriminator)]
        callback = controller(*INSIDE, mode="set")
        fit(gan, callback, batches=6)
        if before:
            assert callback.updates == []
            for mask, weight in zip(before, kgp.masked_weights(gan.discriminator), strict=True):
                np.testing.assert_array_equal(mask, nets.value(weight.mask))
    nets.assert_exact(0.5, gan.discriminator)


@pytest.mark.full
def test_a_new_callback_may_begin_with_another_density():
    gan = gan_model()
    fit(gan, controller(*ABOVE, mode="set"))
    assert_density(0.6, gan.discriminator)
    callback = controller(*ABOVE, density=0.2, mode="set")
    fit(gan, callback)
    assert [density for _, density in densities(callback)] == [0.2, 0.25, 0.3]


@pytest.mark.full
def test_a_used_callback_begins_anew_with_a_new_model():
    callback = controller(*ABOVE, begin_step=2, mode="set")
    fit(gan_model(), callback)
    assert densities(callback) == [(2, 0.5), (6, 0.55)]
    gan = gan_model()
    fit(gan, callback)
    assert densities(callback) == [(2, 0.5), (6, 0.55)]
    assert_density(0.55, gan.discriminator)


@pytest.mark.full
def test_the_ratio_is_measured_again_after_a_diverged_run():
    gan = gan_model()
    with pytest.warns(PruningWarning, match="of batch 0 were restored"):
        fit(gan, controller(mode="set"), nets.Poison(2))
    history = fit(gan, controller(*ABOVE, mode="set"))
    assert np.isfinite(history["balance_ratio"]).all()


@pytest.mark.full
def test_masks_that_a_guard_put_back_have_their_density_again():
    gan = scripted([0.9] * 40)
    callback = controller(0.45, 0.55, 0.25, 0.25, monitor="plain", begin_step=2, mode="set")
    with pytest.warns(PruningWarning, match="after batch 15: .*of batch 8 were restored"):
        fit(gan, callback, nets.Poison(15), epochs=3)
    # The guard undid the moves at 10 and 14 with the weights, but not the move at 6.
    assert densities(callback) == [(2, 0.25), (6, 0.5), (10, 0.75), (14, 1.0)]
    assert_density(0.5, gan.discriminator)
    again = controller(0.45, 0.55, 0.25, 0.25, monitor="plain", begin_step=2, mode="set")
    fit(gan, again)
    assert densities(again) == [(10, 0.75), (14, 1.0)]
