"""Choosing among closed forms, on the small corpus."""

from dataclasses import replace

import numpy as np
import pytest

from experiments import closed_forms
from vidembed.evaluators.baselines import raw_features
from vidembed.evaluators.closed_form import closed_form
from vidembed.evaluators.related_videos import RelatedVideos
from vidembed.records.statistics import train_statistics


def test_the_best_on_validation_is_named(corpus_paths, monkeypatch, capsys):
    monkeypatch.setattr(closed_forms, "RIDGES", (0.3, 3.0))
    monkeypatch.setattr(closed_forms, "SIZES", (99,))
    assert closed_forms.main(["--corpus.table", corpus_paths.table, "--corpus.edges",
                              corpus_paths.edges]) == 0  # fmt: skip
    lines = capsys.readouterr().out.splitlines()
    rows = [line.split() for line in lines if line.startswith("   ")]
    assert len(rows) == 2 * 2
    means = [float(row[-1]) for row in rows]
    assert means == sorted(means, reverse=True)
    ridge, power, size = rows[0][:3]
    assert lines[-1].endswith(
        f"--task.ridge {ridge} --task.power {power} --task.model.layers.size {size}"
    )
    # Not a word of test videos, and the same as solved for alone.
    corpus = replace(corpus_paths, validation_share=0.5).open()
    table = corpus.table
    features = raw_features(table, ("visual", "audio"), train_statistics(table, corpus.is_train))
    options = {"ridge": float(ridge), "power": float(power), "size": int(size)}
    vectors = closed_form(corpus, features, **options)
    scored = RelatedVideos().per_query(vectors, corpus, "eval_to_train", "validation")
    assert float(rows[0][3]) == pytest.approx(scored.values["ndcg@10"].mean(), abs=6e-4)
    assert np.isfinite(vectors).all()
    assert closed_forms.main(["--corpus.table", corpus_paths.table, "--corpus.edges",
        corpus_paths.edges, "--corpus.validation-share", "0"]) == 1  # fmt: skip
    assert "nothing to choose by" in capsys.readouterr().err
