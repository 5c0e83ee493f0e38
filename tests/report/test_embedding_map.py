import dataclasses

import numpy as np
import pytest

from tests.report.test_page import EMPTY, Page
from vidembed.report import embedding_map as maps
from vidembed.report.embedding_map import commonest, embedding_map, principal_components
from vidembed.report.page import write_report

NAMES = {i: f"kind {i}" for i in range(8)}


@pytest.fixture
def embeddings():
    return (np.random.default_rng(1).normal(size=(60, 5)) * [3, 2, 1, 0.5, 0.1]).astype(np.float32)


def test_components_equal_those_of_a_decomposition(embeddings):
    points, shares = principal_components(embeddings)
    centred = embeddings - embeddings.mean(axis=0)
    left, values, right = np.linalg.svd(centred.astype(np.float64), full_matrices=False)
    signs = np.sign([row[np.abs(row).argmax()] for row in right[:2]])
    np.testing.assert_allclose(points, left[:, :2] * values[:2] * signs, atol=1e-4)
    np.testing.assert_allclose(shares, values[:2] ** 2 / (values**2).sum(), rtol=1e-5)


def test_each_group_is_the_commonest_label_of_the_remaining_rows(corpus):
    rows = np.arange(0, 60, 2)
    group, labels = commonest(corpus, rows)
    left = {row: set(corpus.table.labels(row).tolist()) for row in rows.tolist()}
    for number, label in enumerate(labels):
        counts = [sum(i in of for of in left.values()) for i in range(9)]
        assert counts[label] == max(counts) > 0
        members = {row for row, of in left.items() if label in of}
        assert members == set(rows[group == number].tolist())
        left = {row: of for row, of in left.items() if row not in members}
    assert set(left) == set(rows[group < 0].tolist())


def test_the_page_shows_the_map_and_its_limits(corpus, embeddings, tmp_path,
                                                               monkeypatch):  # fmt: skip
    monkeypatch.setattr(maps, "DRAWN", 40)
    made = embedding_map(embeddings, corpus, NAMES)
    assert made["coloured_by"] == "label"
    assert sum(one["videos"] for one in made["groups"]) + made["other"] == made["drawn"] == 40
    assert made["svg"].count("<use") == 40
    assert embedding_map(embeddings, corpus, NAMES)["svg"] == made["svg"]
    write_report(tmp_path / "r.html", **EMPTY, embedding_map=made)
    page = Page((tmp_path / "r.html").read_text())
    words = " ".join(page.words.split())
    assert page.text["h2"] == "Map of the embedding"
    for share in made["shares"]:
        assert f"{100 * share:.1f}\xa0%" in page.text["p"]
    assert "The map shows 40 of 60 videos, chosen at random." in words
    assert made["groups"][0]["name"] in page.text["li"]


def test_without_labels_the_colours_are_clusters_or_parts(clustered, embeddings):
    bare = {"label_offsets": np.zeros(61, np.int64), "label_values": np.zeros(0, np.int32)}
    table = dataclasses.replace(clustered.table, **bare)
    corpus = dataclasses.replace(clustered, table=table)
    made = embedding_map(embeddings, corpus, {})
    assert made["coloured_by"] == "cluster"
    sizes = sorted(one["videos"] for one in made["groups"])[::-1]
    assert sizes == [one["videos"] for one in made["groups"]]
    assert made["other"] >= np.sum(~corpus.is_train)
    parts = embedding_map(embeddings, dataclasses.replace(corpus, hierarchy=None), {})
    held_out = int(np.sum(~corpus.is_train))
    assert [one["videos"] for one in parts["groups"]] == [60 - held_out, held_out]


def test_vectors_that_are_alike_have_no_map(corpus):
    assert embedding_map(np.ones((60, 4), np.float32), corpus, {}) is None
