"""Every way to copy or load a pruned model: what becomes of its masks.

A way is a function of (pruned model, function that makes such a model anew, folder). It returns the copy.
"""

import copy
import pickle
import warnings

import keras
import numpy as np
from keras import layers

import keras_ganprune as kgp
from keras_ganprune.errors import PruningNotice, PruningWarning
from keras_ganprune.layers import save_notices
from keras_ganprune.layers.tensors import to_numpy

BACKEND = keras.backend.backend()
SPARSITY = 0.75


def sequential():
    return keras.Sequential(
        [keras.Input((8,)), layers.Dense(12, "relu", name="a"), layers.Dense(4, name="b")]
    )


def functional():
    x = keras.Input((8,))
    return keras.Model(x, layers.Dense(4, name="b")(layers.Dense(12, "relu", name="a")(x)))


@keras.saving.register_keras_serializable("travel")
class Net(keras.Model):
    """Makes its layers anew when it is loaded."""

    width = 12

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.a, self.b = layers.Dense(self.width, "relu", name="a"), layers.Dense(4, name="b")

    def build(self, shape):
        self.a.build(shape)
        self.b.build((None, self.width))
        self.built = True

    def call(self, x):
        return self.b(self.a(x))


@keras.saving.register_keras_serializable("travel")
class OwnGAN(keras.Model):
    """Makes its networks anew when it is loaded, and has no `call`."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.generator, self.discriminator = sequential(), functional()


def subclassed():
    model = Net()
    model.build((None, 8))
    return model


def pruned(make):
    keras.utils.set_random_seed(0)
    model = make()
    kgp.Pruner(model).update(sparsity=SPARSITY)
    return model


def masks(model):
    return {w.path: to_numpy(w.mask) for w in kgp.masked_weights(model)}


def kernels(model):
    return [to_numpy(w) for w in model.weights if len(w.shape) == 2]


def same_masks(one, two):
    return [np.array_equal(a, b) for a, b in zip(one.values(), two.values(), strict=True)]


def train(model, **compile_arguments):
    network = getattr(model, "generator", model)
    network.compile(keras.optimizers.Adam(0.05), "mse", **compile_arguments)
    network.fit(np.ones((8, 8)), np.ones((8, 4)), verbose=0)


# --- the ways -------------------------------------------------------------------------------------


def by_keras(model, make, folder):
    model.save(folder / "m.keras")
    return keras.saving.load_model(folder / "m.keras")


def by_kgp(model, make, folder):
    model.save(folder / "m.keras")
    return kgp.load_model(folder / "m.keras")


def by_h5(model, make, folder):
    model.save(folder / "m.h5")
    return keras.saving.load_model(folder / "m.h5")


def by_name(model, make, folder):
    model.save(folder / "m.h5")
    new = kgp.make_prunable(make())
    new.load_weights(folder / "m.h5", by_name=True)
    return new


def read(new, model, folder, **arguments):
    """Read the weights file of a model; a GAN without a `call` is never built itself."""
    new.built = model.built = True
    path = folder / ("m.weights.json" if arguments else "m.weights.h5")
    model.save_weights(path, **arguments)
    new.load_weights(path)
    return new


def weights_into_plain(model, make, folder):
    return read(make(), model, folder)


def weights_into_prunable(model, make, folder):
    return read(kgp.make_prunable(make()), model, folder)


def shards_into_prunable(model, make, folder):
    return read(kgp.make_prunable(make()), model, folder, max_shard_size=1)


def stripped_into_prunable(model, make, folder):
    return read(kgp.make_prunable(make()), kgp.strip_pruning(model), folder)


def by_editor(model, make, folder):
    path = str(folder / "m.weights.h5")
    model.save_weights(path)
    keras.saving.KerasFileEditor(path).save(str(folder / "new.weights.h5"))
    new = kgp.make_prunable(make())
    new.load_weights(folder / "new.weights.h5")
    return new


def by_clone(model, make, folder):
    new = keras.models.clone_model(model)
    new.set_weights(model.get_weights())
    return new


def by_config(model, make, folder):
    new = type(model).from_config(model.get_config())
    new.build((None, 8))
    new.set_weights(model.get_weights())
    return new


def by_json(model, make, folder):
    return read(keras.models.model_from_json(model.to_json()), model, folder)


def set_weights(model, make, folder):
    new = kgp.make_prunable(make())
    new.set_weights(model.get_weights())
    return new


def set_weights_of_layers(model, make, folder):
    new = keras.models.clone_model(model)
    for target, source in zip(new.layers, model.layers, strict=True):
        target.set_weights(source.get_weights())
    return new


def set_weights_after_fit(model, make, folder):
    new = keras.models.clone_model(model)
    train(new)
    new.set_weights(model.get_weights())
    return new


def by_variable(model, make, folder):
    new = keras.models.clone_model(model)
    for target, source in zip(new.variables, model.variables, strict=True):
        target.assign(source)
    return new


def by_tensor(model, make, folder):
    new = keras.models.clone_model(model)
    for target, source in zip(new.variables, model.variables, strict=True):
        target.assign(source.value)
    return new


def by_npz(model, make, folder):
    np.savez(folder / "m.npz", *model.get_weights())
    new = kgp.make_prunable(make())
    with np.load(folder / "m.npz") as arrays:
        new.set_weights([arrays[name] for name in arrays.files])
    return new


def set_weights_of_plain(model, make, folder):
    new = make()
    new.set_weights(model.get_weights())
    return new


def deepcopied(model, make, folder):
    return copy.deepcopy(model)


def pickled(model, make, folder):
    return pickle.loads(pickle.dumps(model))


def by_checkpoint(model, make, folder):
    import tensorflow as tf

    new = kgp.make_prunable(make())
    path = tf.train.Checkpoint(model=model).save(str(folder / "checkpoint"))
    tf.train.Checkpoint(model=new).restore(path)
    return new


def by_state_dict(model, make, folder):
    new = keras.models.clone_model(model)
    values = list(model.state_dict().values())
    new.load_state_dict(dict(zip(new.state_dict(), values, strict=True)))
    return new


BY_CONFIG = (sequential, functional)  # The classes of their layers are in their configuration.
ANEW = (subclassed, OwnGAN)
KEEP = "masks"
WRITTEN, READ, TRAINED = (
    f"said: when {event}" for event in ("the file is written", "it is read", "training begins")
)
PLAIN = "not seen: only plain layers of Keras take part"
PAST = "not seen: PyTorch writes into its own tensors"
# (way, kinds of model) -> what becomes of the masks.
TABLE = {
    (by_keras, BY_CONFIG): KEEP,
    (by_keras, ANEW): WRITTEN,
    (by_kgp, BY_CONFIG + ANEW): KEEP,
    (by_h5, BY_CONFIG): READ,
    (by_name, BY_CONFIG): READ,
    (weights_into_plain, BY_CONFIG + ANEW): WRITTEN,
    (weights_into_prunable, BY_CONFIG + ANEW): KEEP,
    (shards_into_prunable, BY_CONFIG): KEEP,
    (stripped_into_prunable, BY_CONFIG): READ,
    (by_editor, BY_CONFIG): READ,
    (by_clone, BY_CONFIG): TRAINED,
    (by_config, BY_CONFIG): TRAINED,
    (by_json, BY_CONFIG): KEEP,
    (set_weights, BY_CONFIG + ANEW): TRAINED,
    (set_weights_of_layers, BY_CONFIG): TRAINED,
    (set_weights_after_fit, BY_CONFIG): READ,
    (by_variable, BY_CONFIG): TRAINED,
    (by_tensor, BY_CONFIG): TRAINED,
    (by_npz, BY_CONFIG): TRAINED,
    (deepcopied, BY_CONFIG): KEEP,
    (deepcopied, ANEW): WRITTEN,
    (pickled, BY_CONFIG): KEEP,
    (pickled, ANEW): WRITTEN,
    (set_weights_of_plain, BY_CONFIG): PLAIN,
}
# A class that makes plain layers anew has no masks that could hold anything.
TABLE[by_config, (subclassed,)] = PLAIN
if BACKEND == "tensorflow":
    TABLE[by_checkpoint, BY_CONFIG] = TRAINED
if BACKEND == "torch":
    TABLE[by_state_dict, (sequential,)] = TRAINED
    TABLE[by_state_dict, (functional,)] = PAST


def cells():
    """Return {(name of the way, name of the kind of model): (way, kind, what is expected)}."""
    return {
        (way.__name__, make.__name__): (way, make, expected)
        for (way, makes), expected in TABLE.items()
        for make in makes
    }


def outcome(way, make, folder):
    """Return what becomes of the masks of a model, the copy, and what was said, as warnings of Python.

    Zeros that are lost in silence raise.

    Raises:
        AssertionError: The copy has other kernels, or nothing was said though a later fit fills zeros.
    """
    save_notices._SAID.clear()
    model = pruned(make)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        new = way(model, make, folder)
        for one, two in zip(kernels(model), kernels(new), strict=True):
            np.testing.assert_array_equal(one, two)
        before, count = masks(new), len(caught)
        train(new)
    said = [w for w in caught if w.category in (PruningNotice, PruningWarning)]
    early = {w.category for w in caught[:count]}
    if before and all(same_masks(masks(model), before)):
        assert PruningWarning not in {w.category for w in said}, [str(w.message) for w in said]
        return KEEP, new, said
    if PruningWarning in early:
        return READ, new, said
    if PruningNotice in early:
        return WRITTEN, new, said
    if said:
        return TRAINED, new, said
    if way is by_state_dict:
        return PAST, new, said
    assert not before, "zeros were filled in silence"
    return PLAIN, new, said
