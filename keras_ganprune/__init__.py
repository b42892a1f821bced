"""Prune Keras 3 GANs, and any Keras 3 model, inside `model.fit`."""

import importlib
from typing import TYPE_CHECKING

from keras_ganprune.utils import command_line

# Keras takes seconds to import. The command line checks its arguments first: it imports the rest later.
if TYPE_CHECKING or not command_line.parses_arguments():
    from keras_ganprune.utils import keras_check  # isort: skip  (first: it says why Keras does not start)
    from keras_ganprune.applications.compression import Compression, compress
    from keras_ganprune.backend.distribution import multi_worker_strategy
    from keras_ganprune.callbacks.balance_controller import BalanceController
    from keras_ganprune.callbacks.diversity_guard import DiversityGuard
    from keras_ganprune.callbacks.group_lasso import GroupLasso
    from keras_ganprune.callbacks.growing_l2 import GrowingL2
    from keras_ganprune.callbacks.network_slimming import NetworkSlimming
    from keras_ganprune.callbacks.progress import Progress
    from keras_ganprune.callbacks.prune import Prune
    from keras_ganprune.callbacks.quality_monitor import QualityMonitor
    from keras_ganprune.callbacks.sample_grid import SampleGrid
    from keras_ganprune.callbacks.shrink import Shrink
    from keras_ganprune.callbacks.teach import Teach
    from keras_ganprune.callbacks.tensorboard import PruningSummary
    from keras_ganprune.errors import PruningError, PruningNotice, PruningWarning
    from keras_ganprune.exporters import ExportReport, FileReport, export, export_saved_model
    from keras_ganprune.gan import (
        PSNR,
        DiffAugment,
        Distillation,
        GANLoss,
        GANModel,
        ImageToImageGAN,
        L1Loss,
        L2Loss,
        PerceptualLoss,
        ReconstructionLoss,
        keep_known_pixels,
    )
    from keras_ganprune.layers.covered_kernels import mask_coverage
    from keras_ganprune.layers.lora import merge_lora
    from keras_ganprune.layers.prunable import (
        PrunableBatchNormalization,
        PrunableConv1D,
        PrunableConv1DTranspose,
        PrunableConv2D,
        PrunableConv2DTranspose,
        PrunableConv3D,
        PrunableConv3DTranspose,
        PrunableConvLSTM1D,
        PrunableConvLSTM2D,
        PrunableConvLSTM3D,
        PrunableDense,
        PrunableDepthwiseConv1D,
        PrunableDepthwiseConv2D,
        PrunableEinsumDense,
        PrunableEmbedding,
        PrunableGroupNormalization,
        PrunableGroupQueryAttention,
        PrunableGRU,
        PrunableGRUCell,
        PrunableLayer,
        PrunableLSTM,
        PrunableLSTMCell,
        PrunableMultiHeadAttention,
        PrunablePReLU,
        PrunableSeparableConv1D,
        PrunableSeparableConv2D,
        PrunableSimpleRNN,
        PrunableSimpleRNNCell,
        register_prunable,
    )
    from keras_ganprune.layers.saving import load_model
    from keras_ganprune.layers.stripping import strip_pruning
    from keras_ganprune.layers.traversal import apply_masks, masked_weights
    from keras_ganprune.layers.upgrade import copy_masks, make_prunable
    from keras_ganprune.layers.weight_tying import TiedPair, tie_mirrored
    from keras_ganprune.layers.zeros_to_masks import ZerosTaken, masks_from_zeros
    from keras_ganprune.metrics import (
        FeatureExtractor,
        ImageQuality,
        QualityReport,
        compare,
        compare_models,
        frechet_distance,
        kernel_distance,
        manifold_metrics,
        profile,
        sparsity_report,
        train_extractor,
    )
    from keras_ganprune.metrics.explanation import Explanation, explain
    from keras_ganprune.metrics.layer_sensitivity import SensitivityReport, sensitivity
    from keras_ganprune.pruning.allocation import (
        ERK,
        OWL,
        Allocation,
        GlobalRanking,
        Isomorphic,
        PerLayer,
        Uniform,
    )
    from keras_ganprune.pruning.criteria import (
        APOZ,
        LAMP,
        SNIP,
        BatchNormScale,
        Criterion,
        DiscriminatorSaliency,
        Fisher,
        GeometricMedian,
        Gradient,
        Hybrid,
        LatentSensitivity,
        Magnitude,
        MeanActivation,
        Movement,
        Random,
        SynFlow,
        Taylor,
        Wanda,
    )
    from keras_ganprune.pruning.finetune import recover
    from keras_ganprune.pruning.granularity import NM, Block, Channel, Granularity, Unstructured
    from keras_ganprune.pruning.mask_report import MaskReport
    from keras_ganprune.pruning.modes import SET, Hard, Mode, RigL, Soft, SoftShrinkage, Splice
    from keras_ganprune.pruning.one_shot import RepairReport, repair
    from keras_ganprune.pruning.pruner import Pruner
    from keras_ganprune.pruning.recalibration import recalibrate_batch_norm
    from keras_ganprune.pruning.scaled_kernels import scale_singular_values
    from keras_ganprune.pruning.schedules import (
        AdaptiveSparsity,
        ConstantSparsity,
        Cosine,
        Cubic,
        Cyclic,
        DynamicThreshold,
        Exponential,
        IterativeRewind,
        LayerwiseOrder,
        Linear,
        OneShot,
        PolynomialDecay,
        Schedule,
        Threshold,
    )
    from keras_ganprune.pruning.shrink_model import shrink
    from keras_ganprune.pruning.structured import (
        Axes,
        Budget,
        Channels,
        channel_groups,
        register_macs,
        register_rule,
    )
    from keras_ganprune.reports import write_report
    from keras_ganprune.reports.run import load_run, save_run
    from keras_ganprune.search import Recommendation, SweepPlan, SweepResult, sweep
    from keras_ganprune.training.distiller import Distiller
    from keras_ganprune.training.nan_guard import NaNGuard

__version__ = "0.2.0"

__all__ = [
    "APOZ",
    "ERK",
    "LAMP",
    "NM",
    "OWL",
    "PSNR",
    "SET",
    "SNIP",
    "AdaptiveSparsity",
    "Allocation",
    "Axes",
    "BalanceController",
    "BatchNormScale",
    "Block",
    "Budget",
    "Channel",
    "Channels",
    "Compression",
    "ConstantSparsity",
    "Cosine",
    "Criterion",
    "Cubic",
    "Cyclic",
    "DiffAugment",
    "DiscriminatorSaliency",
    "Distillation",
    "Distiller",
    "DiversityGuard",
    "DynamicThreshold",
    "Explanation",
    "Exponential",
    "ExportReport",
    "FeatureExtractor",
    "FileReport",
    "Fisher",
    "GANLoss",
    "GANModel",
    "GeometricMedian",
    "GlobalRanking",
    "Gradient",
    "Granularity",
    "GroupLasso",
    "GrowingL2",
    "Hard",
    "Hybrid",
    "ImageQuality",
    "ImageToImageGAN",
    "Isomorphic",
    "IterativeRewind",
    "L1Loss",
    "L2Loss",
    "LatentSensitivity",
    "LayerwiseOrder",
    "Linear",
    "Magnitude",
    "MaskReport",
    "MeanActivation",
    "Mode",
    "Movement",
    "NaNGuard",
    "NetworkSlimming",
    "OneShot",
    "PerLayer",
    "PerceptualLoss",
    "PolynomialDecay",
    "Progress",
    "PrunableBatchNormalization",
    "PrunableConv1D",
    "PrunableConv1DTranspose",
    "PrunableConv2D",
    "PrunableConv2DTranspose",
    "PrunableConv3D",
    "PrunableConv3DTranspose",
    "PrunableConvLSTM1D",
    "PrunableConvLSTM2D",
    "PrunableConvLSTM3D",
    "PrunableDense",
    "PrunableDepthwiseConv1D",
    "PrunableDepthwiseConv2D",
    "PrunableEinsumDense",
    "PrunableEmbedding",
    "PrunableGRU",
    "PrunableGRUCell",
    "PrunableGroupNormalization",
    "PrunableGroupQueryAttention",
    "PrunableLSTM",
    "PrunableLSTMCell",
    "PrunableLayer",
    "PrunableMultiHeadAttention",
    "PrunablePReLU",
    "PrunableSeparableConv1D",
    "PrunableSeparableConv2D",
    "PrunableSimpleRNN",
    "PrunableSimpleRNNCell",
    "Prune",
    "Pruner",
    "PruningError",
    "PruningNotice",
    "PruningSummary",
    "PruningWarning",
    "QualityMonitor",
    "QualityReport",
    "Random",
    "Recommendation",
    "ReconstructionLoss",
    "RepairReport",
    "RigL",
    "SampleGrid",
    "Schedule",
    "SensitivityReport",
    "Shrink",
    "Soft",
    "SoftShrinkage",
    "Splice",
    "SweepPlan",
    "SweepResult",
    "SynFlow",
    "Taylor",
    "Teach",
    "Threshold",
    "TiedPair",
    "Uniform",
    "Unstructured",
    "Wanda",
    "ZerosTaken",
    "apply_masks",
    "channel_groups",
    "compare",
    "compare_models",
    "compress",
    "copy_masks",
    "explain",
    "export",
    "export_saved_model",
    "frechet_distance",
    "keep_known_pixels",
    "kernel_distance",
    "load_model",
    "load_run",
    "make_prunable",
    "manifold_metrics",
    "mask_coverage",
    "masked_weights",
    "masks_from_zeros",
    "merge_lora",
    "multi_worker_strategy",
    "profile",
    "recalibrate_batch_norm",
    "recover",
    "register_macs",
    "register_prunable",
    "register_rule",
    "repair",
    "save_run",
    "scale_singular_values",
    "sensitivity",
    "shrink",
    "sparsity_report",
    "strip_pruning",
    "sweep",
    "tie_mirrored",
    "train_extractor",
    "write_report",
]

_FOLDERS = (
    "applications",
    "callbacks",
    "cli",
    "datasets",
    "exporters",
    "gan",
    "interop",
    "layers",
    "metrics",
    "pruning",
    "reports",
    "search",
    "training",
)


def __getattr__(name: str):
    # Folders that need packages of an extra are imported when they are used.
    if name in _FOLDERS:
        return importlib.import_module(f"keras_ganprune.{name}")
    if name in __all__ and command_line.parses_arguments():
        command_line.import_all()
        return globals()[name]
    raise AttributeError(f"module 'keras_ganprune' has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*__all__, *_FOLDERS, "errors", "__version__"]
