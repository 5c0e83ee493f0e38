"""`python -m vidembed search`: what an index finds for videos, records, or a history."""

from collections.abc import Iterable
from typing import Annotated

import numpy as np
import tyro

from vidembed.deploy.index import VideoIndex
from vidembed.deploy.loading import load
from vidembed.deploy.videos import videos_to_embed
from vidembed.records.importing import Importing
from vidembed.records.numpy_rows import read_ids
from vidembed.serving import given
from vidembed.serving.index import Found


def main(
    index: Annotated[str, tyro.conf.arg(metavar="INDEX")],
    *,
    id: tuple[str, ...] = (),
    history: tuple[str, ...] = (),
    record: str = "",
    run: str = "",
    step: str = "best",
    k: Annotated[int, tyro.conf.arg(aliases=["-k"])] = 10,
    within: str = "",
    records: Annotated[Importing, tyro.conf.arg(name="")] = Importing(),
) -> None:
    """What an index finds: query, rank, video and score, a line each, separated by tabs.

    Within an id, tabs and line ends are printed as \\t, \\n and \\r, bytes that are no text as
    \\xff.

    Args:
        index: made by `python -m vidembed index`.
        id: videos of the index, each a query of its own, which does not find itself. One whose id
            begins with a dash: --id=-x
        history: videos that one person watched: what is near to the mean of them, but none of them.
        record: a feature table, TFRecords, Parquet or .npy files whose videos are searched by;
            needs run. The options of records are those of `embed`.
        run: the run that the index was made with; for record alone.
        step: of the run: best, latest, or a number.
        k: how many are found of each query.
        within: a file of ids, one a line: no others are found.
    """
    if [bool(id), bool(history), bool(record)].count(True) != 1 or bool(record) != bool(run):
        raise ValueError("give one of --id, --history and --record, and --run with --record alone")
    allowed = [name for name in read_ids(within) if name] if within else None
    opened = VideoIndex.open(index, load(run, step) if run else None)
    if history:
        ids, scores = opened.recommend(history, k, within=allowed)
        _print(Found(ids, scores, np.array([len(ids)])), ["history"])
    elif id:
        _print(opened.search(ids=id, k=k, within=allowed), map(_shown, given.names(id).tolist()))
    else:
        for videos in videos_to_embed(record, records).blocks():
            found = opened.search(videos, k, within=allowed)
            _print(found, map(_shown, videos.ids.tolist()))


def _shown(name: bytes) -> str:
    """An id such that a line stays one line of four columns."""
    text = name.decode(errors="backslashreplace")
    return text.translate({ord("\t"): r"\t", ord("\n"): r"\n", ord("\r"): r"\r"})


def _print(found: Found, queries: Iterable[str]) -> None:
    for query, (ids, scores) in zip(queries, found.each()):
        for rank, (name, score) in enumerate(zip(ids.tolist(), scores.tolist()), 1):
            print(f"{query}\t{rank}\t{_shown(name)}\t{score:.4f}")
