"""What the demo can be asked for, and the pruning callbacks that this comes to."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from keras_ganprune.callbacks.balance_controller import BalanceController
from keras_ganprune.callbacks.prune import Prune
from keras_ganprune.callbacks.shrink import Shrink
from keras_ganprune.errors import InvalidArgumentError, UnsupportedLayerError, unknown_name
from keras_ganprune.layers.mask_ops import validate_sparsity
from keras_ganprune.pruning import allocation as allocations
from keras_ganprune.pruning import compatibility, criteria, modes, schedules
from keras_ganprune.pruning import granularity as granularities
from keras_ganprune.pruning.schedules import Schedule
from keras_ganprune.pruning.structured.budget import Budget

NETWORKS = ("dcgan", "mlp")
NAMED_IMAGES = ("mnist", "mnist-5000", "digits")
TARGETS = ("generator", "discriminator")


def _polynomial(options: DemoOptions, begin: int, end: int) -> Schedule:
    return schedules.PolynomialDecay(options.final_sparsity, begin, end)


def _cyclic(options: DemoOptions, begin: int, end: int) -> Schedule:
    period = max(2, (end - begin) // 3)
    high = options.final_sparsity
    return schedules.Cyclic(high / 2, high, period, begin, max(end, begin + period))


def _rewind(options: DemoOptions, begin: int, end: int) -> Schedule:
    # Four rounds, the last of which ends where other schedules end.
    length = max(1, (end - begin) // 3)
    return schedules.IterativeRewind(options.final_sparsity, 4, begin, length, begin // 5)


def _dynamic(options: DemoOptions, begin: int, end: int) -> Schedule:
    return schedules.DynamicThreshold(options.limit, begin, end, statistic="std")


def _adaptive(options: DemoOptions, begin: int, end: int) -> Schedule:
    return schedules.AdaptiveSparsity(
        "generator_loss", 0.3, begin_step=begin, maximum=options.final_sparsity
    )


# By name, from the options and the steps at which pruning begins and ends.
SCHEDULES: dict[str, Callable[[DemoOptions, int, int], Schedule]] = {
    "polynomial": _polynomial,
    "cubic": lambda o, begin, end: schedules.Cubic(o.final_sparsity, begin, end),
    "linear": lambda o, begin, end: schedules.Linear(o.final_sparsity, begin, end),
    "cosine": lambda o, begin, end: schedules.Cosine(o.final_sparsity, begin, end),
    "one_shot": lambda o, begin, end: schedules.OneShot(o.final_sparsity, begin),
    "cyclic": _cyclic,
    "iterative_rewind": _rewind,
    "layerwise": lambda o, begin, end: schedules.LayerwiseOrder(
        _polynomial(o, begin, end), o.order
    ),
    "adaptive": _adaptive,
    "threshold": lambda o, begin, end: schedules.Threshold(o.limit, begin),
    "dynamic_threshold": _dynamic,
}
# Default of `threshold`: a value of |w|, or a multiple of the standard deviation of a tensor.
_LIMITS = {"threshold": 0.03, "dynamic_threshold": 1.0}


@dataclass(frozen=True)
class DemoOptions:
    """What the demo does; the defaults are those of `keras-ganprune demo`.

    Args:
        network: 'dcgan' or 'mlp' (the classic fully connected GAN).
        images: 'mnist', 'mnist-5000', 'digits' or a folder of images.
        image_size: Pixels a side, for a folder; a multiple of 4.
        targets: Which networks to prune, of 'generator' and 'discriminator'.
        schedule: A name of `SCHEDULES`.
        sparsity: Final (for 'adaptive', highest) sparsity in [0, 1); None for 0.8, or for that of a
            pattern such as '2:4'.
        threshold: Of 'threshold', weights below it are pruned; of 'dynamic_threshold', the same as a
            multiple of the standard deviation of each tensor. None for 0.03, or 1.
        order: Of 'layerwise': 'forward' or 'backward'.
        granularity, mode: As for `Prune`.
        criterion, allocation: As for `Prune`; None for 'taylor' and 'global_ranking', which cost a GAN
            least of its quality (benchmarks/quality.py), where they go with the other settings, else for
            'magnitude' and 'uniform'.
        joint: Whether both targets share one total.
        balance: Whether a `BalanceController` moves the discriminator's density.
        tie: Whether the two networks of the DCGAN share their mirrored kernels.
        structured: Whether whole channels are pruned, and cut out when the schedule ends: the rest of
            the training is that of smaller networks.
        macs, parameters: Of `structured`, what is to be left of them, in (0, 1); None for a quarter of the
            MACs, or for `sparsity`, a share of the channels.
        conditional: Whether both networks are told the class of each image; None for: if the network is
            'dcgan' and the images have labels.
        loss: Name of a GAN loss.
        steps: Training steps; rounded up to whole epochs. None for the network's default.
        epochs: Instead of `steps`.
        batch_size: Images a step.
        channels: Width of the DCGAN.
        output: The run folder.
        overwrite: Whether it may exist.
        seed: Of everything random.
        quick: Fewer steps and channels, under a minute.
        quality: Whether to judge the images: the last fifth of the real ones is then held out, and an
            extractor trained on the rest. None for: if not `quick`, and there are labels and 3,200 images.

    Raises: InvalidArgumentError (a ValueError): a bad value, or settings that do not go together.

    Example:
    >>> DemoOptions(schedule="cubic", granularity="2:4").final_sparsity
    0.5
    """

    network: str = "dcgan"
    images: str = "mnist"
    image_size: int = 28
    targets: tuple[str, ...] = ("generator",)
    schedule: str = "polynomial"
    sparsity: float | None = None
    threshold: float | None = None
    order: str = "forward"
    criterion: Any = None
    granularity: Any = "unstructured"
    allocation: Any = None
    mode: Any = "hard"
    joint: bool = False
    balance: bool = False
    tie: bool = False
    structured: bool = False
    macs: float | None = None
    parameters: float | None = None
    conditional: bool | None = None
    loss: str = "non_saturating"
    steps: int | None = None
    epochs: int | None = None
    batch_size: int = 64
    channels: int | None = None
    output: str = "ganprune_run"
    overwrite: bool = False
    seed: int = 0
    quick: bool = False
    quality: bool | None = None

    def __post_init__(self):
        for name, known in (("network", NETWORKS), ("schedule", SCHEDULES)):
            if getattr(self, name) not in known:
                raise InvalidArgumentError(unknown_name(name, getattr(self, name), known))
        for target in self.targets:
            if target not in TARGETS:
                raise InvalidArgumentError(unknown_name("target", target, TARGETS))
        for name in ("steps", "epochs", "batch_size", "channels"):
            value = getattr(self, name)
            if value is not None and (not isinstance(value, int) or value < 1):
                raise InvalidArgumentError(f"`{name}` must be a positive int. Received: {value!r}.")
        if self.steps is not None and self.epochs is not None:
            raise InvalidArgumentError(
                f"Give `steps` or `epochs`, not both. Received: {self.steps} and {self.epochs}."
            )
        if not isinstance(self.seed, int) or not 0 <= self.seed < 2**32:
            raise InvalidArgumentError(
                f"`seed` must be an int in [0, 2**32). Received: {self.seed!r}."
            )
        if self.conditional and self.network != "dcgan":
            raise InvalidArgumentError(
                f"`conditional` is for the network 'dcgan'; '{self.network}' takes no labels. Leave one of "
                "the two out."
            )
        if self.order not in ("forward", "backward"):
            raise InvalidArgumentError(unknown_name("order", self.order, ("backward", "forward")))
        self._check_unused()
        self._check_structured()
        if self.sparsity is not None:
            validate_sparsity(self.sparsity)
        for name, value in (("sparsity", self.sparsity), ("threshold", self.threshold)):
            if value is not None and (name == "threshold") != (self.schedule in _LIMITS):
                raise InvalidArgumentError(
                    f"`{name}` has no meaning for the schedule '{self.schedule}'. Leave it out, or choose "
                    f"the schedule '{'threshold' if name == 'threshold' else 'polynomial'}'."
                )
        self._check_pairs()
        for name, value in self._usual().items():
            if getattr(self, name) is None:
                object.__setattr__(self, name, value)
        # Settings that do not go together are refused here, before there is any data or folder.
        compatibility.check(
            compatibility.get(
                self.criterion, self.unit, self.allocation, self.mode, self.plan(300, 650)
            )
        )

    def _usual(self) -> dict[str, str]:
        """Return what is chosen where nothing was said: the best that goes with the rest."""
        plain = {"criterion": "magnitude", "allocation": "uniform"}
        # Channels of different layers are not alike, and a budget has its own way to choose.
        if self.structured or self.granularity != "unstructured" or self.schedule in _LIMITS:
            return plain
        for criterion in ("taylor", "magnitude"):
            chosen = {"criterion": criterion, "allocation": "global_ranking"}
            tried = {
                k: v if getattr(self, k) is None else getattr(self, k) for k, v in chosen.items()
            }
            try:
                compatibility.check(
                    compatibility.get(
                        tried["criterion"],
                        self.unit,
                        tried["allocation"],
                        self.mode,
                        self.plan(300, 650),
                    )
                )
            except (InvalidArgumentError, UnsupportedLayerError):
                continue
            return chosen
        return plain

    def _check_structured(self) -> None:
        shares = {"macs": self.macs, "parameters": self.parameters}
        given = {name: value for name, value in shares.items() if value is not None}
        if not self.structured:
            if given:
                raise InvalidArgumentError(
                    f"`{next(iter(given))}` is only for `structured`, which cuts whole channels out. Add it "
                    "(`--structured`), or leave this out."
                )
            return
        if len(given) + (self.sparsity is not None) > 1:
            raise InvalidArgumentError(
                "Give one of `macs`, `parameters` and `sparsity` (of the channels). Received: "
                f"{', '.join([*given, *(['sparsity'] if self.sparsity is not None else [])])}."
            )
        for quantity, value in given.items():
            if Budget(**{quantity: value}).fraction == 1.0:
                raise InvalidArgumentError(
                    f"`{quantity}` is what is to be left, a fraction below 1. Received: {value!r}."
                )
        for name in ("joint", "balance", "tie"):
            if getattr(self, name):
                raise InvalidArgumentError(
                    f"`structured` gives each network channels of its own, so `{name}` cannot be asked for "
                    "beside it. Leave one of the two out."
                )
        if self.granularity != "unstructured" or self.schedule in (
            *_LIMITS,
            "adaptive",
            "cyclic",
            "iterative_rewind",
        ):
            raise InvalidArgumentError(
                "`structured` prunes channels along a rising schedule, and cuts them out where that ends. "
                f"Received: granularity={self.granularity!r}, schedule={self.schedule!r}. Leave the "
                "granularity out, and choose a schedule such as 'polynomial'."
            )

    def _check_unused(self) -> None:
        """Raise if an option was given that says nothing beside the others."""
        folder = self.images not in NAMED_IMAGES
        for name, unused, where in (
            (
                "order",
                self.order != "forward" and self.schedule != "layerwise",
                "the schedule 'layerwise'",
            ),
            ("image_size", self.image_size != 28 and not folder, "a folder of images"),
            (
                "channels",
                self.channels is not None and self.network != "dcgan",
                "the network 'dcgan'",
            ),
        ):
            if unused:
                raise InvalidArgumentError(
                    f"`{name}` is only for {where}. Received: {getattr(self, name)!r}. Leave it out."
                )

    def _check_pairs(self) -> None:
        both = set(self.targets) == set(TARGETS)
        if self.joint and not both:
            raise InvalidArgumentError(
                "`joint` shares one total between generator and discriminator. Received targets: "
                f"{', '.join(self.targets)}. Name both."
            )
        if self.balance and "discriminator" in self.targets:
            raise InvalidArgumentError(
                "`balance` prunes the discriminator as the game asks for it, so it cannot be a target too. "
                "Leave one of the two out."
            )
        if self.tie and self.balance:
            raise InvalidArgumentError(
                "`balance` brings weights of the discriminator back, which `tie` shares with the generator "
                "that is pruned. Leave one of the two out."
            )
        if self.tie and self.network != "dcgan":
            raise InvalidArgumentError(
                f"`tie` needs mirrored convolutions, which '{self.network}' does not have. "
                "Use the network 'dcgan'."
            )

    @property
    def unit(self) -> granularities.Granularity:
        """The granularity; of `structured`, channels, with what the sparsity is a share of."""
        if not self.structured:
            return granularities.get(self.granularity)
        of = "channels" if self.sparsity is not None else "macs"
        return granularities.Channel(of="parameters" if self.parameters is not None else of)

    @property
    def final_sparsity(self) -> float:
        """The sparsity that the schedule ends with."""
        if self.sparsity is not None:
            return self.sparsity
        if self.structured:
            left = self.macs if self.parameters is None else self.parameters
            return 1.0 - (0.25 if left is None else left)
        unit = granularities.get(self.granularity)
        return unit.sparsity if unit.pattern else 0.8

    @property
    def limit(self) -> float:
        """The threshold that the schedule ends with."""
        return _LIMITS[self.schedule] if self.threshold is None else self.threshold

    def plan(self, begin: int, end: int) -> Schedule:
        """Return the schedule for pruning from one step to another."""
        return SCHEDULES[self.schedule](self, begin, max(end, begin + 1))

    def callbacks(self, schedule: Schedule, frequency: int) -> dict[str, Prune]:
        """Return the pruning callback of each network that is pruned; one for both if `joint`."""
        settings = {
            "frequency": frequency,
            "criterion": criteria.get(self.criterion),
            "granularity": self.unit,
            "allocation": allocations.get(self.allocation),
            "mode": modes.get(self.mode),
        }
        if self.joint:
            return dict.fromkeys(TARGETS, Prune(schedule, list(TARGETS), **settings))
        prunes = {target: Prune(schedule, target, **settings) for target in self.targets}
        if self.balance:
            prunes["discriminator"] = BalanceController(
                begin_step=schedule.begin_step, frequency=frequency
            )
        return prunes

    def cuts(self, schedule: Schedule) -> list[Shrink]:
        """Return the callback that cuts out what is masked when the schedule ends, of `structured`."""
        return [Shrink(schedule.end_step, list(self.targets))] if self.structured else []


def mixture(text: str) -> dict[str, float] | None:
    """Return 'magnitude=1,taylor=0.5' as a dict, or None for a text without '='.

    Raises:
        InvalidArgumentError: a part is not a name and a number.

    Example:
    >>> mixture("dense*=0.9,conv*=0.5")
    {'dense*': 0.9, 'conv*': 0.5}
    """
    if "=" not in text:
        return None
    found = {}
    for part in text.split(","):
        name, _, number = part.rpartition("=")
        try:
            found[name.strip()] = float(number)
        except ValueError:
            name = ""
        if not name.strip():
            raise InvalidArgumentError(
                "Several names must be written as NAME=NUMBER,NAME=NUMBER, such as "
                f"magnitude=1,taylor=0.5. Received: {text!r}."
            )
    return found
