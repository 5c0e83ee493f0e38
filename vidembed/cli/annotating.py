"""`python -m vidembed annotate`: label videos with a trained annotation run."""

from collections.abc import Iterator
from typing import Annotated, Any

import tyro

from vidembed.deploy.annotating import Annotated as Labelled
from vidembed.deploy.annotating import Assignment, annotate_to
from vidembed.deploy.label_output import Form
from vidembed.deploy.loading import opened
from vidembed.deploy.thresholds import thresholds_of
from vidembed.deploy.videos import Share, videos_to_embed
from vidembed.progress import Progress
from vidembed.records.importing import Importing
from vidembed.records.outputs import check_apart
from vidembed.workdir.layout import Workdir


def main(
    run: Annotated[str, tyro.conf.arg(metavar="RUN")],
    videos: Annotated[str, tyro.conf.arg(metavar="VIDEOS")],
    out: Annotated[str, tyro.conf.arg(metavar="OUT")],
    *,
    step: str = "best",
    top: int = 20,
    precision: float | None = None,
    form: Form = "rows",
    embeddings: tuple[str, ...] = (),
    shard: str = "",
    records: Annotated[Importing, tyro.conf.arg(name="")] = Importing(),
) -> None:
    """Label the videos of a feature table or of records with a trained annotation run.

    Running it again is safe: OUT is written completely or not at all; --force replaces other
    contents. If interrupted, it resumes from OUT.partial. The options for records say how an import
    would store them; for a table they have no effect.

    Args:
        run: the work directory of an annotation run, local or gs://.
        videos: a feature table, or anything that import reads: TFRecord, Parquet or .npy files (a
            file, a folder or a glob). Frame-level TFRecords are recognised and pooled.
        out: OUT.parquet or OUT.csv: video_id, label, class (its number in the run, from 0), score,
            best first. Rows of windows (`extract --window`) also have start and end in seconds.
        step: best (by the run's evaluations), latest, or a number.
        top: labels per video at most.
        precision: keep only labels above a threshold per class, chosen on the run's validation
            videos so that this share of them is true; needs the data that the run was trained on.
        form: rows, or youtube-8m for the CSV of the competition (VideoId, LabelConfidencePairs).
        embeddings: vectors of these videos from `vidembed embed`, if the run reads some; only for a
            table.
        shard: I/N, such as 1/4: label only this part of the table's rows or of the record files.
    """
    check_apart(out, [run, *embeddings])
    progress = Progress()
    share = Share.parse(shard)
    with progress.stage(f"loading {run}"):
        loaded, model = opened(run, step, "labels")
    stored: Any = Workdir(run).read_recipe()
    names = stored["spec"]["class_names"]
    corpus: Any = model.recipe.corpus
    if form == "youtube-8m" and getattr(corpus, "min_class_videos", None):
        raise ValueError(
            f"{run} numbers its {len(names):,} classes anew, because it leaves out rare ones "
            "(--corpus.min-class-videos), but the form of the competition has the numbers of the "
            "vocabulary: use --form rows, which has names, or a run of all classes"
        )
    chosen, thresholds = "", None
    if precision is not None:
        chosen, thresholds = thresholds_of(
            model,
            names=names,
            rows=stored.get("fingerprints", {}).get("corpus", ""),
            precision=precision,
            top=top,
            progress=progress,
        )
    assignment = Assignment(names=names, top=top, thresholds=thresholds, chosen=chosen)
    source = videos_to_embed(
        videos, records, share, embeddings, imported=loaded.imported, reads=loaded.widths
    )
    made = annotate_to(
        loaded, assignment, source, out, form=form, force=records.force, progress=progress
    )
    if made.already_there:
        progress.say(f"{out}: the same labels were made before; nothing to do")
        return
    each = made.labels / max(1, made.videos)
    progress.say(f"{out}: {made.labels:,} labels of {made.videos:,} videos, {each:.2f} per video")
    for line in _alerts(made):
        progress.say(line)
    if made.left_out:
        reads = " nor ".join(loaded.widths)
        progress.say(f"{made.left_out:,} videos have neither {reads}, and were left out")


def _alerts(made: Labelled) -> Iterator[str]:
    """One line per label that reached its threshold in a window of any video."""
    for label, windows in sorted(made.alerts.items()):
        first = min(windows, key=lambda window: (window.video, window.start))
        videos = len({window.video for window in windows})
        yield (
            f"alert: {label} in {len(windows):,} windows of {videos:,} videos, first "
            f"{first.video} from {first.start:g} to {first.end:g} s"
        )
