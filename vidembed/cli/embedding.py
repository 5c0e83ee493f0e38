"""`python -m vidembed embed`: the vectors of a table or of records, by a trained run."""

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
    """Vectors of the videos of a feature table or of records, made by a trained run.

    Running it again is safe: OUT is there whole or not at all, and vectors that were made the same
    way are recognised; --force replaces others. Broken off, it goes on from OUT.partial (where OUT
    is local). Options of records say how an import would store
    them, which changes what their vectors are; for a table they do nothing.

    Args:
        run: the work directory of a run, or an export, local or gs://.
        videos: a feature table, or what an import reads: TFRecords, Parquet or .npy files (one, a
            folder or a glob).
        out: OUT.parquet (video_id, vector), OUT.npy (beside it OUT.ids.txt), or else the folder of
            a feature table.
        step: best (by the run's evaluations), latest, or a number.
        lacking: modalities that the run reads, and none of these videos has.
        shard: I/N, as 1/4 to 4/4: this part alone, of the rows of a table or the files of records.
    """
    check_apart(out, [run])
    progress = Progress()
    share = Share.parse(shard)
    with progress.stage(f"loading {run}"):
        loaded = load(run, step)
    source = videos_to_embed(videos, records, share)
    made = embed_to(loaded, source, out, lacking=lacking, force=records.force, progress=progress)
    if made.already_there:
        progress.say(f"{out}: the same vectors are there, made before")
        return
    progress.say(f"{out}: {made.videos:,} vectors of {loaded.size}; space: {loaded.space}")
    if made.taken_over:
        progress.say(f"{made.taken_over:,} of them were made before the last stop")
    if made.left_out:
        reads = " nor ".join(loaded.widths)
        progress.say(f"{made.left_out:,} videos have neither {reads}, and were left out")
