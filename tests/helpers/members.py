"""One row per member of each family. The contract tests run over all rows."""

import re

import pytest

from keras_ganprune.gan import losses, reconstruction
from keras_ganprune.pruning import allocation, criteria, granularity, modes, schedules

FAMILIES = {
    "allocation": allocation,
    "criterion": criteria,
    "granularity": granularity,
    "loss": losses,
    "mode": modes,
    "reconstruction loss": reconstruction,
    "schedule": schedules,
}

# One or more objects of each class, with other than default arguments where it has any.
MEMBERS = [
    ("allocation", allocation.Uniform()),
    ("allocation", allocation.Uniform(minimum=0.1)),
    ("allocation", allocation.ERK(power=2.0, minimum=3)),
    ("allocation", allocation.GlobalRanking()),
    ("allocation", allocation.GlobalRanking(normalize="mean", minimum=2)),
    ("allocation", allocation.OWL(multiple=3.0, spread=0.1, minimum=2)),
    ("allocation", allocation.Isomorphic(minimum=2)),
    ("allocation", allocation.PerLayer({"conv*": 0.5, re.compile("dense_[0-9]"): 0.9})),
    ("criterion", criteria.Magnitude()),
    ("criterion", criteria.Magnitude("l2")),
    ("criterion", criteria.Magnitude("l2", normalize="spectral")),
    ("criterion", criteria.LAMP()),
    ("criterion", criteria.Fisher(batches=2)),
    ("criterion", criteria.SNIP(batches=2)),
    ("criterion", criteria.Movement(batches=2)),
    ("criterion", criteria.SynFlow()),
    ("criterion", criteria.Wanda(batches=2)),
    ("criterion", criteria.Wanda(per_output=True, batches=1)),
    ("criterion", criteria.MeanActivation(batches=2)),
    ("criterion", criteria.APOZ(batches=2)),
    ("criterion", criteria.LatentSensitivity(0.3, directions=1, batches=1, seed=2)),
    ("criterion", criteria.Random(3)),
    ("criterion", criteria.Gradient(batches=2)),
    ("criterion", criteria.Taylor(batches=3, squared=True)),
    ("criterion", criteria.DiscriminatorSaliency(batches=2)),
    ("criterion", criteria.BatchNormScale(fallback="error")),
    ("criterion", criteria.GeometricMedian()),
    ("criterion", criteria.Hybrid({"l2": 1.0, criteria.Taylor(batches=2): 0.5})),
    ("granularity", granularity.Unstructured()),
    ("granularity", granularity.NM(1, 4, "out")),
    ("granularity", granularity.Block((2, 4), "max")),
    ("granularity", granularity.Channel("in")),
    ("granularity", granularity.Channel(-1)),
    ("granularity", granularity.Channel(coupled=False)),
    ("granularity", granularity.Channel(aggregate="max")),
    ("granularity", granularity.Layer()),
    ("loss", losses.NonSaturating()),
    ("loss", losses.NonSaturating(label_smoothing=0.1)),
    ("loss", losses.Minimax(label_smoothing=0.2)),
    ("loss", losses.Hinge()),
    ("loss", losses.LeastSquares(label_smoothing=0.1)),
    ("loss", losses.Wasserstein()),
    ("loss", losses.Relativistic(label_smoothing=0.1)),
    ("mode", modes.Hard()),
    ("mode", modes.Soft()),
    ("mode", modes.SoftShrinkage(0.5, "constant")),
    ("mode", modes.RigL(0.2, "constant", "previous", batches=2)),
    ("mode", modes.SET(0.4, "cosine", "initializer", seed=5)),
    ("mode", modes.Splice(0.3, 0.1, "constant", "previous")),
    ("reconstruction loss", reconstruction.L1Loss(5.0)),
    ("reconstruction loss", reconstruction.L2Loss(0.5)),
    ("reconstruction loss", reconstruction.PerceptualLoss()),
    ("reconstruction loss", reconstruction.PerceptualLoss(layers=["conv"], weight=2.0)),
    ("schedule", schedules.ConstantSparsity(0.5, 10, 20)),
    ("schedule", schedules.ConstantSparsity(0.5)),
    ("schedule", schedules.PolynomialDecay(0.8, 5, 50, initial_sparsity=0.1, power=2)),
    ("schedule", schedules.OneShot(0.5, 20)),
    ("schedule", schedules.Linear(0.8, 5, 50, initial_sparsity=0.1)),
    ("schedule", schedules.Cubic(0.8, 5, 50, initial_sparsity=0.1)),
    ("schedule", schedules.Cosine(0.8, 5, 50, initial_sparsity=0.1)),
    ("schedule", schedules.Exponential(0.8, 5, 50, initial_sparsity=0.1)),
    ("schedule", schedules.Cyclic(0.2, 0.8, 10, 5, 50)),
    ("schedule", schedules.IterativeRewind(0.8, 3, 10, 20, rewind_step=5, rewind="target")),
    ("schedule", schedules.LayerwiseOrder(schedules.Cubic(0.8, 5, 50), "backward", 0.25)),
    (
        "schedule",
        schedules.LayerwiseOrder([schedules.Cubic(0.8, 5, 50), schedules.OneShot(0.5, 9)]),
    ),
    ("schedule", schedules.Threshold(0.01, 3)),
    ("schedule", schedules.DynamicThreshold(0.5, 3, 30, statistic="std")),
    ("schedule", schedules.AdaptiveSparsity("loss", 0.2, direction="target", baseline=0.5)),
]
# A repr may name other members, which must be known where it is read.
NAMES = {type(member).__name__: type(member) for _, member in MEMBERS}
IDS = [f"{kind}-{member!r}" for kind, member in MEMBERS]
each_member = pytest.mark.parametrize(("kind", "member"), MEMBERS, ids=IDS)
each_family = pytest.mark.parametrize("kind", FAMILIES)
