"""`provico` through the command line, on simulated clips: train, stop, resume, evaluate."""

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from experiments.moving_shapes import Shapes, write_shapes
from tests.cli.test_arguments import given
from tests.toys.job import losses
from vidembed.__main__ import main
from vidembed.engine.model import load_model
from vidembed.feeds.clips import DecodedClips
from vidembed.feeds.windows import FeatureWindows
from vidembed.losses.info_nce import InfoNCE
from vidembed.losses.thresholds import Fixed
from vidembed.media.feature_store import FeatureStore, FrameFeatures
from vidembed.models.r3d import ResidualClips
from vidembed.models.temporal import TemporalConvolution
from vidembed.recipes import provico
from vidembed.workdir.layout import Workdir

SMALL = [
    "--steps",
    "4",
    "--checkpoints.every-steps",
    "2",
    "--log-every",
    "1",
    "--task.augment.size",
    "16",
    "--feed.batch-videos",
    "8",
    "--feed.frames",
    "4",
    "--feed.rate",
    "12",
    "--feed.height",
    "24",
    "--feed.width",
    "24",
    "--feed.workers",
    "0",
    "--task.encoder.width",
    "0.0625",
    "--task.heads.size",
    "16",
    "--task.embedded.frames",
    "4",
    "--task.embedded.rate",
    "12",
    "--task.embedded.height",
    "24",
    "--task.embedded.width",
    "24",
]
FEW = ["--evaluator.resamples", "40"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shapes")
    write_shapes(folder, Shapes(groups=3, frames=12))
    return folder


@pytest.fixture(scope="module")
def features(folder):
    """Features of frames in which the classes are apart."""
    store, rng = FeatureStore(folder / "features", {"space": "numbers"}), np.random.default_rng(0)
    rows = list(csv.DictReader((folder / "clips.csv").read_text().splitlines()))
    centres = {row["class"]: rng.normal(size=6) for row in rows}
    for row in rows:
        values = centres[row["class"]] + 0.5 * rng.normal(size=(20, 6))
        frames = FrameFeatures(np.arange(20) / 8, values.astype(np.float32))
        store.write(Path(row["path"]).stem, {}, frames)
    return str(store.folder)


def train(folder, workdir, *options):
    data = ["--corpus.folder", str(folder), "--corpus.clips", f"{folder}/clips.csv"]
    assert main(["train", "provico", "--workdir", str(workdir), *data, *options]) == 0
    return losses(workdir)


@pytest.mark.long
def test_decoded_clips_are_trained_on_evaluated_and_resumed(folder, tmp_path, capsys):
    options = ["--preset", "clips", *SMALL]
    one = train(folder, tmp_path / "one", *options)
    assert list(one) == [1, 2, 3, 4]
    assert np.isfinite(list(one.values())).all()
    train(folder, tmp_path / "two", *options, "--steps", "2")
    assert train(folder, tmp_path / "two", *options) == one
    capsys.readouterr()
    evaluate = ["evaluate", "provico", "--workdir", str(tmp_path / "one"), *FEW]
    assert main(evaluate) == 0
    said = capsys.readouterr().out
    assert "R@1, test" in said
    assert "chance" in said
    model = load_model(Workdir(tmp_path / "one"), "latest")
    recipe = model.recipe
    assert recipe.corpus.clips == f"{folder}/clips.csv"
    source = recipe.corpus.open().table
    videos = model["video"](source)
    np.testing.assert_allclose(np.linalg.norm(videos, axis=1), 1, rtol=1e-5)
    np.testing.assert_allclose(model["video"](source, np.array([5, 2])), videos[[5, 2]], atol=1e-5)
    assert model["clip_deviation"](source, np.arange(3)).shape == (3, 2, 16)
    assert np.all(model["video_deviation"](source) > 0)


@pytest.mark.long
def test_windows_are_learned_and_variances_that_vanish_are_warned_of(
    folder, features, tmp_path, capsys
):
    options = ["--preset", "windows", "--corpus.frames", features, "--feed.batch-videos", "16"]
    options += ["--steps", "60", "--checkpoints.every-steps", "60", "--log-every", "3"]
    options += ["--task.heads.size", "8", "--task.encoder.width", "16"]
    train(folder, tmp_path / "sound", *options)
    assert "WARNING" not in capsys.readouterr().out
    evaluate = ["evaluate", "provico", "--workdir", str(tmp_path / "sound"), *FEW]
    assert main(evaluate) == 0
    assert main([*evaluate, "--evaluator.output", "video_deviation"]) == 0
    said = capsys.readouterr().out
    assert float(said.split("R@1, test")[1].split()[0]) > 0.8  # chance: 0.125
    options += ["--task.heads.lowest", "-4", "--task.heads.start", "-3.9"]
    options += ["--task.loss.uncertainty.regulariser", "50", "--optimiser.learning-rate", "0.01"]
    train(folder, tmp_path / "points", *options)
    assert "the variances have vanished" in " ".join("".join(capsys.readouterr()).split())


def test_each_preset_fits_the_network_to_the_clips(monkeypatch):
    def recipe_of(*words):
        return given("train provico", "--workdir", "w", *words, monkeypatch=monkeypatch)

    clips, windows = (recipe_of("--preset", name).recipe for name in ("clips", "windows"))
    assert (type(clips.feed), type(clips.task.encoder)) == (DecodedClips, ResidualClips)
    assert (type(windows.feed), type(windows.task.encoder)) == (FeatureWindows, TemporalConvolution)
    # What is embedded is cut as what is learned from.
    for name in ("clips", "frames", "stride", "rate", "height", "width", "fit", "longest_seconds"):
        assert getattr(clips.feed, name) == getattr(clips.task.embedded, name)
    for recipe in (windows, provico.recipe):
        for name in ("clips", "frames", "stride"):
            assert getattr(recipe.feed, name) == getattr(recipe.task.embedded, name)
    deterministic = recipe_of("--preset", "clips", "task.loss:info-nce").recipe
    # By text: the command line has classes of its own.
    assert repr(deterministic.task) == repr(replace(clips.task, loss=InfoNCE()))
    fixed = recipe_of("task.loss.threshold:fixed", "--task.loss.threshold.distance", "0.2").recipe
    assert repr(fixed.task.loss.threshold) == repr(Fixed(distance=0.2))
