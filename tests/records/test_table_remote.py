"""A table on object storage: the same code against a small stand-in for Google Cloud Storage."""

import os
import subprocess
import sys

import pytest

from tests.storage_api import serving


@pytest.fixture
def bucket():
    objects = {}
    with serving(objects) as port:
        yield port, objects


PROGRAM = """
import numpy as np
from vidembed.records import arrays
from vidembed.records.table import FeatureTable, TableError
from vidembed.records.table_folder import TableWriter, table_state
arrays.CHUNK_BYTES = 400
table = FeatureTable(
    ids=np.array([b"a%d" % n for n in range(60)]),
    features={"visual": np.arange(600, dtype=np.uint8).reshape(60, 10)},
    label_offsets=np.arange(61), label_values=np.arange(60, dtype=np.int32),
)
path = "gs://bucket/some where/table"
assert table_state(path) == "empty"
TableWriter(path, source={}).append(table.features)
assert table_state(path) == "unfinished"
table.write(path)
back = FeatureTable.open(path)
assert back.fingerprint == table.fingerprint
assert (back.features["visual"] == table.features["visual"]).all()
try:
    table.write(path)
except TableError as error:
    print(error)
writer = TableWriter(path, source={}, replace=True)
writer.append(table.rows(np.arange(9)))
assert FeatureTable.open(path).fingerprint == table.fingerprint
writer.finish({"ids": table.ids[:9].view(np.uint8).reshape(9, -1),
               "label_offsets": np.arange(10), "label_values": np.arange(9, dtype=np.int32)})
assert len(FeatureTable.open(path)) == 9
"""


def test_table_in_a_bucket(bucket):
    port, objects = bucket
    environment = {
        **os.environ,
        "TENSORSTORE_GCS_HTTP_URL": f"http://localhost:{port}",
        "GOOGLE_AUTH_TOKEN_FOR_TESTING": "token",
    }
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "already holds a feature table" in done.stdout
    names = {name.removeprefix("some where/table/") for name in objects}
    assert {
        "manifest.json",
        "appended/1/features/visual/c/0/0",
        "appended/1/ids/zarr.json",
    } <= names
    assert "features/visual/c/0/0" not in names
    assert "unfinished.json" not in names
