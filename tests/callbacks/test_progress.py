"""`Progress`: its phases, steps, numbers and times, and what it leaves to others."""

import contextlib
import copy
import pickle
import re

import keras
import numpy as np
import pytest
import screens
from keras import layers

import keras_ganprune as kgp
from keras_ganprune.applications import networks
from keras_ganprune.callbacks import training_progress
from keras_ganprune.callbacks.run_progress import RunProgress
from keras_ganprune.callbacks.training_progress import TrainingProgress
from keras_ganprune.errors import ArgumentTypeError, InvalidArgumentError, PruningWarning
from keras_ganprune.utils import status_line

X, Y = np.ones((32, 4), "float32"), np.ones((32, 3), "float32")


def model(metrics=()):
    keras.utils.set_random_seed(0)
    network = keras.Sequential([keras.Input((4,)), layers.Dense(8), layers.Dense(3)])
    network.compile("adam", "mse", metrics=list(metrics))
    return network


def gan():
    keras.utils.set_random_seed(0)
    gan = kgp.GANModel(*networks.mlp((4, 4, 1), latent_dim=4), latent_dim=4, value_range=None)
    gan.compile()
    return gan


@pytest.fixture
def every_step(monkeypatch):
    """Each step prints its line."""
    monkeypatch.setattr(status_line, "_PLAIN", 0.0)
    monkeypatch.setattr(status_line, "_SHARE", 0.0)


@pytest.fixture
def clock(monkeypatch):
    """A clock that only the test sets."""
    now = [0.0]
    monkeypatch.setattr(training_progress.time, "perf_counter", lambda: now[0])
    return now


class Wait(keras.callbacks.Callback):
    """Lets time pass: 50 s for the first step, 2 s for each other one."""

    def __init__(self, clock):
        super().__init__()
        self.clock, self.first = clock, True

    def on_train_batch_begin(self, batch, logs=None):
        self.clock[0] += 50.0 if self.first else 2.0
        self.first = False


def fit(network, *callbacks, x=X, y=Y, **arguments):
    arguments = {"batch_size": 8, "epochs": 2, "callbacks": [*callbacks]} | arguments
    return network.fit(x, y, **arguments)


# --- what is shown --------------------------------------------------------------------------------


def test_phases_steps_and_numbers(capsys, every_step):
    prune = kgp.Prune(kgp.PolynomialDecay(0.8, begin_step=2, end_step=5), frequency=1)
    fit(model(), kgp.Progress(), prune)
    lines = capsys.readouterr().out.splitlines()
    phases = [line.split(", ")[0] for line in lines]
    assert lines[0] == "compiling, step 0 of 8, epoch 1 of 2."
    assert list(dict.fromkeys(phases)) == [
        *("compiling", "training", "pruning 0 % of 80 %", "pruning 57 % of 80 %"),
        *("pruning 77 % of 80 %", "recovering at 80.4 %", "recovered at 80.4 %"),
    ]
    assert re.fullmatch(
        r"recovered at 80.4 %, step 8 of 8, epoch 2 of 2, in \d+ s, loss [\d.e-]+\.", lines[-1]
    )
    steps = [int(re.search(r"step (\d+)", line)[1]) for line in lines]
    assert steps == sorted(steps) and set(steps) == set(range(9))


@pytest.mark.full
def test_a_cut_ends_the_phases(capsys, every_step):
    prune = kgp.Prune(kgp.ConstantSparsity(0.5, 1, 2), "generator", 1, granularity="channel")
    images = np.zeros((32, 4, 4, 1), "float32")
    cut = kgp.Shrink(4, verbose=0)
    fit(gan(), prune, cut, kgp.Progress(), x=images, y=None)
    lines = capsys.readouterr().out.splitlines()
    phases = list(dict.fromkeys(line.split(", ")[0] for line in lines if ", step" in line))
    assert phases[0] == "compiling" and phases[-1] == "shrunk"
    assert phases[-2].startswith("recovering at ")


@pytest.mark.parametrize(
    ("schedule", "phase"),
    [
        (kgp.ConstantSparsity(0.5), "recovered at 50 %"),
        (kgp.Threshold(0.2), r"pruned, [\d.]+ % now"),
        (kgp.PolynomialDecay(0.995, 0, 50), r"pruned [\d.]+ % of 99.5 %"),
        (kgp.PolynomialDecay(0.8, 50, 60), "trained"),
    ],
    ids=str,
)
def test_the_last_phase(schedule, phase, capsys):
    network = keras.Sequential([keras.Input((4,)), layers.Dense(100)])
    network.compile("adam", "mse")
    prune = kgp.Prune(schedule, frequency=2, verbose=0)
    with pytest.warns(PruningWarning) if schedule.end_step else contextlib.nullcontext():
        fit(network, prune, kgp.Progress(), y=np.ones((32, 100)))
    assert re.match(f"{phase}, step 8 of 8", capsys.readouterr().out.splitlines()[-1])


@pytest.mark.full
def test_numbers_are_those_that_others_watch_or_that_are_asked_for(capsys):
    monitor = kgp.QualityMonitor(lambda model: {"weights": float(model.count_params())})
    stop = keras.callbacks.EarlyStopping("mae", mode="min", patience=9)
    metrics = ["mae"]
    fit(model(metrics), monitor, stop, kgp.Progress())
    assert re.search(r", weights 67, mae [\d.]+\.$", capsys.readouterr().out)
    fit(model(metrics), kgp.Progress())
    assert re.search(r"in \d+ s, loss [\d.]+, mae [\d.]+\.$", capsys.readouterr().out)
    fit(model(metrics), kgp.Progress("val_mae"), validation_data=(X, Y))
    assert re.search(r"in \d+ s, val_mae [\d.]+\.$", capsys.readouterr().out)
    fit(model(), kgp.Prune(0.5), kgp.Progress(("sparsity", "loss")))
    assert re.search(r"sparsity 0.5, loss [\d.]+\.$", capsys.readouterr().out)


def test_a_name_that_no_log_has_is_told(capsys):
    with pytest.warns(PruningWarning, match=r"Unknown log 'los'. Did you mean 'loss'"):
        fit(model(), kgp.Progress("los"))


def test_the_time_left_does_not_count_the_compiling(clock, capsys, every_step):
    fit(model(), Wait(clock), kgp.Progress())
    lines = capsys.readouterr().out.splitlines()
    left = dict(re.findall(r"step (\d) of 8.*?about (\d+) s left", "\n".join(lines)))
    assert left == {str(step): str(2 * (8 - step)) for step in range(2, 8)}
    assert "in 64 s" in lines[-1]  # 50 + 7 * 2


def test_the_first_validation_is_not_counted_either(clock, capsys, every_step):
    class Validating(keras.callbacks.Callback):
        def on_test_begin(self, logs=None):
            self.first = not hasattr(self, "first")

        def on_test_batch_end(self, batch, logs=None):
            clock[0] += 100.0 if self.first else 0.0

    fit(model(), Validating(), Wait(clock), kgp.Progress(), validation_data=(X, Y))
    out = capsys.readouterr().out
    assert "step 7 of 8, epoch 2 of 2, about 2 s left" in out


# --- kinds of `fit` -------------------------------------------------------------------------------


def test_data_of_unknown_length(capsys, every_step):
    def batches():
        for _ in range(12):
            yield X[:8], Y[:8]

    stream = batches()
    network = model()
    fit(network, kgp.Progress(), x=iter(stream), y=None, batch_size=None, epochs=1)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "compiling, step 0." and "step 12 of 12" in lines[-1]
    assert lines[5].startswith("training, step 5, loss")


def test_an_epoch_tells_its_length(capsys, every_step):
    class Stream(keras.utils.PyDataset):
        num_batches = None

        def __getitem__(self, index):
            return X[:8], Y[:8]

    network = model()
    fit(network, kgp.Progress(), x=Stream(), y=None, batch_size=None, steps_per_epoch=3, epochs=3)
    assert "trained, step 9 of 9, epoch 3 of 3" in capsys.readouterr().out


def test_several_fits_with_one_callback(capsys):
    progress, network = kgp.Progress(), model()
    for _ in range(2):
        fit(network, progress)
        lines = capsys.readouterr().out.splitlines()
        assert lines[0].startswith("compiling, step 0 of 8")
        assert lines[-1].startswith("trained, step 8 of 8")
    fit(network, progress, initial_epoch=3, epochs=5)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "compiling, step 12 of 20, epoch 4 of 5."
    assert "step 20 of 20, epoch 5 of 5" in lines[-1]


def test_a_resumed_fit_begins_at_its_step(tmp_path, capsys):
    class Stop(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            if epoch == 2:
                raise KeyboardInterrupt

    def backup():
        return keras.callbacks.BackupAndRestore(str(tmp_path / "backup"))

    with pytest.raises(KeyboardInterrupt):
        fit(model(), Stop(), backup(), kgp.Progress(), epochs=4)
    capsys.readouterr()
    fit(model(), backup(), kgp.Progress(), epochs=4)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "compiling, step 8 of 16, epoch 3 of 4."
    assert "step 16 of 16, epoch 4 of 4" in lines[-1]


def test_training_that_stops_early(capsys):
    class Stop(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            self.model.stop_training = batch == 2

    run = RunProgress(begin="run: ")
    run.plan(16)
    fit(model(), Stop(), TrainingProgress(run, "first"), verbose=0)
    assert "run: first: trained, step 4 of 8" in capsys.readouterr().out
    assert run.done == 8  # what is left out is not trained later


@pytest.mark.skipif(keras.backend.backend() == "torch", reason="PyTorch runs one step at a time")
def test_several_steps_per_execution(capsys):
    network = model()
    network.compile("adam", "mse", steps_per_execution=2)
    fit(network, kgp.Progress())
    assert "trained, step 8 of 8" in capsys.readouterr().out


def test_evaluate_calls_its_hooks_too(capsys):
    progress, network = kgp.Progress(), model()
    network.evaluate(X, Y, verbose=0, callbacks=[progress])
    fit(network, progress)
    network.evaluate(X, Y, verbose=0, callbacks=[progress])
    assert capsys.readouterr().out.count("step") == 2


def test_the_trained_network_is_the_same_bit_by_bit():
    states = []
    for callbacks in ((), (kgp.Progress(),)):
        network = model()
        fit(network, *callbacks, verbose=0)
        states.append([keras.ops.convert_to_numpy(v) for v in network.variables])
    assert all(np.array_equal(a, b) for a, b in zip(*states, strict=True))


# --- Keras's bar, and other lines -----------------------------------------------------------------


def test_it_takes_the_place_of_keras_bar(capsys):
    fit(model(), kgp.Progress())
    assert [line.split(",")[0] for line in capsys.readouterr().out.splitlines()] == [
        *("compiling", "trained"),
    ]
    fit(model())
    assert "Epoch 1/2" in capsys.readouterr().out


@pytest.mark.parametrize("verbose", [1, 2])
def test_keras_bar_stays_where_it_is_asked_for(verbose, capsys):
    with pytest.warns(PruningWarning, match=f"verbose={verbose}, so Keras's bar is shown"):
        fit(model(), kgp.Progress(), verbose=verbose)
    out = capsys.readouterr().out
    assert "Epoch 2/2" in out and "step 8 of 8" not in out


def test_of_two_the_first_is_shown(capsys):
    fit(model(), kgp.Progress("loss"), kgp.Progress())
    assert len(capsys.readouterr().out.splitlines()) == 2


@pytest.mark.full
def test_compress_shows_its_steps(capsys):
    kgp.compress(model(), (X, Y), sparsity=0.5, epochs=4, batch_size=8, validation_data=(X, Y))
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "compress: the model as it is: measuring the quality."
    assert "compress: dense: compiling, step 0 of 16." in lines
    assert any(line.startswith("compress: sparsity 0.5: trained, loss ") for line in lines)
    assert all(line.startswith("compress: ") for line in lines)


@pytest.mark.full
def test_a_silent_compress(capsys):
    kgp.compress(model(), (X, Y), sparsity=0.5, epochs=2, batch_size=8, verbose=0)
    assert capsys.readouterr().out == ""


# --- arguments ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("metrics", "text"),
    [
        ([], r"`metrics` must name logs, each of them once.* Received: \[\]\."),
        (
            ["loss", "loss"],
            r"`metrics` must name logs, each of them once.* Received: \['loss', 'loss'\]",
        ),
        ("", r"`metrics` must be a text that is not empty.* Received: ''"),
        (["loss", ""], r"`metrics` must be a text that is not empty.* Received: \['loss', ''\]"),
    ],
)
def test_wrong_names(metrics, text):
    with pytest.raises(InvalidArgumentError, match=text):
        kgp.Progress(metrics)


@pytest.mark.parametrize("metrics", [3, ["loss", 3], {"loss": 1.0}], ids=str)
def test_wrong_types(metrics):
    with pytest.raises(ArgumentTypeError, match="metrics"):
        kgp.Progress(metrics)


def test_repr_and_copies():
    assert repr(kgp.Progress()) == "<Progress>"
    progress = kgp.Progress(["fd", "loss"])
    for other in (progress, copy.deepcopy(progress), pickle.loads(pickle.dumps(progress))):
        assert repr(other) == "<Progress of 'fd', 'loss'>"


# --- in a terminal --------------------------------------------------------------------------------

PROGRAM = """
import sys
import numpy as np
import keras
import keras_ganprune as kgp
from keras_ganprune.applications import networks

gan = kgp.GANModel(*networks.mlp((4, 4, 1), latent_dim=4), latent_dim=4, value_range=None)
gan.compile()
images = np.zeros((64, 4, 4, 1), "float32")
print("BEGIN", flush=True)
prune = kgp.Prune(
    kgp.PolynomialDecay(0.6, 10, 40), "generator", frequency=5, granularity="channel", verbose=0
)
gan.fit(
    images,
    batch_size=8,
    epochs=int(sys.argv[1]),
    callbacks=[prune, kgp.Shrink(60, verbose=0), kgp.Progress()],
)
print("END")
"""


@pytest.mark.parametrize("columns", [80, pytest.param(160, marks=pytest.mark.full)])
@pytest.mark.full
def test_fit_neither_wraps_nor_scrolls(columns):
    seen = screens.run(["-c", PROGRAM, "10"], columns, errors=False)
    assert seen.code == 0 and seen.screen.wraps == seen.screen.scrolls == 0
    begin, line, end = seen.screen.text
    assert (begin, end) == ("BEGIN", "END") and line.startswith("shrunk | ")
    texts = "\n".join(seen.lines)
    assert "compiling | step 0 of 80" in texts and "recovering at " in texts
    if columns == 160:
        assert re.search(r"step 80 of 80 .*discriminator_loss .*generator_loss ", line)
    else:
        assert re.search(r"80/80 .*D loss .*G loss ", line)


@pytest.mark.full
def test_ctrl_c_leaves_the_terminal_as_it_was():
    seen = screens.run(["-c", PROGRAM, "3000"], 80, interrupt="pruning")
    text = seen.screen.text
    assert seen.code == -2 and text[-1] == "KeyboardInterrupt"
    assert "\x1b" not in seen.output
