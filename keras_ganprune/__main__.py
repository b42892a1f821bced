"""`python -m keras_ganprune` is `keras-ganprune`."""

import sys

from keras_ganprune.cli import main

sys.exit(main())
