"""What is measured of a run with and without audio, by loops; and the command whole."""

import json
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from experiments.missing_modality import main, measured, without_audio
from experiments.sweep import varied
from vidembed.distributed.stopping import StopFlag
from vidembed.engine.train import train
from vidembed.evaluators.related_videos import RelatedVideos
from vidembed.models.fusion import LateFusion, Layers, SingleModality
from vidembed.progress import Progress
from vidembed.recipes.cdml import recipe
from vidembed.workdir.layout import Workdir


def unit(seed):
    vectors = np.random.default_rng(seed).normal(size=(300, 6)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def test_measures_equal_loops(corpus):
    heard, silent = unit(0), unit(1)
    has = np.random.default_rng(2).random(300) > 0.3

    def embed(table, present):
        there = np.broadcast_to(present["audio"], (300,))
        return np.where(there[:, None], heard, silent)

    found = measured(SimpleNamespace(embed=embed), corpus, has)
    train_rows, test = np.flatnonzero(corpus.is_train), np.flatnonzero(~corpus.is_train)
    partly = np.where(has[:, None], heard, silent)
    cosines = [float(heard[row] @ silent[row]) for row in test]
    assert found["cosine"] == pytest.approx(np.mean(cosines), abs=1e-5)
    shares = []
    for row in test[~has[test]]:
        nearest = sorted(train_rows, key=lambda other, row=row: -partly[row] @ partly[other])[:10]
        shares.append(np.mean(~has[nearest]))
    assert found["alike"] == pytest.approx(np.mean(shares))
    assert found["base"] == pytest.approx(np.mean(~has[train_rows]))
    scores = found["scores"]["eval_to_train, without audio"]
    every = RelatedVideos().per_query(partly, corpus, "eval_to_train")
    some = [number for number, row in enumerate(corpus.table.find(every.ids)) if not has[row]]
    assert 0 < len(some) < len(every.ids)
    np.testing.assert_array_equal(scores.ids, every.ids[some])
    np.testing.assert_array_equal(scores.values["map"], every.values["map"][some])
    whole = RelatedVideos().per_query(heard, corpus, "train_to_eval").values["map"]
    np.testing.assert_array_equal(found["scores"]["train_to_eval, all audio"].values["map"], whole)


def test_audio_is_taken_away_and_nothing_else(corpus):
    has = np.arange(300) % 5 > 0
    table = without_audio(corpus.table, has)
    assert table.space == corpus.table.space
    np.testing.assert_array_equal(table.has("audio"), has)
    np.testing.assert_array_equal(table.features["visual"], corpus.table.features["visual"])
    audio = np.where(has[:, None], corpus.table.features["audio"], 0)
    np.testing.assert_array_equal(table.features["audio"], audio)


@pytest.mark.long
def test_the_command(corpus_paths, tmp_path, capsys):
    """Of a quickstart with one seed and two steps; again, nothing is trained anew."""
    layers = Layers(hidden=(8,), size=4)
    for name, model in (
        ("trained", LateFusion(layers=layers)),
        ("trained_visual_only", SingleModality(layers=layers)),
    ):
        of = varied(recipe, task={"model": model}, feed={"batch_triplets": 32}, steps=2)
        run = Workdir(tmp_path / "quickstart" / "seed0" / name)
        with StopFlag() as stop, run.lease() as lease:
            train(replace(of, corpus=corpus_paths), run, lease=lease, stop=stop,
                  progress=Progress(quiet=True))  # fmt: skip
    command = ["--quickstart", str(tmp_path / "quickstart"), "--workdir", str(tmp_path / "w")]
    command += ["--seeds", "0", "--probabilities", "0", "0.5"]
    for again in (False, True):
        assert main(command) == 0
        text = capsys.readouterr().out
        assert ("going on from step 2" in text) == again
        rows = [line for line in text.splitlines() if line.startswith("| ")]
        assert [row.split(" | ")[0][2:] for row in rows[1:]] == [
            "pictures alone", "all audio in training, 0", "all audio in training, 0.3", "0", "0.5",
        ]  # fmt: skip
    summary = json.loads((tmp_path / "w" / "summary.json").read_text())
    assert summary["rows"]["pictures alone"]["cosine"] == pytest.approx(1)
    assert summary["rows"]["0"]["more"]["eval_to_train, all audio"]["map"]["value"] == 0
    assert summary["rows"]["0"]["cosine"] < 0.999
