"""Use a trained run: embed videos, and index them."""

import contextlib
import functools
import logging
import os
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from vidembed.deploy.doing_without import POOR, rank_without
from vidembed.deploy.index import BUILDING, VideoIndex
from vidembed.deploy.inputs import InputError, VideoRows, check_values, featureless, video_rows
from vidembed.engine.model import BLOCK_ROWS
from vidembed.progress import Progress
from vidembed.records.outputs import check_apart
from vidembed.records.space import check_same_space
from vidembed.records.table import FeatureTable
from vidembed.serving.index import Index
from vidembed.serving.segment import Engine
from vidembed.serving.versions import Folder

if TYPE_CHECKING:
    from vidembed.deploy.clip_outputs import ClipOutputs
    from vidembed.deploy.text_queries import TextQueries

_log = logging.getLogger(__name__)
QUIET_SECONDS = 2.0
"""Shorter work shows no progress."""
Videos = FeatureTable | str | os.PathLike[str] | Mapping[str, Any]
"""A feature table, its folder, or arrays [N, F] by modality."""


class Compute(Protocol):
    """The network itself."""

    def __call__(self, source: Any, rows: np.ndarray) -> np.ndarray:
        """f32[N, D] for the rows i64[N] of the source."""


class Run:
    """A trained network from features to vectors; see `loading.load`.

    widths: modality → number of features F. inputs: modality → the model that made the features,
    if known. space: identifies what made the vectors; only vectors in the same space are compared.
    imported: options of the import of the training table (`records.stored_options`), if known.
    split: the options of the split that it was trained on, if known. texts: opens what embeds
    sentences, of a run that does, given the folder of a sentence encoder. frames_of: modalities of
    which it reads frames. clips: embeds video files, of a run on clips, which itself reads vectors
    of such videos, as `vidembed embed` writes them.
    """

    def __init__(
        self,
        compute: Compute,
        *,
        name: str,
        step: int,
        output: str,
        widths: Mapping[str, int],
        inputs: Mapping[str, str],
        space: str,
        imported: Mapping[str, Any] = {},
        split: Mapping[str, Any] = {},
        texts: Callable[[str | os.PathLike[str] | None], "TextQueries"] | None = None,
        frames_of: Sequence[str] = (),
        clips: "ClipOutputs | None" = None,
    ) -> None:
        self.compute, self._texts, self.clips = compute, texts, clips
        self.name, self.step, self.output, self.space = name, step, output, space
        self.widths, self.inputs, self.imported = dict(widths), dict(inputs), dict(imported)
        self.split, self.frames_of = dict(split), tuple(frames_of)
        self._tried_without: set[str] = set()

    def __repr__(self) -> str:
        return f"Run({self.name!r}, step={self.step}, widths={self.widths})"

    @functools.cached_property
    def size(self) -> int:
        """D, the size of a vector, computed for one made-up video."""
        rows = {m: np.ones((1, width), np.float32) for m, width in self.widths.items()}
        made_up = VideoRows(features=rows, present={})
        return self.compute(made_up, np.zeros(1, np.int64)).shape[1]

    def embed(
        self,
        videos: Videos,
        *,
        present: Mapping[str, Any] | None = None,
        progress: Progress | None = None,
    ) -> np.ndarray:
        """The vectors f32[N, D] of a table's videos, in its order, or of arrays [N, F] by modality.

        present: modality → bool[N] if some videos lack it, or False if all do (its array may then
        be left out). Features are float, or uint8 as quantised by YouTube-8M. Shows progress after
        two seconds. Raises InputError for features that do not fit, hold NaN, or are all zero but
        not marked as missing; SpaceError for a table whose features come from another model than
        the training features. Warns if videos lack a modality that the run has not learned to do
        without.
        """
        rows = self.rows(videos, present)
        check_values(rows)
        return self._vectors(rows, np.arange(len(rows)), progress or Progress())

    def embed_rows(
        self,
        table: FeatureTable,
        rows: np.ndarray,
        *,
        present: Mapping[str, Any] | None = None,
        progress: Progress | None = None,
    ) -> np.ndarray:
        """The vectors f32[n, D] of the rows i64[n] of a table; otherwise as `embed`."""
        known = self.rows(table, present)
        check_values(known, rows)
        return self._vectors(known, rows, progress or Progress())

    def embed_text(
        self, texts: str | Sequence[str], *, encoder: str | os.PathLike[str] | None = None
    ) -> np.ndarray:
        """The vectors f32[n, D] of n sentences, or f32[1, D] of one; their dot products with those
        of videos rank videos.

        encoder: the folder of the sentence encoder, if it is not where it was in training. Raises
        ValueError if the run does not embed text; else see `text_queries.TextQueries`.
        """
        if self._texts is None:
            raise ValueError(f"{self.name} does not embed text: train one with `train jemc`")
        return self._texts(encoder)([texts] if isinstance(texts, str) else texts)

    def index(
        self,
        table: FeatureTable | str | os.PathLike[str],
        path: str | os.PathLike[str] | None = None,
        *,
        engine: str | Engine = "exact",
        keep: str = "float32",
        over: bool = False,
        present: Mapping[str, Any] | None = None,
        progress: Progress | None = None,
    ) -> VideoIndex:
        """Index a table's videos; warn of those without any modality that the run reads, left out.

        path: the folder to create; None for a temporary one, which is removed when the index is no
        longer used. engine, keep, over: as for `serving.index.Index.create`; present: as for
        `embed`. Raises InputError if no video of the table can be embedded; otherwise as `embed`.
        """
        if not isinstance(table, FeatureTable):
            if path is not None:
                check_apart(path, [table])
            table = FeatureTable.open(table)
        rows = self.embeddable(table, present)
        if path is not None:
            folder = Folder(path)
            folder.refuse_others()
            if not over and folder.exists():
                raise FileExistsError(
                    f"{os.fspath(path)} is an index: update it (--refresh), or replace it with "
                    "over=True (--force)"
                )
        if not len(rows):
            raise InputError(
                f"none of the table's {len(table):,} videos has any of {list(self.widths)}"
            )
        if len(rows) < len(table):
            _log.warning(
                "%s videos have none of %s, and are left out",
                f"{len(table) - len(rows):,}",
                list(self.widths),
            )
        vectors = self.embed_rows(table, rows, present=present, progress=progress)
        ids = table.ids[rows]
        if path is None:
            return VideoIndex.temporary(self, ids, vectors, engine=engine, keep=keep)
        options: dict[str, Any] = {"engine": engine, "keep": keep, "over": over}
        with progress.stage(BUILDING) if progress else contextlib.nullcontext():
            index = Index.create(path, ids, vectors, space=self.space, **options)
        return VideoIndex(index, self)

    def rows(self, videos: Videos, present: Mapping[str, Any] | None = None) -> VideoRows:
        """The features that the run reads; raises as `embed` does, but does not check values."""
        if isinstance(videos, str | os.PathLike):
            videos = FeatureTable.open(videos)
        if not isinstance(videos, FeatureTable | Mapping):
            raise InputError(
                f"videos are a feature table or arrays by modality, {{{next(iter(self.widths))!r}: "
                f"[N, F], ...}}; got {type(videos).__name__}"
            )
        if isinstance(videos, FeatureTable):
            theirs = {m: space for m, space in videos.space.items() if m in self.widths}
            check_same_space(self.inputs, theirs, names=(self.name, "the table"))
        features: Any = videos.features if isinstance(videos, FeatureTable) else videos
        if self.clips is not None and self.output not in features:
            raise InputError(
                f"{self.name} embeds videos: give the table that `vidembed embed` makes of them"
            )
        rows = video_rows(videos, self.widths, present)
        if self.frames_of and rows.frames is None:
            raise InputError(
                f"{self.name} pools the frames of {' and '.join(self.frames_of)} itself: give "
                "frame-level records instead of vectors (`vidembed embed` and `vidembed annotate` "
                "take them)"
            )
        return rows

    def embeddable(
        self, table: FeatureTable, present: Mapping[str, Any] | None = None
    ) -> np.ndarray:
        """Rows i64[n] of the table's videos that have at least one modality that the run reads."""
        return np.flatnonzero(~featureless(self.rows(table, present)))

    def _vectors(self, rows: VideoRows, numbers: np.ndarray, progress: Progress) -> np.ndarray:
        """Embed in blocks whose size is a power of two, so that few programs are compiled."""
        self._warn_of_missing(rows, numbers)
        blocks, began, stage = [], time.monotonic(), None
        block = min(BLOCK_ROWS, 1 << max(0, len(numbers) - 1).bit_length())
        with contextlib.ExitStack() as stack:
            for start in range(0, len(numbers), block):
                padded = np.minimum(np.arange(start, start + block), len(numbers) - 1)
                blocks.append(self.compute(rows, numbers[padded]))
                if stage is None and time.monotonic() - began > QUIET_SECONDS:
                    opened = progress.stage("embedding", len(numbers), "videos")
                    stage = stack.enter_context(opened)
                if stage is not None:
                    stage.update(min(start + block, len(numbers)))
        return np.concatenate([*blocks, np.empty((0, self.size), np.float32)])[: len(numbers)]

    def _warn_of_missing(self, rows: VideoRows, numbers: np.ndarray) -> None:
        """Warn once per modality that the run needs and some of these videos lack."""
        for modality in rows.present.keys() - self._tried_without:
            lacking = int((~rows.present[modality][numbers]).sum())
            if not lacking:
                continue
            self._tried_without.add(modality)
            rank = rank_without(self.compute, self.widths, modality)
            if rank > POOR:
                _log.warning(
                    "%s has not learned to do without %r: a vector without it is about as far from "
                    "the same video's complete vector as from any other's (median rank %.2f of 1; "
                    "chance is 0.5). Compare videos that lack it (%s here) only with one another, "
                    "or train with modality dropout (--task.model.modality-dropout 0.1), with "
                    "early fusion, or on videos that lack it",
                    self.name,
                    modality,
                    rank,
                    f"{lacking:,}",
                )
