"""A tiny application: a network of two layers learns a function of random vectors."""

import keras
import numpy as np

from keras_ganprune.applications.base import Application, Metric, Source, Split, Splits
from keras_ganprune.applications.options import ApplicationOptions


def _split(rng, n):
    x = rng.normal(size=(n, 8)).astype("float32")
    return Split(x, np.tanh(x @ np.linspace(-1, 1, 16).reshape(8, 2)).astype("float32"))


class Fake(Application):
    """Learns a smooth function of eight numbers."""

    name = "fake"
    help = "a function of eight numbers"
    options_class = ApplicationOptions
    metrics = {
        "error": Metric("mean squared error", False, 4),
        "worst": Metric("largest error", False, 2),
    }

    def data(self):
        """Return random vectors."""
        rng = np.random.default_rng(0)
        parts = [_split(rng, n) for n in (160, 40, 40)]
        return Splits(*parts, Source("random numbers", "CC0", "NumPy"), "240 random vectors.")

    def networks(self, data, width=1.0):
        """Return a network of two layers."""
        units = max(1, round(32 * width))
        hidden = keras.layers.Dense(units, "relu")
        return {"network": keras.Sequential([keras.Input((8,)), hidden, keras.layers.Dense(2)])}

    def model(self, networks):
        """Return the network, compiled with the squared error."""
        networks["network"].compile(keras.optimizers.Adam(1e-2), "mse")
        return networks["network"]

    def evaluate(self, network, data):
        """Return the mean and the largest error."""
        errors = (network.predict(data.x, verbose=0) - data.y) ** 2
        return {"error": float(errors.mean()), "worst": float(errors.max())}

    def show(self, networks, data):
        """Return a figure of outputs against targets."""
        from matplotlib.figure import Figure

        figure = Figure()
        axes = figure.subplots()
        for title, network in networks.items():
            outputs = network.predict(data.x, verbose=0)
            axes.plot(data.y[:, 0], outputs[:, 0], ".", label=title)
        axes.legend()
        return figure

    def epochs(self):
        """Return (epochs of the dense training, epochs of each compression)."""
        return 5, 4

    def baselines(self, data):
        """Return the numbers of a network that always answers 0."""
        errors = data.test.y**2
        return {"always 0": {"error": float(errors.mean()), "worst": float(errors.max())}}


class TwoInputs(Fake):
    """Fake with its numbers as two inputs."""

    def data(self):
        """Return the numbers in two halves."""
        data = super().data()
        parts = [
            Split((part.x[:, :4], part.x[:, 4:]), part.y, {"x": part.x})
            for part in (data.train, data.validation, data.test)
        ]
        return Splits(*parts, data.source, data.description)

    def networks(self, data, width=1.0):
        """Return a network that joins both halves."""
        a, b = keras.Input((4,)), keras.Input((4,))
        x = keras.layers.Dense(max(1, round(32 * width)), "relu")(
            keras.layers.Concatenate()([a, b])
        )
        return {"network": keras.Model([a, b], keras.layers.Dense(2)(x))}

    def evaluate(self, network, data):
        """Return the mean and the largest error."""
        errors = (network.predict(list(data.x), verbose=0) - data.y) ** 2
        return {"error": float(errors.mean()), "worst": float(errors.max())}

    def show(self, networks, data):
        """Return a figure of outputs."""
        from matplotlib.figure import Figure

        figure = Figure()
        axes = figure.subplots()
        for title, network in networks.items():
            axes.plot(network.predict(list(data.x), verbose=0)[:, 0], label=title)
        return figure
