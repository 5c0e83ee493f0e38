"""The table of classes of clips, small."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from experiments import clip_classes_table as table
from experiments.clip_classes_table import Scores, _mean, _minus
from experiments.moving_shapes import Shapes, write_shapes
from vidembed.media.feature_store import FeatureStore, FrameFeatures


def test_means_are_over_seeds_and_differences_are_paired():
    rng = np.random.default_rng(0)
    sources = np.repeat(np.arange(6), 5)
    runs = [Scores((rng.random(30) < 0.7).astype(float), sources, 0.5) for _ in range(2)]
    mean = np.mean([run.values.mean() for run in runs])
    interval = _mean(runs)
    assert interval.value == pytest.approx(mean)
    assert interval.low < mean < interval.high
    worse = [run._replace(values=run.values - 0.1) for run in runs]
    assert _minus(worse, runs) == pytest.approx((-0.1, -0.1, -0.1))


@pytest.mark.long
def test_the_table_of_a_few_windows(tmp_path, monkeypatch, capsys):
    """Two of the systems: they share all that the others do."""
    monkeypatch.setattr(
        table, "SYSTEMS", {n: table.SYSTEMS[n] for n in ("from scratch", "fine-tuned")}
    )
    folder = tmp_path / "shapes"
    write_shapes(folder, Shapes(groups=3, frames=4))
    store, rng = FeatureStore(tmp_path / "features", {"space": "numbers"}), np.random.default_rng(0)
    for row in csv.DictReader((folder / "clips.csv").read_text().splitlines()):
        values = rng.normal(size=(20, 6)).astype(np.float32)
        store.write(Path(row["path"]).stem, {}, FrameFeatures(np.arange(20) / 8, values))
    words = ["--workdir", str(tmp_path / "runs"), "--folder", str(folder)]
    words += ["--clips", str(folder / "clips.csv"), "--frames", str(store.folder), "--seeds", "0"]
    words += ["--pretraining-steps", "2", "--steps", "2", "--options=--feed.batch-videos 8"]
    assert table.main(words) == 0
    assert "8 test clips of 1 sources" in capsys.readouterr().out
    written = json.loads((tmp_path / "runs" / "clip_classes.json").read_text())
    assert written["systems"].keys() == table.SYSTEMS.keys()
    assert written["systems"]["fine-tuned"]["value"] == written["each_seed"]["fine-tuned"][0]
    assert written["minus_scratch"].keys() == {"fine-tuned"}
