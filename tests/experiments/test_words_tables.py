"""JEMC's tables in form on imagined videos: rows, controls, orderings; real trainings (long)."""

import json

import numpy as np
import pytest

from experiments import words_tables
from experiments.words_orderings import Queries, orderings, verdict
from experiments.words_paper import TABLE_2, TABLE_3
from experiments.words_paper_tables import HEADER, narrow
from experiments.words_rows import Training, rows
from experiments.words_systems import Answers
from tests.experiments.test_words import encode
from tests.media.encoders import write_small_encoder
from vidembed.corpora.imagined_captions import imagined_captions
from vidembed.corpora.sentence_vectors import SentenceVectors

KEYS = {
    *("vse", "vse++", "weighted", "info-nce", "concatenation", "shared"),
    *("two", "each", "copies", "gru"),
}


def test_rows_of_two_and_of_three_modalities_and_of_one():
    both = {row.key: row for row in rows(("visual", "audio"), Training(), "E", 1000)}
    assert both.keys() == KEYS | {"visual alone", "audio alone", "two silent"}
    assert both["concatenation"].folder == both["info-nce"].folder
    assert both["concatenation"].options == both["info-nce"].options
    words = " ".join(both["shared"].options)
    assert "task.model:shared-space --task.model.modalities visual audio" in words
    assert "--task.model.pairs visual~audio" in words
    assert "--task.model.spaces visual visual+audio" in " ".join(both["two"].options)
    assert "--task.model.spaces visual visual " in " ".join(both["two silent"].options)
    assert "--corpus.encoder" not in both["gru"].options
    paper = {row.key: row for row in rows(("object", "activity", "audio"), Training(), "E", 1000)}
    assert "--task.model.spaces object activity+audio" in " ".join(paper["two"].options)
    assert "--task.model.spaces object activity " in " ".join(paper["two silent"].options)
    assert {row.key for row in paper.values() if row.silent} == {
        "object alone", "activity alone", "two silent"
    }  # fmt: skip
    one = {row.key for row in rows(("visual",), Training(gru=False), "E", 1000)}
    assert one == {"vse", "vse++", "weighted", "info-nce"}
    assert all(len(row.text_to_video) == len(row.video_to_text) == 5 for row in TABLE_2 + TABLE_3)


def test_an_ordering_is_the_paired_difference_over_seeds():
    rng = np.random.default_rng(0)
    videos = [np.arange(50), np.arange(50) + 10]

    def queries(values):
        return [Queries({"t": v}, {"t": of}) for v, of in zip(values, videos)]

    low = [rng.random(50) for _ in videos]
    systems = {"vse": queries(low), "vse++": queries([v + 0.1 for v in low])}
    ((claim, one, other, of),) = orderings(systems, 40)
    assert (one, other) == ("vse++", "vse")
    assert np.allclose(of["t"], 0.1)
    assert verdict(claim, of["t"]) == "yes"
    assert verdict(claim, type(of["t"])(-1, -2, -0.5)) == "reversed"
    assert verdict(claim, type(of["t"])(0, -1, 1)) == "not told apart"
    assert verdict("audio alone near chance", of["t"]) == "no, above chance"


@pytest.fixture
def world(tmp_path):
    """60 imagined videos on disk, and the options that name them."""
    made = imagined_captions(60, captions=3)
    made.table.write(tmp_path / "table")
    made.write_msrvtt(tmp_path / "captions.json")
    return made, [
        "msrvtt-form", "--workdir", str(tmp_path / "w"), "--table", str(tmp_path / "table"),
        "--captions", str(tmp_path / "captions.json"), "--seeds", "0", "1", "--resamples", "40",
    ]  # fmt: skip


def test_the_command_writes_tables_with_controls_at_chance(world, tmp_path, monkeypatch):
    made, options = world
    trained = []
    monkeypatch.setattr(
        words_tables, "sentence_vectors", lambda _, texts: SentenceVectors(encode(texts), "")
    )
    monkeypatch.setattr(words_tables, "train", lambda place, *_, **__: trained.append(place))
    exact = np.stack([encode(of).mean(axis=0) for of in made.texts])
    exact -= exact.mean(axis=0)

    def answers_of(place, data, of):
        return Answers(exact, lambda asked: of([question.text for question in asked]))

    monkeypatch.setattr(words_tables, "answers_of", answers_of)
    assert words_tables.main([*options, "--encoder", "E"]) == 0
    assert {place.parent.name for place in trained} == {"seed0", "seed1"}
    text = (tmp_path / "w" / "tables.md").read_text()
    for number in (1, 2, 3):
        assert f"**Table {number} in form" in text
    assert "the paper: JEMC, with audio | 7 | 20.9 | 29.7 | 38 | 213.8 |" in text
    assert "one shared space, object~audio" in text
    assert "CCA, without audio" in text
    result = json.loads((tmp_path / "w" / "tables.json").read_text())
    recall = {
        name: np.mean([of["text_to_video/r@10"]["value"] for of in seeds])
        for name, seeds in result["systems"].items()
    }
    chance = 10 / len([part for part in made.parts if part == "test"])
    assert recall["two spaces: object, activity+audio"] == 1.0 > chance + 0.1
    assert recall["ridge to sentence vectors"] > chance + 0.1
    (same,) = (
        each for each in result["orderings"] if each["other"].startswith("two copies of one")
    )
    assert same["differences"]["text_to_video"]["high"] == 0
    wide = ("T", ["block", *HEADER], [[str(n) for n in range(12)]])
    assert [table[2] for table in narrow([wide])] == [
        [["1", *map(str, range(2, 7))]], [["1", *map(str, range(7, 12))]]
    ]  # fmt: skip


@pytest.mark.long
def test_trainings_are_made_once_and_measured(world, tmp_path, monkeypatch, capsys):
    _, options = world
    some = {"weighted", "audio alone", "two", "gru"}
    monkeypatch.setattr(
        words_tables, "rows", lambda *given: (row for row in rows(*given) if row.key in some)
    )
    encoder = write_small_encoder(tmp_path / "encoder")
    short = ["--training.steps", "2", "--training.batch", "16", "--training.gru-passes", "0.5"]
    command = [*options[:-4], "0", "--resamples", "40", "--encoder", str(encoder), *short]
    assert words_tables.main(command) == 0
    said = capsys.readouterr().out
    assert said.count("$ vidembed train jemc") == len(some)
    first = (tmp_path / "w" / "tables.json").read_text()
    assert words_tables.main(command) == 0
    assert "$ vidembed" not in capsys.readouterr().out
    assert (tmp_path / "w" / "tables.json").read_text() == first
