"""The text where channels reach layers without a rule: whole sentences, and a fix that works as it is."""

import re

import keras
import pytest
import tensorflow as tf
from keras import layers
from rule_networks import assert_cut_gives_the_same, model_of

import keras_ganprune as kgp
from keras_ganprune.errors import UnsupportedLayerError
from keras_ganprune.utils.foreign_errors import sentence_of

TENSORFLOW = pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="calls tf.*")


def fresh_classes():
    """Return layer classes that no rule is registered for, with what their rule returns."""

    class ReflectionPadding2D(layers.Layer):
        def call(self, inputs):
            return tf.pad(inputs, [[0, 0], [1, 1], [1, 1], [0, 0]], mode="REFLECT")

    class Shifted(layers.Layer):
        def call(self, x):
            return tf.math.sigmoid(x)

    class Spread(layers.Layer):
        def call(self, x):
            return tf.nn.softmax(x, axis=-1)

    class Mixed(layers.Layer):
        def build(self, shape):
            self.kernel = self.add_weight(shape=(shape[-1], 6), name="kernel")
            self.shift = self.add_weight(shape=(6,), name="shift")

        def call(self, x):
            return tf.einsum("bhwc,cd->bhwd", x, self.kernel) + self.shift

    return {
        "padding": (ReflectionPadding2D, "return inputs", "reflection_padding2d*"),
        "not zero": (Shifted, "return x.along(channels.shape, -1, x[-1], zero=False)", "shifted*"),
        "mixing": (Spread, None, "spread*"),
        "with weights": (Mixed, "return x.along(channels.shape, -1, new)", "mixed*"),
    }


def network(cls):
    return model_of(
        (8, 8, 3),
        lambda x: layers.Conv2D(2, 3, name="c")(
            cls()(layers.Conv2D(6, 3, name="b")(cls()(layers.Conv2D(6, 3, name="a")(x))))
        ),
    )


@TENSORFLOW
@pytest.mark.parametrize("case", ["padding", "not zero", "mixing", "with weights"])
def test_the_class_is_named_once_with_a_fix_that_works(case):
    cls, result, pattern = fresh_classes()[case]
    keras.utils.clear_session()
    model = network(cls)
    with pytest.raises(UnsupportedLayerError) as caught:
        kgp.shrink(model, sparsity=0.5)
    text, _, rule = str(caught.value).partition(" The rule to write:\n")
    assert text.count(f"through {cls.__name__} ") == 1 and "and 1 more" in text
    assert text.endswith(".") and "..." not in text and ":)" not in text
    assert f'`keep="{pattern}"`' in text
    kept = kgp.channel_groups(model, keep=pattern)
    assert "is left as it is" in kept.stay["b"]
    if result is None:
        assert not rule
        return
    assert result in rule
    exec(rule, {"kgp": kgp, cls.__name__: cls})
    names = {g.name for g in kgp.channel_groups(model)}
    assert {"a", "b"} <= names
    if case != "with weights":  # whose size is no argument, so it is built again as it was
        assert_cut_gives_the_same(model)


@TENSORFLOW
def test_a_name_of_the_user_and_several_classes():
    cases = fresh_classes()
    padding, shifted = cases["padding"][0], cases["not zero"][0]
    model = model_of(
        (8, 8, 3),
        lambda x: layers.Conv2D(2, 3)(
            shifted(name="other")(padding(name="edge")(layers.Conv2D(6, 3, name="a")(x)))
        ),
    )
    with pytest.raises(UnsupportedLayerError) as caught:
        kgp.channel_groups(model)
    assert "`keep=['edge']`" in str(caught.value)
    with pytest.raises(UnsupportedLayerError, match=re.escape("Channel(coupled=False)`.")):
        kgp.Pruner(model, granularity="channel")


LONG = "word " * 60


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("It is wrong.", "ValueError: It is wrong."),
        (f"It is wrong. {LONG}.", "ValueError: It is wrong."),
        ("It is wrong. You are doing:\n\n```\nx\n```", "ValueError: It is wrong."),
        ("You are doing:\n\n```\nx\n```", "ValueError"),
        (LONG, "ValueError"),
        ("", "ValueError"),
        (
            "Exception encountered when calling A.call().\n\n\x1b[1mBad shape (1, 2).\x1b[0m\n\n"
            "Arguments received by A.call():\n  x=1",
            "ValueError: Bad shape (1, 2).",
        ),
    ],
)
def test_whole_sentences(text, expected):
    assert sentence_of(ValueError(text)) == expected
