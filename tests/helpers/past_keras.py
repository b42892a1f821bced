"""Writes into variables that no guard can see: operations of the backend on the memory of a variable."""

import keras
import numpy as np

BACKEND = keras.backend.backend()


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


# --- ways around every guard: name -> function of a Keras variable and an array ------------------------


def _tensorflow():
    import tensorflow as tf

    def rows(weight, values):
        tf.raw_ops.ResourceScatterUpdate(
            resource=weight._value.handle, indices=[0, 1], updates=values[:2]
        )

    def shared_memory(weight, values):
        import ctypes

        view = np.from_dlpack(weight._value.read_value())
        ctypes.memmove(view.ctypes.data, values.ctypes.data, view.nbytes)

    return {
        "raw assign": lambda w, a: tf.raw_ops.AssignVariableOp(resource=w._value.handle, value=a),
        "raw add": lambda w, a: tf.raw_ops.AssignAddVariableOp(resource=w._value.handle, value=a),
        "raw rows": rows,
        "method of the class": lambda w, a: type(w._value).assign(w._value, a),
        "shared memory": shared_memory,
    }


def _torch():
    import torch

    def new_parameter(weight, values):
        weight._value = torch.nn.Parameter(torch.from_numpy(values.copy()))

    def add(weight, values):
        with torch.no_grad():
            weight._value.add_(torch.from_numpy(values))

    return {
        "data": lambda w, a: w._value.data.copy_(torch.from_numpy(a)),
        "in place": add,
        "NumPy view": lambda w, a: np.copyto(w._value.detach().numpy(), a),
        "new parameter": new_parameter,
    }


def _direct(weight, values):
    weight._direct_assign(keras.ops.convert_to_tensor(values))


_OF_BACKEND = {"tensorflow": _tensorflow, "torch": _torch}
WAYS = _OF_BACKEND[BACKEND]() if BACKEND in _OF_BACKEND else {"_direct_assign": _direct}
