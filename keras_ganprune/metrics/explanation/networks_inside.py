"""Which networks a model consists of, for a reader who wants to prune them."""

from __future__ import annotations

import keras

from keras_ganprune.errors import UnbuiltModelError
from keras_ganprune.gan.two_networks import TwoNetworks
from keras_ganprune.layers.kernels import own_kernels
from keras_ganprune.layers.traversal import is_built, walk
from keras_ganprune.training import discovery
from keras_ganprune.training.distiller import Distiller


def networks_inside(
    model: keras.Model,
) -> tuple[dict[str, keras.layers.Layer], list[str]]:
    """Return the networks of a model by attribute name, and a sentence on each that is left out.

    Args:
        model: Keras model.

    Returns: (networks, notes). The networks are {} if the model is one network.

    Raises:
        UnbuiltModelError: A network has no weights yet.
    """
    if not _holds_networks(model):
        return {}, []
    averages = discovery.averages(model)
    found, notes = {}, []
    for name, network in discovery.networks(model).items():
        if name in averages:
            notes.append(
                f"{name} is a weight average: `Prune` and `Shrink` change it with its network."
            )
        elif isinstance(network, keras.Model) and not is_built(network):
            raise UnbuiltModelError(
                f"`{name}` of the {type(model).__name__} must be built before it is explained. Call it "
                "once on a batch first."
            )
        elif any(own_kernels(layer) for _, layer in walk(network)):
            found[name] = network
    first = discovery.generator_name(found)
    return {name: found[name] for name in sorted(found, key=lambda name: name != first)}, notes


def _holds_networks(model: keras.Model) -> bool:
    """Return whether a model is a trainer of networks, such as a GAN, and no network itself."""
    if isinstance(model, (TwoNetworks, Distiller)):
        return True
    if all(hasattr(model, name) for name in ("generator", "discriminator")):
        return True
    return type(model).call is keras.Model.call
