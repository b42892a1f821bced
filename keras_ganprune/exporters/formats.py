"""The formats by name. To add one: its file, and a row here."""

from __future__ import annotations

from collections.abc import Mapping

from keras_ganprune.exporters.contract import Exporter
from keras_ganprune.exporters.litert_format import LiteRtExporter
from keras_ganprune.exporters.onnx_format import OnnxExporter
from keras_ganprune.exporters.openvino_format import OpenVinoExporter
from keras_ganprune.exporters.saved_model_format import SavedModelExporter

#: Name -> exporter. They import their packages only when they are used.
FORMATS: Mapping[str, Exporter] = {
    exporter.name: exporter
    for exporter in (SavedModelExporter(), OnnxExporter(), LiteRtExporter(), OpenVinoExporter())
}

PRECISIONS = ("float32", "float16", "int8")
