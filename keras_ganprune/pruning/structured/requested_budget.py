"""`Budget`: the cost that a network may have after its channels are cut."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from keras_ganprune.errors import InvalidArgumentError, unknown_name
from keras_ganprune.pruning.structured.costs import Costs
from keras_ganprune.utils import annotated, validation
from keras_ganprune.utils.registry import Configurable, Family

#: Where a latency can be measured.
RUNTIMES = ("onnx", "litert", "openvino", "keras")


class Budget(Configurable):
    """The cost of a network after its channels are cut, as a fraction of the dense network.

    Give exactly one of the four shares. `macs`, `parameters` and `bytes` are counted. `latency` is measured:
    the dense network and the smaller one are exported, and run in random turns in one process, by one thread
    (in 'keras': by those of the backend). The share of the multiply-accumulates is chosen so that the ratio
    of the median times meets the budget within 10 %. That takes some exports, about a minute for a small
    network.

    Args:
        macs: Float in (0, 1]: multiply-accumulates for one sample. Defaults to None.
        parameters: Float in (0, 1]: entries of all weights. Defaults to None.
        bytes: Float in (0, 1]: bytes of all weights. Defaults to None.
        latency: Float in (0, 1]: median time of a call in `runtime`. Defaults to None.
        runtime: With `latency`: 'onnx' (ONNX Runtime), 'litert' (LiteRT), 'openvino' (OpenVINO) or 'keras'
            (this backend, compiled). Defaults to None: 'onnx'.
        batch_size: With `latency`: positive int, samples per call. Defaults to None: 1.

    Attributes:
        quantity: 'macs', 'parameters', 'bytes' or 'latency'.
        fraction: Float in (0, 1].
        runtime: The runtime of a latency, or None.
        batch_size: Samples per call of a latency, or None.

    Raises:
        InvalidArgumentError: None or several of the four are given, or the value is not a fraction in
            (0, 1].
        InvalidArgumentError: `runtime` is unknown, `batch_size` is not positive, or one of them is given
            without `latency`.

    Example:
    >>> Budget(macs=0.25)
    Budget(macs=0.25)
    >>> Budget(latency=0.5, runtime="litert")
    Budget(latency=0.5, runtime='litert')
    """

    def __init__(
        self,
        macs: float | None = None,
        parameters: float | None = None,
        bytes: float | None = None,
        latency: float | None = None,
        *,
        runtime: Literal["onnx", "litert", "openvino", "keras"] | None = None,
        batch_size: int | None = None,
    ):
        fractions = {"macs": macs, "parameters": parameters, "bytes": bytes, "latency": latency}
        given = {name: value for name, value in fractions.items() if value is not None}
        if len(given) != 1:
            raise InvalidArgumentError(
                "A `Budget` needs exactly one of `macs`, `parameters`, `bytes` and `latency`. "
                f"Received: {given or 'none'}. Write `Budget(macs=0.25)`, for example."
            )
        ((self.quantity, value),) = given.items()
        self.fraction = validation.fraction(value, self.quantity, zero=False, one=True)
        annotated.check(Budget.__init__, locals(), "runtime", "batch_size")
        self.runtime: str | None = None
        self.batch_size: int | None = None
        if latency is None:
            for name, value in (("runtime", runtime), ("batch_size", batch_size)):
                if value is not None:
                    raise InvalidArgumentError(
                        f"`{name}` is for a `latency`, which is measured; the {self.quantity} are counted. "
                        f"Received: {name}={value!r}. Leave it out, or write "
                        f"`Budget(latency={self.fraction:g}, ...)`."
                    )
        else:
            self.runtime = validation.one_of(
                "onnx" if runtime is None else runtime, "runtime", RUNTIMES
            )
            self.batch_size = validation.positive_int(
                1 if batch_size is None else batch_size, "batch_size"
            )

    @property
    def is_measured(self) -> bool:
        """Whether the budget is a latency."""
        return self.quantity == "latency"

    def get_config(self):
        """Return the arguments as a dict."""
        config: dict[str, Any] = {self.quantity: self.fraction}
        if self.is_measured:
            config["runtime"] = self.runtime
        if self.batch_size not in (None, 1):
            config["batch_size"] = self.batch_size
        return config


_family = Family("budget", Budget)
_family.register(Budget)


def get(identifier: Budget | Mapping[str, Any]) -> Budget:
    """Return the budget for an instance, a config, or a dict such as {'macs': 0.25}.

    Raises:
        InvalidArgumentError: The dict is not valid for a `Budget`.
        ArgumentTypeError: `identifier` has another type.

    Example:
    >>> get({"parameters": 0.5})
    Budget(parameters=0.5)
    """
    if isinstance(identifier, Mapping) and "class_name" not in identifier:
        known = (*Costs.QUANTITIES, "latency")
        wrong = set(identifier) - {*known, "runtime", "batch_size"}
        if wrong:
            raise InvalidArgumentError(unknown_name("quantity", str(min(map(str, wrong))), known))
        return Budget(**identifier)
    return _family.get(identifier)


def counted(budget: Budget, where: str) -> Budget:
    """Return a budget, or raise if it is measured, where costs can only be counted.

    Args:
        budget: A `Budget`.
        where: Beginning of the sentence, such as '`fit`'.

    Raises:
        InvalidArgumentError: The budget is a latency.
    """
    if budget.is_measured:
        raise InvalidArgumentError(
            f"{where} counts costs, and measures nothing: a budget must be one of "
            f"{', '.join(Costs.QUANTITIES)}. Received: {budget!r}. Give `Budget(macs=...)`, or pass the "
            "latency to `shrink`, `Shrink` or `compress`."
        )
    return budget
