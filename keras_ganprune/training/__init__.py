"""A model while it is trained: its networks, optimizers, steps and averages."""
