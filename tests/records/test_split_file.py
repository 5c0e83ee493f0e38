"""Splits from a file: the part of each video, and the files that are refused."""

import gzip

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest

from vidembed.records.split import by_hash
from vidembed.records.split_file import SplitError, read_split
from vidembed.records.table import FeatureTable

IDS = [f"{i:03d}" for i in range(60)]
WORDS = ["train"] * 30 + ["validation", "val", "valid"] * 5 + ["test"] * 15


@pytest.fixture(scope="module")
def table():
    """Sixty videos whose ids look like numbers."""
    return FeatureTable(
        ids=np.array(IDS, "S3"),
        features={"visual": np.zeros((60, 1), np.float32)},
        label_offsets=np.zeros(61, np.int64),
        label_values=np.zeros(0, np.int32),
    )


@pytest.fixture(params=["split.parquet", "split.csv"])
def path(request, tmp_path):
    return tmp_path / request.param


def write(path, **columns):
    if path.suffix == ".csv":
        pyarrow.csv.write_csv(pa.table(columns), path)
    else:
        pq.write_table(pa.table(columns), path)
    return path


def read(path, table, **options):
    return read_split(path, table, **{"seed": 3, "train_share": 0.7, **options})


def shuffled(*columns):
    order = np.random.default_rng(0).permutation(len(columns[0]))
    return [[column[row] for row in order] for column in columns]


def test_the_file_decides_the_part_of_each_video(path, table):
    ids, words, groups = shuffled(IDS, WORDS, [f"g{i // 5}" for i in range(60)])
    train, validation, notes, _ = read(write(path, id=ids, split=words, group=groups), table)
    assert train.tolist() == [True] * 30 + [False] * 30
    assert validation.tolist() == [False] * 30 + [True] * 15 + [False] * 15
    assert notes == ()


def test_groups_are_hashed_whole(path, table):
    names = [f"source {i % 29}" for i in range(60)]
    ids, groups = shuffled(IDS, names)
    split = read(write(path, id=ids, group=groups), table, validation_share=0.5)
    expected = by_hash(np.array(names, "S"), seed=3, validation_share=0.5)
    for mask, expected_mask in zip(split[:2], expected[:2]):
        assert mask.tolist() == expected_mask.tolist()
        assert 0 < mask.sum() < 60


def test_videos_that_the_table_lacks_are_reported(tmp_path, table):
    more = [f"x{i}" for i in range(12)]
    write(tmp_path / "s.csv", id=[*IDS, *more], split=[*WORDS, *["test"] * 12], title=[""] * 72)
    packed = tmp_path / "s.csv.gz"
    packed.write_bytes(gzip.compress((tmp_path / "s.csv").read_bytes()))
    split = read(packed, table)
    assert split.train.sum() == 30
    (note,) = split.notes
    assert note.endswith("12 of its 72 videos are not in the table: " + ", ".join(more[:10]))


@pytest.mark.parametrize(
    ("columns", "options", "words"),
    [
        ({"id": IDS}, {}, "column split is missing; expected id, split, found id"),
        ({"name": IDS, "split": WORDS}, {}, "column id is missing; .* found name, split"),
        ({"id": IDS[2:], "split": WORDS[2:]}, {}, "lacks 2 of 60 videos of the table.*: 000, 001"),
        ({"id": [*IDS, "007"], "group": [*IDS, "a"]}, {}, "1 ids occur more than once: 007"),
        ({"id": IDS, "split": ["", *WORDS[1:]]}, {}, "1 of 60 videos have no split"),
        ({"id": IDS, "group": ["", *IDS[1:]]}, {}, "1 of 60 videos have no group: give .* own id"),
        (
            {"id": IDS, "split": ["dev", "dev", "Train", *WORDS[3:]]},
            {},
            r"must hold train, validation, val, valid, test; found 'dev' \(2 vid.*'Train' \(1 vid",
        ),
        (
            {"id": IDS, "split": WORDS, "group": [f"g{i % 58}" for i in range(60)]},
            {},
            r"2 groups lie in more than one part: g0 \(train, test\); g1 \(train, test\)\. A model",
        ),
        (
            {"id": [*IDS, "x"], "split": [*["val"] * 59, "train", "test"]},
            {},
            "none of the 60 videos of the table is for test",
        ),
        ({"id": IDS, "split": WORDS}, {"validation_share": 0.5}, "validation_share must be 0"),
    ],
)
def test_unusable_files_are_refused(tmp_path, table, columns, options, words):
    with pytest.raises(SplitError, match=words):
        read(write(tmp_path / "split.csv", **columns), table, **options)


def test_files_of_other_kinds_are_refused(tmp_path, table):
    with pytest.raises(SplitError, match="no such file"):
        read(tmp_path / "none.csv", table)
    (tmp_path / "bad.parquet").write_bytes(b"PAR1 id,split")
    with pytest.raises(SplitError, match="cannot be read as a split"):
        read(tmp_path / "bad.parquet", table)
    none = write(tmp_path / "null.parquet", id=[*IDS[1:], None], split=WORDS)
    with pytest.raises(SplitError, match="1 of 60 videos have no id"):
        read(none, table)
