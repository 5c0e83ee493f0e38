"""Trains in gs://bucket/run, loads it from there and from a copy; run by `test_run_in_a_bucket`.

The bucket is one mapping with two doors, as a real one has: fsspec's for vidembed's own files, and
the JSON API for the arrays that TensorStore writes. TensorStore looks for its server once, so that
this has a process of its own.
"""

import os
import sys
from collections.abc import MutableMapping
from pathlib import Path

import numpy as np
from fsspec.registry import _registry

from tests.bucket import Bucket
from tests.storage_api import serving

PREFIX = "/bucket/"


class Objects(MutableMapping):
    """What the fsspec bucket holds, as the JSON API's objects."""

    def __init__(self):
        self.generations = {}

    def __iter__(self):
        return (path.removeprefix(PREFIX) for path in list(Bucket.store))

    def __len__(self):
        return len(Bucket.store)

    def __getitem__(self, name):
        return self.generations.get(name, 1), Bucket.store[PREFIX + name].getvalue()

    def __setitem__(self, name, entry):
        self.generations[name], content = entry
        Bucket().pipe_file(PREFIX + name, content)

    def __delitem__(self, name):
        del Bucket.store[PREFIX + name]


def main(table, edges, copy):
    for name in Bucket.protocol:
        _registry[name] = Bucket
    objects = Objects()
    with serving(objects) as port:
        os.environ["TENSORSTORE_GCS_HTTP_URL"] = f"http://localhost:{port}"
        os.environ["GOOGLE_AUTH_TOKEN_FOR_TESTING"] = "token"
        compare(table, edges, Path(copy), objects)


def compare(table, edges, copy, objects):
    import vidembed
    from vidembed.__main__ import main as command
    from vidembed.records.table import FeatureTable

    data = ["--corpus.table", table, "--corpus.edges", edges]
    size = ["--steps", "2", "--checkpoints.every-steps", "2", "--feed.batch-triplets", "64"]
    size += ["--task.model.layers.hidden", "16", "--task.model.layers.size", "8"]
    assert command(["train", "cdml", "--workdir", "gs://bucket/run", *data, *size]) == 0
    features = FeatureTable.open(table)
    run = vidembed.load("gs://bucket/run", step="latest")
    vectors = run.embed(features)
    for name in sorted(objects):
        place = copy / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(objects[name][1])
    local = vidembed.load(copy / "run", step="latest")
    np.testing.assert_array_equal(vectors, local.embed(features))
    assert run.space == local.space
    # Flipped bits in the bucket's arrays are refused by name.
    for name in [name for name in objects if "checkpoints/2/arrays/" in name and "/d/" in name]:
        content = np.frombuffer(objects[name][1], np.uint8).copy()
        content[::100] ^= 1
        objects[name] = (99, content.tobytes())
    try:
        vidembed.load("gs://bucket/run", step="latest")
    except RuntimeError as error:
        print("refused:", error)


if __name__ == "__main__":
    main(*sys.argv[1:])
