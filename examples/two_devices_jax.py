"""Prunes one classifier on two devices of JAX with `keras.distribution.DataParallel`.

    python examples/two_devices_jax.py [--devices NUMBER] [--rate RATE]

Parts of this machine's CPU stand for the devices. On GPUs take the two lines about the CPU away.
"""

import argparse
import hashlib
import os

EPOCHS, BATCH = 6, 128  # the batch is that of all devices together


def main(devices, rate):
    import keras
    import numpy as np
    from sklearn.datasets import load_digits

    import keras_ganprune as kgp

    x, y = load_digits(return_X_y=True)
    whole = len(x) // BATCH * BATCH
    x, y = (x / 16).astype("float32")[:whole], y.astype("int32")[:whole]

    keras.distribution.set_distribution(keras.distribution.DataParallel())
    keras.utils.set_random_seed(1)
    model = keras.Sequential(
        [keras.Input((64,)), keras.layers.Dense(128, activation="relu"), keras.layers.Dense(10)]
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(rate), loss, metrics=["accuracy"])
    prune = kgp.Prune(kgp.PolynomialDecay(0.9, begin_step=10, end_step=60), frequency=10)
    history = model.fit(
        x, y, batch_size=BATCH, epochs=EPOCHS, shuffle=False, verbose=0, callbacks=[prune]
    ).history

    def on_device(variable, number):
        # What lies there, not what JAX would put together from all devices.
        return np.asarray(variable.value.addressable_shards[number].data)

    for number in range(devices):
        masks = [on_device(w.mask, number) for w in kgp.masked_weights(model)]
        weights = [on_device(w, number) for w in model.weights]
        print(
            f"device {number}: steps {int(model.optimizer.iterations.value)}, "
            f"accuracy {history['accuracy'][-1]:.3f}, "
            f"kept {sum(int(m.sum()) for m in masks)} of {sum(m.size for m in masks)}, "
            f"nonzero {sum(np.count_nonzero(w) for w in weights if w.ndim == 2)}, "
            f"masks {digest(masks)}, weights {digest(weights)}",
            flush=True,
        )


def digest(arrays):
    return hashlib.sha256(b"".join(a.tobytes() for a in arrays)).hexdigest()[:12]


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--devices", type=int, default=2)
    parser.add_argument("--rate", type=float, default=3e-3, help="learning rate; 0 changes nothing")
    arguments = parser.parse_args()
    os.environ["KERAS_BACKEND"] = "jax"
    os.environ["JAX_PLATFORMS"] = "cpu"
    os.environ["XLA_FLAGS"] = f"--xla_force_host_platform_device_count={arguments.devices}"
    main(arguments.devices, arguments.rate)
