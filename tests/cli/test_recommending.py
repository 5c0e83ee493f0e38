"""`python -m vidembed recommend` as people run it."""

import codecs
import csv
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.serving.test_index import some_ids, some_vectors
from vidembed.__main__ import main
from vidembed.deploy.index import VideoIndex
from vidembed.records.tabular import METADATA_KEY
from vidembed.serving.choosing import Choosing
from vidembed.serving.index import Index
from vidembed.serving.user_models import Max, Mean
from vidembed.sessions import histories

IDS, VECTORS = some_ids(64), some_vectors(64)
# Of lengths that are padded alike: each other one would be compiled.
USERS = {"anna": [9, 3, 5], "bert": [7, 8, 1, 4], "cäcilie": [5, 5, 8], "9": [0, 63, 2]}


@pytest.fixture(scope="module")
def index(tmp_path_factory):
    folder = tmp_path_factory.mktemp("made") / "index"
    return VideoIndex(Index.create(folder, IDS, VECTORS, space="s")), folder


def rows_of(users=USERS):
    """(user, video, time), not in order: the first watch of each user, the second ..."""
    longest = max(map(len, users.values()))
    return [
        (user, IDS[rows[at]].decode(), f"2024-01-01 00:00:{at:02d}")
        for at in reversed(range(longest))
        for user, rows in users.items()
        if at < len(rows)
    ]


def written(path, rows, columns=("user_id", "video_id", "timestamp")):
    if path.suffix == ".parquet":
        pq.write_table(pa.table(dict(zip(columns, map(list, zip(*rows))))), path)
    else:
        with path.open("w") as file:
            csv.writer(file, delimiter=";").writerows([columns, *rows])
    return path


def call(capsys, *words):
    code = main(["recommend", *map(str, words)])
    said = capsys.readouterr()
    return code, said.out, said.err


def by_user(path):
    table = pq.read_table(path).to_pylist()
    users = {}
    for row in table:
        users.setdefault(row["user_id"], []).append(row)
        assert row["rank"] == len(users[row["user_id"]])
    return users


def equals(path, index, model, k, **options):
    found = by_user(path)
    for user, rows in USERS.items():
        times = np.arange(len(rows))
        ids, scores = index.recommend(IDS[rows], k, user_model=model, times=times, **options)
        assert [row["video_id"] for row in found[user]] == ids.astype(str).tolist()
        np.testing.assert_allclose([row["score"] for row in found[user]], scores, atol=1e-6)


@pytest.mark.parametrize("suffix", [".parquet", ".csv"])
def test_users_get_what_the_index_recommends_to_each(index, tmp_path, capsys, suffix, monkeypatch):
    # Users whose watches come in several batches.
    monkeypatch.setattr(histories, "ROWS_AT_ONCE", 3)
    opened, folder = index
    file, out = written(tmp_path / f"h{suffix}", rows_of()), tmp_path / "o" / "out.parquet"
    options = ["--half-life-seconds", 2, "--half-life-watches", 3, "-k", 4]
    code, said, _ = call(capsys, folder, out, "--histories", file, *options)
    assert code == 0
    assert "16 recommendations for 4 of 4 users; space: s" in said
    equals(out, opened, Mean(half_life_seconds=2, half_life_watches=3), 4)
    mark = json.loads(pq.read_schema(out).metadata[METADATA_KEY])
    assert mark["space"] == "s"
    within = tmp_path / "within.txt"
    within.write_bytes(codecs.BOM_UTF8 + b"\r\n".join(IDS[::2]))  # as Windows writes it
    killed = out.parent / f".out.parquet.{2**22 + 1}.0123abcd"  # no process has so high a number
    killed.write_bytes(b"half")
    options = ["--user-model", "max", "--within", within, "--mmr-lambda", 0.5, "-k", 3]
    options += ["--duplicates-above", 0.9, "--over-fetch", 2]
    assert call(capsys, folder, out, "--histories", file, *options)[0] == 0
    choosing = Choosing(mmr_lambda=0.5, duplicates_above=0.9, over_fetch=2)
    equals(out, opened, Max(), 3, choosing=choosing, within=IDS[::2])
    assert [path.name for path in out.parent.iterdir()] == ["out.parquet"]


@pytest.mark.fault(
    "Recommendation: histories in a file that name unknown videos, users without any known one",
    "left out, counted and said; all others are recommended to",
)
def test_what_the_index_lacks_is_counted(index, tmp_path, capsys):
    _, folder = index
    rows = [("a", "x"), ("a", "v00001"), ("b", "x"), ("c", "v00002"), ("c", "y"), ("a", "v00001")]
    file = written(tmp_path / "h.csv", rows, ("user_id", "video_id"))
    out = tmp_path / "out.parquet"
    code, said, _ = call(capsys, folder, out, "--histories", file, "-k", 100)
    assert code == 0
    assert "126 recommendations for 2 of 3 users" in said
    assert "3 of 6 watches are of videos not in the index" in said
    assert "1 users have no video in the index and were left out" in said
    assert "2 users have fewer than 100 recommendations" in said
    assert set(by_user(out)) == {"a", "c"}


@pytest.mark.fault(
    "Recommendation: a file of histories that lacks a column, a user, a video or a time, an output "
    "that is an input or another's file, no candidate, options that contradict each other",
    "1: file, row or option; nothing is written",
)
def test_faults_are_named_and_nothing_is_written(index, tmp_path, capsys):
    _, folder = index
    file, out = written(tmp_path / "h.csv", rows_of()), tmp_path / "out.parquet"
    untimed = written(tmp_path / "u.csv", [("a", "v00001")], ("user_id", "video_id"))
    nobody = written(tmp_path / "n.csv", [("a", "v00001"), ("", "v00002")], ("user_id", "video_id"))
    other = written(tmp_path / "c.csv", [("a", "v00001")], ("user", "video_id"))
    gap = written(tmp_path / "g.csv", [("a", "v00001", "1"), ("a", "v00002", "")])
    (tmp_path / "none.txt").write_text("x\n")
    (tmp_path / "x.png").write_bytes(b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR")
    before = sorted(path.name for path in tmp_path.iterdir())
    for words, message in (
        ([file, "-k", 0], "k is 0"),
        ([file, "--within", tmp_path / "none.txt"], "none of the 1 ids of `within`"),
        (
            [file, "--user-model", "max", "--half-life-watches", 3],
            "half-lives need --user-model mean",
        ),
        ([file, "--mmr-lambda", 2], "--mmr-lambda is 2"),
        ([file, "--within", tmp_path / "x.png"], "give the ids as a text file"),
        ([file, "--user-model", "variance", "--variance-weight", "nan"], "weight is nan"),
        ([file, "--memory-limit", "much"], "--memory-limit is a size"),
        ([untimed, "--half-life-seconds", 3], "column timestamp is missing, which forgetting"),
        ([nobody], "1 of 2 watches have no user_id"),
        ([other], "column user_id is missing"),
        ([gap, "--half-life-watches", 3], "1 of 2 watches have no timestamp"),
        ([tmp_path / "absent"], "absent"),
    ):
        code, _, errors = call(capsys, folder, out, "--histories", *words)
        assert code == 1, words
        assert message in errors
        assert sorted(path.name for path in tmp_path.iterdir()) == before
    assert "give --histories FILE" in call(capsys, folder, out)[2]
    assert "is one of the inputs" in call(capsys, folder, file, "--histories", file)[2]
    out.write_text("mine")
    assert "was not made by" in call(capsys, folder, out, "--histories", file)[2]
    assert out.read_text() == "mine"
