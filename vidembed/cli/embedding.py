"""`python -m vidembed embed`: embed a feature table or records with a trained run."""

from typing import Annotated

import tyro

from vidembed.deploy.clip_embedding import EmbeddedClips, embed_clips_to
from vidembed.deploy.embedding import embed_to
from vidembed.deploy.loading import load
from vidembed.deploy.run import Run
from vidembed.deploy.videos import Share, videos_to_embed
from vidembed.progress import Progress
from vidembed.records.importing import Importing
from vidembed.records.outputs import check_apart

LISTED = 20
"""Files that cannot be decoded that are listed at the end."""


def main(
    run: Annotated[str, tyro.conf.arg(metavar="RUN")],
    videos: Annotated[str, tyro.conf.arg(metavar="VIDEOS")],
    out: Annotated[str, tyro.conf.arg(metavar="OUT")],
    *,
    step: str = "best",
    clips: str = "",
    lacking: tuple[str, ...] = (),
    shard: str = "",
    records: Annotated[Importing, tyro.conf.arg(name="")] = Importing(),
) -> int:
    """Embed the videos of a feature table or of records, or video files, with a trained run.

    Running it again is safe: OUT is written completely or not at all, and vectors that were made in
    the same way are kept; --force replaces others. If interrupted, it resumes from OUT.partial (if
    OUT is local). The options for records say how an import would store them, which affects the
    vectors; those not given are taken from the import that the run was trained on. For a table they
    have no effect.

    Args:
        run: the work directory of a run, or an export, local or gs://.
        videos: a feature table, or anything that import reads: TFRecord, Parquet or .npy files (a
            file, a folder or a glob). For a run on clips (provico): a folder of videos, a video, or
            a CSV or Parquet list of id and path; of a run on windows, stored features of frames
            (FEATURES/BACKBONE-DIGEST). A file that cannot be decoded is left out and listed at the
            end, with exit code 1.
        out: OUT.parquet (video_id, vector), OUT.npy (with OUT.ids.txt beside it), or the folder of
            a feature table. A run on clips writes a table, with the modalities video and
            video_deviation.
        step: best (by the run's evaluations), latest, or a number.
        clips: of a run on clips: also write this table of the clips, with the ids VIDEO#0, VIDEO#1
            and the modalities clip, clip_deviation and start_seconds.
        lacking: modalities that the run reads and that none of these videos has.
        shard: I/N, such as 1/4: embed only this part of the table's rows or of the record files.
    """
    check_apart(out, [run])
    progress = Progress()
    share = Share.parse(shard)
    with progress.stage(f"loading {run}"):
        loaded = load(run, step)
    if loaded.clips is not None:
        if lacking:
            raise ValueError("--lacking names modalities of features, and this run reads clips")
        made_of_clips = embed_clips_to(
            loaded, [videos], out, clips=clips, share=share, force=records.force, progress=progress
        )
        return _say(made_of_clips, loaded, out, clips, progress)
    if clips:
        raise ValueError(f"--clips is for runs on clips of videos, and {run} reads features")
    source = videos_to_embed(videos, records, share, imported=loaded.imported, reads=loaded.widths)
    made = embed_to(loaded, source, out, lacking=lacking, force=records.force, progress=progress)
    if made.already_there:
        progress.say(f"{out}: these vectors exist already; nothing to do")
        return 0
    progress.say(f"{out}: {made.videos:,} vectors of {loaded.size}; space: {loaded.space}")
    if made.taken_over:
        progress.say(f"{made.taken_over:,} of them were made before the last interruption")
    if made.left_out:
        reads = " nor ".join(loaded.widths)
        progress.say(f"{made.left_out:,} videos have neither {reads}, and were left out")
    return 0


def _say(made: EmbeddedClips, run: Run, out: str, clips: str, progress: Progress) -> int:
    """What became of the videos; the exit code."""
    if made.already_there:
        progress.say(f"{out}: these vectors exist already; nothing to do")
        return 0
    progress.say(f"{out}: {made.videos:,} vectors of {run.size}; space: {run.space}")
    if clips:
        progress.say(f"{clips}: {made.clips:,} clips")
    if made.taken_over:
        progress.say(f"{made.taken_over:,} videos were embedded before the last interruption")
    for reason in made.failed[:LISTED]:
        progress.say(f"FAILED: {reason}")
    if len(made.failed) > LISTED:
        progress.say(f"FAILED: {len(made.failed) - LISTED:,} more")
    if made.failed:
        progress.say(f"{len(made.failed):,} videos could not be read and are left out")
    return int(bool(made.failed))
