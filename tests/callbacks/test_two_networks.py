"""Both networks of a GAN are pruned: together in one ranking, or each by itself."""

import networks as nets
import numpy as np
import pytest
from balance_runs import BOTH, Look, fit, foreign, gan_model, kept_at

import keras_ganprune as kgp
from keras_ganprune.pruning.mask_state import sparsity_of

GANS = {
    "gan_model": lambda: gan_model(balance_frequency=0),
    "dcgan": lambda: gan_model(pair=nets.dcgan_pair(), balance_frequency=0, loss="hinge"),
    "foreign": foreign,
    "wgan_gp": lambda: foreign(nets.WGANGP),
}
RAMP = kgp.Linear(0.8, begin_step=2, end_step=10, initial_sparsity=0.4)


def prune(schedule=RAMP, target="generator", frequency=4, **kwargs):
    return kgp.Prune(schedule, target, frequency, **{"verbose": 0, **kwargs})


def joint_oracle(states, sparsity, scale=lambda scores: 1.0):
    """Return the masks of one ranking over all tensors: the largest weights kept so far stay.

    The largest of each tensor stays in any case.
    """
    scores = []
    for s in states:
        size = np.abs(s["value"].astype("float64"))
        scores.append(np.where(s["mask"], size / scale(size), -np.inf).reshape(-1))
        scores[-1][np.argmax(scores[-1])] = np.inf
    joined = np.concatenate(scores)
    keep = np.zeros(joined.size, bool)
    budget = nets.kept_oracle(joined.size, sparsity)
    keep[np.argsort(-joined, kind="stable")[:budget]] = True
    parts = np.split(keep, np.cumsum([s.size for s in scores])[:-1])
    return [part.reshape(s["mask"].shape) for part, s in zip(parts, states, strict=True)]


@pytest.mark.parametrize(("name", "normalize"), [("foreign", None), ("dcgan", "mean")])
@pytest.mark.full
def test_one_budget_and_one_ranking_over_both_networks(name, normalize):
    gan = GANS[name]()
    for weight in gan.discriminator.trainable_weights:
        weight.assign(0.3 * weight)  # so that the ranking takes more from one than from the other
    callback = prune(target=BOTH, allocation=kgp.GlobalRanking(normalize))
    before, after = ([Look(name) for name in BOTH] for _ in range(2))
    history = fit(gan, *before, callback, *after, epochs=2)
    assert [(s, r) for s, r, _ in callback.updates] == [(s, RAMP(s)) for s in (2, 6, 10)]
    scale = {None: lambda scores: 1.0, "mean": np.mean}[normalize]
    total = None
    for step in range(16):
        old = before[0].states[step] + before[1].states[step]
        new = after[0].states[step] + after[1].states[step]
        total = sum(s["mask"].size for s in new)
        due = max((s for s in (2, 6, 10) if s <= step + 1), default=None)
        if step + 1 == due:
            for mask, s in zip(joint_oracle(old, RAMP(due), scale), new, strict=True):
                np.testing.assert_array_equal(mask, s["mask"])
        kept = sum(np.count_nonzero(s["mask"]) for s in new)
        assert kept == (nets.kept_oracle(total, RAMP(due)) if due else total)
        assert not any(s["value"][~s["mask"]].any() for s in new)
    final = {n: history[f"{n}_sparsity"][-1] for n in BOTH}
    assert abs(final["generator"] - final["discriminator"]) > 0.005  # spread, not the same for both
    assert callback.updates[-1][2] == 1 - nets.kept_oracle(total, 0.8) / total


@pytest.mark.parametrize("name", ["gan_model", "wgan_gp"])
@pytest.mark.full
def test_the_discriminator_after_the_generator(name):
    gan = GANS[name]()
    steps = 5 if name == "wgan_gp" else 1  # of the critic in a batch
    later = kgp.Linear(0.6, begin_step=9 * steps, end_step=13 * steps, initial_sparsity=0.2)
    of_generator = prune(kgp.Linear(0.8, 2, 6, initial_sparsity=0.4))
    of_discriminator = prune(later, "discriminator", frequency=2 * steps)
    looks = [Look(name) for name in BOTH]
    fit(gan, of_generator, of_discriminator, *looks, epochs=2)
    assert [s for s, *_ in of_generator.updates] == [2, 6]
    assert [s for s, *_ in of_discriminator.updates] == [9 * steps, 11 * steps, 13 * steps]
    kept = looks[1].kept()
    sizes = [s["mask"].size for s in looks[1].states[0]]
    assert kept[:8] == [sizes] * 8
    for batch in range(9, 17):
        due = min(batch - (batch - 9) % 2, 13) * steps
        assert kept[batch - 1] == kept_at(1 - later(due), sizes)
    nets.assert_exact(0.8, gan.generator)
    nets.assert_exact(0.6, gan.discriminator)


@pytest.mark.parametrize("name", ["gan_model", pytest.param("foreign", marks=pytest.mark.full)])
@pytest.mark.full
def test_the_two_apart_each_with_settings_of_its_own(name):
    gan = GANS[name]()
    of_generator = prune(kgp.Linear(0.9, 2, 10), criterion="taylor", mode="rigl", allocation="erk")
    of_discriminator = prune(kgp.OneShot(0.5, 3), "discriminator", criterion="random")
    history = fit(gan, of_generator, of_discriminator, epochs=2)
    nets.assert_exact(0.5, gan.discriminator)
    total = of_generator.report.total
    assert of_generator.report.kept == nets.kept_oracle(total, 0.9)
    assert (
        sum(kept for _, kept, _ in nets.nonzeros(gan.generator).values())
        == of_generator.report.kept
    )
    assert nets.leaks(gan.generator, gan.discriminator) == {}
    assert history["generator_sparsity"][-1] == 1 - of_generator.report.kept / total
    assert {"generator_sparsity", "discriminator_sparsity"} <= set(history)


@pytest.mark.parametrize("reverse", [False, True])
def test_a_pruner_by_hand_ranks_both_networks(reverse):
    networks = nets.mlp_pair()[:: -1 if reverse else 1]
    pruner = kgp.Pruner(*networks, allocation="global_ranking")
    states = [
        {"value": np.array(nets.value(w.variable)), "mask": np.array(nets.value(w.mask))}
        for w in pruner.weights
    ]
    expected = joint_oracle(states, 0.65)
    report = pruner.update(sparsity=0.65)
    assert report.kept == nets.kept_oracle(report.total, 0.65)
    for mask, weight in zip(expected, pruner.weights, strict=True):
        np.testing.assert_array_equal(mask, nets.value(weight.mask))
    own = [sparsity_of(network) for network in networks]
    sizes = [sum(np.prod(w.mask.shape) for w in kgp.masked_weights(n)) for n in networks]
    assert np.average(own, weights=sizes) == pytest.approx(report.achieved, abs=1e-12)
