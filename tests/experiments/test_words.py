"""Search by words on made videos: captions, measures against slow ones, and the whole command."""

import csv
import json

import numpy as np
import pytest

from experiments import words
from experiments.words_data import plain, youtube8m
from experiments.words_measures import average_precisions, measured, questions
from experiments.words_systems import RIDGE, Penalties, standardised, systems
from experiments.words_trailers import WRITTEN, trailers
from tests.experiments.made_movies import made_movies, write_csv
from vidembed.corpora.sentence_vectors import SentenceVectors
from vidembed.records.table import FeatureTable

LABELS, WIDTH = 12, 16


def encode(texts):
    """A made sentence encoder: the sum of a random vector per word."""
    words_of = [text.replace(",", " ").replace(".", " ").split() for text in texts]
    return np.stack([sum(_word(word) for word in each) for each in words_of]).astype(np.float32)


def _word(word):
    return np.random.default_rng(list(word.encode())).standard_normal(WIDTH)


@pytest.fixture(scope="module")
def vocabulary(tmp_path_factory):
    path = tmp_path_factory.mktemp("vocabulary") / "vocabulary.csv"
    with path.open("w", newline="") as file:
        lines = csv.writer(file)
        lines.writerow(("Index", "Name", "WikiDescription"))
        lines.writerow((0, "", ""))
        lines.writerows((n, f"Thing{n} (Kind)", f"a thing{n}") for n in range(1, LABELS))
    return path


@pytest.fixture(scope="module")
def made(vocabulary):
    """500 videos with 1 to 4 of 12 labels, which features tell; label 0 has no name, 3 is kept."""
    rng = np.random.default_rng(0)
    borne = [np.sort(rng.permutation(LABELS)[: rng.integers(1, 5)]) for _ in range(500)]
    of = np.array([np.isin(np.arange(LABELS), each) for each in borne], np.float64)
    features = {
        name: (of @ rng.normal(size=(LABELS, 20)) + 0.3 * rng.normal(size=(500, 20))).astype("f4")
        for name in ("audio", "visual")
    }
    table = FeatureTable(
        ids=np.array([f"v{n:03}" for n in range(500)], "S"),
        features=features,
        label_offsets=np.concatenate([[0], np.cumsum([len(each) for each in borne])]),
        label_values=np.concatenate(borne).astype(np.int32),
    )
    return youtube8m(table, vocabulary, 0, unseen=(3,))


def test_captions_name_labels_of_the_video_and_never_an_unseen_one(made):
    assert plain("Guitar  (Acoustic (old)) Solo") == "guitar solo"
    for video, text, asked in zip(made.videos, made.texts, made.asked):
        assert asked <= set(made.table.labels(video).tolist()) - {0, 3}
        assert sorted(text.split(", ")) == sorted(made.names[label] for label in asked)
    pairs = list(zip(made.videos.tolist(), made.asked))
    assert len(set(pairs)) == len(pairs)
    whole = made.whole_of("test")
    assert len(whole) == made.parts["test"].sum()
    for caption in whole:
        assert made.asked[caption] == set(made.table.labels(made.videos[caption]).tolist()) - {0}
    assert np.array_equal(made.kept_out, made.bearing(3))
    assert not any((mask & made.kept_out).any() for mask in made.parts.values())
    assert np.sum(list(made.parts.values()), axis=0).max() == 1


def test_average_precision_against_the_definition():
    rng = np.random.default_rng(1)
    scores, right = rng.normal(size=(5, 30)), rng.random((5, 30)) < 0.3
    for value, row, of in zip(average_precisions(scores, right), scores, right):
        ranks = np.sort([1 + (row > row[n]).sum() for n in np.flatnonzero(of)])
        assert value == pytest.approx(np.mean(np.arange(1, len(ranks) + 1) / ranks))


def test_closed_forms_surpass_the_controls(made):
    asked = questions(made)
    assert all(of.right.any(axis=1).all() for of in asked.values())
    scores = {
        name: measured(made, answers, asked, seed=0, resamples=40)
        for name, answers in systems(made, encode, Penalties(features=0.01), 0)
    }
    recall = {name: of["text_to_video/r@10"].value for name, of in scores.items()}
    chance = 10 / made.parts["test"].sum()
    assert abs(recall["chance"] - chance) < 0.15
    assert abs(recall["ridge, features shuffled"] - chance) < 0.15
    for name in ("ridge to sentence vectors", "CCA", "ridge to labels, which it knows"):
        assert recall[name] > 0.6
        assert scores[name]["label sets"].value > scores["chance"]["label sets"].value + 0.3
    knowing = {name for name, of in scores.items() if "unseen by name" not in of}
    assert knowing == {"ridge to labels, which it knows"}


def test_a_sentence_ridge_equals_least_squares_with_rows_for_the_penalty(made):
    """Against numpy's least squares on extended rows."""
    train = made.parts["train"]
    rows = standardised(made, made.modalities)
    assert np.allclose(rows[train].mean(axis=0), 0)
    assert np.allclose(rows[train].std(axis=0), 1)
    named = dict(systems(made, encode, Penalties(features=0.5), 0))
    vectors = encode(made.texts).astype(np.float64)
    whole = [np.flatnonzero(made.videos == row)[0] for row in np.flatnonzero(train)]
    goal = vectors[whole] - vectors[whole].mean(axis=0)
    extra = np.sqrt(0.5 * train.sum()) * np.eye(rows.shape[1])
    solved = np.linalg.lstsq(
        np.concatenate([rows[train], extra]), np.concatenate([goal, np.zeros((len(extra), WIDTH))]),
        rcond=None,
    )[0]  # fmt: skip
    expected = rows @ solved
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    assert np.allclose(named[RIDGE].videos, expected)


def test_all_that_was_written_of_a_movie_comes_first_and_its_title_never(tmp_path):
    folders = made_movies(tmp_path)
    stories = [(100 + n, f"story{n % 4}.", "", "short", f"key{n % 4}|more", "") for n in range(50)]
    write_csv(tmp_path / "text" / "trailer_text.csv", WRITTEN, stories)
    data = trailers(folders["movielens"], folders["trailers"], folders["text"], 0)
    assert not any("Movie" in text for text in data.texts)
    whole = [data.texts[n] for part in data.parts for n in data.whole_of(part)]
    assert len(whole) == len(set(data.videos.tolist())) > 0
    assert all("tag" in text and "story" in text and "short" in text for text in whole)
    assert {"short", "key1, more"} <= set(data.texts)
    assert len(set(zip(data.videos.tolist(), data.texts))) == len(data.texts)
    assert np.isfinite(standardised(data, ("visual", "audio"))).all()
    assert not questions(data)
    names = [name for name, _ in systems(data, encode, Penalties(), 0)]
    assert "CCA" in names
    assert not any("labels" in name for name in names)


def test_the_command_prints_and_writes_what_training_reads(made, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(
        words, "sentence_vectors", lambda folder, texts: SentenceVectors(encode(texts), folder)
    )

    def data(self, folder, seed):
        made.write(folder / f"seed{seed}")
        return made

    monkeypatch.setattr(words.YouTube8M, "data", data)
    work = tmp_path / "work"
    options = ["--workdir", str(work), "--encoder", "e", "--seeds", "0", "--resamples", "40"]
    assert words.main(["youtube8m", *options]) == 0
    result = json.loads((work / "words.json").read_text())
    assert "CCA" in result["systems"]
    assert "CCA" in (work / "words.md").read_text()
    with (work / "seed0" / "split.csv").open() as file:
        split = {row["id"]: row["split"] for row in csv.DictReader(file)}
    with (work / "seed0" / "captions.csv").open() as file:
        captioned = {row["video_id"] for row in csv.DictReader(file)}
    for name, mask in made.parts.items():
        ids = set(made.table.ids[mask].astype(str))
        assert ids == {each for each in captioned if split[each] == name}
