"""What came out: sparsity, sizes, work and time."""

from keras_ganprune.metrics.comparison import Comparison, ComparisonRow, compare, compare_models
from keras_ganprune.metrics.profile import Profile, ProfileRow, profile
from keras_ganprune.metrics.sparsity import SparsityReport, SparsityRow, sparsity_report
from keras_ganprune.metrics.timing import latency

__all__ = [
    "Comparison",
    "ComparisonRow",
    "Profile",
    "ProfileRow",
    "SparsityReport",
    "SparsityRow",
    "compare",
    "compare_models",
    "latency",
    "profile",
    "sparsity_report",
]
