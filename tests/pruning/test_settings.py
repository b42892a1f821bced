"""The settings that travel together: checked once, immutable, and unpacked into a `Pruner`."""

import dataclasses
import zlib

import keras
import pytest

import keras_ganprune as kgp
from keras_ganprune.errors import InvalidArgumentError
from keras_ganprune.pruning import compatibility
from keras_ganprune.pruning.granularity import NM, Channel
from keras_ganprune.pruning.settings import PruningSettings


def test_names_become_members():
    settings = PruningSettings.of("taylor", "4x4", "erk", "rigl", scope=["a"], schedule=0.5)
    assert settings.criterion == kgp.Taylor() and settings.granularity == kgp.Block((4, 4))
    assert settings.allocation == kgp.ERK() and settings.mode == kgp.RigL()
    assert settings.schedule == kgp.ConstantSparsity(0.5) and settings.scope == ["a"]
    assert settings.needs_gradient and settings.gradient_batches == kgp.Taylor().batches


def test_they_are_checked_and_immutable():
    with pytest.raises(InvalidArgumentError, match="whole channels"):
        PruningSettings.of("fpgm")
    with pytest.raises(InvalidArgumentError, match="Unknown"):
        PruningSettings.of(mode="soften")
    with pytest.raises(dataclasses.FrozenInstanceError):
        PruningSettings.of().scope = "a"


def test_they_unpack_into_a_pruner():
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(5), keras.layers.Dense(4)])
    settings = PruningSettings.of("l2", allocation="global_ranking", scope="dense*", schedule=0.5)
    pruner = kgp.Pruner(model, **settings)
    assert pruner.settings == dataclasses.replace(settings, schedule=None)
    assert settings["mode"] == kgp.Hard()
    with pytest.raises(KeyError):
        settings["schedule"]


@pytest.mark.parametrize(
    ("granularity", "quantity"),
    [("unstructured", None), ("channel", None), (Channel(of="macs"), "macs"), (NM(2, 4), None)],
)
def test_the_cost_that_a_sparsity_is_a_share_of(granularity, quantity):
    assert PruningSettings.of(granularity=granularity).cost_quantity == quantity


def test_the_stamp_is_that_of_the_files_written_so_far():
    settings = PruningSettings.of(schedule=kgp.Linear(0.8, 2, 14))
    families = ("criterion", "granularity", "allocation", "mode", "schedule")
    combination = compatibility.Combination(**{name: getattr(settings, name) for name in families})
    text = (
        "6 Combination(criterion=Magnitude(norm='l1'), granularity=Unstructured(), "
        f"allocation=Uniform(minimum=1), mode=Hard(), schedule={kgp.Linear(0.8, 2, 14)!r})"
    )
    assert f"6 {combination!r}" == text
    assert settings.stamp(6) == zlib.crc32(text.encode())
