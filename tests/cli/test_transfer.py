"""From Kinetics' form to UCF101's and HMDB51's: pre-train, fine-tune, train linearly, probe."""

import numpy as np
import pytest

from tests.cli.test_arguments import given
from tests.cli.test_provico import FEW, SMALL
from tests.corpora.published_folders import write_hmdb51, write_kinetics, write_ucf101
from tests.toys.job import losses
from vidembed.__main__ import main
from vidembed.engine.model import load_model
from vidembed.feeds.clips import DecodedClips
from vidembed.feeds.windows import FeatureWindows
from vidembed.models.r3d import ResidualClips
from vidembed.models.temporal import TemporalConvolution
from vidembed.workdir.layout import Workdir

HEADS = SMALL.index("--task.heads.size")
OF_CLASSES = [*SMALL[:HEADS], *SMALL[HEADS + 2 :]]
"""The same sizes, without heads."""


def train(recipe, workdir, *options):
    sizes = SMALL if recipe == "provico" else OF_CLASSES
    words = ["train", recipe, "--workdir", str(workdir), "--preset", "clips", *sizes, *options]
    return main([*words, "--feed.batch-videos", "8"])


def encoder_of(workdir, output="video"):
    arrays = load_model(Workdir(workdir), "latest").arrays(output)
    parameters = {n: p for n, p in arrays["parameters"].items() if n.startswith("encoder/")}
    return parameters | arrays["state"]["batch_statistics"]


def same(ones, others):
    return all(np.array_equal(ones[name], others[name]) for name in ones)


@pytest.mark.long
def test_from_kinetics_to_ucf101_and_hmdb51(tmp_path, capsys):
    kinetics = write_kinetics(tmp_path / "kinetics")
    assert train("provico", tmp_path / "pretrained", *kinetics) == 0
    assert "16 for training, 8 for test; 8 classes" in capsys.readouterr().out
    source = ["--init-from", str(tmp_path / "pretrained")]
    for write, classes in ((write_ucf101, 4), (write_hmdb51, 4)):
        place = tmp_path / write.__name__
        data = write(place)
        assert train("clip-classes", place / "tuned", *source, *data) == 0
        printed = capsys.readouterr().out
        assert f"8 for training, 4 for test; {classes} classes" in printed
        assert "left out, because this task has no use for them: parameters/heads" in printed
        assert np.isfinite(list(losses(place / "tuned").values())).all()
        frozen = ["--task.encoder-rate", "0"]
        assert train("clip-classes", place / "linear", *source, *data, *frozen) == 0
        known = encoder_of(tmp_path / "pretrained")
        assert known.keys() == encoder_of(place / "linear").keys()
        assert same(known, encoder_of(place / "linear"))
        assert not same(known, encoder_of(place / "tuned"))
        capsys.readouterr()
        for name in ("tuned", "linear"):
            evaluate = ["evaluate", "clip-classes", "--workdir", str(place / name), *FEW]
            assert main(evaluate) == 0
            printed = capsys.readouterr().out
            assert "4 queries" in printed
            assert "accuracy@1, test" in printed
            assert "accuracy per class, test" in printed
            assert "popularity" in printed
        # The encoder's vectors themselves: retrieval, and a logistic regression.
        probe = ["evaluator:probe", *FEW]
        assert main(["evaluate", "clip-classes", "--workdir", str(place / "linear"), *probe]) == 0
        assert "R@1, test" in capsys.readouterr().out
        model = load_model(Workdir(place / "tuned"), "latest")
        videos = model.recipe.corpus.open().table
        labels = model["labels"](videos)
        assert labels.shape == (12, classes)
        np.testing.assert_allclose(labels.sum(axis=1), 1, rtol=1e-5)
    # Pre-trained on the small set itself, and a supervised run as the source of another.
    data = ["--corpus.folder", str(place / "videos"), "--corpus.clips", str(place / "lists")]
    data += ["--corpus.form", "hmdb51"]
    assert train("provico", tmp_path / "own", *data) == 0
    assert train("clip-classes", tmp_path / "a", "--init-from", str(tmp_path / "own"), *data) == 0
    other = ["--init-from", str(tmp_path / "write_ucf101" / "tuned"), *data]
    assert train("clip-classes", tmp_path / "b", *other) == 0
    assert "left out" in capsys.readouterr().out


@pytest.mark.long
@pytest.mark.fault(
    "Runs: classes of clips that begin from a run with another encoder",
    "1: the arrays that differ, before the run begins",
)
def test_another_encoder_is_refused(tmp_path, capsys):
    data = write_ucf101(tmp_path / "ucf101")
    assert train("provico", tmp_path / "pretrained", *data, "--steps", "1") == 0
    wider = ["--init-from", str(tmp_path / "pretrained"), "--task.encoder.width", "0.125"]
    assert train("clip-classes", tmp_path / "tuned", *data, *wider) == 1
    printed = capsys.readouterr().err
    assert "does not have the arrays of this run:\n  parameters/encoder/" in printed
    assert Workdir(tmp_path / "tuned").read_recipe() is None


def test_each_preset_has_the_encoder_of_provicos(monkeypatch):
    for preset, kinds in {
        "clips": (DecodedClips, ResidualClips),
        "windows": (FeatureWindows, TemporalConvolution),
    }.items():
        words = ("--workdir", "w", "--preset", preset)
        classes, pretrained = (
            given(f"train {name}", *words, monkeypatch=monkeypatch).recipe
            for name in ("clip-classes", "provico")
        )
        assert (type(classes.feed), type(classes.task.encoder)) == kinds
        assert repr(classes.task.encoder) == repr(pretrained.task.encoder)
        assert repr(classes.feed) == repr(pretrained.feed)
        assert classes.task.augment.size == pretrained.task.augment.size
        assert repr(classes.task.embedded) == repr(pretrained.task.embedded)
        assert classes.task.augment.jitter == 0
