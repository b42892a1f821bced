"""Writes into variables that no guard can see: operations of the backend on the memory of a variable."""

import keras
import numpy as np


def write_past_keras(model, values):
    """Write values into the weights of a model, past `assign` and past the methods of a `tf.Variable`."""
    backend = keras.backend.backend()
    for weight, value in zip(model.weights, values, strict=True):
        array = np.asarray(value)
        if backend == "tensorflow":
            import tensorflow as tf

            tf.raw_ops.AssignVariableOp(resource=weight._value.handle, value=tf.constant(array))
        elif backend == "torch":
            import torch

            weight._value.data.copy_(torch.from_numpy(np.array(array)))
        else:
            weight._value = keras.ops.convert_to_tensor(array)
