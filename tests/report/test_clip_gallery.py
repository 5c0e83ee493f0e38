"""Neighbours of clips against a sort of all similarities."""

import numpy as np

from vidembed.corpora.clip_files import ClipFilesCorpus
from vidembed.corpora.clips import Clips
from vidembed.report.clip_gallery import NEAREST, QUERIES, clip_gallery
from vidembed.report.embedding_map import embedding_map

N = 40


def corpus():
    rows = np.arange(N)
    clips = Clips(
        ids=np.array([b"clip%02d" % row for row in rows]),
        paths=tuple(f"clip{row:02d}.mp4" for row in rows),
        labels=(rows % 9).astype(np.int32),
        classes=tuple("abcdefghi"),
        groups=(rows // 4).astype(np.int32),
        sources=tuple(f"s{group}" for group in range(N // 4)),
        part=np.where(rows < 24, "train", "test"),
    )
    return ClipFilesCorpus(clips=clips, files=clips.paths, sizes=np.full(N, 1000))


def test_queries_stand_with_the_nearest_of_all_others():
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(N, 5)).astype(np.float32)
    deviations = rng.random((N, 5)).astype(np.float32)
    entries = clip_gallery(vectors, deviations, corpus())
    assert len(entries) == QUERIES
    for entry in entries:
        query = int(entry["id"][4:])
        assert entry["part"] == "test"
        assert entry["class"] == "abcdefghi"[query % 9]
        assert entry["source"] == f"s{query // 4}"
        assert np.isclose(entry["deviation"], np.sqrt((np.float64(deviations[query]) ** 2).sum()))
        scores = {row: np.dot(vectors[row], vectors[query]) for row in range(N) if row != query}
        best = sorted(scores, key=scores.__getitem__, reverse=True)[:NEAREST]
        assert [near["id"] for near in entry["nearest"]] == [f"clip{row:02d}" for row in best]
        expected = [scores[row] for row in best]
        np.testing.assert_allclose([near["score"] for near in entry["nearest"]], expected, 1e-5)
    assert clip_gallery(vectors, None, corpus())[0]["deviation"] is None


def test_the_map_is_coloured_by_the_most_frequent_classes():
    known = corpus()
    vectors = np.random.default_rng(0).normal(size=(N, 5)).astype(np.float32)
    names = dict(enumerate(known.clips.classes))
    made = embedding_map(vectors, known, names, classes=known.clips.labels)
    assert [group["name"] for group in made["groups"]] == list("abcdefg")
    assert [group["videos"] for group in made["groups"]] == [5, 5, 5, 5, 4, 4, 4]
    assert made["other"] == 8
