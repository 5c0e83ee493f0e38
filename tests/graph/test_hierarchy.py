"""Hierarchies: validity checks, and the round trip through disk."""

import errno
import json
import random
import resource
import sys
from dataclasses import replace
from unittest.mock import Mock

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from etils import epath

from vidembed.graph.affinity import affinity_clusters
from vidembed.graph.hierarchy import (
    Hierarchy,
    HierarchyError,
    first_seen,
    read_hierarchy,
    write_hierarchy,
)
from vidembed.graph.relation import RelationGraph
from vidembed.records.tabular import DIGEST_KEY, METADATA_KEY

NODES = 60
IDS = np.array([f"v{row:02d}" for row in range(NODES)], "S3")


@pytest.fixture(scope="module")
def is_train():
    return np.random.default_rng(0).random(NODES) < 0.7


@pytest.fixture(scope="module")
def graph(is_train):
    rng = np.random.default_rng(0)
    rows = np.flatnonzero(is_train)
    source = rng.integers(0, len(rows) - 4, 60)
    weight = rng.integers(1, 9, 60)
    return RelationGraph.from_edges(
        rows[source], rows[source + rng.integers(1, 4, 60)], weight, nodes=NODES
    )


@pytest.fixture(scope="module")
def hierarchy(graph, is_train):
    made = affinity_clusters(graph, is_train, rounds=2)
    return replace(made, parameters={**made.parameters, "simulated": True})


@pytest.fixture
def path(hierarchy, tmp_path):
    write_hierarchy(hierarchy, tmp_path / "h.parquet", IDS)
    return tmp_path / "h.parquet"


def test_levels_and_sizes_by_hand():
    hierarchy = Hierarchy(
        clusters=np.array([[0, -1, 1, 0, 2], [0, -1, 0, 0, 1]], np.int32), graph_fingerprint="g"
    )
    assert (hierarchy.levels, hierarchy.nodes) == (2, 5)
    assert hierarchy.level(2).tolist() == [0, -1, 0, 0, 1]
    assert hierarchy.sizes(1).tolist() == [2, 1, 1]
    assert hierarchy.sizes(2).tolist() == [3, 1]
    assert hierarchy.sizes(2).dtype == np.int64


@pytest.mark.fault(
    "Relations and sessions: a level that does not exist, of clusters or of siblings",
    "1: the levels that exist, and the rounds that would make this one",
)
@pytest.mark.parametrize("level", [-1, 0, 3])
def test_a_level_that_does_not_exist(hierarchy, level):
    with pytest.raises(HierarchyError, match=rf"no level {level}: .* has levels 1 to 2; choose"):
        hierarchy.level(level)
    with pytest.raises(HierarchyError, match="levels 1 to 2"):
        hierarchy.sizes(level)


@pytest.mark.parametrize(
    "clusters", [np.zeros((2, 3)), np.zeros(3, np.int32), np.zeros((0, 3), np.int32)]
)
def test_arrays_of_another_kind_are_refused(clusters):
    with pytest.raises(TypeError, match=r"must be int32\[levels, videos\]"):
        Hierarchy(clusters=clusters, graph_fingerprint="g")


def test_fingerprint_tells_content(hierarchy):
    other = hierarchy.clusters.copy()
    other[1, np.argmax(other[1])] = 0
    assert hierarchy.fingerprint == replace(hierarchy, parameters={}).fingerprint
    others = [
        hierarchy,
        replace(hierarchy, clusters=other),
        replace(hierarchy, clusters=hierarchy.clusters.reshape(1, -1)),
        replace(hierarchy, graph_fingerprint="another"),
    ]
    assert len({one.fingerprint for one in others}) == 4


def test_first_seen():
    rng = np.random.default_rng(0)
    for _ in range(50):
        labels = rng.integers(0, 9, 9)
        order = list(dict.fromkeys(labels.tolist()))
        assert first_seen(labels).tolist() == [order.index(label) for label in labels.tolist()]
    assert first_seen(np.zeros(0, np.int64)).tolist() == []


def test_a_valid_hierarchy_passes(hierarchy, graph, is_train):
    hierarchy.check(graph, is_train)


@pytest.mark.fault(
    "Relations and sessions: a hierarchy of other videos, of another graph, not a hierarchy file",
)
def test_a_hierarchy_of_another_graph_is_refused(hierarchy, graph, is_train):
    other = RelationGraph.from_edges([0], [1], [1], nodes=NODES)
    with pytest.raises(HierarchyError, match="--split, --split-seed") as caught:
        hierarchy.check(other, is_train)
    assert graph.fingerprint in str(caught.value)
    assert other.fingerprint in str(caught.value)


def test_a_hierarchy_of_another_table_is_refused(hierarchy, graph, is_train):
    longer = RelationGraph.from_edges([0], [1], [1], nodes=NODES + 1)
    with pytest.raises(HierarchyError, match="has 60 videos, the graph 61, the split 60"):
        hierarchy.check(longer, is_train)
    with pytest.raises(HierarchyError, match="the split 59"):
        hierarchy.check(graph, is_train[1:])


def changed(hierarchy, level, row, number):
    clusters = hierarchy.clusters.copy()
    clusters[level - 1, row] = number
    return replace(hierarchy, clusters=clusters)


@pytest.mark.fault(
    "Relations and sessions: cluster numbers out of range, levels not nested, eval videos inside",
    "1: level and counts",
)
@pytest.mark.parametrize("level", [1, 2])
def test_numbers_out_of_range_are_refused(hierarchy, graph, is_train, level):
    train, eval_row = np.flatnonzero(is_train), np.flatnonzero(~is_train)[3]
    for number in (-1, -7, len(train), 2**31 - 1):
        broken = changed(hierarchy, level, train[5], number)
        message = (
            rf"1 of {len(train)} train videos have .* out of range at level {level}.*{number};"
        )
        with pytest.raises(HierarchyError, match=message):
            broken.check(graph, is_train)
    for number in (0, -2):
        broken = changed(hierarchy, level, eval_row, number)
        with pytest.raises(HierarchyError, match=f"1 videos of the evaluation .* level {level}"):
            broken.check(graph, is_train)
    gap = changed(hierarchy, level, train[-1], len(train) - 1)
    with pytest.raises(HierarchyError, match=f"level {level} are not numbered 0, 1"):
        gap.check(graph, is_train)


@pytest.mark.fault(
    "Relations and sessions: cluster numbers out of range, levels not nested, eval videos inside",
)
def test_levels_that_are_not_nested_are_refused(hierarchy, graph, is_train):
    turned = replace(hierarchy, clusters=hierarchy.clusters[::-1])
    with pytest.raises(HierarchyError, match="clusters of level 1 lie in several of level 2"):
        turned.check(graph, is_train)
    # Move a single video to another cluster of level 2.
    row = np.flatnonzero(hierarchy.level(2) == 1)[-1]
    with pytest.raises(HierarchyError, match=r"^1 clusters of level 1 .*not nested"):
        changed(hierarchy, 2, row, 0).check(graph, is_train)


def test_round_trip_through_disk(path, hierarchy, graph, is_train):
    read = read_hierarchy(path, IDS)
    assert np.array_equal(read.clusters, hierarchy.clusters)
    assert read.clusters.dtype == np.int32
    assert read.parameters == hierarchy.parameters
    assert read.parameters["simulated"]
    assert read.fingerprint == hierarchy.fingerprint
    read.check(graph, is_train)
    assert pq.read_schema(path).names == ["video_id", "level_1", "level_2"], "for other tools"


def test_more_than_nine_levels_keep_their_order(tmp_path):
    clusters = np.arange(24, dtype=np.int32).reshape(12, 2)
    write_hierarchy(Hierarchy(clusters=clusters, graph_fingerprint="g"), tmp_path / "h", IDS[:2])
    assert np.array_equal(read_hierarchy(tmp_path / "h", IDS[:2]).clusters, clusters)


@pytest.mark.fault(
    "Relations and sessions: a hierarchy of other videos, of another graph, not a hierarchy file",
    "1: what it was made from, and the command that makes it again; nothing is started",
)
def test_a_hierarchy_of_other_videos_is_refused(path, hierarchy):
    with pytest.raises(HierarchyError, match=r"h\.parquet: has 60 videos, the table 59"):
        read_hierarchy(path, IDS[1:])
    other = IDS.copy()
    other[7] = b"x"
    with pytest.raises(HierarchyError, match="row 7 is v07, in the table x: give the table"):
        read_hierarchy(path, other)
    with pytest.raises(HierarchyError, match="row 0 is v00, in the table v59"):
        read_hierarchy(path, IDS[::-1])
    with pytest.raises(HierarchyError, match="59 ids for a hierarchy of 60"):
        write_hierarchy(hierarchy, path, IDS[1:])


def test_ids_that_are_not_utf8_are_refused(path, hierarchy):
    ids = IDS.copy()
    ids[7] = b"a\xff"
    message = r"1 ids of the table are not UTF-8, the first b'a\\xff'"
    with pytest.raises(HierarchyError, match=message):
        read_hierarchy(path, ids)
    with pytest.raises(HierarchyError, match=message):
        write_hierarchy(hierarchy, path, ids)


@pytest.mark.fault(
    "Relations and sessions: a hierarchy of other videos, of another graph, not a hierarchy file",
)
def test_files_that_are_not_a_hierarchy_are_refused(path, tmp_path):
    with pytest.raises(HierarchyError, match=r"g\.parquet: no such file; .* cluster` wrote"):
        read_hierarchy(tmp_path / "g.parquet", IDS)
    with pytest.raises(HierarchyError, match="is a folder"):
        read_hierarchy(tmp_path, IDS)
    table = pq.read_table(path)
    edges = pa.table({"source": ["a"], "target": ["b"], "weight": [1]})
    metadata = {key: table.schema.metadata[key] for key in (METADATA_KEY, DIGEST_KEY)}
    files = {
        "edges": edges.replace_schema_metadata(table.schema.metadata),
        "bare": table.replace_schema_metadata({}),
        "no digest": table.replace_schema_metadata({METADATA_KEY: metadata[METADATA_KEY]}),
        "wide": table.set_column(1, "level_1", table["level_1"].cast(pa.int64())),
        "no levels": table.select(["video_id"]),
    }
    for name, content in files.items():
        pq.write_table(content, tmp_path / name)
        with pytest.raises(HierarchyError, match=f"{name}: is not a cluster hierarchy .* make it"):
            read_hierarchy(tmp_path / name, IDS)
    (tmp_path / "text").write_text("video_id,level_1\n")
    with pytest.raises(HierarchyError, match="text: cannot be read as a cluster hierarchy"):
        read_hierarchy(tmp_path / "text", IDS)


def test_the_digest_covers_metadata_and_column_order(path, tmp_path):
    table = pq.read_table(path)
    description = json.loads(table.schema.metadata[METADATA_KEY])
    description["hierarchy"]["graph_fingerprint"] = "another"
    metadata = {**table.schema.metadata, METADATA_KEY: json.dumps(description).encode()}
    pq.write_table(table.replace_schema_metadata(metadata), tmp_path / "said")
    swapped = table.rename_columns(["video_id", "level_2", "level_1"])
    swapped = swapped.select(table.column_names).replace_schema_metadata(table.schema.metadata)
    pq.write_table(swapped, tmp_path / "swapped")
    for name in ("said", "swapped"):
        with pytest.raises(HierarchyError, match=f"{name}: is damaged"):
            read_hierarchy(tmp_path / name, IDS)


def flips_refused(path, hierarchy, flips, seed):
    """Count the flipped bits that are refused; all others must change nothing."""
    good, draw, refused = path.read_bytes(), random.Random(seed), 0
    damaged = path.with_name("hurt.parquet")
    for _ in range(flips):
        data, bit = bytearray(good), draw.randrange(8 * len(good))
        data[bit // 8] ^= 1 << bit % 8
        damaged.write_bytes(data)
        try:
            read = read_hierarchy(damaged, IDS)
        except HierarchyError as error:
            assert str(damaged) in str(error)  # noqa: PT017
            refused += 1
        else:
            assert read.fingerprint == hierarchy.fingerprint, f"bit {bit}"
            assert read.parameters == hierarchy.parameters, f"bit {bit}"
    return refused


@pytest.mark.fault(
    "Relations and sessions: a hierarchy with a flipped bit, or truncated; the disk full",
    "1: refused by name, no other clusters; the older file stays",
)
def test_flipped_bits(path, hierarchy):
    assert flips_refused(path, hierarchy, 300, seed=0) > 150


@pytest.mark.fault(
    "Relations and sessions: a hierarchy with a flipped bit, or truncated; the disk full",
)
@pytest.mark.long
def test_many_flipped_bits(path, hierarchy):
    assert flips_refused(path, hierarchy, 10_000, seed=1) > 5000


@pytest.mark.fault(
    "Relations and sessions: a hierarchy with a flipped bit, or truncated; the disk full",
)
def test_cut_at_any_byte(path):
    data, cut = path.read_bytes(), path.with_name("cut.parquet")
    for size in range(0, len(data), 37):
        cut.write_bytes(data[:size])
        with pytest.raises(HierarchyError, match=r"cut\.parquet"):
            read_hierarchy(cut, IDS)


@pytest.mark.fault(
    "Relations and sessions: a hierarchy with a flipped bit, or truncated; the disk full",
)
def test_a_full_disk_leaves_the_older_file(path, hierarchy):
    before, limits = path.read_bytes(), resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) // 2, limits[1]))
    try:
        with pytest.raises(OSError, match="nothing was written, free some space"):
            write_hierarchy(hierarchy, path, IDS)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert [file.name for file in path.parent.iterdir()] == ["h.parquet"]
    assert path.read_bytes() == before


def test_a_bucket_is_refused_for_writing(hierarchy):
    with pytest.raises(ValueError, match="not on a local disk"):
        write_hierarchy(hierarchy, "gs://b/h.parquet", IDS)


def test_a_failing_disk_is_not_reported_as_a_bad_file(path, monkeypatch):
    failing = OSError(errno.EIO, "Input/output error")
    monkeypatch.setattr(type(epath.Path(path)), "open", Mock(side_effect=failing))
    with pytest.raises(OSError, match="Input/output error") as caught:
        read_hierarchy(path, IDS)
    assert caught.value is failing


def test_the_package_for_buckets_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "gcsfs", None)  # as if it were not installed
    with pytest.raises(ImportError, match="install gcsfs"):
        read_hierarchy("gs://b/h", IDS)
