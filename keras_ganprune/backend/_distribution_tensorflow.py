"""Workers of a `tf.distribute.MultiWorkerMirroredStrategy`."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_ganprune.errors import InvalidArgumentError

# Keras takes the mean of the logs over all replicas of all workers.
LOGS_DIFFER = False


class MultiWorkerMirroredStrategy(tf.distribute.MultiWorkerMirroredStrategy):
    """TensorFlow's strategy, as Keras 3's `fit` needs it.

    `fit` asks it to reduce tuples and dicts, and scalars along their first axis, which TensorFlow's own
    refuses (keras-team/keras#20585).
    """

    def reduce(self, reduce_op, value, axis):
        def one(v):
            scalar = not self.experimental_local_results(v)[0].shape.rank
            return tf.distribute.Strategy.reduce(self, reduce_op, v, None if scalar else axis)

        return tf.nest.map_structure(one, value)


def strategy_of(like: Any) -> Any:
    """Return the strategy that a variable was made under, or None; of a model, that of its `fit`."""
    owner = like.value if isinstance(like, keras.Variable) else like
    return getattr(owner, "distribute_strategy", None)


def check_strategy(model: Any, variables: Any) -> None:
    """Raise `InvalidArgumentError` if `fit` runs under another strategy than variables were made under."""
    mirrors = (tf.distribute.MirroredStrategy, tf.distribute.MultiWorkerMirroredStrategy)
    # Others make variables of no special kind, or are TensorFlow's default.
    running = model.distribute_strategy if isinstance(model.distribute_strategy, mirrors) else None
    for variable in variables:
        made = strategy_of(variable)
        if made is not running:
            raise InvalidArgumentError(
                "A network and its optimizer must be made under the strategy that trains it. Received: "
                f"'{variable.path}', made under {_name(made)}, in a `fit` under {_name(running)}. Build "
                "and compile the model inside one `with strategy.scope():`; `fit` may stand outside."
            )


def _name(strategy: Any) -> str:
    return "no strategy" if strategy is None else f"a {type(strategy).__name__}"


def count(like: Any) -> int:
    strategy = strategy_of(like)
    if not isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy):
        return 1
    return strategy.num_replicas_in_sync // _replicas_here(strategy)


def rank(like: Any) -> int:
    # Not the index of the task: a chief may be a job of its own, before the workers.
    strategy = strategy_of(like)
    ids = strategy.experimental_distribute_values_from_function(
        lambda context: np.int64(context.replica_id_in_sync_group)
    )
    return int(strategy.experimental_local_results(ids)[0]) // _replicas_here(strategy)


def total(sent: np.ndarray, like: Any, timeout: float) -> np.ndarray:
    strategy = strategy_of(like)

    def of_replica(context):
        # Only the first replica of each worker speaks for it.
        speaks = context.replica_id_in_sync_group % _replicas_here(strategy) == 0
        return tf.constant(sent if speaks else np.zeros_like(sent))

    values = strategy.experimental_distribute_values_from_function(of_replica)
    options = tf.distribute.experimental.CommunicationOptions(timeout_seconds=timeout)
    try:
        # What `strategy.reduce` does, with a limit of time.
        found = strategy.extended.reduce_to(
            tf.distribute.ReduceOp.SUM, values, "/device:CPU:0", options
        )
    except tf.errors.OpError as error:
        raise InvalidArgumentError(
            "All workers must prune at the same steps: each needs the same `Prune` among the callbacks "
            f"of its `fit`. Received: {type(error).__name__} instead of what another worker has, which "
            f"may take {timeout:g} s. See whether it still runs, give it the same callbacks, and start "
            "all workers again."
        ) from error
    return strategy.experimental_local_results(found)[0].numpy()


def _replicas_here(strategy: tf.distribute.Strategy) -> int:
    return len(strategy.extended.worker_devices)
