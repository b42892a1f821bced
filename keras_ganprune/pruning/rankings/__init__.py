"""Rankings: the units that are compared with each other, and how many of them are kept."""
