"""Embed many videos block by block, from a table or records to a file."""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from vidembed.deploy.partial import partial_vectors
from vidembed.deploy.run import Run
from vidembed.deploy.videos import VideosToEmbed, part_of_table
from vidembed.progress import Progress
from vidembed.records.outputs import check_apart
from vidembed.records.table import FeatureTable
from vidembed.records.vector_files import check_form, made_as, vector_file, written_to

QUIET = Progress(quiet=True)


@dataclass(frozen=True, kw_only=True)
class Embedded:
    """The outcome of `embed_to`. videos: number of vectors. left_out: videos without any of the
    modalities that the run reads. taken_over: vectors reused from an earlier, interrupted process.
    already_there: whether the output was complete before."""

    videos: int
    left_out: int
    taken_over: int = 0
    already_there: bool = False


def embed_to(
    run: Run,
    videos: VideosToEmbed,
    out: str | os.PathLike[str],
    *,
    lacking: Sequence[str] = (),
    force: bool = False,
    progress: Progress | None = None,
) -> Embedded:
    """Write the vectors of the videos to `out`, whose name decides the format (`vector_files`).

    lacking: modalities that all of these videos lack. Memory holds a few blocks of videos, and the
    ids. If `out` already holds the same vectors, it is left as it is; other contents are an error
    unless `force` replaces them. After a stop or a fault, the vectors computed so far stay in
    OUT.partial and are reused. Raises ValueError for other contents, for an `out` that is one of
    the inputs, and if no video can be embedded; also whatever reading the videos and `Run.embed`
    raise.
    """
    out = os.fspath(out).rstrip("/")
    check_form(out)
    for place in written_to(out):
        check_apart(place, videos.inputs)
    absent = dict.fromkeys(lacking, False)
    identity = videos.identity | ({"lacking": sorted(lacking)} if lacking else {})
    made = {"space": run.space, "inputs": dict(run.inputs), "run": run.name, "step": run.step}
    made |= {"videos": identity, "split": run.split}
    existing = made_as(out)
    if existing is not None and not force:
        if not _equal(made, existing):
            occupied = next((place for place in written_to(out) if Path(place).exists()), out)
            raise ValueError(
                f"{occupied} exists and does not hold the vectors of these videos by this run: "
                "choose another place, or replace it (--force)"
            )
        return Embedded(videos=0, left_out=0, already_there=True)
    left_out = 0
    progress = progress or Progress()

    def embed(block: FeatureTable) -> Callable[[], np.ndarray]:
        return lambda: run.embed(block, present=absent, progress=QUIET)

    with (
        partial_vectors(out, run.space, run.size) as partial,
        progress.stage("embedding", videos.total, "videos") as stage,
        vector_file(out, run.size, made, modality=run.output, replacing=force) as file,
    ):
        for table in videos.blocks():
            rows = run.embeddable(table, absent)
            left_out += len(table) - len(rows)
            if len(rows):
                block = table if len(rows) == len(table) else part_of_table(table, rows)
                file.add(block, partial.block(run.rows(block, absent), embed(block)))
            stage.update(partial.videos + left_out)
        if not partial.videos:
            raise ValueError(
                f"none of {left_out:,} videos can be embedded: the run reads {list(run.widths)}"
            )
    return Embedded(videos=partial.videos, left_out=left_out, taken_over=partial.taken_over)


def _equal(made: Mapping[str, Any], existing: Mapping[str, Any]) -> bool:
    """Whether both describe the same vectors; a run and a copy of it make the same ones."""
    return all(existing.get(name) == made[name] for name in ("space", "videos"))
