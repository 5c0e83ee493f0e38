"""Without the package for buckets, every access to a bucket names the missing package."""

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
    monkeypatch.setitem(sys.modules, "gcsfs", None)  # as if it were not installed
    # The table's storage library would contact the bucket and retry for minutes.
    monkeypatch.setattr(arrays.ts.KvStore, "open", lambda *_: pytest.fail("asked the bucket"))
    with pytest.raises(ImportError, match="install gcsfs"):
        read("gs://bucket/x")


def test_a_folder_and_a_table_are_distinguished_without_a_listing(tmp_path, monkeypatch):
    (tmp_path / "x.tfrecord").write_bytes(b"")
    monkeypatch.setattr(table_folder, "folder", lambda *_: pytest.fail("asked the table's storage"))
    assert inspect(tmp_path).facts["shards"].startswith("1,")
