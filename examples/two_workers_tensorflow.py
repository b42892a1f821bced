"""Prunes one classifier on two TensorFlow workers with `MultiWorkerMirroredStrategy`.

    python examples/two_workers_tensorflow.py [--backup FOLDER [--kill-at STEP]]

By itself it starts both workers on this machine. On machines of your own, set TF_CONFIG on each
(see TensorFlow's guide 'Multi-worker training with Keras') and start it on every one of them.
"""

import argparse
import hashlib
import json
import os
import shutil
import signal
import sys
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import two_processes

EPOCHS, BATCH = 6, 128  # the batch is that of all workers together


def digits():
    from sklearn.datasets import load_digits

    x, y = load_digits(return_X_y=True)
    return (x / 16).astype("float32"), y.astype("int32")


def work(backup, kill_at):
    import keras
    import numpy as np
    import tensorflow as tf

    import keras_ganprune as kgp

    task = json.loads(os.environ["TF_CONFIG"])["task"]["index"]
    strategy = kgp.multi_worker_strategy()  # before anything else of TensorFlow
    keras.utils.set_random_seed(1)
    with strategy.scope():
        model = keras.Sequential(
            [
                keras.Input((64,)),
                keras.layers.Dense(128, activation="relu"),
                keras.layers.Dense(10),
            ]
        )
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile(keras.optimizers.Adam(3e-3), loss, metrics=["accuracy"])

    prune = kgp.Prune(
        kgp.PolynomialDecay(0.9, begin_step=10, end_step=60), frequency=10, verbose=int(task == 0)
    )
    callbacks = [prune]
    if backup:
        # All go on from one worker's backup, whenever the others made theirs.
        first, own = Path(backup, "worker-0"), Path(backup, f"worker-{task}")
        if task and first.exists():
            shutil.rmtree(own, ignore_errors=True)
            shutil.copytree(first, own)
        callbacks.append(keras.callbacks.BackupAndRestore(own))
    if kill_at:

        def end_here(batch, logs):
            if steps_done(model) == kill_at:
                os.kill(os.getpid(), signal.SIGKILL)

        callbacks.append(keras.callbacks.LambdaCallback(on_train_batch_end=end_here))

    x, y = digits()
    data = tf.data.Dataset.from_tensor_slices((x, y)).batch(BATCH, drop_remainder=True)
    options = tf.data.Options()
    options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.DATA
    data = data.with_options(options)
    history = model.fit(data, epochs=EPOCHS, shuffle=False, verbose=0, callbacks=callbacks).history

    masks = [keras.ops.convert_to_numpy(w.mask) for w in kgp.masked_weights(model)]
    weights = [keras.ops.convert_to_numpy(w) for w in model.weights]
    print(
        f"worker {task}: steps {steps_done(model)}, "
        f"accuracy {history['accuracy'][-1]:.3f}, "
        f"kept {sum(int(m.sum()) for m in masks)} of {sum(m.size for m in masks)}, "
        f"nonzero {sum(np.count_nonzero(w) for w in weights if w.ndim == 2)}, "
        f"masks {digest(masks)}, weights {digest(weights)}",
        flush=True,
    )


def steps_done(model):
    from keras import ops

    return int(ops.convert_to_numpy(model.optimizer.iterations))


def digest(arrays):
    return hashlib.sha256(b"".join(a.tobytes() for a in arrays)).hexdigest()[:12]


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--backup", help="folder that both workers can read")
    parser.add_argument("--kill-at", type=int, default=0, help="step at which both are killed")
    arguments = parser.parse_args()
    if "TF_CONFIG" in os.environ:
        work(arguments.backup, arguments.kill_at)
    else:
        ended = two_processes.start(two_processes.tensorflow_environments(), [sys.argv] * 2)
        sys.exit(max(abs(process.returncode) for process in ended))
