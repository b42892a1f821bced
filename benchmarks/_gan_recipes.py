"""Recipes and variants of the quality benchmark, and the networks that they name."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import _gan_data
import _gan_networks
import numpy as np


@dataclass(frozen=True)
class Recipe:
    """How every GAN of a table is trained.

    Attributes:
        data: One of `_gan_data.SOURCES`.
        network: 'dcgan', 'deep_dcgan' (from 4×4 pixels on), 'sngan' or 'mlp'.
        channels: Width of the dense convolutional networks.
        steps: In all, of every run.
        rate, discriminator_rate: Learning rates; None for that of the generator.
        conditional: Whether both networks get the labels.
        begin, end: Shares of the steps: the dense phase ends, sparsity is reached.
    """

    data: str = "mnist-5000"
    network: str = "dcgan"
    channels: int = 32
    latent_dim: int = 64
    batch_size: int = 64
    steps: int = 4000
    loss: str = "non_saturating"
    rate: float = 1e-3
    final_rate: float = 1.0
    beta_2: float = 0.99
    ema_decay: float = 0.99
    translation: float = 0.0
    brightness: float = 0.0
    contrast: float = 0.0
    r1_penalty: float = 0.0
    conditional: bool = False
    begin: float = 0.25
    end: float = 0.65
    # Fields that are not part of the mark of a recipe while they have these values (`LATER_FIELDS`).
    beta_1: float = 0.5
    discriminator_rate: float | None = None
    samples: int = 10_000


LATER_FIELDS = ("beta_1", "discriminator_rate", "samples")


@dataclass(frozen=True)
class Variant:
    """One row of the table: what is done to the dense GAN.

    Attributes:
        label: What the row is called.
        sparsity: Of the pruned kernels, or None.
        width: Share of the channels that the generator is built with, or None for that of `base`. A width
            of its own has no dense phase.
        narrow: Share of the MACs of dense that `width` is chosen for, or None.
        base: Width of the dense generator that the row branches from.
        macs: What `Shrink` leaves of the multiply-accumulates, or None.
        cuts: Number of cuts that lead there.
        like_dense: 'macs' or 'weights': `macs` or `sparsity` is chosen such that a row of a wider `base` ends
            with those of the dense generator. Or None.
        masked: Share of the MACs for which `Prune` masks channels, which `Shrink` then removes, or None.
        prune: Further arguments of `Prune`.
        schedule: Name of the schedule.
        targets: The networks that are pruned.
        distillation: Arguments of `Distillation` from the finished dense generator of the seed and of
            `base`, or None.
        regularizers: Callbacks that go before the others: (name in the package, its arguments) each.
            `GrowingL2` gets the begin and the budget of the cut.
        cut_at: Share of the steps at which `Shrink` cuts, or None for the end of the dense phase.
        shrink: Further arguments of `Shrink`.
    """

    label: str
    sparsity: float | None = None
    width: float | None = None
    narrow: float | None = None
    base: float = 1.0
    macs: float | None = None
    cuts: int = 1
    like_dense: str | None = None
    masked: float | None = None
    prune: Mapping[str, Any] = field(default_factory=dict)
    schedule: str = "polynomial"
    targets: tuple[str, ...] = ("generator",)
    distillation: Mapping[str, Any] | None = None
    regularizers: tuple[tuple[str, Mapping[str, Any]], ...] = ()
    cut_at: float | None = None
    shrink: Mapping[str, Any] = field(default_factory=dict)

    @property
    def from_scratch(self) -> bool:
        return self.width is not None or self.narrow is not None

    @property
    def is_dense(self) -> bool:
        """Whether this is the dense row of its base, whose generator teaches the others."""
        return self.label in ("dense", "double width")


def build_networks(recipe: Recipe, width: float = 1.0):
    """Return (generator, discriminator) of a width."""
    from keras_ganprune.applications import networks

    shape = _gan_data.pictures(recipe.data).images.shape[1:]
    if recipe.network == "mlp":
        return networks.mlp(shape, recipe.latent_dim, width=width)
    makers = {
        "dcgan": networks.dcgan,
        "deep_dcgan": _gan_networks.dcgan,
        "sngan": _gan_networks.sngan,
    }
    channels = recipe.channels * width
    if recipe.network == "dcgan":
        channels = round(channels)
    classes = _classes(recipe) if recipe.conditional else None
    return makers[recipe.network](shape, recipe.latent_dim, channels, classes)


def _classes(recipe: Recipe) -> int:
    return int(_gan_data.training_images(recipe.data)[1].max()) + 1


def resolved(variant: Variant, recipe: Recipe) -> Variant:
    """Return the variant with the width, share or sparsity that is chosen for a network."""
    if variant.narrow is not None:
        return dataclasses.replace(variant, width=narrow_width(recipe, variant.narrow))
    if variant.masked is not None:
        return dataclasses.replace(variant, sparsity=1.0 - narrow_width(recipe, variant.masked))
    if variant.like_dense is None:
        return variant
    dense, wide = (_profile(recipe, width) for width in (1.0, variant.base))
    if variant.like_dense == "macs":
        return dataclasses.replace(variant, macs=dense.macs / wide.macs)
    kernels = _kernel_entries(recipe, variant.base)
    others = wide.parameters - kernels
    return dataclasses.replace(variant, sparsity=1.0 - (dense.parameters - others) / kernels)


@functools.lru_cache
def narrow_width(recipe: Recipe, share: float) -> float:
    """Return the width whose generator has the MACs that are nearest to a share of those of dense."""
    # Layers have whole channels: a finer step would not change the DCGAN.
    steps = recipe.channels if recipe.network == "dcgan" else 128
    goal = share * _profile(recipe, 1.0).macs
    low, high = 1, steps
    while high - low > 1:
        middle = (low + high) // 2
        if _profile(recipe, middle / steps).macs < goal:
            low = middle
        else:
            high = middle
    return min((low, high), key=lambda k: abs(_profile(recipe, k / steps).macs - goal)) / steps


@functools.lru_cache(maxsize=256)
def _profile(recipe: Recipe, width: float):
    import keras_ganprune as kgp

    return kgp.profile(build_networks(recipe, width)[0], latency=False)


def _kernel_entries(recipe: Recipe, width: float) -> int:
    layers = build_networks(recipe, width)[0].layers
    return sum(int(np.prod(layer.kernel.shape)) for layer in layers if hasattr(layer, "kernel"))
