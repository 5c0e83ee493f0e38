"""Labelled clips: read from a list, joined to a table or a folder, and checked."""

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest

from vidembed.corpora.clips import ClipPaths, ClipsError, joined, read_clips
from vidembed.records.split_file import SplitError
from vidembed.records.table import FeatureTable

ROWS = [
    ("jump/a1.mp4", "jump", "a", "train"),
    ("jump/a2.mp4", "jump", "a", "train"),
    ("jump/b1.mp4", "jump", "b", "test"),
    ("sit/c1.mp4", "sit", "c", "train"),
    ("sit/d1.mp4", "sit", "d", "val"),
    ("sit/e1.mp4", "sit", "e", "test"),
]


def write(path, rows=ROWS):
    columns = zip(("path", "class", "group", "split"), zip(*rows))
    table = pa.table({name: list(values) for name, values in columns})
    table = table.select(["split", "path", "group", "class"])  # columns are found by name
    if path.suffix == ".csv":
        pyarrow.csv.write_csv(table, path)
    else:
        pq.write_table(table, path)
    return path


def table_of(ids):
    return FeatureTable(
        ids=np.array(ids, np.bytes_),
        features={"visual": np.arange(2 * len(ids), dtype=np.float32).reshape(-1, 2)},
        label_offsets=np.zeros(len(ids) + 1, np.int64),
        label_values=np.zeros(0, np.int32),
    )


@pytest.mark.parametrize("name", ["clips.csv", "clips.parquet"])
def test_a_list_is_joined_to_a_table_by_the_names_of_files(name, tmp_path):
    path = write(tmp_path / name)
    table = table_of(["e1", "x", "d1", "c1", "b1", "a2", "a1"])
    table.write(tmp_path / "table")
    corpus = ClipPaths(table=str(tmp_path / "table"), clips=str(path)).open()
    assert corpus.labels.names == ("jump", "sit")
    assert corpus.labels.per_row.tolist() == [1, 0, 1, 1, 1, 1, 1]
    assert corpus.labels.values.tolist() == [1, 1, 1, 0, 0, 0]
    assert [corpus.sources[g] if g >= 0 else "" for g in corpus.groups] == [*"e", "", *"dcbaa"]
    assert corpus.is_train.tolist() == [False] * 3 + [True, False, True, True]
    assert corpus.is_validation.tolist() == [False, False, True] + [False] * 4
    assert corpus.parts["test"].tolist() == [True] + [False] * 3 + [True] + [False] * 2
    assert corpus.train_rows.tolist() == [3, 5, 6]
    assert "1 of 7 videos of the table are not in" in corpus.notes[0]
    with pytest.raises(RuntimeError, match="e1"):
        corpus.check({"rows": np.array([3, 0])})
    assert corpus.check({"rows": np.array([3, 5])}) is None


def test_the_digest_changes_with_classes_sources_and_parts(tmp_path):
    table = table_of([row[0].split("/")[1][:2] for row in ROWS])
    changes = [
        {},
        {1: ("jump/a2.mp4", "jump", "z", "train")},
        {2: ("jump/b1.mp4", "sit", "b", "test")},
        {4: ("sit/d1.mp4", "sit", "d", "train")},
    ]
    digests = set()
    for change in changes:
        path = write(tmp_path / "clips.csv", [change.get(i, row) for i, row in enumerate(ROWS)])
        digests.add(joined(table, read_clips(path), path).rows)
    assert len(digests) == 4
    assert joined(table, read_clips(path), path).rows in digests


def test_files_of_a_folder(tmp_path):
    clips = read_clips(write(tmp_path / "clips.csv"))
    for path, *_ in ROWS:
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).touch()
    assert clips.files(tmp_path)[3] == str(tmp_path / "sit" / "c1.mp4")
    (tmp_path / "sit" / "d1.mp4").unlink()
    with pytest.raises(ClipsError, match=r"1 of 6 clips are missing: sit/d1\.mp4"):
        clips.files(tmp_path)


@pytest.mark.fault(
    "Video files: clips of a list that the table lacks",
    "refused: how many, and their names",
)
def test_clips_that_the_table_lacks_are_named(tmp_path):
    path = write(tmp_path / "clips.csv")
    with pytest.raises(ClipsError, match=r"2 of 6 clips are not in the table: jump/a2\.mp4, sit"):
        joined(table_of(["a1", "b1", "d1", "e1"]), read_clips(path), path)
    with pytest.raises(ValueError, match=r"--corpus\.clips"):
        ClipPaths(table="x").open()


@pytest.mark.fault(
    "Video files: a list of clips with a source on both sides of the split, unknown parts or "
    "classes of one clip, empty cells, repeated names, or no train or test clips",
    "refused: the group, part, class or clip by name",
)
@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({1: ("jump/a2.mp4", "jump", "a", "test")}, SplitError, r"1 groups .* a \(train, test\)"),
        ({1: ("jump/a2.mp4", "jump", "a", "dev")}, SplitError, r"found 'dev' \(1 videos\)"),
        ({1: ("sit/b1.mp4", "sit", "a", "train")}, ClipsError, r"sit/b1\.mp4 and jump/b1\.mp4"),
        ({1: ("jump/a2.mp4", "run", "a", "train")}, ClipsError, "a single clip: run"),
        ({1: ("jump/a2.mp4", None, "a", "train")}, ClipsError, "1 of 6 clips have no class"),
        ({1: ("jump/a2.mp4", "jump", None, "train")}, ClipsError, "no group: give a clip"),
        (dict(enumerate(ROWS[:2])) | {2: None, 3: None, 4: None, 5: None}, ClipsError, "two cla"),
        ({2: None, 5: None}, ClipsError, "none of the 4 clips is for test"),
    ],
)
def test_other_lists_are_refused(change, error, words, tmp_path):
    rows = [row for row in (change.get(i, row) for i, row in enumerate(ROWS)) if row]
    with pytest.raises(error, match=words):
        read_clips(write(tmp_path / "clips.csv", rows))


def test_a_list_without_a_column_is_refused(tmp_path):
    (tmp_path / "clips.csv").write_text("path,class,split\na.mp4,x,train\n")
    with pytest.raises(ClipsError, match="group"):
        read_clips(tmp_path / "clips.csv")
