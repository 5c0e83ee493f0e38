"""The corpus of an annotation run: labels from tables and files, embeddings as modalities."""

import re
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.records.recorded_videos import LAYOUT, write
from vidembed.corpora.labelled import LabelledPaths
from vidembed.corpora.labels import Labels
from vidembed.records.embeddings import with_embeddings
from vidembed.records.faults import RecordError
from vidembed.records.importing import import_videos
from vidembed.records.space import SpaceError
from vidembed.records.split import LeakError
from vidembed.records.table import FeatureTable
from vidembed.records.vector_files import vector_file

CLASSES = 6


@pytest.fixture(scope="module")
def table():
    """Two hundred videos with up to three of six classes; every tenth has none."""
    rng = np.random.default_rng(0)
    rows = [rng.permutation(CLASSES)[: rng.integers(1, 4)] for _ in range(200)]
    rows = [row[:0] if number % 10 == 0 else row for number, row in enumerate(rows)]
    return FeatureTable(
        ids=np.array([f"v{number:03d}" for number in range(200)], "S4"),
        features={"visual": rng.integers(0, 255, (200, 4)).astype(np.uint8)},
        label_offsets=np.concatenate([[0], np.cumsum([len(row) for row in rows])]).astype(np.int64),
        label_values=np.concatenate(rows).astype(np.int32),
        manifest={"space": {"visual": "network A"}},
    )


@pytest.fixture(scope="module")
def paths(table, tmp_path_factory):
    folder = tmp_path_factory.mktemp("labelled")
    table.write(folder / "table")
    return LabelledPaths(table=str(folder / "table"))


def labels_in(path, lines):
    ids, names = zip(*lines)
    pq.write_table(pa.table({"video_id": ids, "label": names}), path)
    return str(path)


def vocabulary_in(path, names):
    lines = [f"{number},{name}" for number, name in enumerate(names)]
    path.write_text("\n".join(["Index,Name", *lines]))
    return str(path)


def sets_of(labels):
    return [
        {labels.names[value] for value in labels.of(np.array([row])).values}
        for row in range(len(labels))
    ]


def test_labels_by_row_are_those_of_a_loop():
    rng = np.random.default_rng(1)
    for _ in range(50):
        size = int(rng.integers(1, 8))
        rows = [np.sort(rng.permutation(5)[: rng.integers(0, 6)]) for _ in range(size)]
        offsets = np.concatenate([[0], np.cumsum([len(row) for row in rows])])
        values = np.concatenate(rows).astype(np.int32)
        labels = Labels(offsets=offsets, values=values, names=tuple("abcde"))
        chosen = rng.integers(0, size, 7)
        padded = labels.padded(chosen, 3)
        for row, line in zip(chosen, padded):
            expected = rows[row][:3].tolist()
            assert line.tolist() == expected + [-1] * (3 - len(expected))
        counts = [sum(value in rows[row] for row in chosen) for value in range(5)]
        assert labels.counts(chosen).tolist() == counts
    with pytest.raises(ValueError, match="ascending and distinct"):
        Labels(offsets=np.array([0, 2]), values=np.array([1, 1], np.int32), names=("a", "b"))
    with pytest.raises(ValueError, match=r"0\.\.1, found 0 to 2"):
        Labels(offsets=np.array([0, 2]), values=np.array([0, 2], np.int32), names=("a", "b"))


def test_labels_of_the_table_are_sorted_and_a_third_of_the_held_out_videos_validates(paths, table):
    corpus = paths.open()
    expected = [{f"label {value}" for value in table.labels(row)} for row in range(200)]
    assert sets_of(corpus.labels) == expected
    assert corpus.parts.keys() == {"test", "validation"}
    held_out = ~corpus.is_train
    assert (corpus.parts["test"] ^ corpus.parts["validation"])[held_out].all()
    assert 0.15 < corpus.is_validation[held_out].mean() < 0.5
    assert set(corpus.train_rows) == {r for r in range(200) if corpus.is_train[r] and expected[r]}
    assert "20 videos have no label" in " ".join(corpus.notes)
    other = replace(paths, validation_share=0.0).open()
    assert other.parts.keys() == {"test"}
    assert other.rows != corpus.rows
    with pytest.raises(LeakError, match="1 videos of the eval partition"):
        corpus.check({"rows": np.flatnonzero(held_out)[:1]})


def test_rare_classes_are_left_out_and_the_others_keep_their_names(paths):
    everything = paths.open()
    counts = everything.labels.counts(np.flatnonzero(everything.is_train))
    least = int(np.sort(counts)[2])
    corpus = replace(paths, min_class_videos=least).open()
    names = {everything.labels.names[number] for number in np.flatnonzero(counts >= least)}
    assert set(corpus.labels.names) == names
    assert sets_of(corpus.labels) == [labels & names for labels in sets_of(everything.labels)]


def test_own_labels_are_names_by_id_in_any_order(paths, tmp_path):
    lines = [(f"v{n:03d}", name) for n in range(200) for name in ("cat", "dog")[: 1 + n % 2]]
    rng = np.random.default_rng(3)
    shuffled = [lines[place] for place in rng.permutation(len(lines))]
    own = labels_in(tmp_path / "own.parquet", [*shuffled, ("v000", "cat"), ("nobody", "cat")])
    corpus = replace(paths, labels=own).open()
    assert sets_of(corpus.labels) == [{"cat", "dog"} if n % 2 else {"cat"} for n in range(200)]
    assert "1 videos are not in the table, such as nobody" in " ".join(corpus.notes)
    vocabulary = vocabulary_in(tmp_path / "names.csv", ["dog", "cat", "horse"])
    named = replace(paths, labels=own, vocabulary=vocabulary).open()
    assert named.labels.names == ("dog", "cat", "horse")
    assert sets_of(named.labels) == sets_of(corpus.labels)
    assert "1 classes have no train video" in " ".join(named.notes)


@pytest.mark.fault(
    "Annotation: labels beyond the vocabulary, names that it lacks, empty cells, no label at all",
    "refused before training, naming label, video and file",
)
def test_labels_that_do_not_fit_are_refused(paths, table, tmp_path):
    short = vocabulary_in(tmp_path / "short.csv", ["a", "b"])
    with pytest.raises(ValueError, match=r"outside the 2 classes of .*another year"):
        replace(paths, vocabulary=short).open()
    own = labels_in(tmp_path / "own.parquet", [("v001", "a"), ("v002", "zebra")])
    with pytest.raises(ValueError, match=r"1 labels are not in .*such as 'zebra'"):
        replace(paths, labels=own, vocabulary=short).open()
    empty = labels_in(tmp_path / "empty.parquet", [("v001", "a"), ("v002", None)])
    with pytest.raises(ValueError, match="0 lines have no video_id, 1 no label"):
        replace(paths, labels=empty).open()
    foreign = labels_in(tmp_path / "foreign.parquet", [("x", "a")])
    with pytest.raises(ValueError, match="none of its videos is in the table: check that"):
        replace(paths, labels=foreign).open()
    windows = np.array([b"%s@0-4" % id for id in table.ids.tolist()])
    replace(table, ids=windows, manifest={}).write(tmp_path / "windows")
    of_videos = labels_in(tmp_path / "of_videos.parquet", [("v001", "a")])
    with pytest.raises(ValueError, match="its rows are windows, so train on"):
        replace(paths, table=str(tmp_path / "windows"), labels=of_videos).open()
    with pytest.raises(ValueError, match=r"none of the .* test videos has a label"):
        replace(paths, labels=labels_in(tmp_path / "one.parquet", one_train_video(paths))).open()
    bare = replace(
        table, label_offsets=np.zeros(201, np.int64), label_values=table.label_values[:0]
    )
    bare.write(tmp_path / "bare")
    with pytest.raises(ValueError, match="the table has no labels"):
        replace(paths, table=str(tmp_path / "bare")).open()
    with pytest.raises(ValueError, match=r"lower --corpus\.min-class-videos"):
        replace(paths, min_class_videos=1000).open()


def one_train_video(paths):
    corpus = paths.open()
    return [(corpus.table.ids[np.flatnonzero(corpus.is_train)[0]].decode(), "cat")]


def embedded(path, table, rows, vectors, inputs, **more):
    record = {"space": "video of step 3, abc", "inputs": inputs, "run": "r", "videos": {}, **more}
    part = FeatureTable(
        ids=table.ids[rows],
        features={"visual": table.features["visual"][rows]},
        label_offsets=np.zeros(len(rows) + 1, np.int64),
        label_values=np.zeros(0, np.int32),
    )
    with vector_file(path, vectors.shape[1], record, modality="video") as file:
        file.add(part, vectors)
    return str(path)


def test_embeddings_become_a_modality_joined_by_id(paths, table, tmp_path):
    rng = np.random.default_rng(4)
    rows = rng.permutation(200)[:150]
    vectors = rng.normal(size=(150, 3)).astype(np.float32)
    same = {"visual": "network A"}
    for name in ("cdml.parquet", "cdml.npy", "cdml"):
        path = embedded(tmp_path / name, table, rows, vectors, same)
        corpus = replace(paths, embeddings=(path,)).open()
        joined = corpus.table
        assert joined.widths == {"visual": 4, "cdml": 3}
        np.testing.assert_array_equal(joined.features["cdml"][rows], vectors)
        assert joined.has("cdml").sum() == 150
        assert joined.has("cdml")[rows].all()
        assert joined.space["cdml"] == "video of step 3, abc"
        assert "50 of 200 videos have no embedding" in " ".join(corpus.notes)
        assert corpus.rows != paths.open().rows


@pytest.mark.fault(
    "Annotation: labels of a single class",
    "refused: videos without labels are left out, so nothing is left to tell it from",
)
def test_a_single_class_is_refused(paths, table, tmp_path):
    lines = [(name, "cat") for name in table.ids[::2].astype(str)]
    own = labels_in(tmp_path / "one.parquet", lines)
    with pytest.raises(ValueError, match=r"has the only class, 'cat', so there is nothing"):
        replace(paths, labels=own).open()


@pytest.mark.fault(
    "Annotation: an embedding of a run that was trained on another split",
    "a warning that names the options: scores on its train videos would be too high",
)
def test_an_embedding_of_another_split_is_remarked_on(paths, table, tmp_path):
    rows, vectors = np.arange(200), np.ones((200, 2), np.float32)
    own = {"split": "", "split_seed": 0, "train_share": 0.7}
    for name, split, warned in (
        ("same", own, False),
        ("other", own | {"split_seed": 3}, True),
        ("unknown", {}, False),
    ):
        file = embedded(tmp_path / f"{name}.parquet", table, rows, vectors, {}, split=split)
        notes = " ".join(replace(paths, embeddings=(file,)).open().notes)
        assert ("another split (split_seed)" in notes) == warned


@pytest.mark.fault(
    "Annotation: embeddings of features of another space, with NaN, of no video, of a known name",
    "refused, naming file and space",
)
def test_embeddings_that_do_not_fit_are_refused(table, tmp_path):
    rows, vectors = np.arange(200), np.ones((200, 3), np.float32)
    other = embedded(tmp_path / "other.parquet", table, rows, vectors, {"visual": "network B"})
    with pytest.raises(SpaceError, match=r"space 'network B', but visual of this table is 'net"):
        with_embeddings(table, [other])
    vectors[7, 1] = np.nan
    broken = embedded(tmp_path / "broken.parquet", table, rows, vectors, {})
    with pytest.raises(ValueError, match=r"1 of 200 embeddings hold NaN .*v007"):
        with_embeddings(table, [broken])
    renamed = replace(table, ids=np.char.add(b"x", table.ids))
    with pytest.raises(ValueError, match="has no vector of any of the table's 200 videos"):
        with_embeddings(
            renamed,
            [embedded(tmp_path / "a.parquet", table, rows, np.ones((200, 2), np.float32), {})],
        )
    known = embedded(tmp_path / "visual.parquet", table, rows, np.ones((200, 2), np.float32), {})
    with pytest.raises(ValueError, match=re.escape("would become the modality 'visual'")):
        with_embeddings(table, [known])


def test_records_on_disk_are_the_same_corpus(tmp_path):
    files, pattern = write(tmp_path), str(tmp_path / "*.tfrecord")
    records = LabelledPaths(records=pattern, layout=LAYOUT, index=str(tmp_path / "index"))
    import_videos(pattern, tmp_path / "table", LAYOUT.importing())
    corpus, imported = records.open(), LabelledPaths(table=str(tmp_path / "table")).open()
    assert corpus.rows == imported.rows
    assert corpus.notes == imported.notes
    assert len(list((tmp_path / "index").iterdir())) == 1
    rng = np.random.default_rng(5)
    vectors = rng.normal(size=(9, 2)).astype(np.float32)
    path = embedded(tmp_path / "cdml.npy", imported.table, np.arange(9), vectors, {})
    joined = replace(records, embeddings=(path,)).open()
    expected = replace(records, records="", table=str(tmp_path / "table"), embeddings=(path,))
    assert joined.rows == expected.open().rows != corpus.rows
    read, known = joined.table.rows(np.array([8, 30])), imported.table.rows(np.array([8, 30]))
    np.testing.assert_array_equal(read.pop("cdml"), [vectors[8], [0, 0]])
    for name, array in known.items():
        np.testing.assert_array_equal(read[name], array)
    files[1].write_bytes(files[1].read_bytes()[:-1])
    with pytest.raises(RecordError, match=r"videos1\.tfrecord: record 0 at byte 0"):
        records.open()


def test_exactly_one_of_table_and_records_is_given(paths):
    with pytest.raises(ValueError, match="both a table and records are given"):
        replace(paths, records="records").open()
    with pytest.raises(ValueError, match=r"no table given: set --corpus\.table PATH, or"):
        LabelledPaths().open()
    with pytest.raises(FileNotFoundError, match="no feature file matches"):
        LabelledPaths(records="nowhere/*").open()
