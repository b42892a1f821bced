"""Data sets of real images for the demo, the tests and the notebooks, and batches of any images."""

from keras_ganprune.datasets.image_folder import folder
from keras_ganprune.datasets.images import Batches, Images
from keras_ganprune.datasets.lookup import load
from keras_ganprune.datasets.mnist_digits import mnist
from keras_ganprune.datasets.optical_digits import digits
from keras_ganprune.datasets.photos import photo_patches
from keras_ganprune.datasets.solar_cells import solar_cells

__all__ = ["Batches", "Images", "digits", "folder", "load", "mnist", "photo_patches", "solar_cells"]
