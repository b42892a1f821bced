"""The networks that a `Prune` callback prunes in one model, and what it keeps for them between fits."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any, Protocol

import keras
import numpy as np

from keras_ganprune.backend import distribution, tracing
from keras_ganprune.callbacks._gradient_requests import requests
from keras_ganprune.callbacks._gradient_sampler import GradientSampler
from keras_ganprune.callbacks._rewinder import Rewinder
from keras_ganprune.callbacks.calibration_inputs import CalibrationInputs
from keras_ganprune.errors import PruningWarning, UnbuiltModelError
from keras_ganprune.layers.guard import MaskConstraint
from keras_ganprune.layers.mask_store import MaskStore, memory
from keras_ganprune.layers.tensors import to_numpy
from keras_ganprune.layers.traversal import is_built, masked_weights
from keras_ganprune.pruning.mask_report import MaskReport
from keras_ganprune.pruning.mask_state import sparsity_of
from keras_ganprune.pruning.pruner import Pruner
from keras_ganprune.pruning.schedules import Schedule
from keras_ganprune.pruning.settings import PruningSettings
from keras_ganprune.training import discovery


class PruneCallback(Protocol):
    """What the parts of a run read from their `Prune` callback, and the results that they add to it."""

    params: Any
    schedule: Schedule
    target: Any
    frequency: int
    settings: PruningSettings
    gradient_loss: Any
    calibration: Any
    optimizer: Any
    copies: Any
    reports: list[MaskReport]
    updates: list[tuple[int, float, float]]

    @property
    def model(self) -> Any:
        """The model that is fitted. On JAX, Keras syncs its variables whenever this is read."""
        ...


class TargetNetworks:
    """The networks that one callback prunes in one model.

    Made when the callback gets a model. The masks are made by `prepare`, as soon as all targets are built.

    Args:
        callback: The `Prune` callback.
        model: The model that is fitted.
        say: Function that prints a line for the user.

    Attributes:
        model: The model, without the sync of `callback.model`.
        networks: List of (name, network).
        requests: The gradients that criterion and mode need; None where they need none.
        warned_of_frozen: Whether the user was told which weights are frozen.
        loaded: Whether the masks were read from a file before this `fit`, since the last one.
        retired: Whether a target was replaced by a smaller network, so that pruning has ended.
        pruner: The `Pruner`, or None before `prepare`.
        stores: The `MaskStore` of each pruned layer.
        sampler: The gradient sampler, or None if no gradients are needed.
        calibration: The `CalibrationInputs`, or None if the criterion measures nothing on inputs.
        rewinder: The rewinder, or None if the schedule does not rewind.
        logs: Dict, name of a log -> sparsity, as of the last `measure`.

    Raises:
        InvalidArgumentError: A target is not a network of the model, or its gradients are not available.
    """

    def __init__(self, callback: PruneCallback, model: keras.Model, say: Callable[[str], None]):
        self.callback = callback
        self.model = model
        self.say = say
        self.networks = discovery.resolve_target(model, callback.target)
        self._warn_of_strangers()
        settings = callback.settings
        self.requests = requests(
            model,
            [network for _, network in self.networks],
            settings.criterion,
            settings.mode,
            callback.gradient_loss,
        )
        self.warned_of_frozen = False
        self.loaded = False
        self.retired = False
        self.pruner: Pruner | None = None
        self.stores: list[MaskStore] = []
        self.sampler: GradientSampler | None = None
        self.calibration: CalibrationInputs | None = None
        self.rewinder: Rewinder | None = None
        self.logs: dict[str, float] = {}

    def _warn_of_strangers(self) -> None:
        layers = {id(layer) for layer in self.model._flatten_layers()}
        for name, network in self.networks:
            if id(network) not in layers:
                warnings.warn(
                    f"The target '{name}' is not part of the {type(self.model).__name__} that is fitted, so "
                    "it may not be trained here. Pass a network of that model, or its name.",
                    PruningWarning,
                    stacklevel=4,
                )

    @property
    def collectors(self) -> list[GradientSampler | CalibrationInputs]:
        """What collects something in some batches: gradients, inputs, both or nothing."""
        found: list[Any] = [self.sampler] if self.sampler is not None else []
        if self.calibration is not None and self.calibration.records:
            found.append(self.calibration)
        return found

    @property
    def first(self) -> keras.layers.Layer:
        """The first network: its optimizer gives the step, its store the memory of a run."""
        return self.networks[0][1]

    @property
    def built(self) -> bool:
        """Whether all networks have weights."""
        return all(is_built(network) for _, network in self.networks)

    @property
    def made_pruner(self) -> Pruner:
        """The `Pruner`; raises `UnbuiltModelError` if no batch has built the networks."""
        if self.pruner is None:
            raise UnbuiltModelError(
                "Nothing was pruned: no batch was run that would have built "
                f"{', '.join(repr(name) for name, _ in self.networks)}. Check that the data is not empty."
            )
        return self.pruner

    def check_workers(self, arguments: dict[str, Any]) -> None:
        """Compare with the other workers, before anything is sent that only some of them would send.

        Args:
            arguments: The plain attributes of the callback.

        Raises:
            InvalidArgumentError: The workers prune differently.
        """
        model, settings = self.callback.model, self.callback.settings
        variables = [w for _, network in self.networks for w in network.weights]
        variables += [v for o in discovery.optimizers(model) for v in o.variables]
        distribution.check_strategy(model, variables)
        distribution.check_same(
            {
                **arguments,
                **settings,
                "schedule": settings.schedule,
                "target": [name for name, _ in self.networks],
                "gradient_loss": self.callback.gradient_loss,
                "version": distribution.version(),
            },
            model,
            "All workers must prune alike.",
            "Give `Prune` the same arguments on every worker.",
        )

    @property
    def stripped(self) -> bool:
        """Whether the networks have lost their masks since, by `strip_pruning(copy=False)` or `quantize`."""
        weights = [] if self.pruner is None else self.pruner.weights
        return any(not isinstance(w.variable.constraint, MaskConstraint) for w in weights)

    def prepare(self) -> None:
        """Make the networks Prunable; a step that was traced before must be traced again."""
        callback, schedule = self.callback, self.callback.schedule
        networks = [network for _, network in self.networks]
        masks_before = self._masks()
        pruner = Pruner(*networks, **callback.settings)
        if schedule.quantity == "sparsity":
            pruner.check(schedule.final)
        self._announce_settings(pruner)
        masks_after = self._masks()
        needed = [request for request in self.requests if request is not None]
        if needed:
            self.sampler = GradientSampler(callback.model, pruner.weights, needed)
        if callback.settings.criterion.needs_calibration:
            self.calibration = CalibrationInputs(self.model, self.networks, callback.calibration)
        # A list of schedules of the wrong length is refused now, not when it is first needed.
        schedule.targets(schedule.begin_step, [to_numpy(w.variable) for w in pruner.ranked])
        # Not before: after an error above, the next `fit` must report it again.
        self.pruner = pruner
        self.stores = list({id(w.layer): w.layer.pruning_masks for w in pruner.weights}.values())
        # Layers may also have become Prunable by hand, after the step was traced without masks.
        traced_with_masks = getattr(callback.model, "_step_with_masks", None)
        stale = [
            pruner.traced_steps_are_stale,
            masks_after != masks_before,
            self.track_masks(),
        ]
        if any(stale) or traced_with_masks is not callback.model.train_function:
            tracing.retrace(callback.model)
        if schedule.rewind_step is not None:
            everything = getattr(schedule, "rewind", None) == "model"
            self.rewinder = Rewinder(callback.model, networks, schedule.rewind_step, everything)
        if schedule.adaptive:
            memory(networks[0])  # must exist before a checkpoint is read into it
        self.measure()

    def _masks(self) -> set[int]:
        return {id(weight.mask) for _, n in self.networks for weight in masked_weights(n)}

    def announce(self) -> None:
        """Print what may surprise the user when training begins."""
        if self.callback.target is None:
            for name in discovery.averages(self.callback.model):
                self.say(f"'{name}' looks like a weight average, so it is not a target of its own")
        if self.pruner is None:
            unbuilt = [name or self.model.name for name, n in self.networks if not is_built(n)]
            self.say(
                f"{', '.join(repr(name) for name in unbuilt)} is not built yet; "
                "pruning starts after the first batch has built it"
            )

    def _announce_settings(self, pruner: Pruner) -> None:
        """Print what may surprise the user about the settings on these networks."""
        frequency, batches = self.callback.frequency, self.callback.settings.criterion.batches
        crowded = self.callback.schedule.crowded(len(pruner.ranked), frequency)
        if crowded:
            warnings.warn(crowded, PruningWarning, stacklevel=4)
        if frequency < batches:
            self.say(
                f"masks are updated every {frequency} steps, so gradients are averaged over the batches "
                f"since the last update, not over {batches}"
            )
        remarks = pruner.remarks_to_print
        for remark in remarks[:3]:
            self.say(remark)
        if len(remarks) > 3:
            self.say(f"{len(remarks) - 3} more such remarks in `pruner.remarks`")

    def track_masks(self) -> bool:
        """Let the optimizers know the masks; return whether a step that is traced does not know them."""
        pruner = self.made_pruner
        optimizers = discovery.optimizers(self.callback.model, unwrap=False)
        return any([pruner.track(optimizer) for optimizer in optimizers])

    def measure(self) -> None:
        """Note the sparsity of each network for the logs, whichever callbacks have pruned it."""
        pruner = self.made_pruner
        if self.callback.target is None:
            rows = [("", [network for _, network in self.networks])]
        else:
            # A model that is its own target has no name.
            rows = [
                (f"{name.replace('.', '_')}_" if name else "", [network])
                for name, network in self.networks
            ]
        self.logs = {f"{prefix}sparsity": sparsity_of(*networks) for prefix, networks in rows}
        if pruner.coupled:
            unit = pruner.counted.removesuffix("s")
            for prefix, networks in rows:
                shares = [pruner.unit_sparsity(network) for network in networks]
                self.logs[f"{prefix}{unit}_sparsity"] = float(np.mean(shares))
