"""Distances between sets of features, against closed forms and NumPy oracles."""

import numpy as np
import pytest

from keras_ganprune import metrics
from keras_ganprune.errors import (
    DataError,
    InvalidArgumentError,
    MissingPackageError,
    PruningWarning,
)
from keras_ganprune.metrics import (
    FeatureStatistics,
    frechet_distance,
    kernel_distance,
    manifold_metrics,
)
from keras_ganprune.metrics.frechet import distance_of


def with_moments(rng, n, mean, covariance):
    """Return n samples whose mean and (unbiased) covariance are exactly these."""
    x = rng.normal(size=(n, len(mean)))
    x -= x.mean(axis=0)
    x = x @ np.linalg.inv(np.linalg.cholesky(np.cov(x.T).reshape(len(mean), -1))).T
    values, vectors = np.linalg.eigh(np.asarray(covariance, dtype="float64"))
    return x @ (vectors * np.sqrt(np.maximum(values, 0))).T + mean


# --- Fréchet distance ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mean", "deviation", "distance"),
    [(0.0, 1.0, 0.0), (3.0, 1.0, 9.0), (0.0, 2.5, 2.25), (-2.0, 0.5, 4.25), (1.0, 0.0, 2.0)],
)
def test_two_normal_distributions_in_one_dimension(mean, deviation, distance):
    rng = np.random.default_rng(0)
    real = with_moments(rng, 50, [0.0], [[1.0]])
    fake = with_moments(rng, 80, [mean], [[deviation**2]])
    # (m1 - m2)^2 + (s1 - s2)^2
    assert frechet_distance(real, fake) == pytest.approx(distance, abs=1e-9)


def test_diagonal_covariances():
    rng = np.random.default_rng(1)
    first, second = np.array([1.0, 4.0, 0.25, 9.0]), np.array([2.0, 0.0, 0.25, 1.0])
    mean = np.array([0.0, 1.0, -2.0, 5.0])
    real = with_moments(rng, 100, np.zeros(4), np.diag(first))
    fake = with_moments(rng, 100, mean, np.diag(second))
    expected = (mean**2).sum() + ((np.sqrt(first) - np.sqrt(second)) ** 2).sum()
    assert frechet_distance(real, fake) == pytest.approx(expected, rel=1e-9)


def test_against_the_matrix_root_of_scipy():
    linalg = pytest.importorskip("scipy.linalg")
    rng = np.random.default_rng(2)
    real = rng.normal(size=(200, 6)) @ rng.normal(size=(6, 6))
    fake = rng.normal(size=(300, 6)) @ rng.normal(size=(6, 6)) + rng.normal(size=6)
    s, t = np.cov(real.T), np.cov(fake.T)
    root = linalg.sqrtm(s @ t).real
    delta = real.mean(axis=0) - fake.mean(axis=0)
    expected = delta @ delta + np.trace(s + t - 2 * root)
    assert frechet_distance(real, fake) == pytest.approx(expected, rel=1e-6)


@pytest.mark.filterwarnings("ignore:The Fréchet distance needs")
def test_singular_covariances_with_fewer_samples_than_features():
    rng = np.random.default_rng(3)
    real, fake = rng.normal(size=(20, 64)), rng.normal(size=(12, 64))
    assert frechet_distance(real, real) == pytest.approx(0.0, abs=1e-9)
    # In the span of the samples, where nothing is singular, the distance is the same.
    basis = np.linalg.svd(np.concatenate([real, fake]), full_matrices=False)[2]
    assert frechet_distance(real, fake) == pytest.approx(
        frechet_distance(real @ basis.T, fake @ basis.T), rel=1e-9
    )


def test_features_that_are_constant_or_repeated():
    rng = np.random.default_rng(4)
    x = rng.normal(size=(100, 3))
    singular = np.concatenate([x, x, np.zeros((100, 2))], axis=1)  # rank 3 of 8
    assert frechet_distance(singular, singular) == pytest.approx(0.0, abs=1e-9)
    assert frechet_distance(singular, singular + 1.0) == pytest.approx(8.0, rel=1e-9)
    assert frechet_distance(singular, 2.0 * singular) == pytest.approx(
        2.0 * frechet_distance(x, 2.0 * x), rel=1e-9
    )


def test_a_large_mean_costs_no_digits():
    rng = np.random.default_rng(5)
    real, fake = rng.normal(size=(500, 4)), rng.normal(1.0, 2.0, size=(500, 4))
    expected = frechet_distance(real, fake)
    assert frechet_distance(real + 1e6, fake + 1e6) == pytest.approx(expected, rel=1e-6)


def test_statistics_by_batches_are_those_of_all_rows():
    rng = np.random.default_rng(6)
    x = (rng.normal(size=(1000, 5)) * [1, 2, 3, 4, 5] + 100).astype("float32")
    statistics = FeatureStatistics()
    for part in (x[:1], x[1:300], x[300:301], x[301:]):
        statistics.update(part)
    assert statistics.count == 1000
    np.testing.assert_allclose(statistics.mean, x.mean(axis=0, dtype="float64"), rtol=1e-12)
    np.testing.assert_allclose(statistics.covariance, np.cov(x.astype("float64").T), rtol=1e-9)
    fake = rng.normal(size=(200, 5))
    assert frechet_distance(statistics, fake) == pytest.approx(frechet_distance(x, fake), rel=1e-9)


def test_too_few_samples_warn():
    rng = np.random.default_rng(7)
    with pytest.warns(PruningWarning, match=r"10 images per feature dimension.*639 images for 64"):
        frechet_distance(rng.normal(size=(640, 64)), rng.normal(size=(639, 64)))
    with pytest.warns(
        PruningWarning, match=r"64 images \(so few that the covariance is singular\)"
    ):
        frechet_distance(rng.normal(size=(64, 64)), rng.normal(size=(1000, 64)))


def test_enough_samples_do_not_warn(recwarn):
    rng = np.random.default_rng(8)
    frechet_distance(rng.normal(size=(640, 64)), rng.normal(size=(640, 64)))
    assert not [w for w in recwarn if issubclass(w.category, PruningWarning)]


# --- kernel distance -----------------------------------------------------------------------------


def brute_kernel_distance(x, y):
    def k(a, b):
        return (sum(p * q for p, q in zip(a, b, strict=True)) / len(a) + 1.0) ** 3

    within = [
        np.mean([k(z[i], z[j]) for i in range(len(z)) for j in range(len(z)) if i != j])
        for z in (x, y)
    ]
    return sum(within) - 2.0 * np.mean([k(a, b) for a in x for b in y])


def test_kernel_distance_is_the_mean_of_its_blocks():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(31, 5)), rng.normal(0.3, 1.2, size=(44, 5))
    found = kernel_distance(x, y, blocks=3, seed=4)
    shuffled = np.random.default_rng(4)
    parts = [np.array_split(shuffled.permutation(z), 3) for z in (x, y)]
    values = [brute_kernel_distance(a, b) for a, b in zip(*parts, strict=True)]
    assert found.value == pytest.approx(np.mean(values), rel=1e-9)
    assert found.error == pytest.approx(np.std(values, ddof=1) / np.sqrt(3), rel=1e-9)
    assert found.blocks == 3


def test_kernel_distance_has_no_bias_and_an_honest_error():
    rng = np.random.default_rng(1)
    found = [kernel_distance(*rng.normal(size=(2, 200, 4))) for _ in range(100)]
    values = np.array([f.value for f in found])
    assert abs(values.mean()) < 3 * values.std() / 10  # 10: the root of 100
    assert 0.8 < np.mean([f.error for f in found]) / values.std() < 1.25


def test_blocks_fit_the_images():
    rng = np.random.default_rng(2)
    x = rng.normal(size=(2500, 2))
    assert kernel_distance(x, x[:40]).blocks == 10
    assert kernel_distance(x, x[:9]).blocks == 4
    assert kernel_distance(np.tile(x, (5, 1)), x).blocks == 13  # none of over 1,000


def test_kernel_distance_prints_its_error():
    assert str(metrics.KernelDistance(0.12345, 0.0123, 10)) == "0.1235 ± 0.012"


# --- precision, recall, density, coverage --------------------------------------------------------


def brute_manifold(real, fake, k):
    def distance(a, b):
        return np.sqrt(((a[:, None] - b[None]) ** 2).sum(axis=2))

    real_radii = np.sort(distance(real, real), axis=1)[:, k]  # column 0: the point itself
    fake_radii = np.sort(distance(fake, fake), axis=1)[:, k]
    between = distance(real, fake)
    in_real = between <= real_radii[:, None]
    in_fake = between <= fake_radii[None]
    return (
        in_real.any(axis=0).mean(),
        in_fake.any(axis=1).mean(),
        in_real.sum() / (k * len(fake)),
        in_real.any(axis=1).mean(),
    )


@pytest.mark.parametrize("k", [1, 3, 5])
@pytest.mark.parametrize("shift", [0.0, 0.7, 4.0])
def test_manifold_metrics_against_brute_force(k, shift):
    rng = np.random.default_rng(k)
    real, fake = rng.normal(size=(90, 3)), rng.normal(shift, 0.8, size=(70, 3))
    found = manifold_metrics(real, fake, k)
    expected = brute_manifold(real, fake, k)
    assert (found.precision, found.recall, found.density, found.coverage) == pytest.approx(expected)


def test_chunks_give_the_same_result(monkeypatch):
    from keras_ganprune.metrics import manifold

    rng = np.random.default_rng(3)
    real, fake = rng.normal(size=(600, 4)), rng.normal(0.4, 1.0, size=(500, 4))
    whole = manifold_metrics(real, fake)
    monkeypatch.setattr(manifold, "_MEMORY_MIB", 0.05)  # about ten rows
    assert manifold_metrics(real, fake) == whole


def test_copies_and_points_on_the_surface_are_inside():
    # On a grid all neighbours are at equal distances; rounding must not decide.
    grid = np.stack(np.meshgrid(*[np.arange(6.0)] * 2), axis=-1).reshape(-1, 2) * 0.1 + 1e3
    found = manifold_metrics(grid, grid, 2)
    assert (found.precision, found.recall, found.coverage) == (1.0, 1.0, 1.0)
    # Each ball has the point itself and its 2, 3 or 4 neighbours at 0.1.
    assert found.density == pytest.approx((4 * 3 + 16 * 4 + 16 * 5) / (2 * 36))


def test_equal_distributions_have_density_one_and_the_known_coverage():
    rng = np.random.default_rng(4)
    found = manifold_metrics(*rng.normal(size=(2, 3000, 8)), 5)
    assert found.density == pytest.approx(1.0, abs=0.05)
    assert found.coverage == pytest.approx(1.0 - 0.5**5, abs=0.01)


def test_lost_variety_and_lost_quality_are_distinguished():
    rng = np.random.default_rng(5)
    real = rng.normal(size=(1000, 4))
    collapsed = 0.05 * rng.normal(size=(1000, 4))
    scattered = 3.0 * rng.normal(size=(1000, 4))
    few, wide = manifold_metrics(real, collapsed), manifold_metrics(real, scattered)
    assert few.precision > 0.95 and few.recall < 0.05 and few.coverage < 0.2
    assert wide.precision < 0.5 and wide.recall > 0.95


# --- invalid features ----------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:The Fréchet distance needs")
@pytest.mark.parametrize("metric", [frechet_distance, kernel_distance, manifold_metrics])
def test_features_that_cannot_be_compared(metric):
    good = np.random.default_rng(0).normal(size=(20, 3))
    bad = good.copy()
    bad[7, 1] = np.nan
    with pytest.raises(DataError, match=r"`fake_features` must be finite.*1 of 20 rows.*row 7"):
        metric(good, bad)
    with pytest.raises(DataError, match=r"(?s)the same dimension.*3 \(real\) and 2 \(generated\)"):
        metric(good, good[:, :2])
    with pytest.raises(DataError, match=r"`real_features` must have the shape \(n, dimension\)"):
        metric(good[:, 0], good)
    with pytest.raises(DataError, match=r"at least two images. Received: 1"):
        metric(good, good[:1])
    with pytest.raises(DataError, match=r"must hold numbers"):
        metric(good, good.astype(str))


def test_too_few_images():
    good = np.random.default_rng(0).normal(size=(20, 3))
    with pytest.raises(DataError, match=r"at least four images.*Received: 3"):
        kernel_distance(good, good[:3])
    with pytest.raises(DataError, match=r"`neighbours=5` needs more than 5.*Received: 5"):
        manifold_metrics(good, good[:5])
    with pytest.raises(InvalidArgumentError, match=r"`blocks` must be an int of at least 2"):
        kernel_distance(good, good, blocks=1)
    with pytest.raises(DataError, match=r"of the first, 3. Received: 2"):
        FeatureStatistics(good).update(good[:, :2])
    with pytest.raises(DataError, match=r"at least two rows. Received: 0"):
        _ = FeatureStatistics().covariance
    with pytest.raises(DataError, match=r"`real_features` must hold at least two images"):
        frechet_distance(FeatureStatistics(), good)
    assert distance_of(FeatureStatistics(good), FeatureStatistics(good)) < 1e-9


def test_without_scikit_learn(without):
    without("sklearn")
    x = np.random.default_rng(0).normal(size=(20, 3))
    with pytest.raises(MissingPackageError, match=r"scikit-learn.*keras-ganprune\[quality\]"):
        manifold_metrics(x, x)
