"""Routes × networks: what each way to make a network from a pruned one gives, measured on this backend.

    KERAS_BACKEND=jax python tests/helpers/guarantees.py     # writes tests/fixtures/guarantees/jax.json

A cell is 'exact', or 'refused: ' and the first sentence of the error. Anything else raises: a difference
that nobody has said is what the tables are here to find. `docs/make_guarantees.py` makes docs/guarantees.md.
"""

import contextlib
import json
import pathlib
import re
import sys
import tempfile
import warnings

import computed
import keras
import numpy as np
import travel
import writers
from keras import layers
from zoo import FEATURES, ZOO, names

import keras_ganprune as kgp
from keras_ganprune import errors
from keras_ganprune.backend import tracing
from keras_ganprune.layers.probe_inputs import probe_inputs
from keras_ganprune.layers.same_outputs import gap, outputs_of
from keras_ganprune.layers.tensors import to_numpy

FOLDER = pathlib.Path(__file__).parents[1] / "fixtures" / "guarantees"
BACKEND = keras.backend.backend()
NOT_APPLICABLE = "-"
# In `fit` on JAX, seeds move between the two moments that are compared: the outputs are other random numbers.
UNMEASURED = {("jax", "Shrink", "sampling")}
# Relative to the largest output. A smaller network adds the same numbers in another order; an exported one
# runs in another process.
TOLERANCE = {"shrink": 1e-4, "shrink(sparsity=)": 1e-4, "Shrink": 1e-4, "export": 1e-4}


def outcome(route, name):
    """Return what a route gives for a network of the zoo.

    Raises:
        AssertionError: The outputs differ, pruned weights came back, or the user's model has changed, and
            nothing was said.
    """
    if (BACKEND, route, name) in UNMEASURED:
        return NOT_APPLICABLE
    keras.utils.set_random_seed(11)
    model, batch = ZOO[name]()
    arrays = probe_inputs(model, batch)
    random = not gap(outputs_of(model, arrays), outputs_of(model, arrays)).within(0.0)
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            pairs = ROUTES[route](model, arrays)
    except errors.PruningError as error:
        return "refused: " + _first_sentence(str(error), model)
    if pairs is None:
        return NOT_APPLICABLE
    if random:  # No two calls of the model agree, so nothing can be compared.
        said = [str(w.message) for w in caught if issubclass(w.category, errors.PruningWarning)]
        assert said, f"{route}, {name}: random outputs, and nothing was said"
        return "said: " + _first_sentence(said[0], model)
    for what, expected, actual in pairs:
        found = gap(expected, actual)
        half = any(
            "bfloat16" in str(getattr(layer, "compute_dtype", ""))
            for layer in model._flatten_layers()
        )
        tolerance = 5e-2 if half and route in TOLERANCE else TOLERANCE.get(route, 0.0)
        assert not found.reason and found.largest <= tolerance * max(found.scale, 1e-6), (
            f"{route}, {name}: {what} differs in silence. {found}"
        )
    return "exact"


def _first_sentence(text, model):
    text = " ".join(text.split())
    text = re.sub(r"0x[0-9a-f]+", "0x…", text)
    # Names of models and layers are numbered by what was built before.
    text = re.sub(r"_\d+\b", "", text)
    return re.split(r"(?<=[.:]) (?=[A-Z`])", text)[0][:240]


def _prune(model, **settings):
    kgp.Pruner(model, **settings).update(sparsity=0.5)


def _zeros(model):
    """Return, for the kernels in order, which entries are zero."""
    return [to_numpy(w) == 0 for w in model.weights if len(w.shape) > 1]


def _same_zeros(before, after):
    return ("zeros", [z.astype("int8") for z in before], [z.astype("int8") for z in after])


# --- the routes -----------------------------------------------------------------------------------------
# Each takes a new model and arrays for it, prunes it, and returns rows (what, expected, actual) that must be
# equal; or None where the route does not apply to the network.


def strip(model, arrays):
    _prune(model)
    expected, zeros = outputs_of(model, arrays), _zeros(model)
    copy = kgp.strip_pruning(model, inputs=arrays)
    assert not any(isinstance(layer, kgp.PrunableLayer) for layer in copy._flatten_layers())
    return [
        ("the copy", expected, outputs_of(copy, arrays)),
        ("the model", expected, outputs_of(model, arrays)),
        _same_zeros(zeros, _zeros(copy)),
    ]


def strip_in_place(model, arrays):
    _prune(model)
    expected, zeros = outputs_of(model, arrays), _zeros(model)
    same = kgp.strip_pruning(model, copy=False)
    assert same is model
    assert not any(isinstance(layer, kgp.PrunableLayer) for layer in model._flatten_layers())
    return [
        ("the model", expected, outputs_of(model, arrays)),
        _same_zeros(zeros, _zeros(model)),
    ]


def shrink_masks(model, arrays):
    _prune(model, granularity="channel")
    expected = outputs_of(model, arrays)
    small = kgp.shrink(model, inputs=arrays)
    assert small.count_params() < model.count_params()
    return [
        ("the smaller model", expected, outputs_of(small, arrays)),
        ("the model", expected, outputs_of(model, arrays)),
    ]


def shrink_by_sparsity(model, arrays):
    from keras_ganprune.pruning.shrink_model import shrink_with_cuts

    before = outputs_of(model, arrays)
    result = shrink_with_cuts(model, sparsity=0.5, inputs=arrays)
    values = [(v, value) for v, value in result.groups.masked_values(result.keeps).values()]
    assert result.model.count_params() < model.count_params()
    return [
        ("the smaller model", outputs_of(model, arrays, values), outputs_of(result.model, arrays)),
        ("the model", before, outputs_of(model, arrays)),
    ]


def _is_generator(model):
    shapes = [getattr(model, "input_shape", None), getattr(model, "output_shape", None)]
    return shapes == [(None, FEATURES), (None, 3)] and model.inputs[0].dtype.startswith("float")


def _gan(model, **settings):
    discriminator = keras.Sequential([keras.Input((3,)), layers.Dense(8, "relu"), layers.Dense(1)])
    gan = kgp.GANModel(model, discriminator, latent_dim=FEATURES, **settings)
    # Nothing moves but what a cut moves.
    gan.compile(keras.optimizers.SGD(0.0), keras.optimizers.SGD(0.0))
    return gan


def shrink_in_fit(model, arrays):
    with contextlib.suppress(AttributeError, ValueError):
        if not _is_generator(model):
            return None
        gan = _gan(model)
        rows = []

        def before(batch, logs=None):
            tracing.sync(gan)
            if batch == 1:
                small = kgp.shrink(gan.generator, sparsity=0.5)
                rows.append(["the generator", outputs_of(small, arrays)])

        def after(batch, logs=None):
            if batch == 1:
                rows[0].append(outputs_of(gan.generator, arrays))

        see = [keras.callbacks.LambdaCallback(on_train_batch_end=f) for f in (before, after)]
        cut = kgp.Shrink(2, "generator", sparsity=0.5, recalibrate=False)
        x = np.random.default_rng(0).normal(size=(12, 3)).astype("float32")
        gan.fit(x, batch_size=4, verbose=0, callbacks=[see[0], cut, see[1]])
        assert gan.generator is not model
        return rows
    return None


def average(model, arrays):
    if not _is_generator(model):
        return None
    _prune(model)
    expected = outputs_of(model, arrays)
    gan = _gan(model, ema_decay=0.9)
    return [("the average", expected, outputs_of(gan.ema_generator, arrays))]


def teacher(model, arrays):
    if not _is_generator(model):
        return None
    expected = outputs_of(model, arrays)
    gan = _gan(model, teacher=model)
    _prune(model)
    return [("the teacher", expected, outputs_of(gan.teacher, arrays))]


def export(model, arrays):
    _prune(model)
    expected = outputs_of(model, arrays)
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder, "model")
        kgp.export_saved_model(model, path, inputs=arrays)
        served = _served(path, arrays)
    return [
        ("the SavedModel", expected, served),
        ("the model", expected, outputs_of(model, arrays)),
    ]


def _served(path, arrays):
    """Return the outputs of a SavedModel, loaded by TensorFlow alone."""
    import tensorflow as tf

    loaded = tf.saved_model.load(str(path))
    tensors = keras.tree.map_structure(tf.constant, arrays)
    outputs = loaded.serve(*tensors) if isinstance(tensors, tuple) else loaded.serve(tensors)
    return [np.asarray(leaf) for leaf in tf.nest.flatten(outputs)]


def _loaded(load):
    def route(model, arrays):
        _prune(model)
        expected, zeros = outputs_of(model, arrays), _zeros(model)
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder, "model.keras")
            try:
                model.save(path)
            except errors.PruningError:
                raise
            except Exception as error:  # Keras itself cannot save it, pruned or not.
                raise errors.UnsupportedLayerError(
                    f"Keras cannot save it ({type(error).__name__})."
                ) from None
            loaded = load(path)
        masks = [int(np.count_nonzero(to_numpy(w.mask))) for w in kgp.masked_weights(model)]
        found = [int(np.count_nonzero(to_numpy(w.mask))) for w in kgp.masked_weights(loaded)]
        assert masks == found, f"masks {found} instead of {masks}"
        return [
            ("the loaded model", expected, outputs_of(loaded, arrays)),
            _same_zeros(zeros, _zeros(loaded)),
        ]

    return route


ROUTES = {
    "strip": strip,
    "strip in place": strip_in_place,
    "shrink": shrink_masks,
    "shrink(sparsity=)": shrink_by_sparsity,
    "Shrink": shrink_in_fit,
    "average": average,
    "teacher": teacher,
    "export": export,
}


def cells():
    """Return all (route, network) of this backend. On JAX and PyTorch, test_copies.py exports."""
    routes = [route for route in ROUTES if BACKEND == "tensorflow" or route != "export"]
    return [(route, name) for name in names() for route in routes]


def zeros_hold(name):
    """Return 'holds' if the pruned weights stay zero whatever a writer of `writers` does."""
    keras.utils.set_random_seed(11)
    with tempfile.TemporaryDirectory() as folder:
        held = writers.holds(writers.everything()[name], writers.pruned(), pathlib.Path(folder))
    assert held, f"{name} writes into pruned weights"
    return "holds"


def in_folder(function, *arguments):
    """Return what a function gives that writes into a folder, with its first sentence."""
    with tempfile.TemporaryDirectory() as folder:
        result = function(*arguments, pathlib.Path(folder))
    kind, _, reason = (result if isinstance(result, str) else result[0]).partition(": ")
    if not reason:
        return kind
    # Names and numbers differ from layer to layer.
    reason = re.sub(r"^'[^']*' \([^)]*\)", "the layer", reason)
    reason = re.sub(r"^'[^']*'", "the layer", reason)
    reason = re.sub(r"[\d,]+ of [\d,]+", "many", reason)
    return f"{kind}: {re.split(r'(?<=[.]) (?=[A-Z`])', reason)[0][:240]}"


def travels(way, make):
    """Return what becomes of the masks of a model that is copied in a way of `travel`, by their names."""
    return in_folder(travel.outcome, *travel.cells()[way, make][:2])


def keeps_zeros(route, name):
    """Return what becomes of the zeros of a layer on a route of `computed`."""
    return in_folder(computed.outcome, route, name)


def path_of(backend):
    """Return the file with the outcomes of a backend."""
    return FOLDER / f"{backend}.json"


def _computed_cells():
    return [(name, route) for route, name in computed.cells()]


def main(only):
    """Measure all cells, or those of some networks, routes and writers, and write them."""
    file = path_of(BACKEND)
    table = json.loads(file.read_text()) if only and file.is_file() else {}
    measure = {
        "outputs": (outcome, cells()),
        "zeros": (lambda _, name: zeros_hold(name), [("", n) for n in writers.everything()]),
        "travel": (lambda make, way: travels(way, make), [(m, w) for w, m in travel.cells()]),
        "computed": (lambda name, route: keeps_zeros(route, name), _computed_cells()),
    }
    failures = []
    for kind, (function, tasks) in measure.items():
        for column, row in tasks:
            if only and not {column, row, kind} & set(only):
                continue
            try:
                result = function(column, row)
                if kind == "zeros":
                    table.setdefault(kind, {})[row] = result
                else:
                    table.setdefault(kind, {}).setdefault(row, {})[column] = result
            except Exception as error:
                failures.append((row, column))
                result = f"!! {type(error).__name__}: {str(error)[:600]}"
            print(f"{row}, {column or kind}: {result}", flush=True)
    FOLDER.mkdir(parents=True, exist_ok=True)
    text = json.dumps(table, indent=1, sort_keys=True, ensure_ascii=False)
    file.write_text(text + "\n", encoding="utf-8")
    print(f"{len(failures)} cells failed: {failures}")


if __name__ == "__main__":
    main(sys.argv[1:])
