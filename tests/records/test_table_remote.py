"""A table on object storage: the same code against a small stand-in for Google Cloud Storage."""

import json
import os
import re
import subprocess
import sys
import threading
import urllib.parse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest


class Bucket(BaseHTTPRequestHandler):
    """The part of the JSON API that TensorStore uses: media get and put, list, delete."""

    objects: dict[str, tuple[int, bytes]]
    protocol_version = "HTTP/1.1"
    lock = threading.Lock()

    def log_message(self, *_):
        pass

    def answer(self, code, body=b"", **headers):
        self.send_response(code)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), str(value))
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def name(self):
        path = urllib.parse.urlsplit(self.path)
        query = dict(urllib.parse.parse_qsl(path.query))
        match = re.search(r"/b/bucket/o(?:/(.+))?$", path.path)
        return urllib.parse.unquote(match[1] or query.get("name", "")), query

    def do_GET(self):
        name, query = self.name()
        if not name:
            start, end = query.get("startOffset", ""), query.get("endOffset", "\U0010ffff")
            items = [{"name": key} for key in sorted(self.objects) if start <= key < end]
            return self.answer(200, json.dumps({"items": items}).encode())
        if name not in self.objects:
            return self.answer(404)
        generation, content = self.objects[name]
        return self.answer(200, content, x_goog_generation=generation)

    def do_POST(self):
        name, _ = self.name()
        content = self.rfile.read(int(self.headers["Content-Length"]))
        with self.lock:
            generation = self.objects.get(name, (0, b""))[0] + 1
            self.objects[name] = (generation, content)
        self.answer(200, json.dumps({"name": name, "generation": str(generation)}).encode())

    def do_DELETE(self):
        name, _ = self.name()
        self.answer(204 if self.objects.pop(name, None) else 404)


@pytest.fixture
def bucket():
    handler = type("Handler", (Bucket,), {"objects": {}})
    with ThreadingHTTPServer(("localhost", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_port, handler.objects
        server.shutdown()


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
    assert "holds a feature table already" in done.stdout
    names = {name.removeprefix("some where/table/") for name in objects}
    assert {
        "manifest.json",
        "appended/1/features/visual/c/0/0",
        "appended/1/ids/zarr.json",
    } <= names
    assert "features/visual/c/0/0" not in names
    assert "unfinished.json" not in names
