"""Who can run a network in another runtime, so that its latency can be measured.

The exporters stand above this folder, so they register themselves here.
"""

from __future__ import annotations

from collections.abc import Callable

import keras


class Run:
    """A network in a runtime: calling it runs the network once.

    Args:
        load: Function that loads the network, and returns a function that runs it once.
    """

    def __init__(self, load: Callable[[], Callable[[], object]]):
        self._load = load
        self._run = load()

    def __call__(self) -> object:
        """Run the network once; return when its outputs are computed."""
        return self._run()

    def again(self) -> None:
        """Load the network anew: where its weights lie in memory changes its times by some percent."""
        self._run = self._load()


#: Function that exports a network.
Opener = Callable[[keras.Model, str, int], Run]

_openers: list[Opener] = []


def register_opener(opener: Opener) -> Opener:
    """Register the function that `opened` calls; it can be used as a decorator."""
    _openers[:] = [opener]
    return opener


def opened(network: keras.Model, runtime: str, batch_size: int) -> Run:
    """Return a network, exported, as a function that runs it once on random inputs, with one thread.

    Args:
        network: A built Keras model without masks. It is not changed.
        runtime: 'onnx', 'litert', 'openvino' or 'keras'.
        batch_size: Positive int, samples per call.

    Raises:
        MissingPackageError: A package of the runtime is not installed.
        UnsupportedLayerError: The format has no form for a layer of the network.
    """
    (opener,) = _openers
    return opener(network, runtime, batch_size)
