"""Frame-level records as videos to embed: their pooled vectors, block by block."""

import dataclasses
from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

import numpy as np
from etils import epath

from vidembed.records.faults import RecordError, Skips
from vidembed.records.frame_table import open_frames
from vidembed.records.framing import read_records
from vidembed.records.importing import Importing
from vidembed.records.kind import FRAME_LEVEL, record_kind
from vidembed.records.record_layout import RecordLayout
from vidembed.records.table import FeatureTable

BLOCK_ROWS = 1024
LOOKED_AT = 10
"""Records of a file whose kind is looked at."""


def holds_frames(file: epath.Path) -> bool:
    """Whether a TFRecord file holds frame-level records, by its first ones."""
    try:
        payloads = islice(read_records(file, skips=Skips(quiet=True)), LOOKED_AT)
        return any(record_kind(payload).startswith(FRAME_LEVEL) for payload in payloads)
    except RecordError:
        return False


def frame_layout(options: Importing, stored: Mapping[str, Any]) -> RecordLayout:
    """How to read frame-level records: by the options that were given, else as `stored` (the
    fields of a `RecordLayout`), else by YouTube-8M's keys."""
    given = {
        field.name: getattr(options, field.name)
        for field in dataclasses.fields(RecordLayout)
        if field.name not in ("dtype", "level", "max_frames")
        and getattr(options, field.name) != getattr(Importing(), field.name)
    }
    values: dict[str, Any] = {"level": "frame"} | dict(stored) | given
    typed: Any = {n: tuple(v) if isinstance(v, list) else v for n, v in values.items()}
    return RecordLayout(**typed)


def frame_blocks(
    pattern: str, files: Sequence[epath.Path], layout: RecordLayout, reads: Collection[str]
) -> Iterator[FeatureTable]:
    """The videos as small tables of the pooled modalities `reads`, all means if none is given; the
    tables can read the frames, too."""
    table = open_frames(pattern, layout, files=files)
    spaces = table.space
    names = [n for n in table.features if n in reads] or list(layout.frame_format().widths)
    for start in range(0, len(table), BLOCK_ROWS):
        rows = np.arange(start, min(start + BLOCK_ROWS, len(table)))
        offsets = table.label_offsets[start : rows[-1] + 2]
        yield FeatureTable(
            ids=table.ids[rows],
            features={name: table.features[name][rows] for name in names},
            present={n: mask[rows] for n, mask in table.present.items() if n in names},
            label_offsets=offsets - offsets[0],
            label_values=table.label_values[offsets[0] : offsets[-1]],
            frames=table.frames.part(rows) if table.frames else None,
            manifest={
                "source": table.manifest["source"],
                "space": {name: spaces[name] for name in names},
                # That of a still picture.
                "may_be_zero": [name for name in names if name.endswith("_deviation")],
            },
        )
