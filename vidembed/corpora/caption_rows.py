"""Captions of the rows of a feature table: joined by id, and with the split that came with them."""

import os
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import xxhash

from vidembed.corpora.caption_files import CaptionFile, CaptionsError
from vidembed.records.split import Split
from vidembed.records.table import FeatureTable
from vidembed.records.vectors_by_id import some


@dataclass(frozen=True, kw_only=True, eq=False)
class Captions:
    """M captions of N videos, by row: row i has `texts[offsets[i]:offsets[i + 1]]`, in the order of
    their file. A row may have none."""

    texts: tuple[str, ...]
    offsets: np.ndarray
    """i64[N + 1]"""

    def __post_init__(self) -> None:
        offsets = self.offsets
        if offsets[0] != 0 or offsets[-1] != len(self.texts) or (np.diff(offsets) < 0).any():
            raise ValueError(f"offsets must rise from 0 to {len(self.texts)}, the captions")

    def __len__(self) -> int:
        return len(self.texts)

    @cached_property
    def per_row(self) -> np.ndarray:
        """i64[N]: the number of captions of each row."""
        return np.diff(self.offsets)

    @cached_property
    def videos(self) -> np.ndarray:
        """i32[M]: the row of each caption."""
        return np.repeat(np.arange(len(self.per_row), dtype=np.int32), self.per_row)

    def of(self, rows: np.ndarray) -> "Captions":
        """The captions of rows i64[n], in their order."""
        counts = self.per_row[rows]
        offsets = np.concatenate([[0], np.cumsum(counts)])
        places = np.repeat(self.offsets[rows] - offsets[:-1], counts) + np.arange(offsets[-1])
        return Captions(texts=tuple(self.texts[place] for place in places), offsets=offsets)

    @cached_property
    def fingerprint(self) -> str:
        """Digest of captions and rows."""
        digest = xxhash.xxh3_128("\n".join(self.texts).encode())
        digest.update(np.ascontiguousarray(self.offsets, np.int64).tobytes())
        return digest.hexdigest()


@dataclass(frozen=True, kw_only=True, eq=False)
class TextSource:
    """The inputs of a text encoder, one row per caption: words by number, or sentence vectors."""

    tokens: np.ndarray | None = None
    """i32[M, L], padded with 0."""
    words: np.ndarray | None = None
    """i32[M]: the tokens of each caption, with START and END."""
    sentences: np.ndarray | None = None
    """f32[M, E]"""

    def __len__(self) -> int:
        return len(next(iter(self._arrays.values())))

    def read(self, rows: np.ndarray) -> dict[str, np.ndarray]:
        """The inputs for captions i64[B], by name: `tokens` i32[B, L] and `words` i32[B], or
        `sentences` f32[B, E]."""
        return {name: array[rows] for name, array in self._arrays.items()}

    @cached_property
    def _arrays(self) -> dict[str, np.ndarray]:
        named = {"tokens": self.tokens, "words": self.words, "sentences": self.sentences}
        arrays = {name: array for name, array in named.items() if array is not None}
        if arrays.keys() not in ({"tokens", "words"}, {"sentences"}):
            raise ValueError(
                f"a text encoder reads tokens and words, or sentences; found {', '.join(arrays)}"
            )
        return arrays


def joined(
    file: CaptionFile,
    table: FeatureTable,
    name: str | os.PathLike[str],
    *,
    max_unknown_share: float,
) -> tuple[Captions, tuple[str, ...]]:
    """The captions of the table's videos, and remarks; `name` is that of the file in messages.

    Captions without a word, and those of videos that the table lacks, are left out and counted.
    Raises CaptionsError if more than `max_unknown_share` of them are of unknown videos.
    """
    ids = np.array([video.encode() for video in file.ids], np.bytes_)
    rows = table.find(ids)
    has_words = np.array([any(map(str.isalnum, text)) for text in file.texts])
    notes = file.notes
    unknown = np.unique(ids[rows < 0])
    if len(unknown):
        count, total = int((rows < 0).sum()), len(ids)
        words = f"{count:,} of {total:,} captions ({count / total:.1%}) are of {len(unknown):,}"
        if count > max_unknown_share * total:
            raise CaptionsError(
                f"{name}: {words} videos that are not in the table, above the allowed "
                f"{max_unknown_share:.1%}, such as {some(unknown, 3)}. Is this the right table? "
                "If so, raise --corpus.max-unknown-share"
            )
        notes += (
            f"WARNING: {name}: {words} videos that are not in the table, and are left out: "
            f"{some(unknown, 3)}",
        )
    if empty := int((~has_words & (rows >= 0)).sum()):
        notes += (f"{name}: {empty:,} captions have no word and are left out",)
    known = np.flatnonzero((rows >= 0) & has_words)
    if not len(known):
        raise CaptionsError(
            f"{name}: none of its {len(ids):,} captions has words and is of a video of the table: "
            "check that the ids agree"
        )
    order = known[np.argsort(rows[known], kind="stable")]
    counts = np.bincount(rows[known], minlength=len(table))
    captions = Captions(
        texts=tuple(file.texts[place] for place in order),
        offsets=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
    )
    return captions, notes


def published_split(
    file: CaptionFile, table: FeatureTable, captions: Captions, name: str | os.PathLike[str]
) -> Split:
    """The split of the file. Videos that it does not name are in no part that has captions.

    Raises CaptionsError if a video with captions is in no part.
    """
    ids = np.array([video.encode() for video in file.parts], np.bytes_)
    rows, parts = table.find(ids), np.array(list(file.parts.values()))
    part = np.full(len(table), "", parts.dtype)
    part[rows[rows >= 0]] = parts[rows >= 0]
    lost = np.flatnonzero((part == "") & (captions.per_row > 0))
    if len(lost):
        raise CaptionsError(
            f"{name}: {len(lost):,} videos have captions but no part of the split: "
            f"{some(table.ids[lost], 3)}: add them to its split, or give another (--corpus.split)"
        )
    counts = ", ".join(f"{int((parts == each).sum()):,} {each}" for each in np.unique(parts))
    return Split(
        part == "train",
        part == "validation",
        (f"the split of {name} applies: {counts} videos (--corpus.split gives another)",),
    )
