"""The demo: train a GAN on real images, prune it in the same `fit`, then strip, export, evaluate and report.

pipeline.py       `run`, step by step
options.py        `DemoOptions`, with one description per option
application.py    `ImageGeneration`, the same networks behind the contract of all applications
training.py       the GAN, the plan of its training, and `fit`
evaluation.py     image quality and latency
result.py         `DemoResult`
outputs.py        pictures and the run folder
summary_table.py  the closing table, and report.md
"""

from keras_ganprune.applications.image_generation.application import (
    ImageGeneration,
    ImageGenerationOptions,
)
from keras_ganprune.applications.image_generation.options import DemoOptions
from keras_ganprune.applications.image_generation.pipeline import run
from keras_ganprune.applications.image_generation.result import DemoResult
from keras_ganprune.applications.image_generation.summary_table import closing_text, summary
from keras_ganprune.applications.image_generation.training import build, classes_of

__all__ = [
    "DemoOptions",
    "DemoResult",
    "ImageGeneration",
    "ImageGenerationOptions",
    "build",
    "classes_of",
    "closing_text",
    "run",
    "summary",
]
