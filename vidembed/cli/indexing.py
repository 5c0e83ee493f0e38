"""`python -m vidembed index`: build or update an index of a table's videos."""

from typing import Annotated, Any, Literal

import tyro

from vidembed.deploy.features import features
from vidembed.deploy.index import VideoIndex
from vidembed.deploy.loading import load, reads_clips
from vidembed.progress import Progress
from vidembed.records.outputs import check_apart
from vidembed.records.table import FeatureTable
from vidembed.records.table_folder import table_state
from vidembed.serving.engines import engine_to_json
from vidembed.serving.index import Index

EngineName = Literal["exact", "fast-scan", "hnsw", "ivf"]
RECALL_QUERIES, RECALL_AT = 200, 10
"""Recall is measured with this many videos of the index, evenly spaced, at this depth."""


def main(
    places: Annotated[
        tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="RUN TABLE INDEX")
    ],
    *,
    step: str = "best",
    lacking: tuple[str, ...] = (),
    engine: EngineName = "exact",
    keep: Literal["float32", "int8"] = "float32",
    refresh: bool = False,
    prune: bool = False,
    merge: bool = False,
    force: bool = False,
    rollback: bool = False,
    verify: bool = False,
) -> None:
    """Build or update an index of a feature table's videos, embedded by a trained run.

    For a run on clips (provico), TABLE is what `embed` has made of the videos with that run.

    Without RUN, the videos are indexed by the table's own features, standardised: the baseline. The
    statistics come from the table, so new videos need a new index (--force).

    Changes are atomic: readers see the index before or after a change. With --rollback or --verify,
    give only INDEX.

    Args:
        places: the work directory of a run (or an export), a feature table and the index; or only
            table and index.
        step: best (by the run's evaluations), latest, or a number.
        lacking: modalities that the run reads and that none of these videos has.
        engine: exact, or one of faiss's (the extra serve): fast-scan of 4-bit codes, hnsw, ivf.
        keep: store the vectors for exact scores as float32 or int8.
        refresh: embed and add only the videos of the table that the index lacks.
        prune: with refresh, remove videos that the table lacks.
        merge: with refresh, merge all segments afterwards; until then, added videos are searched
            exactly.
        force: replace an existing index; rollback can restore it.
        rollback: restore the version before the last change.
        verify: read the whole index and check every digest.
    """
    progress = Progress()
    if (rollback or verify) and (refresh or prune or merge or force):
        raise ValueError(
            "give --rollback or --verify without what changes the index: --refresh, --prune, "
            "--merge, --force"
        )
    if refresh and force:
        raise ValueError("--refresh updates an index, --force rebuilds it: give one of them")
    if rollback or verify:
        [path] = _places(places, ("INDEX",))
        if rollback:
            progress.say(f"{path}: went back to {len(Index.rollback(path)):,} videos")
        if verify:
            with progress.stage(f"reading {path}"):
                size = Index.open(path).verify()
            progress.say(f"{path}: all {size:,} bytes are unchanged since they were written")
        return
    if (prune or merge) and not refresh:
        raise ValueError("--prune and --merge update an existing index: add --refresh")
    if len(places) == 2 and refresh:
        raise ValueError(
            "without RUN, features are standardised by the table, and --refresh is not possible: "
            "rebuild the index (--force)"
        )
    names = ("TABLE", "INDEX") if len(places) == 2 else ("RUN", "TABLE", "INDEX")
    *run_path, table_path, path = _places(places, names)
    check_apart(path, [*run_path, table_path])
    if run_path and table_state(table_path) != "finished" and reads_clips(run_path[0]):
        raise ValueError(
            f"{table_path} is not a feature table: embed the videos first (vidembed embed "
            f"{run_path[0]} {table_path} TABLE), and index that TABLE"
        )
    with progress.stage(f"reading {' and '.join(places[:-1])}"):
        table = FeatureTable.open(table_path)
        run = load(run_path[0], step) if run_path else features(table)
    absent = dict.fromkeys(lacking, False)
    if refresh:
        made = VideoIndex.open(path, run)
        _refuse_another_kind(path, made.index, engine, keep)
        options: dict[str, Any] = {"present": absent, "progress": progress}
        added, removed = made.refresh(table, prune=prune, merge=merge, **options)
        progress.say(f"{path}: {added:,} videos added, {removed:,} removed, {len(made):,} in all")
    else:
        options = {"engine": engine, "keep": keep, "over": force}
        made = run.index(table, path, **options, present=absent, progress=progress)
        progress.say(f"{path}: {len(made):,} videos, {made.index.dimension} dimensions")
    progress.say(f"space: {made.index.space}; {made.index.sizes()['bytes']:,} bytes on disk")
    with progress.stage("measuring recall"):
        recall = _recall(made.index)
    progress.say(f"recall@{RECALL_AT} against exact search: {recall:.3f}")


def _places(places: tuple[str, ...], names: tuple[str, ...]) -> tuple[str, ...]:
    if len(places) != len(names):
        raise ValueError(f"give {' '.join(names)}, got {' '.join(places) or 'nothing'}")
    return places


def _refuse_another_kind(path: str, index: Index, engine: str, keep: str) -> None:
    """Refuse options that a refresh cannot change; a default value may not have been typed."""
    for option, requested, current, default in (
        ("engine", engine, engine_to_json(index.engine)["name"], "exact"),
        ("keep", keep, index.keep, "float32"),
    ):
        if requested not in (current, default):
            raise ValueError(
                f"{path} has {option} {current}, not {requested}, and --refresh cannot change it: "
                f"rebuild the index (--force), or leave --{option} out"
            )


def _recall(index: Index) -> float:
    ids = index.ids
    queries, _ = index.vectors_of(ids[:: -(-len(ids) // RECALL_QUERIES) or 1])
    return index.recall(queries, RECALL_AT) if len(queries) else 1.0
