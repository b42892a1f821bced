"""What every member of every family promises.

A new criterion, schedule, allocation, granularity or loss is one more row in `MEMBERS`; the first
test fails if the row is missing.
"""

import inspect
import re

import keras
import pytest

from keras_ganprune import allocation, criteria, granularity, modes, schedules
from keras_ganprune._registry import PACKAGE, Configurable, Family, snake_case
from keras_ganprune.errors import InvalidArgumentError, UnsupportedLayerError
from keras_ganprune.gan import losses

FAMILIES = {
    "allocation": allocation,
    "criterion": criteria,
    "granularity": granularity,
    "loss": losses,
    "mode": modes,
    "schedule": schedules,
}

# One or more objects of each class, with other than default arguments where it has any.
MEMBERS = [
    ("allocation", allocation.Uniform()),
    ("allocation", allocation.Uniform(minimum=0.1)),
    ("allocation", allocation.ERK(power=2.0, minimum=3)),
    ("allocation", allocation.GlobalRanking()),
    ("allocation", allocation.GlobalRanking(normalize="mean", minimum=2)),
    ("allocation", allocation.PerLayer({"conv*": 0.5, re.compile("dense_[0-9]"): 0.9})),
    ("criterion", criteria.Magnitude()),
    ("criterion", criteria.Magnitude("l2")),
    ("criterion", criteria.Random(3)),
    ("criterion", criteria.Gradient(batches=2)),
    ("criterion", criteria.Taylor(batches=3, squared=True)),
    ("criterion", criteria.DiscriminatorSaliency(batches=2)),
    ("criterion", criteria.BatchNormScale(fallback="error")),
    ("criterion", criteria.GeometricMedian()),
    ("criterion", criteria.Hybrid({"l2": 1.0, criteria.Taylor(batches=2): 0.5})),
    ("granularity", granularity.Unstructured()),
    ("granularity", granularity.NM(1, 4, "out")),
    ("granularity", granularity.Block((2, 4), "max")),
    ("granularity", granularity.Channel("in")),
    ("granularity", granularity.Channel(-1)),
    ("granularity", granularity.Channel(coupled=False)),
    ("granularity", granularity.Channel(aggregate="max")),
    ("granularity", granularity.Layer()),
    ("loss", losses.NonSaturating()),
    ("loss", losses.NonSaturating(label_smoothing=0.1)),
    ("loss", losses.Minimax(label_smoothing=0.2)),
    ("loss", losses.Hinge()),
    ("loss", losses.LeastSquares(label_smoothing=0.1)),
    ("loss", losses.Wasserstein()),
    ("loss", losses.Relativistic(label_smoothing=0.1)),
    ("mode", modes.Hard()),
    ("mode", modes.Soft()),
    ("mode", modes.RigL(0.2, "constant", "previous", batches=2)),
    ("mode", modes.SET(0.4, "cosine", "initializer", seed=5)),
    ("mode", modes.Splice(0.3, 0.1, "constant", "previous")),
    ("schedule", schedules.ConstantSparsity(0.5, 10, 20)),
    ("schedule", schedules.ConstantSparsity(0.5)),
    ("schedule", schedules.PolynomialDecay(0.8, 5, 50, initial_sparsity=0.1, power=2)),
    ("schedule", schedules.OneShot(0.5, 20)),
    ("schedule", schedules.Linear(0.8, 5, 50, initial_sparsity=0.1)),
    ("schedule", schedules.Cubic(0.8, 5, 50, initial_sparsity=0.1)),
    ("schedule", schedules.Cosine(0.8, 5, 50, initial_sparsity=0.1)),
    ("schedule", schedules.Cyclic(0.2, 0.8, 10, 5, 50)),
    ("schedule", schedules.IterativeRewind(0.8, 3, 10, 20, rewind_step=5, rewind="target")),
    ("schedule", schedules.LayerwiseOrder(schedules.Cubic(0.8, 5, 50), "backward", 0.25)),
    (
        "schedule",
        schedules.LayerwiseOrder([schedules.Cubic(0.8, 5, 50), schedules.OneShot(0.5, 9)]),
    ),
    ("schedule", schedules.Threshold(0.01, 3)),
    ("schedule", schedules.DynamicThreshold(0.5, 3, 30, statistic="std")),
    ("schedule", schedules.AdaptiveSparsity("loss", 0.2, direction="target", baseline=0.5)),
]
# A repr may name other members, which must be known where it is read.
NAMES = {type(member).__name__: type(member) for _, member in MEMBERS}
IDS = [f"{kind}-{member!r}" for kind, member in MEMBERS]
each_member = pytest.mark.parametrize(("kind", "member"), MEMBERS, ids=IDS)
each_family = pytest.mark.parametrize("kind", FAMILIES)


def family_of(kind) -> Family:
    return FAMILIES[kind]._family


@each_family
def test_every_registered_class_has_a_row(kind):
    here = {type(member) for k, member in MEMBERS if k == kind}
    assert here == set(family_of(kind).members.values())


@each_member
def test_config_round_trip(kind, member):
    again = type(member)(**member.get_config())
    assert again == member
    assert again is not member
    assert hash(again) == hash(member)
    assert type(member).from_config(member.get_config()) == member
    # `from_config` must not eat what it is given.
    config = member.get_config()
    type(member).from_config(config)
    assert config == member.get_config()


@each_member
def test_config_names_every_argument(kind, member):
    # A config that forgets an argument rebuilds another object.
    parameters = inspect.signature(type(member)).parameters.values()
    named = {p.name for p in parameters if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)}
    assert set(member.get_config()) == named


@each_member
def test_keras_round_trip(kind, member):
    config = keras.saving.serialize_keras_object(member)
    assert config["registered_name"] == f"{PACKAGE}>{type(member).__name__}"
    assert keras.saving.deserialize_keras_object(config) == member


@each_member
def test_get(kind, member):
    get = FAMILIES[kind].get
    assert get(member) is member
    assert get(keras.saving.serialize_keras_object(member)) == member


@each_member
def test_get_by_name(kind, member):
    cls = type(member)
    name = snake_case(cls.__name__)
    assert family_of(kind).members[name] is cls
    if any(p.default is p.empty for p in inspect.signature(cls).parameters.values()):
        pytest.skip("has arguments without defaults")
    assert FAMILIES[kind].get(name) == cls()


@each_member
def test_repr_is_readable(kind, member):
    assert eval(repr(member), NAMES) == member


@each_family
def test_unknown_name_suggests_the_nearest(kind):
    known = sorted(family_of(kind).members)
    word = family_of(kind).kind
    text = (
        rf"(?s)Unknown {word} '{known[0]}s'\. Did you mean '{known[0]}'\?\n"
        rf"Known: {', '.join(known)}\. Or pass a `{family_of(kind).base.__name__}` instance\."
    )
    with pytest.raises(InvalidArgumentError, match=text):
        FAMILIES[kind].get(f"{known[0]}s")


@each_family
def test_unknown_name_without_a_near_one(kind):
    with pytest.raises(ValueError, match=r"Unknown .* 'zzzzzz'\.\nKnown: "):
        FAMILIES[kind].get("zzzzzz")


@each_family
@pytest.mark.parametrize("wrong", [None, ["x"], ("x", 1), object()])
def test_wrong_kind(kind, wrong):
    with pytest.raises(UnsupportedLayerError, match=r"must be a name, .* Received: .* \(of type "):
        FAMILIES[kind].get(wrong)


@each_family
def test_class_instead_of_instance(kind):
    cls = next(iter(family_of(kind).members.values()))
    with pytest.raises(TypeError, match=rf"not its class.* Write `{cls.__name__}\(\.\.\.\)`"):
        FAMILIES[kind].get(cls)


@each_family
def test_config_of_another_family(kind):
    other = next(m for k, m in MEMBERS if k != kind)
    with pytest.raises(UnsupportedLayerError, match="must be a name"):
        FAMILIES[kind].get(keras.saving.serialize_keras_object(other))


@each_family
def test_subclass_of_the_users_own(kind):
    # Unregistered, and with nothing but the base class: an instance is enough.
    mine = type("Mine", (family_of(kind).base,), {})()
    assert FAMILIES[kind].get(mine) is mine


def test_equality_needs_the_same_class():
    class Twin(criteria.Magnitude):
        pass

    assert Twin() != criteria.Magnitude()
    assert Configurable() == Configurable()
    assert criteria.Magnitude() != "magnitude"


@pytest.mark.parametrize(
    ("name", "snake"),
    [
        ("PolynomialDecay", "polynomial_decay"),
        ("NM", "nm"),
        ("ERKAllocation", "erk_allocation"),
        ("L2Norm", "l2_norm"),
        ("Hinge", "hinge"),
        ("RigL", "rigl"),
        ("SET", "set"),
    ],
)
def test_snake_case(name, snake):
    assert snake_case(name) == snake
