"""The file run.json as dataclasses, field for field, and its checks."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from keras_ganprune.reports.run import _typed_json
from keras_ganprune.reports.run.run import LayerRow, MetricColumn, PruneLog, Run
from keras_ganprune.utils.checksums import of_json

FORMAT = 1


@dataclass(frozen=True)
class _Layer:
    """One row of `layers`: a `LayerRow` with the name of its network."""

    network: str
    layer: str
    weight: str
    shape: tuple[int, ...]
    kept: int
    total: int
    requested: float | None

    def row(self) -> LayerRow:
        """Return the row without the name of the network."""
        return LayerRow(self.layer, self.weight, self.shape, self.kept, self.total, self.requested)


@dataclass(frozen=True)
class RunJson:
    """The content of run.json, in the order of the file.

    `record_run` accepts a seed of any JSON type, so `seed` is not checked.
    """

    format: int
    name: str
    settings: Mapping[str, Any]
    seed: Any
    steps: float | None
    seconds: float | None
    steps_per_epoch: float | None
    data: str
    created: str
    versions: Mapping[str, str]
    hardware: str
    sizes: Mapping[str, Mapping[str, float]]
    latency: Mapping[str, Mapping[str, float]]
    extractor: str
    prunes: Mapping[str, PruneLog]
    layers: tuple[_Layer, ...]
    channels: Mapping[str, tuple[tuple[str, int, int], ...]]
    quality: Mapping[str, tuple[Mapping[str, float], ...]]
    samples: tuple[str, ...]
    masks: int
    # Runs before version 0.3 have neither.
    metrics: Mapping[str, MetricColumn] = dataclasses.field(default_factory=dict)
    pictures: tuple[str, ...] = ()
    # Runs before version 0.3 have neither of these, too.
    latency_quartiles: Mapping[str, Mapping[str, tuple[float, float]]] = dataclasses.field(
        default_factory=dict
    )
    equal_steps: bool | None = None
    # File -> its checksum. Runs of version 0.1 have none.
    checksums: Mapping[str, str] = dataclasses.field(default_factory=dict)

    @classmethod
    def of(cls, run: Run, checksums: Mapping[str, str]) -> RunJson:
        """Return the content of run.json for a run whose other files have these checksums."""
        converted = {"format", "layers", "samples", "masks", "pictures", "checksums"}
        copied = [field.name for field in dataclasses.fields(cls) if field.name not in converted]
        return cls(
            format=FORMAT,
            layers=tuple(
                _Layer(network, **dataclasses.asdict(row))
                for network, rows in run.layers.items()
                for row in rows
            ),
            samples=tuple(run.samples),
            pictures=tuple(run.pictures),
            masks=sum(len(masks) for masks in run.masks.values()),
            checksums=dict(checksums),
            **{name: getattr(run, name) for name in copied},
        )

    def text(self) -> str:
        """Return the text of the file. Its last field is the checksum of the others."""
        text = json.dumps(dataclasses.asdict(self), allow_nan=False, default=list)
        content = json.loads(text)
        content["checksum"] = of_json(content)
        return json.dumps(content, indent=1, ensure_ascii=False)

    def fields_of_run(self) -> dict[str, Any]:
        """Return the arguments of `Run` that run.json holds."""
        names = {field.name for field in dataclasses.fields(Run)} - {
            "samples",
            "pictures",
            "masks",
            "layers",
        }
        fields = {
            field.name: getattr(self, field.name)
            for field in dataclasses.fields(self)
            if field.name in names
        }
        return fields | {"layers": by_network((row.network, row.row()) for row in self.layers)}


def read(content: Any) -> RunJson:
    """Return the content of a run.json of this format, with consistent numbers.

    Raises:
        FieldError: A field is missing, has the wrong type or contradicts another one, or the content differs
            from its checksum.
    """
    run_json = _typed_json.read(RunJson, content)
    checksum = content.get("checksum")
    if checksum != of_json({k: v for k, v in content.items() if k != "checksum"}):
        if checksum is not None or run_json.checksums:
            raise _typed_json.FieldError(
                "it differs from the checksum in it. If you changed it on purpose, delete the lines "
                "'checksum' and 'checksums'"
            )
    for row in run_json.layers:
        if not 0 <= row.kept <= row.total == math.prod(row.shape) or not row.total:
            raise _typed_json.FieldError(f"the row of '{row.layer}' in layers contradicts itself")
    for field in ("sizes", "latency"):
        for name, values in getattr(run_json, field).items():
            for key, value in values.items():
                if not 0 <= value < math.inf:
                    raise _typed_json.FieldError(
                        f"{field}[{name!r}][{key!r}] must be a non-negative number. Found: {value}"
                    )
    for groups in run_json.channels.values():
        for layer, before, after in groups:
            if not 0 <= after <= before or not before:
                raise _typed_json.FieldError(
                    f"channels has {after} of {before} channels for '{layer}'"
                )
    return run_json


def by_network(pairs: Any) -> dict[str, tuple[Any, ...]]:
    """Return pairs (network, value) as a dict of network -> tuple of its values.

    Example:
    >>> by_network([("generator", 1), ("discriminator", 2), ("generator", 3)])
    {'generator': (1, 3), 'discriminator': (2,)}
    """
    lists: dict[str, list[Any]] = {}
    for network, value in pairs:
        lists.setdefault(network, []).append(value)
    return {network: tuple(values) for network, values in lists.items()}
