"""What every member of every family promises.

A new criterion, schedule, allocation, granularity, mode or loss needs one row in `helpers/members.py`. The
first test fails if the row is missing.
"""

import inspect
import typing

import keras
import members
import pytest
from members import FAMILIES, MEMBERS, NAMES, each_family, each_member

from keras_ganprune.errors import ArgumentTypeError, InvalidArgumentError
from keras_ganprune.gan import reconstruction
from keras_ganprune.pruning import allocation, criteria, granularity, modes
from keras_ganprune.utils.registry import PACKAGE, Configurable, Family, snake_case


def family_of(kind) -> Family:
    return FAMILIES[kind]._family


@each_family
def test_every_registered_class_has_a_row(kind):
    rows = {type(member) for k, member in MEMBERS if k == kind}
    missing = set(family_of(kind).members.values()) - rows
    assert missing == set(), f"add a row for each of them to {members.__file__}"
    assert rows == set(family_of(kind).members.values())


def names_alone(kind) -> set[str]:
    """Return the names that `get` accepts: aliases, and classes whose arguments all have defaults."""
    family = family_of(kind)
    names = set(family.aliases)
    for name, cls in family.members.items():
        parameters = inspect.signature(cls).parameters.values()
        if all(p.default is not p.empty for p in parameters):
            names.add(name)
    return names


@pytest.mark.parametrize(
    ("kind", "literal"),
    [
        ("criterion", criteria.CriterionName),
        ("granularity", granularity.GranularityName),
        ("allocation", allocation.AllocationName),
        ("mode", modes.ModeName),
        ("reconstruction loss", reconstruction.ReconstructionName),
        ("schedule", None),  # no schedule has defaults for all arguments
    ],
)
def test_the_type_of_names_lists_all_of_them(kind, literal):
    listed = set(typing.get_args(literal))
    module = FAMILIES[kind].__name__
    assert listed == names_alone(kind), f"list these names in the `Literal` of {module}"
    for name in typing.get_args(literal):
        assert isinstance(FAMILIES[kind].get(name), family_of(kind).base)


@each_member
def test_config_round_trip(kind, member):
    again = type(member)(**member.get_config())
    assert again == member
    assert again is not member
    assert hash(again) == hash(member)
    assert type(member).from_config(member.get_config()) == member
    # `from_config` must not change its argument.
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
    with pytest.raises(ArgumentTypeError, match=r"must be a name, .* Received: .* \(of type "):
        FAMILIES[kind].get(wrong)


@each_family
def test_class_instead_of_instance(kind):
    cls = next(iter(family_of(kind).members.values()))
    with pytest.raises(TypeError, match=rf"not a class.* Write `{cls.__name__}\(\.\.\.\)`"):
        FAMILIES[kind].get(cls)


@each_family
def test_config_of_another_family(kind):
    other = next(m for k, m in MEMBERS if k != kind)
    with pytest.raises(ArgumentTypeError, match="must be a name"):
        FAMILIES[kind].get(keras.saving.serialize_keras_object(other))


@each_family
def test_subclass_of_the_users_own(kind):
    # It need not be registered or define anything: an instance is enough.
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
