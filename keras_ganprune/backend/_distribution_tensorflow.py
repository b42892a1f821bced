"""Workers of a `tf.distribute.MultiWorkerMirroredStrategy`."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_ganprune.errors import InvalidArgumentError

# The logs of Keras are means over all replicas of all workers, so all workers have the same logs.
LOGS_DIFFER = False


class MultiWorkerMirroredStrategy(tf.distribute.MultiWorkerMirroredStrategy):
    """TensorFlow's strategy, with the reductions that `fit` of Keras 3 needs.

    `fit` reduces tuples and dicts, and scalars along their first axis. TensorFlow's own strategy rejects that
    (keras-team/keras#20585).
    """

    def reduce(self, reduce_op: Any, value: Any, axis: int | None) -> Any:
        """Reduce each tensor of a structure. The axis is ignored for scalars."""

        def reduce_tensor(tensor: Any) -> Any:
            is_scalar = not self.experimental_local_results(tensor)[0].shape.rank
            return tf.distribute.Strategy.reduce(
                self, reduce_op, tensor, None if is_scalar else axis
            )

        return tf.nest.map_structure(reduce_tensor, value)


def strategy_of(like: Any) -> Any:
    """Return the strategy under which a variable was made or a model is trained, or None."""
    owner = like.value if isinstance(like, keras.Variable) else like
    return getattr(owner, "distribute_strategy", None)


def check_strategy(model: Any, variables: Any) -> None:
    """Raise `InvalidArgumentError` if the variables were not made under the strategy of `fit`."""
    mirrors = (tf.distribute.MirroredStrategy, tf.distribute.MultiWorkerMirroredStrategy)
    # Variables that were made under other strategies, or under TensorFlow's default strategy, have no
    # attribute for it.
    running = model.distribute_strategy if isinstance(model.distribute_strategy, mirrors) else None
    for variable in variables:
        creator = strategy_of(variable)
        if creator is not running:
            raise InvalidArgumentError(
                "A network and its optimizer must be created under the strategy that trains them. Received: "
                f"'{variable.path}', created under {_name(creator)}, in a `fit` under {_name(running)}. "
                "Build and compile the model inside one `with strategy.scope():`. "
                "`fit` may be called outside it."
            )


def _name(strategy: Any) -> str:
    return "no strategy" if strategy is None else f"a {type(strategy).__name__}"


def count(like: Any) -> int:
    """Return the number of workers."""
    strategy = strategy_of(like)
    if not isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy):
        return 1
    return strategy.num_replicas_in_sync // _replicas_here(strategy)


def rank(like: Any) -> int:
    """Return the index of this worker, from 0."""
    # It differs from the index of the task if the chief is a separate job: the chief then comes before the
    # workers.
    strategy = strategy_of(like)
    ids = strategy.experimental_distribute_values_from_function(
        lambda context: np.int64(context.replica_id_in_sync_group)
    )
    return int(strategy.experimental_local_results(ids)[0]) // _replicas_here(strategy)


def total(sent: np.ndarray, like: Any, timeout: float) -> np.ndarray:
    """Return the sum of the int64 arrays of all workers.

    Raises:
        InvalidArgumentError: A worker does not answer within `timeout` seconds, or sends an array of another
            shape.
    """
    strategy = strategy_of(like)

    def of_replica(context: Any) -> Any:
        # Only the first replica of each worker sends the array.
        first = context.replica_id_in_sync_group % _replicas_here(strategy) == 0
        return tf.constant(sent if first else np.zeros_like(sent))

    values = strategy.experimental_distribute_values_from_function(of_replica)
    options = tf.distribute.experimental.CommunicationOptions(timeout_seconds=timeout)
    try:
        # Equal to `strategy.reduce`, but with a time limit.
        summed = strategy.extended.reduce_to(
            tf.distribute.ReduceOp.SUM, values, "/device:CPU:0", options
        )
    except tf.errors.OpError as error:
        raise InvalidArgumentError(
            "All workers must prune at the same steps: each needs the same `Prune` among the callbacks "
            f"of its `fit`. Received: {type(error).__name__} instead of the masks of another worker, within "
            f"{timeout:g} s. Check that it still runs, give it the same callbacks, and start all workers "
            "again."
        ) from error
    return strategy.experimental_local_results(summed)[0].numpy()


def _replicas_here(strategy: tf.distribute.Strategy) -> int:
    """Return the number of replicas of this worker."""
    return len(strategy.extended.worker_devices)
