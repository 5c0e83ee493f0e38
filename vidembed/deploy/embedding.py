"""The vectors of many videos, from a table or records to a file, as they come."""

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
    """What came of it. videos: how many vectors there are. left_out: videos without any of the
    modalities that the run reads. taken_over: how many vectors an earlier, broken-off process had
    made. already_there: whether all were made before."""

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
    """Write the vectors of the videos to `out`, whose name says in which form (`vector_files`).

    lacking: modalities that none of these videos has, which are said to be missing. Memory holds a
    few blocks of videos, and their ids. Vectors that were made the same way before are left as they
    are; others are refused, unless `force` replaces them. What was computed before a stop or a
    fault stays in OUT.partial, and is not computed again. Raises ValueError for these, and where
    `out` is among what is read, what reading the videos and `Run.embed` raise, and where no video
    can be embedded.
    """
    out = os.fspath(out).rstrip("/")
    check_form(out)
    for place in written_to(out):
        check_apart(place, videos.inputs)
    absent = dict.fromkeys(lacking, False)
    said = videos.identity | ({"lacking": sorted(lacking)} if lacking else {})
    made = {"space": run.space, "run": run.name, "step": run.step, "videos": said}
    there = made_as(out)
    if there is not None and not force:
        if not _equal(made, there):
            found = next((place for place in written_to(out) if Path(place).exists()), out)
            raise ValueError(
                f"{found} is there, and holds something else than the vectors of these "
                "videos by this run: choose another place, or replace it (--force)"
            )
        return Embedded(videos=0, left_out=0, already_there=True)
    left_out = 0
    progress = progress or Progress()

    def embed(some: FeatureTable) -> Callable[[], np.ndarray]:
        return lambda: run.embed(some, present=absent, progress=QUIET)

    with (
        partial_vectors(out, run.space, run.size) as partial,
        progress.stage("embedding", videos.total, "videos") as stage,
        vector_file(out, run.size, made, modality=run.output, replacing=force) as file,
    ):
        for table in videos.blocks():
            rows = run.embeddable(table, absent)
            left_out += len(table) - len(rows)
            if len(rows):
                some = table if len(rows) == len(table) else part_of_table(table, rows)
                file.add(some, partial.block(run.rows(some, absent), embed(some)))
            stage.update(partial.videos + left_out)
        if not partial.videos:
            raise ValueError(
                f"none of {left_out:,} videos can be embedded: the run reads {list(run.widths)}"
            )
    return Embedded(videos=partial.videos, left_out=left_out, taken_over=partial.taken_over)


def _equal(made: Mapping[str, Any], there: Mapping[str, Any]) -> bool:
    """Whether the same vectors are meant; a run and its copy make the same."""
    return all(there.get(name) == made[name] for name in ("space", "videos"))
