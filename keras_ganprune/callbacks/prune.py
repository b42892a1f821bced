"""Pruning inside `fit`: add `Prune` to the callbacks of any Keras 3 model, GAN or not."""

# Annotations are evaluated here, so that `help` lists the names that are valid.

from collections.abc import Callable, Sequence
from typing import Any, Literal

import keras

from keras_ganprune.callbacks._restored_optimizers import build_optimizers
from keras_ganprune.callbacks._torn_backup import backup_follows, mend, note_epochs
from keras_ganprune.callbacks._training_start import release_layers
from keras_ganprune.callbacks.callback_list import callbacks_beside
from keras_ganprune.callbacks.pruning_run import PruningRun
from keras_ganprune.callbacks.target_networks import TargetNetworks
from keras_ganprune.errors import ArgumentTypeError, InvalidArgumentError
from keras_ganprune.pruning import schedules
from keras_ganprune.pruning.allocation import AllocationLike
from keras_ganprune.pruning.criteria import CriterionLike
from keras_ganprune.pruning.granularity import GranularityLike
from keras_ganprune.pruning.mask_report import MaskReport
from keras_ganprune.pruning.modes import ModeLike
from keras_ganprune.pruning.pruner import Pruner
from keras_ganprune.pruning.schedules import Schedule, ScheduleLike
from keras_ganprune.pruning.settings import PruningSettings
from keras_ganprune.training.fresh_copies import FreshCopies
from keras_ganprune.utils import annotated, terminal, validation
from keras_ganprune.utils.closing import folded
from keras_ganprune.utils.notebook import Block, ShownInNotebooks, TableBlock

# So many updates are shown in a notebook.
_SHOWN = 10


class Prune(ShownInNotebooks, FreshCopies):
    """Prunes one or several networks of the model that is fitted, along a schedule.

    Works with any `keras.Model`, whatever its `train_step`: the constraints of the weights enforce the masks
    inside the compiled step. Masks are updated between batches, without retracing. The logs get
    `generator_sparsity` and so on (`sparsity` for `target=None`), so that the progress bar, `History`,
    `CSVLogger` and `TensorBoard` show it. Place it before other callbacks that read logs, but after a
    callback that writes weights when training ends (`EarlyStopping(restore_best_weights=True)`).

    Which choice for which aim:

        few weights at the quality of dense   criterion='taylor', allocation='global_ranking', and a teacher
        a faster network                      `Shrink(budget=Budget(macs=0.25))`, and a teacher
        no gradients                          criterion='lamp', allocation='global_ranking'
        fine-tuning for another task          criterion='movement'
        before training                       criterion='snip' or 'synflow', schedule=`Exponential`
        no training at all                    criterion='wanda' or 'magnitude', then `repair`
        diversity of a generator's channels   criterion='latent_sensitivity', granularity='channel'

    Args:
        schedule: A `Schedule` (TFMOT's are accepted), or a float, which is a constant sparsity in [0, 1).
        target: Attribute name of the network in the model, a list of names, a `keras.Model`, or None for the
            model itself. With a list, an allocation such as 'global_ranking' spreads one total over all of
            them. Defaults to None.
        frequency: Positive int, number of optimizer steps between mask updates. The end step of the schedule
            always updates. Defaults to None: the frequency of a TFMOT schedule, or 100.
        criterion: Scores the weights: a name ('magnitude', 'l2', 'lamp', 'gradient', 'taylor', 'wanda',
            'discriminator_saliency', 'batch_norm_scale', 'fpgm', ...), a config or a `Criterion`. Gradients
            that it needs are averaged over the batches before an update; other steps cost the same as
            without. Defaults to 'magnitude'.
        granularity: The units that are removed together: 'unstructured', 'channel', 'layer', a pattern such
            as '2:4', a block such as '4x4', a config or a `Granularity`. For a runtime that gets faster by
            zeros, `Block.for_runtime("litert")`; for ONNX Runtime, `Channel(round_to=8)` and `Shrink`.
            Defaults to 'unstructured'.
        allocation: How one sparsity is spread over the tensors: 'uniform', 'erk', 'global_ranking', a dict
            of sparsities by layer, a config or an `Allocation`. Defaults to 'uniform'.
        mode: Whether weights may return: 'hard', 'soft', 'soft_shrinkage', 'rigl', 'set', 'splice',
            a config or a `Mode`. Defaults to 'hard'.
        scope: Which layers are pruned, as for `Pruner`. Defaults to None, all layers.
        gradient_loss: Function (model, batch) -> scalar loss. A gradient criterion uses its gradients instead
            of those that the optimizers receive. 'discriminator_saliency' needs it for models other than
            `GANModel`. Defaults to None.
        calibration: Inputs of the target, for a criterion that measures activations ('wanda', 'apoz',
            'mean_activation', 'latent_sensitivity'): an array, or a list of arrays; for several targets a
            list with an entry for each. Defaults to None: the batches of the running `fit`, or latent vectors
            for a generator that takes them.
        optimizer: The optimizer, or its attribute name, whose steps the schedule counts. Name it if several
            optimizers have trained the target. Defaults to None: the optimizer that trains the first target.
        copies: Networks that are weight averages of a target (an EMA generator) and get its masks: 'auto'
            finds and announces them; or a name, a network or a list; None for no copies. Defaults to 'auto'.
        verbose: 0 for silence, 1 to print a line for anything found or decided automatically. Defaults to 1.

    Attributes:
        settings: The `PruningSettings`: criterion, granularity, allocation, mode, schedule and scope.
        pruner: The `Pruner`, or None before the target is built.
        report: The last `MaskReport`, or None.
        reports: List of `MaskReport`, one per mask update.
        updates: List of (step, requested, achieved sparsity), one per mask update.

    Raises:
        InvalidArgumentError: `schedule`, `frequency` or a name breaks its rule.
        InvalidArgumentError: The settings are not compatible, or `gradient_loss` is not used by them.
        InvalidArgumentError: In `fit`: `target`, `scope` or `optimizer` matches nothing in the model.
        UnsupportedLayerError: In `fit`: a layer in scope cannot be pruned, or has no gradient.
        UnbuiltModelError: In `fit`: no batch has built the target.

    Example:
    >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(5)])
    >>> model.compile("adam", "mse")
    >>> x, y = np.ones((8, 4)), np.ones((8, 5))
    >>> history = model.fit(x, y, verbose=0, callbacks=[Prune(0.5)])
    >>> history.history["sparsity"]
    [0.5]

    The generator of a GAN, to 80 % from step 2 to step 8, by `taylor` scores, ranked over all layers:

    >>> from keras_ganprune.applications.networks import dcgan
    >>> gan = kgp.GANModel(*dcgan((8, 8, 1), channels=8), latent_dim=64)
    >>> gan.compile(keras.optimizers.Adam(1e-3, 0.5), keras.optimizers.Adam(1e-3, 0.5))
    >>> prune = kgp.Prune(
    ...     kgp.PolynomialDecay(0.8, begin_step=2, end_step=8),
    ...     target="generator",
    ...     criterion="taylor",
    ...     allocation="global_ranking",
    ...     frequency=3,
    ...     verbose=0,
    ... )
    >>> images = np.zeros((40, 8, 8, 1), "float32")
    >>> history = gan.fit(images, batch_size=4, verbose=0, callbacks=[prune])
    >>> [(step, round(achieved, 2)) for step, requested, achieved in prune.updates]
    [(2, 0.0), (5, 0.7), (8, 0.8)]
    """

    def __init__(
        self,
        schedule: ScheduleLike | Any,
        target: str | keras.layers.Layer | Sequence[str | keras.layers.Layer] | None = None,
        frequency: int | None = None,
        *,
        criterion: CriterionLike = "magnitude",
        granularity: GranularityLike = "unstructured",
        allocation: AllocationLike = "uniform",
        mode: ModeLike = "hard",
        scope: Any = None,
        gradient_loss: Callable[[keras.Model, Any], Any] | None = None,
        calibration: Any = None,
        optimizer: str | keras.optimizers.Optimizer | None = None,
        copies: Literal["auto"] | str | Sequence[str] | keras.layers.Layer | None = "auto",
        verbose: int | bool = 1,
    ):
        annotated.check(Prune.__init__, locals(), "target", "optimizer", "copies", "verbose")
        validation.one_of(verbose, "verbose", (0, 1, 2))
        super().__init__()
        if frequency is None:
            # Only TFMOT's schedules carry their own frequency.
            frequency = getattr(schedule, "frequency", None) or 100
        self.frequency = validation.positive_int(frequency, "frequency", "in optimizer steps")
        self.schedule: Schedule = schedules.get(schedule)
        self.target = target
        # Checked here, so that unknown names and incompatible settings are not found inside `fit`.
        self.settings = PruningSettings.of(
            criterion, granularity, allocation, mode, scope, self.schedule
        )
        self.gradient_loss = _check_gradient_loss(gradient_loss, self.settings)
        self.calibration = _check_calibration(calibration, self.settings)
        self.optimizer = optimizer
        self.copies = copies
        self.verbose = verbose
        self.reports: list[MaskReport] = []
        self.updates: list[tuple[int, float, float]] = []
        self._targets: TargetNetworks | None = None
        self._run: PruningRun | None = None
        self._notes_epochs = False

    def __repr__(self) -> str:
        pruner = f", {self.pruner!r}" if self.pruner else ""
        return (
            f"<Prune {self.schedule!r} of {self.target or 'the model'!r} "
            f"every {self.frequency} steps{pruner}>"
        )

    def _blocks(self) -> list[Block]:
        blocks: list[Block] = [repr(self)[1:-1]]
        if self.updates:
            cells = [("step", "requested", "achieved")]
            cells += [
                (f"{step:,}", f"{r:.4f}", f"{a:.4f}") for step, r, a in self.updates[-_SHOWN:]
            ]
            more = len(self.updates) - _SHOWN
            blocks += [f"The last {_SHOWN} of {more + _SHOWN} updates:"] if more > 0 else []
            blocks.append(TableBlock(cells))
        return blocks

    @property
    def pruner(self) -> Pruner | None:
        """The `Pruner`, or None before the target is built."""
        return self._targets.pruner if self._targets is not None else None

    @property
    def report(self) -> MaskReport | None:
        """The `MaskReport` of the last update, or None."""
        return self.reports[-1] if self.reports else None

    def _say(self, text: str) -> None:
        if self.verbose:
            # On a line of its own, also in the middle of a progress bar.
            terminal.say("\n" + folded(f"Prune: {text}."))

    # --- Keras's hooks: the work is done by the run ----------------------------------------------

    def set_model(self, model: keras.Model) -> None:
        """Find the targets, and give them masks if they are built."""
        # Before every `on_train_begin`, so that `BackupAndRestore` finds the masks that it restores.
        super().set_model(model)
        stale = self._targets is not None and self._targets.stripped
        if self._targets is None or self._targets.model is not model or stale:
            self._targets = TargetNetworks(self, model, self._say)
            self._run = None
            self.reports, self.updates = [], []
        arguments = {k: v for k, v in vars(self).items() if not k.startswith("_")}
        plain = (int, float, str)
        self._targets.check_workers(
            {k: v for k, v in arguments.items() if isinstance(v, plain) and k != "verbose"}
        )
        beside = callbacks_beside()
        self._notes_epochs = backup_follows(self, beside)
        if self._notes_epochs:
            mend(beside, self._say)
        if self._targets.built:
            # Before the masks, which are variables of the optimizers on JAX.
            build_optimizers(model, beside)
        if self._targets.pruner is None and self._targets.built:
            self._targets.prepare()
        self._targets.loaded = any(store.restored for store in self._targets.stores)
        for store in self._targets.stores:
            store.restored = False

    def _make_run(self, targets: TargetNetworks) -> PruningRun:
        """Return the run of a `fit` that begins. A subclass may return a run of its own."""
        return PruningRun(self, targets, self._say)

    @property
    def _active_run(self) -> PruningRun | None:
        """The run, unless a target was replaced by a smaller network: then pruning has ended."""
        retired = self._targets is None or self._targets.retired
        return None if retired else self._run

    def retire(self, networks: Sequence[keras.layers.Layer]) -> None:
        """End pruning if a target was replaced by a smaller network, which has no masks.

        Args:
            networks: The networks that were replaced.
        """
        if self._run is not None:
            self._run.retire({id(network) for network in networks})

    def on_train_begin(self, logs=None):
        """Begin a run."""
        if self._targets is not None and not self._targets.retired:
            self._run = self._make_run(self._targets)

    def on_epoch_begin(self, epoch, logs=None):
        """Begin the trial of an adaptive schedule."""
        note_epochs(self._targets, epoch if self._notes_epochs else None)
        if self._active_run is not None:
            self._active_run.begin_epoch()

    def on_train_batch_begin(self, batch, logs=None):
        """Sample gradients if the next update needs them."""
        if self._active_run is not None:
            self._active_run.begin_batch()

    def on_train_batch_end(self, batch, logs=None):
        """Update the masks if an update is due, and log the sparsity."""
        if self._active_run is not None:
            self._active_run.end_batch(batch, logs)
        self._log(logs)

    def on_epoch_end(self, epoch, logs=None):
        """Mask whatever bypassed the constraints, and log the sparsity."""
        if self._active_run is not None:
            self._active_run.end_epoch(logs)
        note_epochs(self._targets, epoch + 1 if self._notes_epochs else None)
        self._log(logs)

    def on_train_end(self, logs=None):
        """Make the last update, and hold the masks."""
        if self._active_run is not None:
            self._active_run.end_training()
        elif self._run is not None:
            release_layers(self.model)

    def _log(self, logs: dict[str, Any] | None) -> None:
        if logs is not None and self._targets is not None:
            logs.update(self._targets.logs)


def _check_gradient_loss(loss: Any, settings: PruningSettings) -> Any:
    """Return `gradient_loss` if it is None, or a function that the settings use."""
    if loss is None:
        return None
    if not callable(loss):
        raise ArgumentTypeError(
            "`gradient_loss` must be a function (model, batch) -> scalar loss. "
            f"Received: {loss!r} (of type {type(loss).__name__})."
        )
    if not annotated.takes(loss, 2):
        raise ArgumentTypeError(
            "`gradient_loss` must be a function of two arguments, (model, batch) -> scalar loss. "
            f"Received: {loss!r}, which does not take two."
        )
    if not settings.needs_gradient:
        raise InvalidArgumentError(
            f"`gradient_loss` is not used: neither {settings.criterion!r} nor {settings.mode!r} needs "
            "gradients. Leave it out, or use a criterion such as 'taylor'."
        )
    return loss


def _check_calibration(calibration: Any, settings: PruningSettings) -> Any:
    """Return `calibration` if it is None, or if the settings use it."""
    if calibration is not None and not settings.criterion.needs_calibration:
        raise InvalidArgumentError(
            f"`calibration` is not used: {settings.criterion!r} measures nothing on inputs. Leave it out, "
            "or use a criterion such as 'wanda'."
        )
    return calibration
