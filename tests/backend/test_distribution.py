"""Two processes that stand for two machines: the same masks on both, or an error on both.

What starts processes is slow; CI runs it where JAX and PyTorch are installed, too.
"""

import importlib
import importlib.util
import json
import re
import signal
import subprocess
import sys

import keras
import networks as nets
import numpy as np
import paths
import pytest
import workers_script

import keras_ganprune as kgp
from keras_ganprune.backend import distribution

HERE = paths.HELPERS
EXAMPLES = paths.ROOT / "examples"
sys.path.insert(0, str(EXAMPLES))

two_processes = importlib.import_module("two_processes")

ON_TENSORFLOW = keras.backend.backend() == "tensorflow"
needs_tensorflow = pytest.mark.skipif(not ON_TENSORFLOW, reason="a strategy of TensorFlow")
needs_torch = pytest.mark.skipif(
    importlib.util.find_spec("torch") is None, reason="needs PyTorch: pip install torch"
)
needs_jax = pytest.mark.skipif(
    importlib.util.find_spec("jax") is None, reason="needs JAX: pip install jax"
)
# Long enough for two processes on two busy cores; what hangs is killed.
LIMIT = 150
PIPES = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}


def run_script(name, environments, folder, *cases):
    """Run a script on two workers; return the processes, and what each has found."""
    command = [str(HERE / name), str(folder), *cases]
    ended = two_processes.start(environments, [command] * 2, LIMIT, **PIPES)
    files = [folder / f"worker-{number}.json" for number in range(2)]
    return ended, [json.loads(f.read_text()) if f.exists() else {} for f in files]


def run_example(name, environments, *arguments):
    """Run an example on two workers; return the processes, and what each printed, as a dict."""
    command = [str(EXAMPLES / name), *arguments]
    ended = two_processes.start(environments, [command] * 2, LIMIT, **PIPES)
    said = [dict(re.findall(r"([a-z]+) ([\w.]+)", p.stdout.partition(": ")[2])) for p in ended]
    return ended, said


# --- TensorFlow ----------------------------------------------------------------------------------

AGREED = ("still", "gradients", "adaptive", "rounded")
REFUSED = ("schedules_differ", "criteria_differ", "updates_differ", "backups_differ")


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    folder = tmp_path_factory.mktemp("workers")
    environments = two_processes.tensorflow_environments()
    ended, found = run_script("workers_script.py", environments, folder, *AGREED, *REFUSED)
    assert [p.returncode for p in ended] == [0, 0], ended[0].stderr[-3000:]
    return found


@pytest.mark.full
@needs_tensorflow
@pytest.mark.parametrize("case", AGREED)
def test_masks_are_equal_on_both_workers(case, found):
    first, second = (worker[case] for worker in found)
    assert first == second


@pytest.mark.full
@needs_tensorflow
def test_masks_are_those_of_one_process_at_equal_weights(found):
    alone = workers_script.still(0)
    assert found[0]["still"] == alone
    assert alone["kept"] == alone["nonzero"] == [nets.kept_oracle(n, 0.8) for n in (128, 48)]


@pytest.mark.full
@needs_tensorflow
def test_kept_counts_are_exact(found):
    exact = [nets.kept_oracle(n, 0.8) for n in (128, 48)]
    assert found[1]["gradients"]["kept"] == found[1]["gradients"]["nonzero"] == exact
    assert found[1]["rounded"]["kept"] == [64, 24]
    assert found[1]["rounded"]["report"] == 88


@pytest.mark.full
@needs_tensorflow
def test_the_first_workers_log_decides_a_search(found):
    # The second one saw 2.0 where 1.0 was the baseline, which would not have held.
    assert found[1]["adaptive"]["kept"] == [nets.kept_oracle(n, 0.4) for n in (128, 48)]


@pytest.mark.full
@needs_tensorflow
@pytest.mark.parametrize(
    ("case", "text"),
    [
        (
            "schedules_differ",
            r"All workers must prune alike\. Received: worker 0: schedule=.*0\.8.*; worker 1: "
            r"schedule=.*0\.9.*\. Give `Prune` the same arguments on every worker\.",
        ),
        ("criteria_differ", r"worker 0: criterion=.*'l1'.*; worker 1: criterion=.*'l2'"),
        ("updates_differ", r"worker 0: sparsity=0\.5; worker 1: sparsity=0\.75\. Make the same"),
        (
            "backups_differ",
            r"begin at the same step, with the same masks\. Received: worker 0: masks='0\.0000 .*; "
            r"worker 1: masks='0\.3636 .*Restore the backup of one worker on all of them",
        ),
    ],
)
def test_workers_that_disagree_are_told_so_on_both_sides(case, text, found):
    for worker in found:
        assert re.match("InvalidArgumentError: ", worker[case]["error"])
        assert re.search(text, worker[case]["error"]), worker[case]["error"]


@pytest.mark.full
@needs_tensorflow
def test_a_refused_update_changes_no_mask(found):
    for worker in found:
        assert worker["updates_differ"]["kept"] == [128, 48]


@pytest.mark.full
@needs_tensorflow
def test_a_worker_without_prune_ends_both(tmp_path):
    environments = two_processes.tensorflow_environments()
    ended, found = run_script("workers_script.py", environments, tmp_path, "one_prunes")
    assert "needs the same `Prune` among the callbacks" in found[0]["one_prunes"]["error"]
    # The second one knows nothing of pruning: TensorFlow tells it that the first one asks for something else.
    assert ended[1].returncode != 0 and "Collective" in ended[1].stderr


@pytest.mark.full
@needs_tensorflow
def test_killed_workers_get_their_masks_back(tmp_path):
    """By the example, whose backups of epoch ends hold everything."""
    name, environments = "two_workers_tensorflow.py", two_processes.tensorflow_environments
    ended, whole = run_example(name, environments())
    assert [p.returncode for p in ended] == [0, 0], ended[0].stderr[-3000:]
    assert whole[0] == whole[1]
    assert (whole[0]["steps"], whole[0]["kept"], whole[0]["nonzero"]) == ("84", "947", "947")

    backup = ("--backup", str(tmp_path))
    killed, _ = run_example(name, environments(), *backup, "--kill-at", "33")
    assert [p.returncode for p in killed] == [-signal.SIGKILL] * 2, killed[0].stderr[-3000:]
    ended, resumed = run_example(name, environments(), *backup)
    assert [p.returncode for p in ended] == [0, 0], ended[0].stderr[-3000:]
    assert resumed == whole


# --- PyTorch -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def found_by_torch(tmp_path_factory):
    folder = tmp_path_factory.mktemp("torch")
    environments = two_processes.torch_environments()
    ended, found = run_script("torch_workers_script.py", environments, folder)
    assert [p.returncode for p in ended] == [0, 0], ended[0].stderr[-3000:]
    return found


@pytest.mark.full
@needs_torch
@pytest.mark.parametrize("case", ["rounded", "held", "clipped", "in_fit"])
def test_masks_are_equal_on_both_workers_of_torch(case, found_by_torch):
    first, second = (worker[case] for worker in found_by_torch)
    assert first == second


@pytest.mark.full
@needs_torch
def test_optimizers_of_torch_hold_the_masks(found_by_torch):
    for case in ("held", "clipped"):
        counts = found_by_torch[1][case]["nonzero"]
        assert counts == [[128, 48]] * 3 + [[96, 36]] * 3 + [[64, 24]] * 3
    assert found_by_torch[1]["in_fit"]["nonzero"] == [nets.kept_oracle(n, 0.8) for n in (128, 48)]


@pytest.mark.full
@needs_torch
def test_optimizers_of_torch_keep_a_users_constraint(found_by_torch):
    # A norm of 0.5 leaves no entry above; without it they go up to 3.2.
    assert found_by_torch[0]["clipped"]["largest"] < 0.5 < found_by_torch[0]["held"]["largest"]


@pytest.mark.full
@needs_torch
def test_momentum_of_torch_is_forgotten_where_a_weight_returns(found_by_torch):
    assert found_by_torch[0]["grown"]["grown"] > 0
    assert found_by_torch[0]["grown"]["momentum_is_the_gradient"]


@pytest.mark.full
@needs_torch
def test_a_loss_that_is_nan_on_one_worker_stops_both(found_by_torch):
    assert [worker["diverged"] for worker in found_by_torch] == [{"stopped": 2}] * 2


@pytest.mark.full
@needs_torch
def test_workers_of_torch_that_disagree(found_by_torch):
    for worker in found_by_torch:
        assert re.search(
            r"All workers must make the same updates.*worker 0: criterion=Magnitude\(norm='l1'\); "
            r"worker 1: criterion=Magnitude\(norm='l2'\)\. Make the same `Pruner` on each",
            worker["updates_differ"]["error"],
        )


@pytest.mark.full
@needs_torch
def test_attach_refuses_an_optimizer_of_another_network(found_by_torch):
    for worker in found_by_torch:
        assert re.search(
            r"Received: an optimizer that trains 4 parameters, but none of the 2 pruned weights",
            worker["attached_elsewhere"]["error"],
        )


@pytest.mark.full
@needs_torch
def test_example_of_torch():
    ended, said = run_example("two_workers_torch.py", two_processes.torch_environments())
    assert [p.returncode for p in ended] == [0, 0], ended[0].stderr[-3000:]
    assert (said[0]["steps"], said[0]["kept"], said[0]["nonzero"]) == ("84", "947", "947")
    for key in ("masks", "weights"):
        assert said[0][key] == said[1][key]


@needs_torch
@pytest.mark.full
def test_killed_workers_of_torch_get_their_masks_back(tmp_path):
    name, environments = "two_workers_torch.py", two_processes.torch_environments
    _, whole = run_example(name, environments())
    backup = ("--backup", str(tmp_path))
    killed, _ = run_example(name, environments(), *backup, "--kill-at", "33")
    assert [p.returncode for p in killed] == [-signal.SIGKILL] * 2, killed[0].stderr[-3000:]
    ended, resumed = run_example(name, environments(), *backup)
    assert [p.returncode for p in ended] == [0, 0], ended[0].stderr[-3000:]
    for key in ("masks", "weights"):
        assert len({said[key] for said in (*whole, *resumed)}) == 1


# --- JAX -----------------------------------------------------------------------------------------


@pytest.mark.full
@needs_jax
def test_devices_of_jax_have_equal_masks_and_those_of_one_device():
    script = str(EXAMPLES / "two_devices_jax.py")
    commands = [[script, "--rate", "0", "--devices", number] for number in ("2", "1")]
    ended = two_processes.start([{}, {}], commands, LIMIT, **PIPES)
    assert [p.returncode for p in ended] == [0, 0], ended[0].stderr[-3000:]
    first, second, alone = (
        line for p in ended for line in p.stdout.splitlines() if "masks" in line
    )
    assert "kept 947 of 9472, nonzero 947," in first
    assert len({line.partition(": ")[2] for line in (first, second, alone)}) == 1


@needs_jax
@pytest.mark.full
def test_processes_of_jax(tmp_path):
    [port] = two_processes.free_ports(1)
    script = str(HERE / "jax_workers_script.py")
    commands = [[script, str(tmp_path), str(port), str(number)] for number in range(2)]
    ended = two_processes.start([{}, {}], commands, LIMIT, **PIPES)
    assert [p.returncode for p in ended] == [0, 0], ended[0].stderr[-3000:]
    first, second = (json.loads((tmp_path / f"worker-{n}.json").read_text()) for n in range(2))
    assert first == second
    assert first["nonzero"] == [nets.kept_oracle(n, 0.8) for n in (128, 48)]
    assert re.search(r"worker 0: .*sparsity=0\.5.*; worker 1: .*sparsity=0\.6", first["error"])


# --- one process ---------------------------------------------------------------------------------


def test_one_process_asks_nobody(monkeypatch):
    monkeypatch.setattr(distribution, "_total", None)
    like = keras.Variable(1.0)
    masks = [np.array([True, False]), np.array([[True]])]
    assert (distribution.count(like), distribution.rank(like)) == (1, 0)
    assert distribution.broadcast(masks[0], like) is masks[0]
    assert distribution.broadcast_masks(masks, like) == masks
    assert distribution.gather("text", like) == ["text"]
    assert distribution.any_of(True, like) and not distribution.any_of(False, like)
    distribution.check_same({"a": 1}, like, "Rule.", "Fix.")


@pytest.fixture
def three(monkeypatch):
    """This process as the second of three workers; the others have the array in `others`."""

    class Engine:
        LOGS_DIFFER = True
        others = np.zeros(0, np.int64)

        def count(self, like):
            return 3

        def rank(self, like):
            return 1

        def total(self, sent, like, timeout):
            return sent + self.others

    engine = Engine()
    monkeypatch.setattr(distribution, "_backend_module", lambda: engine)
    return engine


@pytest.mark.parametrize("dtype", ["float64", "float32", "bool", "uint8"])
def test_broadcast_is_exact_whatever_the_size(dtype, three):
    values = np.array([[0.1, np.pi, 1e-30]] * 7).astype(dtype)
    # What the first worker sends: its bytes, to the next eight.
    sent = values.tobytes()
    three.others = np.frombuffer(sent + bytes(-len(sent) % 8), np.int64)
    received = distribution.broadcast(np.ones_like(values), None)
    np.testing.assert_array_equal(received, values)
    assert received.dtype == dtype


def test_any_of_asks_where_logs_differ(three):
    three.others = np.array([1], np.int64)  # the first byte: the first worker says yes
    assert distribution.any_of(False, None)
    three.others = np.array([0], np.int64)
    assert not distribution.any_of(False, None)
    assert distribution.any_of(True, None)


def test_addresses_are_no_difference(three, monkeypatch):
    heard = []
    monkeypatch.setattr(distribution, "gather", lambda text, like: heard.append(text) or [text] * 3)
    distribution.check_same({"loss": lambda: 0, "n": 1}, None, "Rule.", "Fix.")
    assert "0x" not in heard[0]


def test_what_differs_is_shown_for_every_worker(three, monkeypatch):
    texts = [json.dumps(t) for t in ({"a": "1", "b": "2"}, {"a": "1", "b": "3"}, {"a": "1"})]
    monkeypatch.setattr(distribution, "gather", lambda text, like: texts)
    with pytest.raises(
        kgp.PruningError,
        match=r"^Rule\. Received: worker 0: b=2; worker 1: b=3; worker 2: b=None\. Fix\.$",
    ):
        distribution.check_same({"a": 1}, None, "Rule.", "Fix.")


def test_a_strategy_of_tensorflow_on_another_backend(monkeypatch):
    monkeypatch.setattr(keras.backend, "backend", lambda: "jax")
    with pytest.raises(ValueError, match=r"Received: the backend 'jax'\. Set KERAS_BACKEND"):
        distribution.multi_worker_strategy()


# --- a strategy whose scope was left -------------------------------------------------------------


def classifier():
    model = nets.classifier()
    model.compile(keras.optimizers.Adam(1e-2), nets.classifier_loss())
    return model


@needs_tensorflow
@pytest.mark.full
def test_built_under_the_strategy_and_fitted_outside():
    with nets.both_replicas().scope():
        model = classifier()
    x, y = nets.classifier_data()
    model.fit(x, y, batch_size=16, verbose=0, callbacks=[kgp.Prune(0.5, verbose=0)])
    nets.assert_exact(0.5, model)


@needs_tensorflow
@pytest.mark.parametrize("compile_inside", [True, False])
def test_built_outside_and_fitted_under_a_strategy(compile_inside):
    model = classifier()
    with (
        nets.both_replicas().scope(),
        pytest.raises(
            kgp.PruningError,
            match=r"created under no strategy, in a `fit` under a MirroredStrategy\. Build and compile",
        ),
    ):
        if compile_inside:
            model.compile(keras.optimizers.Adam(1e-2), nets.classifier_loss())
        x, y = nets.classifier_data()
        model.fit(x, y, batch_size=16, verbose=0, callbacks=[kgp.Prune(0.5, verbose=0)])


@needs_tensorflow
def test_a_network_from_under_a_strategy_in_a_model_outside():
    with nets.both_replicas().scope():
        inner = nets.classifier()
    model = keras.Sequential([keras.Input(inner.input_shape[1:]), inner])
    model.compile(keras.optimizers.Adam(1e-2), nets.classifier_loss())
    x, y = nets.classifier_data()
    with pytest.raises(
        kgp.PruningError, match="under a MirroredStrategy, in a `fit` under no strategy"
    ):
        model.fit(x, y, batch_size=16, verbose=0, callbacks=[kgp.Prune(0.5, verbose=0)])


@needs_tensorflow
def test_networks_from_outside_in_a_gan_model_under_a_strategy():
    pair = nets.mlp_pair()
    with nets.both_replicas().scope():
        gan = kgp.GANModel(*pair, nets.LATENT)
        with pytest.raises(
            kgp.PruningError,
            match="created under no strategy, in a `fit` under a MirroredStrategy",
        ):
            gan.compile("adam", "adam")


# --- attach --------------------------------------------------------------------------------------


def test_attach_leaves_keras_optimizers_alone():
    model = classifier()
    pruner = kgp.Pruner(model)
    before = set(vars(model.optimizer))
    pruner.attach(model.optimizer)
    assert set(vars(model.optimizer)) == before


def test_attach_takes_optimizers_only():
    pruner = kgp.Pruner(nets.classifier())
    with pytest.raises(ValueError, match=r"must be a Keras optimizer.*Received: 'adam' \(of type"):
        pruner.attach("adam")
