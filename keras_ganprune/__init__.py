"""Prune Keras 3 GANs, and any Keras 3 model, inside `model.fit`."""

from keras_ganprune import _start  # isort: skip  (first: it says why Keras does not start)
from keras_ganprune.allocation import ERK, Allocation, GlobalRanking, PerLayer, Uniform
from keras_ganprune.balance import BalanceController
from keras_ganprune.callbacks import Prune
from keras_ganprune.criteria import (
    BatchNormScale,
    Criterion,
    DiscriminatorSaliency,
    GeometricMedian,
    Gradient,
    Hybrid,
    Magnitude,
    Random,
    Taylor,
)
from keras_ganprune.diversity_guard import DiversityGuard
from keras_ganprune.errors import PruningError, PruningWarning
from keras_ganprune.export import ExportReport, export_saved_model
from keras_ganprune.gan import DiffAugment, Distillation, GANLoss, GANModel
from keras_ganprune.granularity import NM, Block, Channel, Granularity, Unstructured
from keras_ganprune.layers import (
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
    apply_masks,
    copy_masks,
    make_prunable,
    masked_weights,
    register_prunable,
    strip_pruning,
)
from keras_ganprune.mask_report import MaskReport
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
from keras_ganprune.modes import SET, Hard, Mode, RigL, Soft, Splice
from keras_ganprune.monitors import QualityMonitor
from keras_ganprune.nan_guard import NaNGuard
from keras_ganprune.pruner import Pruner
from keras_ganprune.recalibration import recalibrate_batch_norm
from keras_ganprune.recovery import recover
from keras_ganprune.run_folder import load_run, save_run
from keras_ganprune.run_report import write_report
from keras_ganprune.sample_grid import SampleGrid
from keras_ganprune.saving import load_model
from keras_ganprune.schedules import (
    AdaptiveSparsity,
    ConstantSparsity,
    Cosine,
    Cubic,
    Cyclic,
    DynamicThreshold,
    IterativeRewind,
    LayerwiseOrder,
    Linear,
    OneShot,
    PolynomialDecay,
    Schedule,
    Threshold,
)
from keras_ganprune.sensitivity import SensitivityReport, sensitivity
from keras_ganprune.sharing import TiedPair, tie_mirrored
from keras_ganprune.shrink_callback import Shrink
from keras_ganprune.shrinking import shrink
from keras_ganprune.structured import Axes, Budget, Channels, channel_groups, register_rule
from keras_ganprune.summaries import PruningSummary
from keras_ganprune.sweep import Recommendation, SweepResult, sweep

__version__ = "0.1.0"
