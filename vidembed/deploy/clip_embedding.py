"""Embed videos by their clips into feature tables: one of the videos, and one of the clips."""

import contextlib
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from vidembed.deploy.clip_outputs import ClipOutputs, ClipVectors, key_of
from vidembed.deploy.partial import partial_vectors
from vidembed.deploy.run import Run
from vidembed.deploy.videos import Share
from vidembed.progress import Progress
from vidembed.records.outputs import check_apart
from vidembed.records.table_folder import table_state
from vidembed.records.vector_files import MAKER, made_as
from vidembed.records.vector_table import VectorTable, vector_table

START = "start_seconds"
"""The modality f32[1] of the table of clips that says when they begin."""
WHOLE = Share()


@dataclass(frozen=True, kw_only=True)
class EmbeddedClips:
    """The outcome of `embed_clips_to`. videos, clips: numbers of rows. taken_over: videos reused
    from an earlier, interrupted process. already_there: whether nothing was left to do."""

    videos: int = 0
    clips: int = 0
    failed: tuple[str, ...] = ()
    """The reason of each video without a clip, which has no row."""
    taken_over: int = 0
    already_there: bool = False


def embed_clips_to(
    run: Run,
    paths: Sequence[str | os.PathLike[str]],
    out: str | os.PathLike[str],
    *,
    clips: str | os.PathLike[str] = "",
    share: Share = WHOLE,
    force: bool = False,
    progress: Progress | None = None,
) -> EmbeddedClips:
    """Write the vectors of videos, and with `clips` those of their clips, as feature tables.

    paths: as for `ClipOutputs.open`. The table of videos has a modality for each output of videos
    (video, video_deviation); that of clips has the ids VIDEO#0, VIDEO#1, ..., a modality for each
    output of clips, and start_seconds. share: only these videos. Memory holds a block of clips, and
    the ids. If interrupted, vectors computed so far stay in OUT.partial and are reused. Tables that
    hold the same are left as they are, others are an error unless `force` replaces them. Raises
    ValueError for these, for an output among the inputs, and if no video has a clip.
    """
    progress, outputs = progress or Progress(), run.clips
    assert outputs is not None, "the run reads no clips"
    out, clips = os.fspath(out).rstrip("/"), os.fspath(clips).rstrip("/")
    for place in filter(None, (out, clips)):
        if place.endswith((".parquet", ".npy")):
            raise ValueError(
                f"{place}: a run on clips writes means and deviations, as the modalities of a "
                "feature table: name a folder"
            )
        check_apart(place, [*paths, clips if place == out else out])
    with progress.stage("listing videos"):
        source = outputs.open(paths)
        rows = np.arange(len(source))[share.part(len(source))]
        if not len(rows):
            raise share.empty_error(os.fspath(paths[0]), len(source), "videos")
        made = _record(run, outputs, source, rows)
    todo = [place for place in (clips, out) if place and (force or not _is_there(place, made))]
    if not todo:
        return EmbeddedClips(already_there=True)
    columns = _Columns(outputs, of_clips=bool(clips))
    failed: list[str] = []
    number_of_clips = 0
    with contextlib.ExitStack() as stack:
        partial = stack.enter_context(partial_vectors(out, run.space, columns.size))
        stage = stack.enter_context(progress.stage("embedding", len(rows), "videos"))
        tables: dict[str, VectorTable] = {}
        for place in reversed(todo):  # that of the clips is finished first
            names = outputs.of_clips if place == clips else outputs.of_videos
            space = {name: outputs.spaces[name] for name in names}
            opened = vector_table(place, made, space, replacing=force)
            tables[place] = stack.enter_context(opened)

        def compute(some: np.ndarray) -> Callable[[], np.ndarray]:
            return lambda: columns.joined(outputs(source, some))

        for some in outputs.blocks(rows):
            flat = partial.keyed(len(some), key_of(source, some), compute(some))
            vectors = columns.parted(flat)
            there = np.asarray(vectors.present.any(axis=1))
            failed += [_reason(source, row) for row in some[~there].tolist()]
            ids, vectors = source.ids[some[there]], _some(vectors, there)
            if out in tables and len(ids):
                tables[out].add(ids, vectors.videos)
            if clips in tables and len(ids):
                tables[clips].add(*_rows_of_clips(ids, vectors))
            number_of_clips += int(vectors.present.sum())
            stage.update(partial.videos, note=f"{len(failed):,} failed" if failed else "")
        if len(failed) == len(rows):
            raise ValueError(f"none of {len(rows):,} videos can be embedded, such as {failed[0]}")
    return EmbeddedClips(
        videos=len(rows) - len(failed),
        clips=number_of_clips,
        failed=tuple(failed),
        taken_over=partial.taken_over,
    )


class _Columns:
    """The parts of `ClipVectors` as columns of one array f32[n, size], to be kept in a file."""

    def __init__(self, outputs: ClipOutputs, *, of_clips: bool) -> None:
        most, widths = outputs.most, outputs.widths
        self._most = most
        self._videos = {name: widths[name] for name in outputs.of_videos}
        self._clips = {name: widths[name] for name in outputs.of_clips if of_clips}
        self.size = sum(self._videos.values()) + most * (2 + sum(self._clips.values()))

    def joined(self, vectors: ClipVectors) -> np.ndarray:
        parts = [vectors.videos[name] for name in self._videos]
        parts += [vectors.clips[name] for name in self._clips]
        parts += [vectors.present, vectors.seconds]
        return np.concatenate([np.reshape(part, (len(part), -1)) for part in parts], axis=1)

    def parted(self, flat: np.ndarray) -> ClipVectors:
        columns = self._parts(flat)
        videos = {name: next(columns) for name in self._videos}
        shape = (len(flat), self._most, -1)
        clips = {name: next(columns).reshape(shape) for name in self._clips}
        return ClipVectors(videos, clips, next(columns) > 0, next(columns))

    def _parts(self, flat: np.ndarray) -> Iterator[np.ndarray]:
        sizes = [*self._videos.values(), *(self._most * width for width in self._clips.values())]
        return iter(np.split(flat, np.cumsum([*sizes, self._most]), axis=1))


def _record(run: Run, outputs: ClipOutputs, source: Any, rows: np.ndarray) -> dict[str, Any]:
    """How the vectors are made: equal for equal videos and runs."""
    made = {"by": MAKER, "space": run.space, "run": run.name, "step": run.step, "split": run.split}
    return made | {"inputs": dict(outputs.inputs), "videos": key_of(source, rows).hex()}


def _is_there(place: str, made: dict[str, Any]) -> bool:
    """Whether a table holds these vectors; raises ValueError if it holds others."""
    if table_state(place) != "finished":
        return False
    existing = made_as(place) or {}
    if any(existing.get(name) != made[name] for name in ("space", "videos")):
        raise ValueError(
            f"{place} exists and does not hold the vectors of these videos by this run: choose "
            "another place, or replace it (--force)"
        )
    return True


def _reason(source: Any, row: int) -> str:
    unknown = f"{source.name(row)}: no frame could be read"
    return str(source.failures.get(row, unknown))


def _some(vectors: ClipVectors, rows: np.ndarray) -> ClipVectors:
    videos = {name: array[rows] for name, array in vectors.videos.items()}
    clips = {name: array[rows] for name, array in vectors.clips.items()}
    return ClipVectors(videos, clips, vectors.present[rows], vectors.seconds[rows])


def _rows_of_clips(ids: np.ndarray, of: ClipVectors) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """The clips that there are: ids, and their arrays."""
    videos, numbers = np.nonzero(of.present)
    pairs = zip(ids[videos].tolist(), numbers.tolist())
    names = np.array([name + b"#%d" % number for name, number in pairs])
    arrays = {name: array[of.present] for name, array in of.clips.items()}
    return names, arrays | {START: of.seconds[of.present][:, None]}
