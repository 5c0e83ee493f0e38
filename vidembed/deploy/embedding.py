"""The vectors of many videos, from a table or records to a file, as they come."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from vidembed.deploy.run import Run
from vidembed.deploy.vector_files import made_as, vector_file, written_to
from vidembed.deploy.videos import VideosToEmbed, part_of_table
from vidembed.progress import Progress
from vidembed.records.outputs import check_apart

QUIET = Progress(quiet=True)


@dataclass(frozen=True, kw_only=True)
class Embedded:
    """What came of it. videos: how many vectors there are. left_out: videos without any of the
    modalities that the run reads. already_there: whether they were made before."""

    videos: int
    left_out: int
    already_there: bool


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
    are; others are refused, unless `force` replaces them. Raises ValueError for these, and where
    `out` is among what is read, what reading the videos and `Run.embed` raise, and where no video
    can be embedded.
    """
    for place in written_to(out):
        check_apart(place, videos.inputs)
    absent = dict.fromkeys(lacking, False)
    said = videos.identity | ({"lacking": sorted(lacking)} if lacking else {})
    made = {"space": run.space, "run": run.name, "step": run.step, "videos": said}
    there = made_as(out)
    if there is not None and not force:
        if not _equal(made, there):
            raise ValueError(
                f"{os.fspath(out)} is there, and holds something else than the vectors of these "
                "videos by this run: choose another place, or replace it (--force)"
            )
        return Embedded(videos=0, left_out=0, already_there=True)
    written = left_out = 0
    progress = progress or Progress()
    with (
        progress.stage("embedding", videos.total, "videos") as stage,
        vector_file(out, run.size, made, modality=run.output, replacing=force) as file,
    ):
        for table in videos.blocks():
            rows = run.embeddable(table, absent)
            left_out += len(table) - len(rows)
            if len(rows):
                some = table if len(rows) == len(table) else part_of_table(table, rows)
                file.add(some, run.embed(some, present=absent, progress=QUIET))
                written += len(rows)
            stage.update(written + left_out)
        if not written:
            raise ValueError(
                f"none of {left_out:,} videos can be embedded: the run reads {list(run.widths)}"
            )
    return Embedded(videos=written, left_out=left_out, already_there=False)


def _equal(made: Mapping[str, Any], there: Mapping[str, Any]) -> bool:
    """Whether the same vectors are meant; a run and its copy make the same."""
    return all(there.get(name) == made[name] for name in ("space", "videos"))
