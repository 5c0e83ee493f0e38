"""Labelling videos with a run: files against the run's own scores, thresholds, faults, resuming."""

import csv
import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

import vidembed
from tests.tasks.made_labels import SMALL
from tests.tasks.test_annotation import labelled, paths, probabilities, table, trained
from tests.tasks.test_closed_form import run as run_recipe
from vidembed.__main__ import main
from vidembed.deploy.annotating import Assignment, annotate_to
from vidembed.deploy.loading import opened
from vidembed.deploy.thresholds import thresholds_of
from vidembed.deploy.videos import videos_to_embed
from vidembed.progress import Progress

__all__ = ["labelled", "paths", "table", "trained"]


@pytest.fixture(scope="module")
def run(trained):
    return opened(trained, "latest", "labels")[0]


def read(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def annotate(trained, paths, out, *options):
    return main(["annotate", str(trained), paths.table, str(out), "--step", "latest", *options])


def test_rows_are_the_best_classes_of_each_video(trained, paths, table, tmp_path):
    assert annotate(trained, paths, tmp_path / "out.parquet", "--top", "3") == 0
    assert annotate(trained, paths, tmp_path / "out.csv", "--top", "3") == 0
    rows = pq.read_table(tmp_path / "out.parquet").to_pylist()
    expected = probabilities(trained, table)
    assert len(rows) == 3 * len(table)
    for number, name in enumerate(table.ids.astype(str)):
        own = rows[3 * number : 3 * number + 3]
        best = np.argsort(-expected[number], kind="stable")[:3]
        assert [row["video_id"] for row in own] == [name] * 3
        assert [row["class"] for row in own] == best.tolist()
        assert [row["label"] for row in own] == [f"label {label}" for label in best]
        np.testing.assert_allclose([row["score"] for row in own], expected[number, best], rtol=1e-5)
    lines = read(tmp_path / "out.csv")
    assert [line["class"] for line in lines] == [str(row["class"]) for row in rows]


def test_the_competitions_form_has_a_line_per_video(trained, paths, table, tmp_path):
    out = tmp_path / "out.csv"
    assert annotate(trained, paths, out, "--top", "2", "--form", "youtube-8m") == 0
    header, *lines = out.read_text().splitlines()
    assert header == "VideoId,LabelConfidencePairs"
    expected = probabilities(trained, table)
    for name, line, scores in zip(table.ids.astype(str), lines, expected, strict=True):
        best = np.argsort(-scores, kind="stable")[:2]
        pairs = " ".join(f"{label} {scores[label]:.6f}" for label in best)
        assert line.split(",")[0] == name
        written, best_pairs = line.split(",")[1].split(), pairs.split()
        assert written[::2] == best_pairs[::2]
        np.testing.assert_allclose(
            [*map(float, written[1::2])], [*map(float, best_pairs[1::2])], atol=2e-6
        )


def test_a_wanted_precision_keeps_labels_above_thresholds(trained, paths, tmp_path, capsys):
    out = tmp_path / "out.parquet"
    assert annotate(trained, paths, out, "--precision", "0.6") == 0
    output = capsys.readouterr().out
    on = dict(re.findall(r"(validation|test): precision ([\d.]+)", output))
    assert float(on["validation"]) >= 0.6
    assert on.keys() == {"validation", "test"}
    rows = pq.read_table(out).num_rows
    assert 0 < rows < 5 * 240
    assert annotate(trained, paths, out, "--precision", "0.6") == 0
    assert "nothing to do" in capsys.readouterr().out
    assert annotate(trained, paths, out, "--precision", "1", "--force") == 0
    assert "WARNING: no threshold reaches a precision of 1" in capsys.readouterr().out


def test_an_interrupted_run_resumes_with_the_same_labels(run, paths, tmp_path, monkeypatch, capsys):
    names = tuple("abcde")
    videos = videos_to_embed(paths.table)
    assignment = Assignment(names=names, top=2)
    annotate_to(run, assignment, videos, tmp_path / "whole.csv")
    monkeypatch.setattr("vidembed.deploy.videos.BLOCK_ROWS", 64)
    annotated, embed = [], run.embed

    def fails_at_the_third(block, **options):
        annotated.append(len(block))
        if len(annotated) == 3:
            raise KeyboardInterrupt
        return embed(block, **options)

    monkeypatch.setattr(run, "embed", fails_at_the_third)
    with pytest.raises(KeyboardInterrupt):
        annotate_to(run, assignment, videos_to_embed(paths.table), tmp_path / "out.csv")
    assert not (tmp_path / "out.csv").exists()
    annotated.append(0)
    annotate_to(run, assignment, videos_to_embed(paths.table), tmp_path / "out.csv")
    assert annotated == [64, 64, 64, 0, 64, 48]
    whole, resumed = (read(tmp_path / name) for name in ("whole.csv", "out.csv"))
    assert [line["class"] for line in resumed] == [line["class"] for line in whole]
    both = ([float(line["score"]) for line in lines] for lines in (resumed, whole))
    np.testing.assert_allclose(*both, rtol=1e-5)  # blocks of another size round differently


def test_an_export_gives_the_same_probabilities_and_names(trained, table, tmp_path, capsys):
    out = tmp_path / "model"
    assert main(["export", str(trained), str(out), "--step", "latest"]) == 0
    assert "to labels f32[5]" in capsys.readouterr().out
    about = json.loads((out / "model.json").read_text())
    assert about["output"] == "labels"
    assert about["labels"] == [f"label {number}" for number in range(5)]
    exported = vidembed.load(out).embed(table)
    np.testing.assert_allclose(exported, probabilities(trained, table), atol=1e-6)


@pytest.mark.fault(
    "Annotation: videos that lack a modality or an embedding that the run reads",
    "refused, naming it and the option that gives its vectors",
)
def test_a_missing_embedding_is_named(run, table, tmp_path):
    part = replace(table, features={"visual": table.features["visual"]})
    part.write(tmp_path / "part")
    videos = videos_to_embed(tmp_path / "part")
    with pytest.raises(ValueError, match=r"reads 'audio', .*--embeddings audio\.parquet"):
        annotate_to(run, Assignment(names=tuple("abcde")), videos, tmp_path / "out.csv")


@pytest.mark.fault(
    "Annotation: labels written over another file, as another form, of a run that has none",
    "refused, naming file and run; nothing is replaced without --force",
)
def test_what_cannot_be_written_is_refused(trained, paths, tmp_path, capsys):
    def refused(words, out, *options):
        assert annotate(trained, paths, out, *options) == 1
        assert words in " ".join("".join(capsys.readouterr()).split())

    other = tmp_path / "other.csv"
    other.write_text("mine")
    refused("does not hold these labels", other)
    assert other.read_text() == "mine"
    assert annotate(trained, paths, other, "--force") == 0
    refused("does not hold these labels", other, "--top", "1")
    refused("written as OUT.parquet or OUT.csv", tmp_path / "out.json")
    refused("name it OUT.csv", tmp_path / "out.parquet", "--form", "youtube-8m")
    refused("top must be 1 or more", tmp_path / "out.csv", "--top", "0")
    refused("must lie above 0", tmp_path / "out.csv", "--precision", "2")
    refused("is one of the inputs", Path(paths.table) / "out.csv")


@pytest.mark.fault(
    "Annotation: labels that changed after training, where thresholds are chosen",
    "other classes are refused, with the first that differs; other labels are warned of",
)
def test_thresholds_need_the_classes_of_the_training(trained, labelled, tmp_path, capsys):
    _, model = opened(trained, "latest", "labels")
    names, options = labelled.labels.names, {"precision": 0.6, "top": 3, "progress": Progress()}
    thresholds_of(model, names=names, rows=labelled.rows, **options)
    output = capsys.readouterr().out
    assert "have changed" not in output
    assert re.search(r"WARNING: .* 3 classes rest on fewer than 10 true .*, 'label 2' on 3", output)
    thresholds_of(model, names=names, rows="of other data", **options)
    assert "have changed since this run was trained" in capsys.readouterr().out
    with pytest.raises(ValueError, match="class 0 was 'another' and is 'label 0'"):
        thresholds_of(model, names=("another", *names[1:]), rows="", **options)
    with pytest.raises(ValueError, match=f"{len(names) - 1} then, {len(names)} now"):
        thresholds_of(model, names=names[:-1], rows="", **options)


@pytest.mark.fault(
    "Annotation: the competition's form of a run that leaves out rare classes",
    "refused: its class numbers are not those of the vocabulary",
)
def test_classes_numbered_anew_have_no_competition_form(paths, tmp_path, capsys):
    rare = replace(paths, min_class_videos=1)
    run_recipe(replace(SMALL, corpus=rare, steps=1), tmp_path / "run", rare.open())
    capsys.readouterr()
    out = tmp_path / "out.csv"
    assert annotate(tmp_path / "run", paths, out, "--form", "youtube-8m") == 1
    assert "numbers its" in "".join(capsys.readouterr())
    assert annotate(tmp_path / "run", paths, out) == 0
