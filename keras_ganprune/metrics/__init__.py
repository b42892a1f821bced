"""What came out: sparsity, sizes, work and time; how good and how varied the images are."""

from keras_ganprune.metrics.classes import ClassHistogram, class_histogram
from keras_ganprune.metrics.comparison import Comparison, ComparisonRow, compare, compare_models
from keras_ganprune.metrics.extractor import FeatureExtractor
from keras_ganprune.metrics.frechet import FeatureStatistics, frechet_distance
from keras_ganprune.metrics.images import psnr, ssim
from keras_ganprune.metrics.intervals import (
    Interval,
    mean_interval,
    paired_increase,
    relative_increase,
)
from keras_ganprune.metrics.judge import DiscriminatorAccuracy, discriminator_accuracy
from keras_ganprune.metrics.kernel_distance import KernelDistance, kernel_distance
from keras_ganprune.metrics.manifold import ManifoldMetrics, manifold_metrics
from keras_ganprune.metrics.profile import Profile, ProfileRow, profile
from keras_ganprune.metrics.quality import ImageQuality, QualityReport
from keras_ganprune.metrics.sparsity import SparsityReport, SparsityRow, sparsity_report
from keras_ganprune.metrics.timing import latency
from keras_ganprune.metrics.training import train_extractor
from keras_ganprune.metrics.usefulness import train_on_generated

__all__ = [
    "ClassHistogram",
    "Comparison",
    "ComparisonRow",
    "DiscriminatorAccuracy",
    "FeatureExtractor",
    "FeatureStatistics",
    "ImageQuality",
    "Interval",
    "KernelDistance",
    "ManifoldMetrics",
    "Profile",
    "ProfileRow",
    "QualityReport",
    "SparsityReport",
    "SparsityRow",
    "class_histogram",
    "compare",
    "compare_models",
    "discriminator_accuracy",
    "frechet_distance",
    "kernel_distance",
    "latency",
    "manifold_metrics",
    "mean_interval",
    "paired_increase",
    "profile",
    "psnr",
    "relative_increase",
    "sparsity_report",
    "ssim",
    "train_extractor",
    "train_on_generated",
]
