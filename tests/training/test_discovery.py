"""Which networks, optimizers and slots a model has, told without knowing its class."""

import keras
import networks as nets
import numpy as np
import pytest
from keras import layers
from keras.optimizers import SGD, Adam, RMSprop

from keras_ganprune.errors import ArgumentTypeError, InvalidArgumentError
from keras_ganprune.training import discovery


class Holder(keras.Model):
    """Networks in every place where people keep them."""

    def __init__(self):
        super().__init__()
        self.generator = nets.mlp_generator()
        self.critics = [nets.mlp_discriminator(name=f"critic_{i}") for i in range(2)]
        self.experts = {"a": nets.mlp_generator(name="expert")}
        self.encoder = nets.classifier()
        self.loss_tracker = keras.metrics.Mean()
        self.strength = 3.0


def trained(network, optimizer, steps=0):
    optimizer.build(network.trainable_variables)
    if steps:
        optimizer.iterations.assign(steps)
    return optimizer


def test_networks_by_attribute_name():
    model = Holder()
    assert set(discovery.networks(model)) == {
        "generator",
        "critics[0]",
        "critics[1]",
        "experts['a']",
        "encoder",
    }


def test_keras_own_lists_are_no_networks():
    assert discovery.networks(nets.mlp_generator()) == {}
    x = keras.Input((4,))
    assert discovery.networks(keras.Model(x, layers.Dense(2)(x))) == {}


def test_optimizers_in_attributes_lists_and_inside_loss_scaling():
    model = Holder()
    one, two, three = Adam(), SGD(), RMSprop()
    model.g_optimizer = one
    model.d_optimizers = [two, keras.optimizers.LossScaleOptimizer(three)]
    assert set(map(id, discovery.optimizers(model))) == {id(one), id(two), id(three)}
    model.same_again = one
    assert len(discovery.optimizers(model)) == 3


def test_the_one_optimizer_of_a_compiled_model():
    model = nets.classifier()
    assert discovery.optimizers(model) == []
    model.compile(Adam(), "mse")
    assert discovery.optimizers(model) == [model.optimizer]


@pytest.mark.parametrize(
    ("make", "count"),
    [
        (lambda: Adam(), 2),
        (lambda: Adam(amsgrad=True), 3),
        (lambda: SGD(momentum=0.9), 1),
        (lambda: SGD(), 0),
        (lambda: RMSprop(momentum=0.9, centered=True), 3),
        (lambda: keras.optimizers.Adagrad(), 1),
        (lambda: keras.optimizers.Lion(), 1),
        (lambda: keras.optimizers.Nadam(), 2),
        (lambda: keras.optimizers.Ftrl(), 2),
        (lambda: keras.optimizers.Adamax(), 2),
        (lambda: keras.optimizers.Adadelta(), 2),
        (lambda: Adam(use_ema=True), 3),
        (lambda: Adam(gradient_accumulation_steps=2), 3),
    ],
)
def test_slots_belong_to_their_variables(make, count):
    network = keras.Sequential([keras.Input((3,)), layers.Dense(4), layers.Dense(5)])
    optimizer = trained(network, make())
    pairs = list(discovery.slots(optimizer))
    weights = [id(w) for w in network.trainable_variables]
    assert sorted(weights.index(id(v)) for v, _ in pairs) == sorted(list(range(4)) * count)
    assert all(tuple(v.shape) == tuple(slot.shape) for v, slot in pairs)
    own = {id(v) for v in optimizer.variables}
    assert {id(slot) for _, slot in pairs} <= own
    averages = list(discovery.slots(optimizer, only_averages=True))
    assert len(averages) == (4 if optimizer.use_ema else 0)


def test_an_unbuilt_optimizer_has_no_slots():
    assert list(discovery.slots(Adam())) == []
    assert discovery.trained_variables(Adam()) == []


def test_optimizer_of_is_the_one_that_trains_most_of_the_network():
    model = Holder()
    model.g_optimizer = trained(model.generator, Adam())
    model.c_optimizer = trained(model.critics[0], Adam())
    model.idle = Adam()
    # Keras's compile leaves a default optimizer behind, which trains nothing.
    model.optimizer = RMSprop()
    assert discovery.optimizer_of(model, model.generator) is model.g_optimizer
    assert discovery.optimizer_of(model, model.critics[0]) is model.c_optimizer
    assert discovery.optimizer_of(model, model.critics[1]) is None
    assert discovery.optimizer_of(model, model.encoder) is None


@pytest.mark.parametrize("steps", [1, 500])
def test_keras_default_optimizer_is_idle_even_when_it_was_built(steps):
    """`BackupAndRestore` builds `model.optimizer` over all weights, whoever trains them."""
    gan = nets.EmaGAN()
    gan.compile(Adam(), Adam())
    trained(gan, gan.optimizer)
    trained(gan.generator, gan.g_optimizer, steps)
    trained(gan.discriminator, gan.d_optimizer, steps)
    assert discovery.optimizer_of(gan, gan.generator) is gan.g_optimizer
    assert discovery.optimizer_of(gan, gan.discriminator) is gan.d_optimizer
    assert list(discovery.possible_copies(gan, gan.generator)) == ["ema_generator"]


def test_one_optimizer_over_several_networks():
    model = Holder()
    model.both = Adam()
    model.both.build(model.generator.trainable_variables + model.encoder.trainable_variables)
    assert discovery.optimizer_of(model, model.generator) is model.both
    assert discovery.optimizer_of(model, model.encoder) is model.both


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        ("generator", ["generator"]),
        (["generator", "encoder"], ["generator", "encoder"]),
        ("critics", ["critics[0]", "critics[1]"]),
        ("critics[1]", ["critics[1]"]),
        ("experts['a']", ["experts['a']"]),
        (None, [""]),
    ],
)
def test_target_forms(target, expected):
    model = Holder()
    pairs = discovery.resolve_target(model, target)
    assert [name for name, _ in pairs] == expected
    for name, network in pairs:
        assert network is (discovery.networks(model)[name] if name else model)


def test_target_objects():
    model = Holder()
    assert discovery.resolve_target(model, model.generator) == [("generator", model.generator)]
    assert discovery.resolve_target(model, model) == [("", model)]
    stranger = nets.mlp_generator(name="stranger")
    assert discovery.resolve_target(model, stranger) == [("stranger", stranger)]
    mixed = discovery.resolve_target(model, ["encoder", model.critics[1]])
    assert [name for name, _ in mixed] == ["encoder", "critics[1]"]


def test_dotted_target_reaches_deeper():
    outer = keras.Model()
    outer.gan = Holder()
    pairs = discovery.resolve_target(outer, "gan.generator")
    assert pairs == [("gan.generator", outer.gan.generator)]


@pytest.mark.parametrize("name", ["ema_generator", "generator_ema", "avg_generator", "g_shadow"])
def test_none_leaves_averages_out(name):
    model = nets.GuideGAN()
    setattr(model, name, nets.mlp_generator(name="copy"))
    names = [n for n, _ in discovery.resolve_target(model, None)]
    assert names == ["discriminator", "generator"]


@pytest.mark.parametrize("name", ["schema", "average_pool", "emanation", "cinema_net"])
def test_names_that_only_look_like_an_average(name):
    model = nets.GuideGAN()
    setattr(model, name, nets.classifier())
    pairs = discovery.resolve_target(model, None)
    if name == "average_pool":  # read as an average: 'average' is a word of it
        assert name not in [n for n, _ in pairs]
    else:
        assert pairs == [("", model)]


@pytest.mark.parametrize(
    ("target", "error", "match"),
    [
        ("generater", InvalidArgumentError, "Unknown target of Holder: 'generater'. Did you mean"),
        ("critics[7]", InvalidArgumentError, "Unknown target of Holder"),
        ("gan.generator", InvalidArgumentError, "Or pass the network itself"),
        ([], InvalidArgumentError, "`target` must name at least one network"),
        (["generator", "nope"], InvalidArgumentError, "Unknown target of Holder: 'nope'"),
        ("strength", ArgumentTypeError, "Holder.strength is a float"),
        (3, ArgumentTypeError, "`target` must be an attribute name .* Received: 3"),
        (np.zeros(2), ArgumentTypeError, "`target` must be an attribute name"),
    ],
)
def test_bad_targets(target, error, match):
    with pytest.raises(error, match=match):
        discovery.resolve_target(Holder(), target)


def test_possible_copies():
    gan = nets.EmaGAN()
    gan.g_optimizer, gan.d_optimizer = Adam(), Adam()
    # Before an optimizer has made an update nothing can be told from anything.
    trained(gan.generator, gan.g_optimizer)
    assert discovery.possible_copies(gan, gan.generator) == {}
    trained(gan.generator, gan.g_optimizer, 1)
    trained(gan.discriminator, gan.d_optimizer, 1)
    assert discovery.possible_copies(gan, gan.generator) == {"ema_generator": gan.ema_generator}
    assert discovery.possible_copies(gan, gan.discriminator) == {}


def test_a_twin_with_an_optimizer_is_no_copy():
    gan = nets.CycleGAN()
    gan.compile(*(Adam() for _ in range(4)))
    for name in ("gen_G", "gen_F", "disc_X", "disc_Y"):
        optimizer = getattr(gan, f"{name}_optimizer")
        trained(getattr(gan, name), optimizer, 1)
    assert discovery.possible_copies(gan, gan.gen_G) == {}
    assert discovery.possible_copies(gan, gan.disc_X) == {}
