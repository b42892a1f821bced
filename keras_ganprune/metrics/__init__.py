"""Measure models: sparsity, cost and latency, and the quality and variety of generated images."""

from keras_ganprune.metrics.class_counts import ClassHistogram, class_histogram
from keras_ganprune.metrics.comparison import Comparison, ComparisonRow, compare, compare_models
from keras_ganprune.metrics.confidence_intervals import (
    Interval,
    mean_interval,
    paired_increase,
    relative_increase,
)
from keras_ganprune.metrics.extractor_training import train_extractor
from keras_ganprune.metrics.feature_extractor import FeatureExtractor
from keras_ganprune.metrics.frechet import FeatureStatistics, frechet_distance
from keras_ganprune.metrics.generated_training_data import train_on_generated
from keras_ganprune.metrics.image_quality import ImageQuality
from keras_ganprune.metrics.image_similarity import psnr, ssim
from keras_ganprune.metrics.kernel_mmd import KernelDistance, kernel_distance
from keras_ganprune.metrics.manifold import ManifoldMetrics, manifold_metrics
from keras_ganprune.metrics.measure_latency import latency
from keras_ganprune.metrics.model_profile import Profile, ProfileRow, profile
from keras_ganprune.metrics.quality_report import QualityReport
from keras_ganprune.metrics.real_fake_accuracy import DiscriminatorAccuracy, discriminator_accuracy
from keras_ganprune.metrics.sparsity import SparsityReport, SparsityRow, sparsity_report

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
