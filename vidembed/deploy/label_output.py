"""Write labels of videos: one row per label, as Parquet or CSV, or the competition's CSV.

The name decides the form: `OUT.parquet` or `OUT.csv` with one row per label of a video (video_id,
label, class, score), best first; or, if asked for, the CSV of the YouTube-8M competition. Rows of
windows have their start and end in seconds, too.
"""

import csv
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, Literal, TextIO

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from vidembed import files
from vidembed.records.outputs import OutputError
from vidembed.records.tabular import METADATA_KEY
from vidembed.records.window_ids import window_of

Form = Literal["rows", "youtube-8m"]
FIELDS = [
    ("video_id", pa.string()), ("label", pa.string()), ("class", pa.int32()),
    ("score", pa.float32()),
]  # fmt: skip
WINDOW = [("start", pa.float64()), ("end", pa.float64())]
"""Further columns of windows, after the id; in seconds."""


def check_form(name: str, form: Form) -> None:
    """Raise OutputError for a name that does not fit the form."""
    if form == "youtube-8m" and not name.endswith(".csv"):
        raise OutputError(f"{name}: the form of the competition is CSV: name it OUT.csv")
    if not name.endswith((".parquet", ".csv")):
        raise OutputError(f"{name}: labels are written as OUT.parquet or OUT.csv")


Labels = Iterator[tuple[np.ndarray, np.ndarray]]


@contextmanager
def label_writer(
    place: Any, form: Form, names: Sequence[str], made: Mapping[str, Any], *, windows: bool = False
) -> Iterator[Callable[[np.ndarray, Labels], int]]:
    """A function that writes the labels of some videos (ids S[n], and for each its classes and
    scores), and returns how many these are.

    names: of the classes. made: how the labels were made, for the metadata. windows: the ids are
    those of windows.
    """
    fields = [FIELDS[0], *(WINDOW if windows else ()), *FIELDS[1:]]
    with ExitStack() as stack:
        unfinished = stack.enter_context(files.whole_file(place))
        if place.suffix == ".parquet":
            about = {METADATA_KEY: json.dumps(made).encode()}
            schema = pa.schema(fields, metadata=about)
            writer = stack.enter_context(
                pq.ParquetWriter(unfinished, schema, write_page_checksum=True)
            )

            def rows(ids: np.ndarray, labels: Labels) -> int:
                table = pa.Table.from_pylist(list(_rows(ids, labels, names, windows)), schema)
                writer.write_table(table)
                return len(table)

            yield rows
            return
        file: TextIO = stack.enter_context(open(unfinished, "w", newline="", encoding="utf-8"))
        lines = csv.writer(file, lineterminator="\n")
        pairs = form == "youtube-8m"
        lines.writerow(
            ["VideoId", "LabelConfidencePairs"] if pairs else [name for name, _ in fields]
        )

        def text(ids: np.ndarray, labels: Labels) -> int:
            if not pairs:
                cells = [list(row.values()) for row in _rows(ids, labels, names, windows)]
                lines.writerows([*row[:-1], f"{row[-1]:.6g}"] for row in cells)
                return len(cells)
            written = 0
            for name, (classes, scores) in zip(ids.tolist(), labels):
                both = (f"{label} {score:.6f}" for label, score in zip(classes, scores))
                lines.writerow([name.decode(), " ".join(both)])
                written += len(classes)
            return written

        yield text


def _rows(
    ids: np.ndarray, labels: Labels, names: Sequence[str], windows: bool
) -> Iterator[dict[str, Any]]:
    for id, (classes, scores) in zip(ids.tolist(), labels):
        window = window_of(id.decode()) if windows else None
        video: dict[str, Any] = {"video_id": id.decode()}
        if windows:
            video |= {"start": None, "end": None}  # of a row that is no window
        if window is not None:
            video = {"video_id": window.video, "start": window.start, "end": window.end}
        for label, score in zip(classes.tolist(), scores.tolist()):
            yield {**video, "label": names[label], "class": label, "score": score}
