"""Ways in from other libraries. Not imported by `keras_ganprune` itself, since they bring those in."""
