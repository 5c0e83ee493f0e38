"""Without the package for buckets every way into one says which package it is."""

import sys

import pytest

from vidembed.records import arrays, table_folder
from vidembed.records.counts import read_counts
from vidembed.records.inspecting import inspect
from vidembed.records.label_names import read_vocabulary
from vidembed.records.remote import read_range
from vidembed.records.shards import shards


@pytest.mark.parametrize(
    "read",
    [
        shards,
        lambda path: shards(f"{path}/*.tfrecord"),
        lambda path: read_range(path, 0, 1),
        lambda path: read_counts([], path),
        read_vocabulary,
        inspect,
    ],
    ids=["shards", "glob", "read_range", "read_counts", "read_vocabulary", "inspect"],
)
def test_the_package_is_named(read, monkeypatch):
    monkeypatch.setitem(sys.modules, "gcsfs", None)  # as where it is not installed
    # A table's storage would ask the bucket, and try again for minutes.
    monkeypatch.setattr(arrays.ts.KvStore, "open", lambda *_: pytest.fail("asked the bucket"))
    with pytest.raises(ImportError, match="install gcsfs"):
        read("gs://bucket/x")


def test_a_folder_is_told_from_a_table_without_listing_it(tmp_path, monkeypatch):
    (tmp_path / "x.tfrecord").write_bytes(b"")
    monkeypatch.setattr(table_folder, "folder", lambda *_: pytest.fail("asked the table's storage"))
    assert inspect(tmp_path).facts["shards"].startswith("1,")
