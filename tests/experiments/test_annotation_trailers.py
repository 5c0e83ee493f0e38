"""Genres from trailers on made movies: trained, measured, printed and written; or refused."""

import csv
import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from experiments.annotation_runs import METRICS
from experiments.annotation_trailers import INPUTS, Trailers, main
from tests.experiments.made_movies import made_movies


@pytest.mark.long
def test_genres_are_learnt_and_measured_against_popularity(tmp_path, monkeypatch, capsys):
    folders = made_movies(tmp_path)
    monkeypatch.setattr("experiments.annotation_trailers.INPUTS", ("audio",))
    options = [word for name in ("movielens", "trailers") for word in (f"--{name}", folders[name])]
    work = tmp_path / "work"
    sizes = ["--seeds", "0", "--experts", "1", "--steps", "60"]
    assert main(["--workdir", str(work), *options, *sizes]) == 0
    table = pq.read_table(work / "genres.parquet")
    with Path(folders["movielens"], "movies.csv").open() as file:
        cells = {row["movieId"]: row["genres"] for row in csv.DictReader(file)}
    expected = {
        (movie, genre)
        for movie, cell in cells.items()
        if "listed" not in cell
        for genre in cell.split("|")
    }
    assert set(zip(table["video_id"].to_pylist(), table["label"].to_pylist())) == expected
    result = json.loads((work / "annotation_trailers.json").read_text())
    popularity, trained = result["rows"]
    assert (popularity["name"], trained["name"]) == ("popularity", "audio, H = 1")
    for metric in METRICS:
        scores = [row["scores"][metric]["value"] for row in result["rows"]]
        minus = trained["minus"]["popularity"][metric]["value"]
        assert minus == pytest.approx(scores[1] - scores[0])
    assert trained["minus"]["popularity"]["gap@20"]["low"] > 0
    text = (work / "annotation_trailers.md").read_text()
    assert f"{popularity['scores']['gap@20']['value']:.4f}" in text
    assert "$ vidembed train annotation" in capsys.readouterr().out


def test_the_inputs_are_said_and_absent_data_refused(tmp_path, capsys):
    assert INPUTS[:3] == ("audio", "visual", "audio+visual")
    assert main(["--workdir", str(tmp_path)]) == 1
    assert "--trailers FOLDER must name features" in capsys.readouterr().err
    folders = made_movies(tmp_path)
    assert main(["--workdir", str(tmp_path / "w"), "--trailers", folders["trailers"]]) == 1
    assert "--movielens FOLDER must name MovieLens" in capsys.readouterr().err
    with pytest.raises(ValueError, match="seeds must be"):
        Trailers(workdir="w", seeds=())
