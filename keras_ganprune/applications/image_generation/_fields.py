"""The options of the demo: one description each."""

# ruff: noqa: RUF009  (`option` makes attrs fields, which are descriptions and not values)

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs

from keras_ganprune.applications.image_generation import _schedules
from keras_ganprune.applications.option_fields import name_or_mixture, names, option
from keras_ganprune.errors import InvalidArgumentError, unknown_name
from keras_ganprune.gan import losses
from keras_ganprune.pruning.allocation import Allocation
from keras_ganprune.pruning.criteria import Criterion
from keras_ganprune.pruning.granularity import Granularity
from keras_ganprune.pruning.modes import Mode
from keras_ganprune.utils import validation

TARGETS = ("generator", "discriminator")


def _check_targets(value: Any, name: str) -> None:
    if not value or len(set(value)) < len(value):
        raise InvalidArgumentError(
            f"`{name}` must name at least one network, and each once. Received: "
            f"{', '.join(map(repr, value)) or 'none'}. Known: {', '.join(TARGETS)}."
        )
    for target in value:
        if target not in TARGETS:
            raise InvalidArgumentError(unknown_name("target", target, TARGETS))


@attrs.frozen
class DemoFields:
    """The fields of `DemoOptions`, without the rules between them."""

    network: str = option(
        "dcgan",
        "Networks of the GAN; mlp is the classic fully connected GAN.",
        choices=("dcgan", "mlp"),
        group="Networks",
    )
    images: str = option(
        "mnist",
        "Images: mnist, mnist-5000, digits or the path of a folder.",
        flag="--data",
        group="Data",
    )
    image_size: int = option(
        28,
        "Height and width of the images in pixels, for a folder of images; a multiple of 4.",
        kind=int,
        group="Data",
    )
    targets: tuple[str, ...] = option(
        ("generator",),
        "Networks to prune: generator, discriminator, or generator,discriminator.",
        default_text="generator",
        flag="--target",
        from_text=names,
        check=_check_targets,
        group="Pruning",
    )
    schedule: str = option(
        None,
        "Schedule of the sparsity over the training steps.",
        choices=_schedules.SCHEDULES,
        default_text="polynomial, or threshold if a threshold is given",
        group="Pruning",
    )
    sparsity: float | None = option(
        None,
        "Final sparsity in [0, 1); for adaptive, the highest sparsity; with structured, the share of the "
        "channels to remove.",
        kind=float,
        default_text="0.8, or the sparsity of a pattern such as 2:4",
        check=validation.validate_sparsity,
        group="Pruning",
    )
    threshold: float | None = option(
        None,
        "Weights with a smaller absolute value are pruned; for dynamic_threshold, a multiple of the standard "
        "deviation of each tensor.",
        kind=float,
        default_text="0.03, or 1 for dynamic_threshold",
        group="Pruning",
    )
    order: str = option(
        "forward",
        "Order of the layers, for layerwise.",
        choices=("forward", "backward"),
        group="Pruning",
    )
    criterion: Criterion | str | Mapping[str, float] | None = option(
        None,
        "Score of a weight: taylor, magnitude, l2, lamp, gradient, fisher, movement, snip, synflow, wanda, "
        "mean_activation, apoz, discriminator_saliency, latent_sensitivity, batch_norm_scale, "
        "geometric_median, random, or a mixture such as magnitude=1,taylor=0.5.",
        default_text="taylor where it is compatible with the other options, otherwise magnitude",
        from_text=name_or_mixture,
        group="Pruning",
    )
    granularity: Granularity | str = option(
        "unstructured",
        "What is pruned as a unit: unstructured (single weights), channel, a pattern such as 2:4, or a block "
        "such as 1x4. For grey images, the last kernel of the generator has only one output channel.",
        group="Pruning",
    )
    allocation: Allocation | str | Mapping[str, float] | None = option(
        None,
        "Sparsity of each layer: global_ranking, uniform, erk, owl, isomorphic, or sparsities by layer such "
        "as dense*=0.9.",
        default_text="global_ranking where it is compatible with the other options, otherwise uniform",
        from_text=name_or_mixture,
        group="Pruning",
    )
    mode: Mode | str = option(
        "hard",
        "Whether pruned weights can grow back: hard, soft, rigl, set or splice.",
        group="Pruning",
    )
    joint: bool = option(
        False,
        "Share one total sparsity between both targets.",
        kind=bool,
        default_text="no",
        group="Pruning",
    )
    balance: bool = option(
        False,
        "Let a BalanceController set the density of the discriminator from the losses.",
        kind=bool,
        default_text="no",
        group="Pruning",
    )
    tie: bool = option(
        False,
        "Share the mirrored kernels of the two networks of the DCGAN.",
        kind=bool,
        default_text="no",
        group="Networks",
    )
    structured: bool = option(
        False,
        "Prune whole channels, cut them out when the schedule ends, and continue to train the smaller "
        "networks.",
        kind=bool,
        default_text="no",
        group="Cutting channels",
    )
    macs: float | None = option(
        None,
        "With structured: remaining share of the multiply-accumulates, in (0, 1).",
        kind=float,
        default_text="0.25 if neither parameters nor sparsity is given",
        group="Cutting channels",
    )
    parameters: float | None = option(
        None,
        "With structured: remaining share of the parameters, in (0, 1).",
        kind=float,
        default_text="no limit",
        group="Cutting channels",
    )
    conditional: bool | None = option(
        None,
        "Whether both networks also take the class of each image (class-conditional GAN).",
        kind=bool,
        default_text="yes for the network dcgan if the images have labels",
        group="Networks",
    )
    loss: str = option(
        "non_saturating",
        f"GAN loss: {', '.join(losses.names())}.",
        check=lambda value, name: losses.get(value),
        group="Networks",
    )
    steps: int | None = option(
        None,
        "Training steps, rounded up to whole epochs.",
        kind=int,
        default_text="3,000 for dcgan and 8,000 for mlp; 600 and 2,400 with quick",
        check=validation.positive_int,
        group="Training",
    )
    epochs: int | None = option(
        None,
        "Training epochs, instead of steps.",
        kind=int,
        default_text="as many as the steps need",
        check=validation.positive_int,
        group="Training",
    )
    batch_size: int = option(
        64,
        "Images per step.",
        kind=int,
        check=validation.positive_int,
        group="Training",
    )
    channels: int | None = option(
        None,
        "Width of the DCGAN.",
        kind=int,
        default_text="32, or 24 for a quick demo",
        check=validation.positive_int,
        group="Networks",
    )
    output: str = option(
        "ganprune_run",
        "Run folder to write.",
        group="Output",
    )
    overwrite: bool = option(
        False,
        "Replace an existing run folder.",
        kind=bool,
        default_text="no",
        group="Output",
    )
    seed: int = option(
        0,
        "Seed of weights, data order and latent vectors.",
        kind=int,
        check=validation.seed,
        group="Training",
    )
    quick: bool = option(
        False,
        "Use fewer steps and channels; takes about a minute.",
        kind=bool,
        default_text="no",
        group="Training",
    )
    quality: bool | None = option(
        None,
        "Whether to measure the image quality of the dense and the pruned generator. The last fifth of the "
        "real images is then held out from training.",
        kind=bool,
        default_text="yes without quick if the images have labels and there are at least 3,200",
        group="Output",
    )
