"""Files and lines of vidembed that one training with its evaluation calls.

    python -m tests.reach

Counts the functions that ran, each with all its lines, on a small data set made here.
"""

import ast
import sys
import tempfile
import threading
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

import vidembed

PACKAGE = Path(vidembed.__file__).resolve().parent
SMALL = [
    "--steps", "4", "--feed.batch-triplets", "32", "--task.model.layers.hidden", "16",
    "--task.model.layers.size", "8", "--checkpoints.every-steps", "2", "--evaluate-every", "2",
    "--log-every", "1",
]  # fmt: skip


def data(folder):
    """Options that name a table of 300 videos in 20 groups, and edges within the groups."""
    from vidembed.records.table import FeatureTable

    rng = np.random.default_rng(0)
    group = np.arange(300) % 20
    shown = np.clip(rng.normal(size=(20, 12))[group] * 40 + 128, 0, 255).astype(np.uint8)
    table = FeatureTable(
        ids=np.array([f"v{i:04d}" for i in range(300)], "S5"),
        features={"visual": shown[:, :8], "audio": shown[:, 8:]},
        label_offsets=np.arange(301, dtype=np.int64),
        label_values=group.astype(np.int32),
    )
    table.write(folder / "table")
    one, other = np.triu_indices(300, 1)
    related = (group[one] == group[other]) & (rng.random(len(one)) < 0.5)
    names = table.ids.astype(str)
    weights = np.full(related.sum(), 3.0)
    edges = {"source": names[one[related]], "target": names[other[related]], "weight": weights}
    pq.write_table(pa.table(edges), folder / "edges.parquet")
    return [
        "--corpus.table",
        str(folder / "table"),
        "--corpus.edges",
        str(folder / "edges.parquet"),
    ]


def called(run):
    """(path, first line) of the package's functions that `run` calls, in all threads."""
    seen = set()

    def note(frame, event, _):
        if event == "call" and frame.f_code.co_filename.startswith(str(PACKAGE)):
            seen.add((frame.f_code.co_filename, frame.f_code.co_firstlineno, frame.f_code.co_name))

    threading.setprofile(note)
    sys.setprofile(note)
    try:
        run()
    finally:
        sys.setprofile(None)
        threading.setprofile(None)
    return seen


def lines_of(seen):
    """File → the numbers of the lines of the functions that were called."""
    lines = {}
    for path in {path for path, *_ in seen}:
        for node in ast.walk(ast.parse(Path(path).read_text())):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
                first = min([node.lineno, *(d.lineno for d in getattr(node, "decorator_list", []))])
                name = getattr(node, "name", "<lambda>")
                if (path, first, name) in seen:
                    lines.setdefault(path, set()).update(range(first, node.end_lineno + 1))
    return lines


def main():
    """Prints what a training of four steps and an evaluation of its own call."""
    from vidembed.__main__ import main as verbs

    with tempfile.TemporaryDirectory() as folder:
        options = ["--workdir", f"{folder}/run", *data(Path(folder))]

        def run():
            for verb, more in (("train", SMALL), ("evaluate", [])):
                assert verbs([verb, "cdml", *options, *more]) == 0

        lines = lines_of(called(run))
    for path, found in sorted(lines.items(), key=lambda item: -len(item[1])):
        print(f"{len(found):5d} {Path(path).relative_to(PACKAGE)}")
    print(f"{len(lines)} files, {sum(map(len, lines.values())):,} lines of called functions")


if __name__ == "__main__":
    main()
