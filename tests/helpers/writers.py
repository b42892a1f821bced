"""Whatever may write into a masked weight: functions of a pruned model, with no callback of this package."""

import keras
import numpy as np
from keras import layers

import keras_ganprune as kgp
from keras_ganprune.layers.tensors import to_numpy

BACKEND = keras.backend.backend()
RNG = np.random.default_rng(3)
X = RNG.normal(size=(32, 15)).astype("float32")
Y = RNG.normal(size=(32, 16)).astype("float32")


def plain():
    return keras.Sequential(
        [keras.Input((15,)), layers.Dense(16, "relu"), layers.Dense(16, name="head")]
    )


def pruned():
    model = plain()
    kgp.Pruner(model).update(sparsity=0.8)
    return model


def train(model, optimizer, epochs=2, callbacks=(), **compile_arguments):
    model.compile(optimizer, "mse", **compile_arguments)
    model.fit(X, Y, batch_size=8, epochs=epochs, verbose=0, callbacks=list(callbacks))


# --- what may write: name -> function of a pruned model -------------------------------------------


def fit_with(make, **arguments):
    return lambda model: train(model, make(), **arguments)


def early_stopping(model):
    back = keras.callbacks.EarlyStopping("loss", patience=0, restore_best_weights=True)
    train(model, keras.optimizers.SGD(5.0), 4, [back])


def swap_averages(model):
    swap = keras.callbacks.SwapEMAWeights(swap_on_epoch=True)
    train(model, keras.optimizers.Adam(1e-2, use_ema=True), callbacks=[swap])


def model_checkpoint(model, tmp_path):
    dense = plain()
    dense.save_weights(tmp_path / "dense.weights.h5")
    model.load_weights(tmp_path / "dense.weights.h5")


def loop_of_ones_own(model):
    optimizer = keras.optimizers.Adam(1e-2, use_ema=True)
    optimizer.build(model.trainable_variables)
    gradients = [keras.ops.ones(w.shape) for w in model.trainable_variables]
    for _ in range(3):
        optimizer.apply(gradients, model.trainable_variables)
    optimizer.finalize_variable_values(model.trainable_variables)


def tf_variables(model):
    import tensorflow as tf

    kernel = model.layers[0]._kernel.value
    ones = tf.ones(kernel.shape)
    kernel.assign(ones)
    kernel.assign_add(ones)
    kernel.assign_sub(0.5 * ones)
    for name in ("scatter_add", "scatter_sub", "scatter_update", "scatter_max", "scatter_mul"):
        getattr(kernel, name)(tf.IndexedSlices(tf.ones((2, 16)), tf.constant([3, 5])))
    kernel.scatter_nd_add([[0, 0], [1, 1]], [1.0, 1.0])
    kernel.batch_scatter_update(tf.IndexedSlices(tf.ones((15, 1)), tf.zeros((15, 1), "int32")))


def tf_function(model):
    import tensorflow as tf

    kernel = model.layers[0]._kernel

    @tf.function
    def write():
        kernel.assign(tf.ones(kernel.shape))
        kernel.value.assign_add(tf.ones(kernel.shape))

    write()
    write()


def tf_checkpoint(model, tmp_path):
    import tensorflow as tf

    dense = plain()
    path = tf.train.Checkpoint(model=dense).write(str(tmp_path / "checkpoint"))
    tf.train.Checkpoint(model=model).read(path).assert_existing_objects_matched()


def optimizer_on_tf_variables(model):
    # Such a loop asks no Keras constraint: a `tf.Variable` has none.
    optimizer = keras.optimizers.SGD(0.1)
    variables = [w.value for w in model.trainable_variables]
    optimizer.apply_gradients([(keras.ops.ones(v.shape), v) for v in variables])


def raw_optimizer(model):
    import tensorflow as tf

    class Raw(keras.optimizers.SGD):
        def update_step(self, gradient, variable, learning_rate):
            tf.raw_ops.ResourceApplyGradientDescent(
                var=variable.handle, alpha=tf.constant(0.1), delta=gradient
            )

    train(model, Raw())


WRITERS = {
    "SGD": fit_with(lambda: keras.optimizers.SGD(0.1, momentum=0.9)),
    "use_ema": fit_with(lambda: keras.optimizers.Adam(1e-2, use_ema=True)),
    "EarlyStopping": early_stopping,
    "set_weights": lambda m: m.set_weights([np.ones_like(w) for w in m.get_weights()]),
    "kernel.assign": lambda m: m.layers[0]._kernel.assign(np.ones((15, 16))),
    "kernel.assign_add": lambda m: m.layers[0]._kernel.assign_add(np.ones((15, 16))),
    "SwapEMAWeights": swap_averages,
    "load_weights of a dense file": model_checkpoint,
    "loop": loop_of_ones_own,
    "own constraint": lambda m: setattr(
        m.layers[0]._kernel, "constraint", keras.constraints.UnitNorm(axis=None)
    ),
}
TENSORFLOW = {
    "tf.Variable": tf_variables,
    "tf.function": tf_function,
    "tf.train.Checkpoint": tf_checkpoint,
    "optimizer on tf.Variables": optimizer_on_tf_variables,
    "raw operations in an optimizer": raw_optimizer,
}
LONG = {
    "ema overwrites": lambda: keras.optimizers.Adam(1e-2, use_ema=True, ema_overwrite_frequency=3),
    "accumulation": lambda: keras.optimizers.Adam(1e-2, gradient_accumulation_steps=2),
    "accumulation and ema": lambda: keras.optimizers.Adam(
        1e-2, gradient_accumulation_steps=2, use_ema=True
    ),
    "loss scale": lambda: keras.optimizers.LossScaleOptimizer(keras.optimizers.Adam(1e-2)),
    "AdamW": lambda: keras.optimizers.AdamW(1e-2, weight_decay=0.1),
    "Nadam": lambda: keras.optimizers.Nadam(1e-2),
    "Lion": lambda: keras.optimizers.Lion(1e-2),
    "Lamb": lambda: keras.optimizers.Lamb(1e-2),
    "Adafactor": lambda: keras.optimizers.Adafactor(1e-2),
    "Adadelta": lambda: keras.optimizers.Adadelta(1.0),
    "Adagrad": lambda: keras.optimizers.Adagrad(1e-2),
    "Adamax": lambda: keras.optimizers.Adamax(1e-2),
    "RMSprop": lambda: keras.optimizers.RMSprop(1e-2, momentum=0.9, centered=True),
    "Muon": lambda: keras.optimizers.Muon(1e-2),
    "clip": lambda: keras.optimizers.SGD(1.0, global_clipnorm=0.1),
}
FITS = {
    f"{name}={value}": fit_with(keras.optimizers.Adam, **{name: value})
    for name, value in [("run_eagerly", True), ("jit_compile", True), ("steps_per_execution", 3)]
    if BACKEND != "torch" or name == "run_eagerly"
}
LONG = {name: fit_with(make) for name, make in LONG.items()} | FITS
# The everyday suite has one writer of each kind.
for _name in ("SGD", "kernel.assign_add", "SwapEMAWeights", "loop"):
    LONG[_name] = WRITERS.pop(_name)


def short():
    """Return the writers of the everyday suite on this backend."""
    return WRITERS | (TENSORFLOW if BACKEND == "tensorflow" else {})


def everything():
    """Return all writers on this backend."""
    return short() | LONG


def holds(write, model, folder):
    """Let a writer write into a pruned model; return whether every pruned weight is still zero."""
    weights = kgp.masked_weights(model)
    masks = [to_numpy(weight.mask) for weight in weights]
    path = (folder,) if "tmp_path" in write.__code__.co_varnames else ()
    write(model, *path)
    same = [np.array_equal(to_numpy(w.mask), m) for w, m in zip(weights, masks, strict=True)]
    zero = [not to_numpy(w.variable)[~m].any() for w, m in zip(weights, masks, strict=True)]
    return all(same) and all(zero)
