"""`explain`: what of a model can be pruned, what cannot and why, and which call to make next."""

from keras_ganprune.metrics.explanation.explain_model import explain
from keras_ganprune.metrics.explanation.one_network import NetworkExplanation, NextCall, Outcome
from keras_ganprune.metrics.explanation.report import Explanation

__all__ = ["Explanation", "NetworkExplanation", "NextCall", "Outcome", "explain"]
