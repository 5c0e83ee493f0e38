"""`python -m vidembed recommend`: what an index recommends to many users, by their histories."""

import json
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import tyro

from vidembed.files import remove_unfinished, whole_file
from vidembed.progress import Progress
from vidembed.records.numpy_rows import read_ids
from vidembed.records.outputs import RECOMMENDATIONS
from vidembed.records.tabular import METADATA_KEY
from vidembed.serving.choosing import Choosing
from vidembed.serving.index import Found, Index
from vidembed.serving.recommending import Asked, Watched, candidates_of, recommend
from vidembed.serving.user_models import Max, Mean, Top, UserModel, Variance
from vidembed.sessions.histories import UserHistories, user_histories

ModelName = Literal["mean", "max", "top", "variance"]
TYPES = {
    "user_id": pa.string(),
    "rank": pa.int32(),
    "video_id": pa.string(),
    "score": pa.float32(),
}


def main(
    index: Annotated[str, tyro.conf.arg(metavar="INDEX")],
    out: Annotated[str, tyro.conf.arg(metavar="OUT.parquet")],
    *,
    histories: str = "",
    k: Annotated[int, tyro.conf.arg(aliases=["-k"])] = 10,
    user_model: ModelName = "mean",
    top: int = Top.count,
    variance_weight: float = Variance.weight,
    half_life_watches: float | None = None,
    half_life_seconds: float | None = None,
    duplicates_above: float | None = None,
    mmr_lambda: float | None = None,
    over_fetch: int = Choosing.over_fetch,
    within: str = "",
    effort: int | None = None,
    memory_limit: str = "2GB",
) -> None:
    """What an index recommends to each user: user_id, rank, video_id, score, to OUT.parquet.

    No user is recommended what its history holds. Videos that the index lacks and users of whom it
    has no video are left out, and counted. OUT is there whole or not at all.

    Args:
        index: made by `python -m vidembed index`.
        out: the Parquet file to write; one that this command made is replaced.
        histories: Parquet or CSV (a file, a folder or a glob) with user_id, video_id and, where
            videos are to be forgotten, timestamp; without it watches are in the order of the rows.
        k: recommendations of each user.
        user_model: how similarities with the history make a score: their mean, their maximum, the
            mean of the largest, or mean and variance.
        top: with top, how many of the largest.
        variance_weight: with variance, what it is multiplied by before the mean is added.
        half_life_watches: with mean, a video counts half as much as one watched so many later.
        half_life_seconds: with mean, the same by the timestamps.
        duplicates_above: leave out candidates whose cosine with one of the history, or with one
            recommended before them, is above this.
        mmr_lambda: maximal marginal relevance: 1 is by score alone, 0 by diversity alone.
        over_fetch: for these two, candidates for each recommendation; more where near-duplicates
            leave too few.
        within: a file of ids, one a line: no others are recommended.
        effort: of an engine that is not exact, instead of its own.
        memory_limit: what is held of the histories in memory; the rest goes to disk, beside OUT.
    """
    if not histories:
        raise ValueError("give --histories FILE: who watched what")
    if k < 1:
        raise ValueError(f"k is {k}: ask for one recommendation or more")
    if user_model != "mean" and (half_life_watches or half_life_seconds):
        raise ValueError("half-lives are of the mean: leave them out, or give --user-model mean")
    models: dict[str, UserModel] = {
        "mean": Mean(half_life_watches=half_life_watches, half_life_seconds=half_life_seconds),
        "max": Max(),
        "top": Top(count=top),
        "variance": Variance(weight=variance_weight),
    }
    asked = Asked(
        k=k,
        model=models[user_model],
        choosing=Choosing(
            duplicates_above=duplicates_above, mmr_lambda=mmr_lambda, over_fetch=over_fetch
        ),
        effort=effort,
    )
    place, progress = RECOMMENDATIONS.check(out, [index, histories, within]), Progress()
    opened = Index.open(index)
    names = [name for name in read_ids(within) if name] if within else None
    candidates = candidates_of(opened, names)
    forgets = bool(half_life_watches or half_life_seconds)
    reading = user_histories(
        histories,
        beside=place,
        timed=forgets,
        needs_times=bool(half_life_seconds),
        memory_limit=memory_limit,
    )
    remove_unfinished(place.parent)  # what a killed process left
    with ExitStack() as stack:
        with progress.stage(f"reading {histories}"):
            users = stack.enter_context(reading)
        counts = _write(place, opened, users, asked, candidates, progress)
    progress.say(
        f"{place}: {counts['rows']:,} recommendations for {counts['users']:,} of {users.users:,} "
        f"users; space: {opened.space}"
    )
    if counts["unknown"]:
        progress.say(
            f"{counts['unknown']:,} of {users.watches:,} watches are of videos that the index lacks"
        )
    if counts["without"]:
        progress.say(
            f"{counts['without']:,} users have no video that the index has, and were left out"
        )
    if counts["fewer"]:
        progress.say(f"{counts['fewer']:,} users have fewer than {k} recommendations")


def _write(
    place: Path,
    index: Index,
    users: UserHistories,
    asked: Asked,
    candidates: np.ndarray | None,
    progress: Progress,
) -> dict[str, int]:
    said = {"by": "vidembed recommend", "space": index.space, "asked": repr(asked)}
    fields = [pa.field(name, kind, nullable=False) for name, kind in TYPES.items()]
    schema = pa.schema(fields, {METADATA_KEY: json.dumps(said).encode()})
    counts, done = dict.fromkeys(("rows", "users", "unknown", "without", "fewer"), 0), 0
    with (
        progress.stage("recommending", users.users, "users") as stage,
        whole_file(place) as unfinished,
        pq.ParquetWriter(unfinished, schema, write_page_checksum=True) as writer,
    ):
        for block in users.blocks():
            watched = Watched(block.videos, block.offsets, block.seconds)
            found, unknown, without = recommend(index, watched, asked, candidates=candidates)
            writer.write_table(pa.table(dict(_columns(block.users, found)), schema=schema))
            counts["rows"] += len(found.ids)
            counts["users"] += int((found.counts > 0).sum())
            counts["unknown"] += len(unknown)
            counts["without"] += int(without.sum())
            counts["fewer"] += int(((found.counts < asked.k) & ~without).sum())
            done += len(block.users)
            stage.update(done)
    return counts


def _columns(users: np.ndarray, found: Found) -> Iterator[tuple[str, Any]]:
    ends = np.cumsum(found.counts)
    ranks = 1 + np.arange(len(found.ids)) - np.repeat(ends - found.counts, found.counts)
    yield "user_id", _text(np.repeat(users, found.counts))
    yield "rank", pa.array(ranks.astype(np.int32))
    yield "video_id", _text(found.ids)
    yield "score", pa.array(found.scores)


def _text(ids: np.ndarray) -> pa.Array:
    try:
        return pa.array(ids, pa.binary()).cast(pa.string())
    except pa.ArrowInvalid as error:
        raise ValueError(f"an id of the index is no UTF-8 text ({error})") from error
