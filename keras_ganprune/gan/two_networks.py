"""A Keras model of a generator and a discriminator: its parts, and how it is saved and loaded."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

from keras_ganprune.layers.sequential_models import built_once
from keras_ganprune.layers.stripping import plain_copy
from keras_ganprune.layers.tensors import to_numpy
from keras_ganprune.layers.traversal import prunable_layers, walk
from keras_ganprune.layers.upgrade import add_masks
from keras_ganprune.layers.weight_sharing import share_again, shared_positions, shared_weights
from keras_ganprune.training.discovery import optimizer_config

# The entries of a configuration that are serialized Keras objects.
_OBJECTS = (
    "generator",
    "discriminator",
    "loss",
    "reconstruction",
    "augmentation",
    "teacher",
    "distillation",
)


class TwoNetworks(keras.Model):
    """A generator, a discriminator and, on request, a moving average of the generator.

    This class saves and loads them with their masks and shared weights, with both optimizers, with the
    frozen teacher and with the state of every random generator. It does not train.

    Args:
        generator: Built Keras model.
        discriminator: Built Keras model.
        average: Whether to keep `ema_generator`, a copy of the generator for a moving average.
        **kwargs: Arguments of `keras.Model`.
    """

    def __init__(
        self, generator: keras.Model, discriminator: keras.Model, average: bool, **kwargs: Any
    ):
        super().__init__(**kwargs)
        self.generator = generator
        self.discriminator = discriminator
        self.ema_generator = _untrained_copy(generator) if average else None
        self.generator_optimizer: Any = None
        self.discriminator_optimizer: Any = None
        self._compile_options: dict[str, Any] = {}

    @property
    def teacher(self) -> keras.Model | None:
        """The frozen generator that the generator stays close to, or None."""
        return None

    def frozen_networks(self) -> dict[str, keras.Model]:
        """Return networks that are saved with the model, but are not trained, pruned or exported."""
        return {} if self.teacher is None else {"teacher": self.teacher}

    def _networks(self) -> dict[str, keras.Model]:
        """Return the networks by attribute name, with the averaged generator if there is one."""
        networks = {"generator": self.generator, "discriminator": self.discriminator}
        if self.ema_generator is not None:
            networks["ema_generator"] = self.ema_generator
        return networks

    @property
    def shared_weights(self) -> list[keras.Variable]:
        """The trainable weights of the generator that the discriminator uses too."""
        return shared_weights(self.generator, self.discriminator)

    @property
    def sampler(self) -> keras.Model:
        """The network that generates images after training: the averaged generator if there is one."""
        return self.generator if self.ema_generator is None else self.ema_generator

    # --- configuration ---------------------------------------------------------------------------

    def get_config(self):
        """Return the networks, with the positions of masked layers and of shared weights."""
        base = super().get_config()
        return {
            **{key: base[key] for key in ("name", "trainable", "dtype") if key in base},
            "generator": keras.saving.serialize_keras_object(self.generator),
            "discriminator": keras.saving.serialize_keras_object(self.discriminator),
            "pruned": self._prunable_positions(),
            "shared": shared_positions(self.generator, self.discriminator),
        }

    @classmethod
    def from_config(cls, config, custom_objects=None):
        """Return the model of a configuration, with empty masks and with its shared weights."""
        config = dict(config)
        pruned = config.pop("pruned", {})
        shared = config.pop("shared", {})
        with built_once():
            for key in [key for key in _OBJECTS if config.get(key) is not None]:
                config[key] = keras.saving.deserialize_keras_object(config[key], custom_objects)
        model = cls(**config)
        model._make_positions_prunable(pruned)
        # Keras rebuilds the two networks apart, so a layer that is in both becomes two layers.
        share_again(model.generator, model.discriminator, shared)
        return model

    def _prunable_positions(self) -> dict[str, list[int]]:
        """Return the indices of the Prunable layers among the layers of each network.

        A subclassed network is rebuilt with plain layers. Before its masks can be loaded, the layers at
        these positions must be Prunable. Names cannot say which: Keras numbers them again.
        """
        positions = {}
        for name, network in self._networks().items():
            prunable = {id(layer) for _, layer in prunable_layers(network)}
            layers = [layer for _, layer in walk(network)]
            positions[name] = [i for i, layer in enumerate(layers) if id(layer) in prunable]
        return positions

    def _make_positions_prunable(self, positions: dict[str, list[int]]) -> None:
        for name, network in self._networks().items():
            layers = [layer for _, layer in walk(network)]
            for i in positions.get(name, ()):
                if i < len(layers):
                    add_masks(layers[i], [])

    def get_compile_config(self):
        """Return the configuration of both optimizers, or None before `compile`."""
        if self.generator_optimizer is None:
            return None
        return {
            "generator_optimizer": optimizer_config(self.generator_optimizer),
            "discriminator_optimizer": optimizer_config(self.discriminator_optimizer),
            **self._compile_options,
        }

    def compile_from_config(self, config):
        """Compile with the optimizers of a configuration."""
        config = dict(config)
        for key in ("generator_optimizer", "discriminator_optimizer"):
            config[key] = keras.saving.deserialize_keras_object(config[key])
        self.compile(**config)

    def get_build_config(self):
        """Return None: each network carries its own build configuration."""
        return None

    def build_from_config(self, config):
        """Do nothing: the networks are built by their own configuration."""

    # --- state beside the weights ----------------------------------------------------------------

    def _random_states(self) -> list[keras.Variable]:
        """Return the states of all random generators, also of dropout layers. Keras does not save them."""
        saved = {id(v) for v in (*self.weights, *self.metrics_variables)}
        return [v for v in self.variables if id(v) not in saved]

    def save_own_variables(self, store):
        """Write the states of the random generators and the weights of the teacher into a file."""
        super().save_own_variables(store)
        for i, state in enumerate(self._random_states()):
            store[f"random_{i}"] = to_numpy(state)
        # They are not among the model's weights.
        for name, weight in self._frozen_weights():
            store[name] = to_numpy(weight)

    def load_own_variables(self, store):
        """Read what `save_own_variables` wrote; entries that a file lacks keep their values."""
        for i, state in enumerate(self._random_states()):
            if f"random_{i}" in store.keys():
                state.assign(np.asarray(store[f"random_{i}"]))
        for name, weight in self._frozen_weights():
            if name in store.keys():
                weight.assign(np.asarray(store[name]))
        own = ("random_", "teacher_", *(f"{name}_" for name in self.frozen_networks()))
        super().load_own_variables({k: store[k] for k in store.keys() if not k.startswith(own)})

    def _frozen_weights(self) -> list[tuple[str, keras.Variable]]:
        return [
            (f"{name}_{i}", weight)
            for name, network in self.frozen_networks().items()
            for i, weight in enumerate(network.weights)
        ]


def _untrained_copy(network: keras.Model) -> keras.Model:
    """Return a copy with the same weights that no optimizer trains."""
    copy = plain_copy(
        network,
        what="averaged copy",
        fix="Let its `get_config` return all arguments of the constructor, or leave out `ema_decay`.",
    )
    copy.trainable = False
    return copy
