"""How much generated names are like real ones: trigrams, a two-sample test, and how many are new."""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from typing import Any

import keras
import numpy as np

from keras_ganprune.datasets import letters
from keras_ganprune.errors import InvalidArgumentError
from keras_ganprune.training.snapshot import TrainingState
from keras_ganprune.utils import validation


def trigrams(names: Iterable[str]) -> Counter[str]:
    """Return how often each three letters follow each other. ^ and $ are the begin and the end of a name.

    Example:
    >>> sorted(trigrams(["bonn"]))
    ['^bo', 'bon', 'nn$', 'onn']
    """
    return Counter(
        text[i : i + 3] for text in (f"^{name}$" for name in names) for i in range(len(text) - 2)
    )


def trigram_divergence(names: Sequence[str], real: Sequence[str]) -> float:
    """Return the Jensen-Shannon divergence of the trigrams of two lists of names, in bits.

        JS(p, q) = KL(p, m) / 2 + KL(q, m) / 2        m = (p + q) / 2

    0 means equal frequencies, 1 means no common trigram. Two lists of 5,000 real names have about 0.08,
    since most trigrams are rare. So compare only values of lists of the same length.

    Args:
        names: Generated names.
        real: Real names.

    Raises:
        InvalidArgumentError: A list is empty.

    Example:
    >>> trigram_divergence(["bonn", "ulm"], ["ulm", "bonn"]), trigram_divergence(["bonn"], ["ulm"])
    (0.0, 1.0)

    Reference: [Divergence measures based on the Shannon entropy](https://doi.org/10.1109/18.61115), Eq. 4.1.
    """
    if not len(names) or not len(real):
        raise InvalidArgumentError(
            f"Both lists must have at least one name. Received: {len(names)} and {len(real)} names."
        )
    counts = trigrams(names), trigrams(real)
    every = [*(counts[0] | counts[1])]
    p, q = (np.array([count[key] for key in every], "float64") for count in counts)
    p, q = p / p.sum(), q / q.sum()
    middle = (p + q) / 2.0
    sums = [np.sum(r[r > 0] * np.log2(r[r > 0] / middle[r > 0])) for r in (p, q)]
    return max(0.0, float(sum(sums)) / 2.0)


def share_new(names: Sequence[str], known: Collection[str]) -> float:
    """Return the share of the names that are not in the training data.

    Example:
    >>> share_new(["bonn", "bolm"], {"bonn"})
    0.5
    """
    return float(np.mean([name not in known for name in names]))


def share_unique(names: Sequence[str]) -> float:
    """Return the number of different names by the number of names.

    Example:
    >>> share_unique(["bonn", "bonn", "ulm", "koln"])
    0.75
    """
    return len(set(names)) / len(names)


def two_sample_accuracy(
    names: Sequence[str], real: Sequence[str], epochs: int = 8, seed: int = 0
) -> float:
    """Return how often a small GRU tells generated names from real ones. 0.5 means that it can't.

    It learns from one half of both lists, and is tested on the other half.

    Args:
        names: Generated names, at least 2.
        real: Real names, as many as `names`.
        epochs: Positive int, epochs of training. Defaults to 8.
        seed: Non-negative int, seed of the order of the names. Defaults to 0.

    Raises:
        InvalidArgumentError: The lists do not have the same length, or it is below 2.

    Example:
    >>> two_sample_accuracy(["zzzz", "zzzzz"] * 32, ["bonn", "berlin"] * 32)
    1.0

    Reference: [Revisiting classifier two-sample tests](https://arxiv.org/abs/1610.06545), §2.
    """
    if len(names) != len(real) or len(names) < 2:
        raise InvalidArgumentError(
            "The two-sample test needs two lists of the same length, with at least 2 names each. "
            f"Received: {len(names)} and {len(real)} names."
        )
    epochs = validation.positive_int(epochs, "epochs")
    rng = np.random.default_rng(seed)
    x = np.stack([letters.encode(names), letters.encode(real)], axis=1)
    order = rng.permutation(len(x))
    half = len(x) // 2
    # Each row has a generated and a real name, so both halves have as many of each.
    train, test = (x[part].reshape(-1, letters.LENGTH) for part in (order[:half], order[half:]))
    network, untrained = _judge()
    untrained.restore()
    for _ in range(epochs):
        shuffled = rng.permutation(len(train))
        labels = (shuffled % 2).astype("float32")[:, None]
        network.fit(train[shuffled], labels, batch_size=128, shuffle=False, verbose=0)
    logits = network.predict(test, batch_size=1024, verbose=0)[:, 0]
    return float(np.mean((logits > 0) == np.arange(len(test)) % 2))


def compiles_loops() -> Any:
    """Return `jit_compile` for networks with a GRU.

    On TensorFlow, XLA would take longer to compile the loops than a short training takes.

    Example:
    >>> compiles_loops() in (False, "auto")
    True
    """
    return False if keras.backend.backend() == "tensorflow" else "auto"


@functools.cache
def _judge() -> tuple[Any, TrainingState]:
    """Return the GRU of the two-sample test, and its state before training.

    It is kept, since to compile it takes longer than to train it.
    """
    layers, initial = keras.layers, keras.initializers
    network: Any = keras.Sequential(
        [
            keras.Input((letters.LENGTH,), dtype="int32"),
            layers.Embedding(
                len(letters.SYMBOLS), 24, embeddings_initializer=initial.RandomUniform(seed=0)
            ),
            layers.GRU(
                48,
                kernel_initializer=initial.GlorotUniform(seed=1),
                recurrent_initializer=initial.Orthogonal(seed=2),
            ),
            layers.Dense(1, kernel_initializer=initial.GlorotUniform(seed=3)),
        ]
    )
    network.compile(
        keras.optimizers.Adam(5e-3),
        keras.losses.BinaryCrossentropy(from_logits=True),
        jit_compile=compiles_loops(),
    )
    network.optimizer.build(network.trainable_variables)
    return network, TrainingState(network)
