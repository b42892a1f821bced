"""`keras.ops` without types.

Keras's operations return the tensors of any backend. A type checker infers their types from all backends,
and includes None for OpenVINO, which cannot train. So arithmetic on their results would not type-check.
"""

from typing import Any

import keras

ops: Any = keras.ops
