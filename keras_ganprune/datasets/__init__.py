"""Data sets of real images and names for the demo, the tests and the notebooks, and batches of any images."""

from keras_ganprune.datasets.coco_annotations import coco_folder
from keras_ganprune.datasets.digits_on_photos import digit_scenes
from keras_ganprune.datasets.elpv_cells import solar_cells
from keras_ganprune.datasets.image_folder import folder
from keras_ganprune.datasets.images import Batches, Images
from keras_ganprune.datasets.labelled_folder import class_folders
from keras_ganprune.datasets.lookup import load
from keras_ganprune.datasets.mnist_digits import mnist
from keras_ganprune.datasets.names import Names
from keras_ganprune.datasets.optical_digits import digits
from keras_ganprune.datasets.photos import photo_patches
from keras_ganprune.datasets.place_names import geonames, geonames_by_country
from keras_ganprune.datasets.scenes import Scenes
from keras_ganprune.datasets.text_file import names_file

__all__ = [
    "Batches",
    "Images",
    "Names",
    "Scenes",
    "class_folders",
    "coco_folder",
    "digit_scenes",
    "digits",
    "folder",
    "geonames",
    "geonames_by_country",
    "load",
    "mnist",
    "names_file",
    "photo_patches",
    "solar_cells",
]
