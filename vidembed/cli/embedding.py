"""`python -m vidembed embed`: embed a feature table or records with a trained run."""

from typing import Annotated

import tyro

from vidembed.deploy.embedding import embed_to
from vidembed.deploy.loading import load
from vidembed.deploy.videos import Share, videos_to_embed
from vidembed.progress import Progress
from vidembed.records.importing import Importing
from vidembed.records.outputs import check_apart


def main(
    run: Annotated[str, tyro.conf.arg(metavar="RUN")],
    videos: Annotated[str, tyro.conf.arg(metavar="VIDEOS")],
    out: Annotated[str, tyro.conf.arg(metavar="OUT")],
    *,
    step: str = "best",
    lacking: tuple[str, ...] = (),
    shard: str = "",
    records: Annotated[Importing, tyro.conf.arg(name="")] = Importing(),
) -> None:
    """Embed the videos of a feature table or of records with a trained run.

    Running it again is safe: OUT is written completely or not at all, and vectors that were made in
    the same way are kept; --force replaces others. If interrupted, it resumes from OUT.partial (if
    OUT is local). The options for records say how an import would store them, which affects the
    vectors; those not given are taken from the import that the run was trained on. For a table they
    have no effect.

    Args:
        run: the work directory of a run, or an export, local or gs://.
        videos: a feature table, or anything that import reads: TFRecord, Parquet or .npy files (a
            file, a folder or a glob).
        out: OUT.parquet (video_id, vector), OUT.npy (with OUT.ids.txt beside it), or the folder of
            a feature table.
        step: best (by the run's evaluations), latest, or a number.
        lacking: modalities that the run reads and that none of these videos has.
        shard: I/N, such as 1/4: embed only this part of the table's rows or of the record files.
    """
    check_apart(out, [run])
    progress = Progress()
    share = Share.parse(shard)
    with progress.stage(f"loading {run}"):
        loaded = load(run, step)
    source = videos_to_embed(videos, records, share, imported=loaded.imported, reads=loaded.widths)
    made = embed_to(loaded, source, out, lacking=lacking, force=records.force, progress=progress)
    if made.already_there:
        progress.say(f"{out}: these vectors exist already; nothing to do")
        return
    progress.say(f"{out}: {made.videos:,} vectors of {loaded.size}; space: {loaded.space}")
    if made.taken_over:
        progress.say(f"{made.taken_over:,} of them were made before the last interruption")
    if made.left_out:
        reads = " nor ".join(loaded.widths)
        progress.say(f"{made.left_out:,} videos have neither {reads}, and were left out")
