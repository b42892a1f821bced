"""Short runs of one compiled GAN, reset between runs, and checks of their results.

The step is traced once for all runs, so that hundreds of settings take a few minutes.
"""

import contextlib
import fnmatch
import re

import keras
import networks as nets
import numpy as np
from keras import layers

import keras_ganprune as kgp
from keras_ganprune.backend import tracing
from keras_ganprune.callbacks import target_networks
from keras_ganprune.layers.mask_store import memory
from keras_ganprune.pruning import allocation as allocations
from keras_ganprune.pruning import granularity as granularities
from keras_ganprune.training.snapshot import TrainingState

LATENT = 8
IMAGE = (4, 4, 4)


# --- one GAN -------------------------------------------------------------------------------------


def parts(every_kind=False):
    """Return the layers of a generator: the DCGAN stem, one transposed convolution, and the image.

    With `every_kind` a plain convolution and one under spectral norm too. All channels are multiples
    of four, and every kernel but that of the image has a batch normalization behind it.
    """

    def behind():
        return [layers.BatchNormalization(), layers.LeakyReLU(0.2)]

    found = [layers.Dense(2 * 2 * 8, use_bias=False, name="dense_1"), layers.Reshape((2, 2, 8))]
    found += behind()
    up = layers.Conv2DTranspose(8, 3, strides=2, padding="same", use_bias=False, name="conv_up")
    found += [up, *behind()]
    if every_kind:
        inner = layers.Conv2D(8, 3, padding="same", name="spectral")
        found += [layers.Conv2D(8, 3, padding="same", name="plain"), *behind()]
        found += [layers.SpectralNormalization(inner), *behind()]
    return [*found, layers.Conv2D(IMAGE[-1], 3, padding="same", activation="tanh", name="image")]


def generator(every_kind=False):
    z = x = keras.Input((LATENT,))
    for layer in parts(every_kind):
        x = layer(x)
    return keras.Model(z, x, name="generator")


class SubclassedGenerator(keras.Model):
    """The same layers in a network whose graph is not known."""

    def __init__(self, every_kind=False, **kwargs):
        super().__init__(**kwargs)
        self.every_kind = every_kind
        self.parts = parts(every_kind)

    def build(self, input_shape):
        for layer in self.parts:
            layer.build(input_shape)
            input_shape = layer.compute_output_shape(input_shape)
        self.built = True

    def call(self, x):
        for layer in self.parts:
            x = layer(x)
        return x

    def get_config(self):
        return {**super().get_config(), "every_kind": self.every_kind}


def discriminator():
    x = keras.Input(IMAGE)
    y = layers.LeakyReLU(0.2)(layers.Conv2D(8, 3, strides=2, padding="same")(x))
    return keras.Model(x, layers.Dense(1)(layers.Flatten()(y)), name="discriminator")


def gan_model(network, **kwargs):
    gan = kgp.GANModel(network, discriminator(), LATENT, seed=1, balance_frequency=0, **kwargs)
    gan.compile(keras.optimizers.Adam(1e-2, 0.5), keras.optimizers.Adam(1e-2, 0.5))
    return gan


def images(n=8):
    return np.random.default_rng(0).uniform(-1, 1, (n, *IMAGE)).astype("float32")


def fit(gan, *callbacks, steps, epochs=1):
    """Train `steps` in each epoch, always on the same images."""
    data, batch = np.tile(images(), (steps, 1, 1, 1)), len(images())
    gan.fit(
        data,
        batch_size=batch,
        epochs=epochs,
        verbose=0,
        shuffle=False,
        callbacks=[*callbacks],
    )


# --- many runs -----------------------------------------------------------------------------------


class Runs:
    """Runs `fit` of one GAN again and again from the same start.

    Compiled functions are shared: that of the step by leaving the masks on, those that sample gradients by
    using one sampler for all runs that want the same gradients of the same weights.
    """

    def __init__(self, gan):
        self.gan = gan
        kgp.make_prunable(gan.generator)
        self.start = TrainingState(gan)
        self.samplers = {}

    def reset(self):
        for sampler in self.samplers.values():
            sampler.stop()  # a run that failed may have left it on
        self.start.restore()
        memory(self.gan.generator).arrays.clear()

    def fit(self, *callbacks, steps, epochs=1):
        with self._shared_samplers():
            fit(self.gan, *callbacks, steps=steps, epochs=epochs)

    @contextlib.contextmanager
    def _shared_samplers(self):
        original = target_networks.GradientSampler

        def shared(model, weights, requests):
            key = (tuple(id(w.variable) for w in weights), tuple(dict.fromkeys(requests)))
            if key not in self.samplers:
                self.samplers[key] = original(model, weights, requests)
            self.samplers[key].reset()
            return self.samplers[key]

        target_networks.GradientSampler = shared
        try:
            yield
        finally:
            target_networks.GradientSampler = original


class Before(keras.callbacks.Callback):
    """Keeps the weights as they are before `prune`, ahead of which it stands in the list of callbacks."""

    def __init__(self, prune):
        super().__init__()
        self.prune = prune
        self.values = None

    def on_train_batch_end(self, batch, logs=None):
        tracing.sync(self.model)
        self.values = [np.array(nets.value(w.variable)) for w in self.prune.pruner.weights]


class Watch(keras.callbacks.Callback):
    """Looks at masks and weights after every batch, and at the masks of every update.

    Stands after `prune` in the list of callbacks.

    Attributes:
        problems: List of str.
        updates: List of (step, requested, masks, weights before it), one for each update; the weights
            are there if a `before` stands ahead of `prune`.
    """

    def __init__(self, prune, before=None):
        super().__init__()
        self.prune = prune
        self.before = before
        self.problems = []
        self.updates = []
        self._last = None

    def on_train_batch_begin(self, batch, logs=None):
        self._note_update()

    def on_train_batch_end(self, batch, logs=None):
        tracing.sync(self.model)
        self._note_update()
        pruner = self.prune.pruner
        now = []
        for weight in pruner.weights:
            mask = nets.value(weight.mask).copy()
            now.append(mask)
            for one in nets.replicas(weight.mask):
                if not np.array_equal(one, mask):
                    self.problems.append(f"batch {batch}: {weight.path} has masks that differ")
            for value in nets.replicas(weight.variable):
                if np.any(value[~mask]):
                    self.problems.append(f"batch {batch}: {weight.path} is not zero under its mask")
        if type(pruner.mode) is kgp.Hard and self._last is not None:
            for weight, before, after in zip(pruner.weights, self._last, now, strict=True):
                if np.any(after & ~before):
                    self.problems.append(f"batch {batch}: {weight.path} came back under `hard`")
        self._last = now

    def on_epoch_end(self, epoch, logs=None):
        self._note_update()
        if self.prune.schedule.adaptive:
            self._last = None  # it may have gone back to a state that held

    def _note_update(self):
        if len(self.prune.updates) == len(self.updates):
            return
        if len(self.prune.updates) > len(self.updates) + 1:
            self.problems.append(f"two updates at once: {self.prune.updates[-2:]}")
        pruner = self.prune.pruner
        # Before they are held, the masks are only to be seen in the weights, unless these only decay.
        chosen = pruner._state.masks() if isinstance(pruner.mode, kgp.SoftShrinkage) else None
        masks = [
            np.array(nets.value(w.mask))
            if pruner.held
            else (nets.value(w.variable) != 0 if chosen is None else np.array(chosen[i]))
            for i, w in enumerate(pruner.weights)
        ]
        step, requested, _ = self.prune.updates[-1]
        before = None if self.before is None else self.before.values
        self.updates.append((step, requested, masks, before))


# --- what must come out --------------------------------------------------------------------------


def unit_numbers(weight, granularity):
    """Return for each entry of a weight the number of its unit."""
    shape = tuple(weight.mask.shape)
    index = np.indices(shape)
    if isinstance(granularity, granularities.Block):
        first = len(shape) - len(granularity.shape)
        parts = [
            index[i] // granularity.shape[i - first] if i >= first else index[i]
            for i in range(len(shape))
        ]
    elif isinstance(granularity, granularities.Channel):
        # (h, w, out, in) for transposed convolutions, (.., in, out) for the rest.
        transposed = isinstance(weight.layer, layers.Conv2DTranspose)
        named = {"out": -2, "in": -1} if transposed else {"out": -1, "in": -2}
        axis = granularity.axis
        axes = axis if isinstance(axis, tuple) else (named.get(axis, axis),)
        parts = [index[a] for a in axes]
    else:
        parts = list(index)
    strides = [int(part.max()) + 1 for part in parts]
    return np.ravel_multi_index(parts, strides)


def units(weight, granularity, mask):
    """Return (size of each unit, weights kept of each)."""
    numbers = unit_numbers(weight, granularity).ravel()
    return np.bincount(numbers), np.bincount(numbers, weights=mask.ravel()).astype(int)


def half_even(value):
    return int(np.round(np.float64(value)))


def groups_of(pruner, masks):
    """Return what `units` does for each group of coupled channels, told by the layers that make them."""
    numbers = {id(w.variable): i for i, w in enumerate(pruner.weights)}
    found = []
    for group in (group for groups in pruner.groups for group in groups):
        kept = np.zeros(group.size, dtype=int)
        for piece in group.slices:
            if piece.weight.role == "out":
                mask = np.moveaxis(masks[numbers[id(piece.weight.variable)]], piece.weight.axis, 0)
                for place, unit in enumerate(piece.units):
                    if unit >= 0 and mask[place].any():
                        kept[unit] = 1
        found.append((np.ones(group.size, dtype=int), kept))
    return found


def problems_of_coupling(pruner, masks, counted, roles=("out", "along", "in")):
    """Return where a mask is not exactly what the channels that stay come to."""
    wanted = {id(w.variable): np.ones(tuple(w.mask.shape), dtype=bool) for w in pruner.weights}
    groups = [group for groups in pruner.groups for group in groups]
    for group, (_, kept) in zip(groups, counted, strict=True):
        for piece in group.slices:
            if piece.weight.role not in roles:
                continue
            mask = np.moveaxis(wanted[id(piece.weight.variable)], piece.weight.axis, 0)
            for place, unit in enumerate(piece.units):
                if unit >= 0 and not kept[unit]:
                    mask[place] = False
    return [
        f"{weight.path}: the mask does not go with the channels"
        for weight, mask in zip(pruner.weights, masks, strict=True)
        if not np.array_equal(mask, wanted[id(weight.variable)])
    ]


def shares(allocation, weights, sizes, sparsity, final):
    """Return the sparsity of each tensor, or None where tensors are ranked together."""
    sizes = np.array(sizes, dtype=float)
    if isinstance(allocation, allocations.GlobalRanking):
        return None
    if isinstance(allocation, allocations.ERK):
        raw = [(sum(w.mask.shape) / np.prod(w.mask.shape)) ** allocation.power for w in weights]
        low, high = 0.0, 1.0 / min(raw)
        for _ in range(200):  # densities grow with epsilon, so halve the interval
            epsilon = (low + high) / 2.0
            densities = np.minimum(1.0, epsilon * np.array(raw))
            if (densities * sizes).sum() < (1.0 - sparsity) * sizes.sum():
                low = epsilon
            else:
                high = epsilon
        return list(1.0 - densities)
    if isinstance(allocation, allocations.PerLayer):
        given = [_named(allocation, w) for w in weights]
        named = sum(size * s for size, s in zip(sizes, given, strict=True) if s is not None)
        rest = sum(size for size, s in zip(sizes, given, strict=True) if s is None)
        other = (final * sizes.sum() - named) / rest
        return [(other if s is None else s) * sparsity / final for s in given]
    return [sparsity] * len(weights)


def _named(allocation, weight):
    name = weight.layer.name
    for rule, sparsity in allocation.get_config()["sparsities"].items():
        regular = rule.startswith("re:")
        if re.search(rule[3:], name) if regular else fnmatch.fnmatch(name, rule):
            return sparsity
    return None


def kept_units(n, sparsity, minimum=1):
    floor = int(np.ceil(minimum * n)) if isinstance(minimum, float) else minimum
    return max(1, floor, half_even(n * (1.0 - sparsity)))


def problems_of_masks(pruner, masks, sparsity, final):
    """Return what is wrong with masks at a total sparsity (or one for each tensor), as a list of str."""
    granularity, found = pruner.granularity, []
    if pruner.coupled:
        counted = groups_of(pruner, masks)
        wrong = problems_of_coupling(pruner, masks, counted)
        if pruner.mode.regrows and problems_of_coupling(pruner, masks, counted, ("out",)) == []:
            wrong = []  # what reads a channel is masked only when none can return any more
        found += wrong
    else:
        counted = [units(w, granularity, m) for w, m in zip(pruner.weights, masks, strict=True)]
    for weight, (sizes, kept) in zip(pruner.ranked, counted, strict=True):
        if not granularity.pattern and not np.all((kept == 0) | (kept == sizes)):
            found.append(f"{weight.path}: units were pruned in part")
        if not kept.any():
            found.append(f"{weight.path}: nothing is left")
    if granularity.pattern:
        for weight, mask in zip(pruner.weights, masks, strict=True):
            found += _problems_of_pattern(granularity, weight, mask, sparsity)
        return found
    return found + _problems_of_counts(pruner, counted, sparsity, final)


def _problems_of_counts(pruner, counted, sparsity, final):
    """Return which numbers of kept units are wrong; `counted` has (sizes, kept) for each ranking."""
    allocation, found = pruner.allocation, []
    numbers = [(len(sizes), int(np.count_nonzero(kept))) for sizes, kept in counted]
    if isinstance(allocation, (allocations.OWL, allocations.Isomorphic)):
        # Their own tests say which tensor keeps how many; the total is rounded tensor by tensor at most.
        wanted = sum(int(sizes.sum()) for sizes, _ in counted) * (1.0 - sparsity)
        weights = sum(int(kept.sum()) for _, kept in counted)
        slack = sum(int(sizes.max()) for sizes, _ in counted) * max(1, allocation.minimum)
        if abs(weights - wanted) > slack:
            found.append(f"{weights} weights kept of all tensors, not {wanted}")
        return found
    if isinstance(sparsity, (list, tuple)):
        each = list(sparsity)
    else:
        totals = [int(sizes.sum()) for sizes, _ in counted]
        each = shares(allocation, pruner.ranked, totals, sparsity, final)
    every_size = np.concatenate([sizes for sizes, _ in counted])
    alike = len(set(every_size.tolist())) == 1
    if each is None and alike:
        wanted = max(1, half_even(sum(n for n, _ in numbers) * (1.0 - sparsity)))
        if sum(k for _, k in numbers) != wanted:
            found.append(f"{sum(k for _, k in numbers)} units kept of all tensors, not {wanted}")
    elif each is None:
        budget = max(1, half_even(every_size.sum() * (1.0 - sparsity)))
        weights = sum(int(kept.sum()) for _, kept in counted)
        # The least that stays of each tensor may be more.
        least = sum(kept_units(len(s), 0.999, allocation.minimum) * s[0] for s, _ in counted)
        budget = max(budget, least)
        # The nearest that whole units come to: at most half of one away.
        if abs(weights - budget) > every_size.max() / 2:
            found.append(f"{weights} weights kept of all tensors, not {budget}")
    elif isinstance(allocation, allocations.ERK) and every_size.max() == 1:
        wanted = half_even(every_size.size * (1.0 - sparsity))
        if sum(k for _, k in numbers) != wanted:
            found.append(f"{sum(k for _, k in numbers)} weights kept of all tensors, not {wanted}")
        for weight, (n, kept), share in zip(pruner.ranked, numbers, each, strict=True):
            if abs(kept - n * (1.0 - share)) >= 1.0 and kept > allocation.minimum:
                found.append(f"{weight.path}: {kept} of {n} kept at sparsity {share:.4f}")
    else:
        for weight, (n, kept), share in zip(pruner.ranked, numbers, each, strict=True):
            wanted = kept_units(n, share, allocation.minimum)
            if kept != wanted:
                found.append(f"{weight.path}: {kept} of {n} units kept, not {wanted}")
    return found


def _problems_of_pattern(pattern, weight, mask, sparsity):
    transposed = isinstance(weight.layer, layers.Conv2DTranspose)
    axis = {"in": -1, "out": -2} if transposed else {"in": -2, "out": -1}
    moved = np.moveaxis(mask, axis.get(pattern.axis, pattern.axis), -1)
    groups = moved.reshape(-1, pattern.of).sum(axis=1)
    wanted = max(pattern.keep, half_even(pattern.of * (1.0 - sparsity)))
    if set(groups.tolist()) != {wanted}:
        return [f"{weight.path}: groups of {pattern.of} keep {set(groups.tolist())}, not {wanted}"]
    return []


def problems_at_end(prune, sparsity, final):
    """Return what is wrong after `fit`: in the masks, in the weights and in the report."""
    pruner = prune.pruner
    masks = [nets.value(w.mask) for w in pruner.weights]
    found = problems_of_masks(pruner, masks, sparsity, final) + problems_of_weights(pruner)
    if pruner.coupled:
        found += problems_of_coupling(pruner, masks, groups_of(pruner, masks))
    total, kept = sum(m.size for m in masks), sum(int(m.sum()) for m in masks)
    if pruner.coupled:
        counted = groups_of(pruner, masks)
        total, kept = (sum(int(c[i].sum()) for c in counted) for i in (0, 1))
    if prune.report.achieved != 1.0 - kept / total:
        found.append(f"the report says {prune.report.achieved}, the masks {1.0 - kept / total}")
    return found


def problems_of_weights(pruner):
    """Return what is wrong with the weights after `fit`, whatever the masks."""
    found = [] if pruner.held else ["the masks are not held"]
    for weight in pruner.weights:
        mask = nets.value(weight.mask)
        for value in nets.replicas(weight.variable):
            if np.any(value[~mask]):
                found.append(f"{weight.path}: not zero where it is pruned")
            # A weight that came back starts from zero, and may have had no gradient yet.
            if not pruner.mode.regrows and not np.all(value[mask]):
                found.append(f"{weight.path}: zero where it is kept")
    return found
