"""Data sets of real images for the demo, the tests and the notebooks, and batches of any images."""

from keras_ganprune.datasets.image_folder import folder
from keras_ganprune.datasets.images import Batches, Images
from keras_ganprune.datasets.lookup import load
from keras_ganprune.datasets.mnist_digits import mnist
from keras_ganprune.datasets.optical_digits import digits

__all__ = ["Batches", "Images", "digits", "folder", "load", "mnist"]
