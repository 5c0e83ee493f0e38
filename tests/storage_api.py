"""A small stand-in for Google Cloud Storage, for what TensorStore reads and writes."""

import contextlib
import json
import re
import threading
import urllib.parse
from collections.abc import MutableMapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@contextlib.contextmanager
def serving(objects):
    """The port of a server of the bucket `bucket`, whose objects are name → (generation, bytes)."""
    handler = type("Handler", (StorageApi,), {"objects": objects})
    with ThreadingHTTPServer(("localhost", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_port
        server.shutdown()


class StorageApi(BaseHTTPRequestHandler):
    """The part of the JSON API that TensorStore uses: media get and put, list, delete."""

    objects: MutableMapping[str, tuple[int, bytes]]
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
