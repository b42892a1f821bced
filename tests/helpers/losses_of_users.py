"""A loss that a user would write."""

from keras import ops

import keras_ganprune as kgp


class Offset(kgp.GANLoss):
    """A loss of a user."""

    def __init__(self, by=1.0):
        self.by = by

    def get_config(self):
        return {"by": self.by}

    def discriminator(self, real_logits, fake_logits):
        return ops.mean(fake_logits) - ops.mean(real_logits) + self.by

    def generator(self, fake_logits, real_logits=None):
        return -ops.mean(fake_logits) + self.by
