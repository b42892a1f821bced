"""Checks of the networks and the data of a GAN that maps images to images."""

from __future__ import annotations

import warnings
from typing import Any, Literal

import keras
import numpy as np

from keras_ganprune.errors import (
    ArgumentTypeError,
    DataError,
    InvalidArgumentError,
    PruningWarning,
    UnbuiltModelError,
)
from keras_ganprune.gan import batch_checks
from keras_ganprune.gan.input_form import InputForm
from keras_ganprune.gan.network_checks import inputs_of, output_shape, shapes_match

Sees = Literal["result", "image_and_result", "inputs_and_result"]


# --- networks ------------------------------------------------------------------------------------


def networks(generator: Any, discriminator: Any) -> None:
    """Check that two arguments are two built networks.

    Raises:
        ArgumentTypeError: One is not a Keras model.
        InvalidArgumentError: Both are the same.
        UnbuiltModelError: One has no weights yet.
    """
    for name, network in (("generator", generator), ("discriminator", discriminator)):
        if not isinstance(network, keras.Model):
            raise ArgumentTypeError(
                f"`{name}` must be a `keras.Model`. Received: {network!r} "
                f"(of type {type(network).__module__}.{type(network).__name__})."
            )
        if not network.built:
            raise UnbuiltModelError(
                f"`{name}` has no weights yet. Build it from `keras.Input`s, or call it once on a batch."
            )
    if generator is discriminator:
        raise InvalidArgumentError(
            "`generator` and `discriminator` must be two networks. Received: "
            f"'{generator.name}' as both. Build a network for each."
        )


def what_it_sees(form: InputForm, discriminator: keras.Model, value: Sees | None) -> Sees:
    """Return what the discriminator sees, by its number of inputs if `value` is None.

    Raises:
        InvalidArgumentError: The number of inputs fits no choice, or not `value`.
    """
    inputs = inputs_of(discriminator)
    count = None if form.names is None else len(form.names)
    numbers = {"result": 1, "image_and_result": 2}
    if count is not None:
        numbers["inputs_and_result"] = count + 1
    if not inputs:
        return value or "result"
    if value is not None:
        expected = numbers.get(value, len(inputs))
        if expected != len(inputs):
            raise InvalidArgumentError(
                f"With discriminator_sees='{value}', the discriminator must have {expected} input(s). "
                f"Received: '{discriminator.name}' with {len(inputs)}. Leave `discriminator_sees` out, or "
                "build the discriminator with these inputs, the result last."
            )
        return value
    fitting: list[Any] = [name for name, number in numbers.items() if number == len(inputs)]
    if not fitting and count is None:
        return "inputs_and_result"
    if not fitting:
        raise InvalidArgumentError(
            f"The discriminator must take the result, [image, result], or the {count} inputs of the "
            f"generator and the result. Received: '{discriminator.name}' with {len(inputs)} inputs."
        )
    # With one input of the generator, "image" and "inputs" are the same.
    return fitting[-1]


def networks_fit(
    form: InputForm, generator: keras.Model, discriminator: keras.Model, sees: Sees
) -> None:
    """Compare the shapes of the networks.

    Raises:
        InvalidArgumentError: An input of the discriminator has another shape than what it sees, or its
            output is not one or more logits for each image.
    """
    made = output_shape(generator)
    if made is not None and any(isinstance(x, (list, tuple)) for x in made):
        raise InvalidArgumentError(
            f"The generator must return one image. Received: '{generator.name}' with {len(made)} outputs."
        )
    inputs = inputs_of(discriminator)
    if inputs and made is not None:
        shapes = form.shapes or [None] * (len(inputs) - 1)
        before = {"result": [], "image_and_result": shapes[:1], "inputs_and_result": shapes}[sees]
        taken = [tuple(x.shape[1:]) for x in inputs]
        given = [None if shape is None else shape[1:] for shape in [*before, made]]
        fits = [
            one is None or shapes_match(one, other) for one, other in zip(given, taken, strict=True)
        ]
        if not all(fits):
            raise InvalidArgumentError(
                "The inputs of the discriminator must have the shapes of what it sees, the generator's "
                f"result last: {given}. Received: '{discriminator.name}', which takes {taken}."
            )
    logits = output_shape(discriminator)
    if logits is not None and (len(logits) < 2 or logits[0] not in (None, 1)):
        raise InvalidArgumentError(
            f"The discriminator must return logits for each image. Received: output shape {logits}."
        )


def joint_shape(discriminator: keras.Model) -> tuple | None:
    """Return the shape of the images that the discriminator takes, joined by channels, if it is known.

    Raises:
        InvalidArgumentError: They have several sizes, so an augmentation cannot change them alike.
    """
    inputs = inputs_of(discriminator)
    if not inputs:
        return None
    rank = len(inputs[-1].shape)
    shapes = [tuple(x.shape) for x in inputs if len(x.shape) == rank]
    sizes = {shape[:-1] for shape in shapes}
    if len(sizes) > 1:
        raise InvalidArgumentError(
            "`augmentation` changes all images that the discriminator sees alike, so they must have one "
            f"height and width. Received: {shapes}. Let the discriminator see the result alone, or leave "
            "`augmentation` out and change the pairs of images in your data."
        )
    channels = [shape[-1] for shape in shapes]
    return (*shapes[0][:-1], None if None in channels else sum(channels))


# --- data ----------------------------------------------------------------------------------------


def data(gan: Any, x: Any, y: Any, name: str = "fit") -> None:
    """Check the data of `fit`. Arrays are checked as a whole, streams by their first batch.

    Args:
        gan: The model that is fitted.
        x: The argument `x` of `fit`.
        y: The argument `y` of `fit`.
        name: What takes the data, for errors. Defaults to "fit".

    Raises:
        DataError: The data is empty, not numeric, not finite, not in pairs, or of the wrong shape.
    """
    if x is None or isinstance(x, (str, bytes, bool, int, float, complex)):
        raise DataError(
            f"`{name}` takes inputs and targets as arrays, a `tf.data.Dataset` or a `PyDataset` of (inputs, "
            f"targets). Received: {x!r}."
        )
    if _is_structure_of_arrays(x):
        inputs, targets = gan.unpack((x, y) if y is not None else (x,))[::-1]
        _check_pairs(gan, [np.asarray(a) for a in gan.input_form.parts(inputs)], targets, "")
        return
    batch = batch_checks.first_batch(x)
    if batch is not None:
        targets, inputs = gan.unpack(batch)
        arrays = [np.asarray(a) for a in gan.input_form.parts(inputs)]
        _check_pairs(gan, arrays, targets, " (in the first batch)")


def _is_structure_of_arrays(x: Any) -> bool:
    if isinstance(x, (list, tuple)):
        parts = list(x)
    else:
        parts = list(x.values()) if isinstance(x, dict) else [x]
    return bool(parts) and all(
        isinstance(a, (np.ndarray, list)) or batch_checks.is_tensor(a) for a in parts
    )


def inputs(gan: Any, arrays: list[np.ndarray]) -> None:
    """Check the inputs of the generator for `generate`.

    Raises:
        DataError: They are not numbers, of several lengths, or of the wrong shape.
    """
    named = _named(gan, arrays)
    _check_arrays(named, "")
    _check_input_shapes(gan, arrays, "")
    made_shape(gan, arrays)


def _named(gan: Any, arrays: list[np.ndarray]) -> list[tuple[str, np.ndarray]]:
    names = gan.input_form.names or [f"input {i + 1}" for i in range(len(arrays))]
    return list(zip(names, arrays, strict=True))


def _check_pairs(gan: Any, inputs: list[np.ndarray], targets: Any, part: str) -> None:
    named = [*_named(gan, inputs), ("targets", np.asarray(targets))]
    _check_arrays(named, part)
    _check_shapes(gan, inputs, named[-1][1], part)
    _warn_of_range(gan, named, part)


def _check_arrays(named: list[tuple[str, np.ndarray]], part: str) -> None:
    counts = {name: len(array) if array.ndim else None for name, array in named}
    if len(set(counts.values())) > 1 or None in counts.values():
        raise DataError(
            "All inputs and targets must have the same length: their rows are pairs. Received: "
            f"{', '.join(f'{count} of {name}' for name, count in counts.items())}{part}."
        )
    for name, array in named:
        batch_checks.check_numbers(array, f"The values of '{name}'", part)


def _check_shapes(gan: Any, inputs: list[np.ndarray], targets: np.ndarray, part: str) -> None:
    _check_input_shapes(gan, inputs, part)
    shapes = [array.shape[1:] for array in inputs]
    made = made_shape(gan, inputs, part)
    if made is not None and not shapes_match(targets.shape[1:], made[1:]):
        raise DataError(
            f"Targets must have the shape that the generator makes, {made[1:]}. Received: "
            f"{targets.shape[1:]}{part}, for inputs of the shapes {shapes}."
        )


def _check_input_shapes(gan: Any, inputs: list[np.ndarray], part: str) -> None:
    shapes = [array.shape[1:] for array in inputs]
    for shape, array in zip(gan.input_form.shapes or [], inputs, strict=False):
        given = array.shape[1:]
        # Keras adds or drops a last axis of length 1, as in labels.
        if not shapes_match(given, shape[1:]) and (*given, 1) != shape[1:] != given[:-1]:
            raise DataError(
                "The inputs must have the shapes that the generator takes, "
                f"{[s[1:] for s in gan.input_form.shapes]}. Received: {shapes}{part}."
            )


def made_shape(gan: Any, inputs: list[np.ndarray], part: str = "") -> tuple | None:
    """Return the shape of the generator's images for some inputs, or None if it is not known.

    Raises:
        DataError: The generator cannot take inputs of these shapes together, as a mask of another size.
    """
    made = output_shape(gan.generator)
    if made is None or gan.input_form.shapes is None or None not in made[1:]:
        return made
    specs = tuple(keras.KerasTensor((None, *array.shape[1:]), array.dtype) for array in inputs)
    packed = gan.input_form.pack(specs if len(specs) > 1 else specs[0])
    try:
        return tuple(gan.generator.compute_output_spec(packed).shape)
    except Exception as error:
        raise DataError(
            "The generator cannot take inputs of these sizes together. Received: shapes "
            f"{[a.shape[1:] for a in inputs]}{part}. Resize them, such as masks, to the size of their image. "
            f"({type(error).__name__}: {' '.join(str(error).split())[:200]})"
        ) from error


def _warn_of_range(gan: Any, named: list[tuple[str, np.ndarray]], part: str) -> None:
    """Warn if targets lie outside the range of the images, or inputs far outside."""
    if gan.value_range is None:
        return
    low, high = gan.value_range
    for name, array in named:
        # Noise leads out of the range of the images. Labels have no range.
        slack = (0.01 if name == "targets" else 1.0) * (high - low)
        if array.ndim < 3 or array.dtype.kind == "b":
            continue
        lowest, highest = float(np.min(array)), float(np.max(array))
        if lowest < low - slack or highest > high + slack:
            warnings.warn(
                f"The values of '{name}' lie in [{lowest:g}, {highest:g}]{part}, outside the expected "
                f"[{low:g}, {high:g}]. Scale images of 8 bits by x / 127.5 - 1 and masks to 0 and 1, or pass "
                "`value_range=`.",
                PruningWarning,
                stacklevel=5,
            )
