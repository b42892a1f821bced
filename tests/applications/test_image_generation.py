"""The demo, end to end at a small size. By default one run; the other ways to run it are `full`."""

import csv

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_ganprune as kgp
from keras_ganprune import cli
from keras_ganprune.applications import image_generation
from keras_ganprune.errors import PruningWarning
from keras_ganprune.layers.tensors import to_numpy

pytest.importorskip("sklearn")
pytest.importorskip("matplotlib")


def _kept(network):
    return [int(to_numpy(w.mask).sum()) for w in kgp.masked_weights(network)]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("demo") / "run"
    small = ["--data", "digits", "--steps", "16", "--batch-size", "256", "--channels", "4"]
    assert cli.main(["demo", *small, "--output", str(folder)]) == 0
    return folder


def test_the_run_folder_holds_everything(run):
    assert sorted(p.name for p in run.iterdir()) == [
        "gan.keras",
        "generator",
        "history.csv",
        "masks.npz",
        "masks.png",
        "report.html",
        "report.md",
        "run.json",
        "samples.npz",
        "samples.png",
        "sparsity.png",
    ]


def test_the_dense_generator_of_the_run_is_dense(run):
    sizes = kgp.load_run(run).sizes
    assert sizes["dense"]["nonzero"] > 0.9 * sizes["dense"]["parameters"]
    assert sizes["pruned"]["nonzero"] < 0.5 * sizes["pruned"]["parameters"]


def test_the_requested_sparsity_is_exact_to_the_weight(run):
    gan = keras.saving.load_model(run / "gan.keras")
    for network in (gan.generator, gan.ema_generator):
        sizes = [int(np.prod(w.mask.shape)) for w in kgp.masked_weights(network)]
        # Ranked over the whole network: the total is exact, and no layer has its own share.
        assert sum(_kept(network)) == round(sum(sizes) * (1 - 0.8))
        assert _kept(network) != [max(1, round(n * (1 - 0.8))) for n in sizes]
        for weight in kgp.masked_weights(network):
            assert not to_numpy(weight.variable)[~to_numpy(weight.mask)].any()
    assert not kgp.masked_weights(gan.discriminator)


def test_the_saved_model_serves_the_averaged_generator(run):
    gan = keras.saving.load_model(run / "gan.keras")
    z = np.random.default_rng(0).standard_normal((4, 64)).astype("float32")
    labels = np.array([0, 3, 9, 3], "int32")
    loaded = tf.saved_model.load(str(run / "generator"))
    served = loaded.serve([z, labels]).numpy()
    assert served.shape == (4, 8, 8, 1)
    assert np.max(np.abs(served - gan.ema_generator([z, labels], training=False))) <= 1e-5


def test_each_column_of_the_pictures_shows_one_class(run):
    gan = keras.saving.load_model(run / "gan.keras")
    digits = kgp.datasets.load("digits")
    samples = kgp.load_run(run).samples
    assert list(samples) == ["real", "dense", "pruned"]
    shown = np.tile(np.arange(10), 4)
    of_class = [digits.images[digits.labels == c][:4] for c in range(10)]
    real = np.stack(of_class, axis=1).reshape(40, 8, 8, 1)
    for name, images in (("real", real), ("pruned", gan.generate(40, shown, seed=0))):
        grey = (images + 1) * 127.5
        assert np.max(np.abs(samples[name] - grey)) <= 1, name


@pytest.mark.full
@pytest.mark.parametrize("network", ["mlp", "dcgan"])
def test_a_demo_without_labels(network, tmp_path, capsys):
    small = ["--data", "digits", "--steps", "8", "--batch-size", "256", "--network", network]
    given = ["--no-conditional"] if network == "dcgan" else []
    assert cli.main(["demo", *small, *given, "--output", str(tmp_path / "run")]) == 0
    assert f"Plan: {network}, " in capsys.readouterr().out
    assert len(keras.saving.load_model(tmp_path / "run" / "gan.keras").generator.inputs) == 1


def test_history_and_report_say_what_was_done(run):
    with (run / "history.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["epoch"] for row in rows] == [str(i + 1) for i in range(len(rows))]
    assert float(rows[-1]["generator_sparsity"]) == pytest.approx(0.8, abs=1e-3)
    assert float(rows[-1]["generator_loss"]) > 0
    text = (run / "report.md").read_text(encoding="utf-8")
    assert "1,797 8×8 images from scikit-learn" in text
    assert "requested 0.8000, achieved 0.7999" in text
    assert "SavedModel, gzipped" in text and "samples.png" in text
    page = (run / "report.html").read_text(encoding="utf-8")
    assert "image-generation, dense and pruned" in page and page.count("data:image/") > 3
    # 16 steps: two passes over 8 batches; pruning begins after 0.3 of them.
    assert "trained on from step 4, where pruning began, to step 16 without pruning" in text
    assert "| generator | dense | pruned |" in text


@pytest.mark.full
def test_report_and_export_work_on_the_saved_file(run, tmp_path, capsys):
    assert cli.main(["report", str(run / "gan.keras")]) == 0
    printed = capsys.readouterr().out
    assert "conv2d_transpose" in printed and "discriminator: not pruned" in printed
    assert cli.main(["report", str(run / "gan.keras"), "--markdown"]) == 0
    assert "| layer | weight |" in capsys.readouterr().out
    assert cli.main(["export", str(run / "gan.keras"), str(tmp_path / "out")]) == 0
    assert "differs by 0 at most" in capsys.readouterr().out
    assert (tmp_path / "out" / "saved_model.pb").exists()
    assert cli.main(["export", str(run / "gan.keras"), str(tmp_path / "out")]) == 2
    assert "must be new or empty" in capsys.readouterr().err


@pytest.mark.full
def test_mlp_threshold_and_both_networks(tmp_path):
    options = image_generation.DemoOptions(
        network="mlp",
        images="digits",
        targets=("generator", "discriminator"),
        schedule="threshold",
        threshold=0.02,
        steps=12,
        batch_size=256,
        output=str(tmp_path / "run"),
    )
    result = image_generation.run(options)
    assert result.samples.shape == (40, 8, 8, 1)
    for name, prune in result.prunes.items():
        network = getattr(result.gan, name)
        assert 0.05 < kgp.sparsity_report(network).sparsity < 0.95
        assert prune.updates and result.history[f"{name}_sparsity"][-1] > 0
    units = [layer.units for layer in result.gan.generator.layers if hasattr(layer, "units")]
    assert units == [256, 512, 1024, 64]
    assert "|w| < 0.02" in (tmp_path / "run" / "report.md").read_text(encoding="utf-8")


@pytest.mark.full
def test_the_same_seed_gives_the_same_masks(tmp_path):
    def masks(name):
        options = image_generation.DemoOptions(
            images="digits",
            steps=8,
            channels=4,
            batch_size=512,
            output=str(tmp_path / name),
            seed=3,
        )
        return [
            to_numpy(w.mask)
            for w in kgp.masked_weights(image_generation.run(options).gan.generator)
        ]

    for a, b in zip(masks("a"), masks("b"), strict=True):
        assert np.array_equal(a, b)


ENGINE = {
    "mix, layer after layer": ["--criterion", "magnitude=1,taylor=1", "--schedule", "layerwise"],
    "rigl in cycles, erk, tied": [
        *("--mode", "rigl", "--schedule", "cyclic", "--allocation", "erk", "--tie")
    ],
    "2:4": ["--granularity", "2:4", "--schedule", "cosine"],
    "jointly": ["--target", "generator,discriminator", "--joint", "--allocation", "global_ranking"],
    "balance, lottery": ["--balance", "--schedule", "iterative_rewind"],
    "adaptive": ["--schedule", "adaptive", "--mode", "splice"],
}


@pytest.mark.full
@pytest.mark.parametrize("case", ENGINE)
def test_the_demo_runs_every_kind_of_pruning(case, tmp_path, capsys):
    small = ["--data", "digits", "--steps", "30", "--channels", "2", "--batch-size", "128"]
    output = ["--output", str(tmp_path / "run")]
    assert cli.main(["demo", *small, *output, *ENGINE[case]]) == 0
    text = (tmp_path / "run" / "report.md").read_text(encoding="utf-8")
    gan = keras.saving.load_model(tmp_path / "run" / "gan.keras")
    kept, sizes = (
        _kept(gan.generator),
        [int(np.prod(w.mask.shape)) for w in kgp.masked_weights(gan.generator)],
    )
    total, wanted = sum(sizes), round(sum(sizes) * (1 - 0.8))
    if case == "mix, layer after layer":
        assert kept == [max(1, round(n * (1 - 0.8))) for n in sizes]
        assert "criterion={'magnitude': 1.0, 'taylor': 1.0}" in text
    elif case == "rigl in cycles, erk, tied":
        assert sum(kept) == wanted and len(set(np.divide(kept, sizes))) > 1
        first = next(x for x in gan.discriminator.layers if hasattr(x, "kernel"))
        assert gan.generator.layers[-1].kernel is first.kernel
    elif case == "2:4":
        assert kept == [n // 2 for n in sizes]
    elif case == "jointly":
        other = kgp.masked_weights(gan.discriminator)
        total += sum(int(np.prod(w.mask.shape)) for w in other)
        assert sum(kept) + sum(_kept(gan.discriminator)) == round(total * (1 - 0.8))
        assert "both: sparsity" in capsys.readouterr().out
    elif case == "balance, lottery":
        assert sum(kept) == wanted
        assert kgp.masked_weights(gan.discriminator)
    else:
        assert "AdaptiveSparsity" in text


@pytest.mark.full
def test_the_dense_generator_is_kept_before_the_first_update(tmp_path):
    # One shot: the first update removes four of five weights.
    options = image_generation.DemoOptions(
        images="digits",
        schedule="one_shot",
        steps=30,
        channels=2,
        batch_size=128,
        output=str(tmp_path / "run"),
    )
    result = image_generation.run(options)
    assert result.dense.nonzero_parameters > 0.9 * result.dense.parameters
    assert result.pruned.nonzero_parameters < 0.5 * result.pruned.parameters


@pytest.mark.full
def test_more_than_one_pass_over_a_large_data_set_takes_the_planned_steps(tmp_path):
    # 1,797 images in batches of 8 are 225 batches: epochs of 100 steps, and 300 steps in all.
    options = image_generation.DemoOptions(
        images="digits", steps=250, channels=2, batch_size=8, output=str(tmp_path / "run")
    )
    result = image_generation.run(options)
    assert int(result.gan.generator_optimizer.iterations) == 300
    assert len(result.history["generator_loss"]) == 3
    prune = result.prunes["generator"]
    assert prune.updates[-1][0] == prune.schedule.end_step == 195
    total = sum(row.total for row in prune.report)
    assert sum(row.kept for row in prune.report) == round(total * (1 - 0.8))


@pytest.mark.full
def test_quality_is_measured_with_held_out_images(tmp_path, capsys):
    options = image_generation.DemoOptions(
        images="digits", steps=30, channels=2, quality=True, output=str(tmp_path / "run")
    )
    with pytest.warns(PruningWarning, match="needs at least 10 images a dimension"):
        result = image_generation.run(options)
    # The last fifth of 1,797 images is held out.
    assert len(result.images) == 1438
    assert {name: len(found) for name, found in result.quality.items()} == {
        "real": 1,
        "dense": 3,
        "pruned": 3,
    }
    assert {found.real_samples for found in result.quality["pruned"]} == {359}
    assert result.quality["real"][0].fd < result.quality["dense"][0].fd
    rows = {row[0]: row for row in image_generation.summary(result)}
    dense, pruned = (np.mean([q.fd for q in result.quality[k]]) for k in ("dense", "pruned"))
    assert rows["Fréchet distance"][1:3] == (f"{dense:.3f}", f"{pruned:.3f}")
    stored = kgp.load_run(tmp_path / "run")
    assert [each["fd"] for each in stored.quality["pruned"]] == pytest.approx(
        [q.fd for q in result.quality["pruned"]]
    )
    assert "Evaluator: a feature extractor" in capsys.readouterr().out


@pytest.mark.full
@pytest.mark.filterwarnings("ignore:A budget of:keras_ganprune.errors.PruningWarning")
def test_channels_are_cut_out_with_structured(tmp_path, capsys):
    small = ["--data", "digits", "--steps", "30", "--channels", "8", "--batch-size", "128"]
    output = ["--output", str(tmp_path / "run")]
    assert cli.main(["demo", *small, *output, "--structured", "--macs", "0.5"]) == 0
    assert "channels.png" in [path.name for path in (tmp_path / "run").iterdir()]
    stored = kgp.load_run(tmp_path / "run")
    assert list(stored.samples) == ["real", "dense", "shrunk"]
    assert stored.sizes["shrunk"]["macs"] < 0.6 * stored.sizes["dense"]["macs"]
    assert set(stored.latency) == {"dense", "shrunk"}
    assert all(after <= before for _, before, after in stored.channels["generator"])
    printed = capsys.readouterr().out
    assert "shrunk / dense" in printed and "generator: cut at " in printed
    text = (tmp_path / "run" / "report.md").read_text(encoding="utf-8")
    assert "a share of the macs: requested 0.5000" in text
    gan = keras.saving.load_model(tmp_path / "run" / "gan.keras")
    assert kgp.profile(gan.generator, latency=False).macs == stored.sizes["shrunk"]["macs"]
