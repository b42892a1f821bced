"""Fields of use, end to end: data, networks, training, pruning, evaluation."""
