"""`python -m vidembed recommend`: recommend videos of an index to users by their histories."""

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
from vidembed.serving.index import Index, RankedVideos
from vidembed.serving.recommending import RecommendOptions, Watched, candidates_of, recommend
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
    """Recommend videos to each user: user_id, rank, video_id and score in OUT.parquet.

    Users are never recommended videos from their own history. Videos that the index lacks, and
    users with no video in it, are left out and counted. OUT is written completely or not at all.

    Args:
        index: made by `python -m vidembed index`.
        out: the Parquet file to write; one made by this command is replaced.
        histories: Parquet or CSV (a file, a folder or a glob) with user_id, video_id and, for half
            lives, timestamp; without timestamps watches are in row order.
        k: recommendations per user.
        user_model: how similarities with the history become a score: their mean, their maximum, the
            mean of the largest, or mean and variance.
        top: with top, how many of the largest similarities to average.
        variance_weight: with variance, its factor before the mean is added.
        half_life_watches: with mean, a video counts half as much as one watched this many watches
            later.
        half_life_seconds: with mean, the same in seconds by the timestamps.
        duplicates_above: leave out candidates whose cosine with a video of the history, or with an
            earlier recommendation, is above this.
        mmr_lambda: maximal marginal relevance: 1 ranks by score only, 0 by diversity only.
        over_fetch: for these two, candidates per recommendation; more if near-duplicates leave too
            few.
        within: a file of ids, one per line: only these are recommended.
        effort: search effort of an engine that is not exact, instead of the stored one.
        memory_limit: memory for the histories; the rest goes to disk, beside OUT.
    """
    if not histories:
        raise ValueError("give --histories FILE with the videos that each user watched")
    if k < 1:
        raise ValueError(f"k is {k}: it must be 1 or more")
    if user_model != "mean" and (half_life_watches or half_life_seconds):
        raise ValueError("half-lives need --user-model mean: give it, or leave them out")
    models: dict[str, UserModel] = {
        "mean": Mean(half_life_watches=half_life_watches, half_life_seconds=half_life_seconds),
        "max": Max(),
        "top": Top(count=top),
        "variance": Variance(weight=variance_weight),
    }
    request = RecommendOptions(
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
        counts = _write(place, opened, users, request, candidates, progress)
    progress.say(
        f"{place}: {counts['rows']:,} recommendations for {counts['users']:,} of {users.users:,} "
        f"users; space: {opened.space}"
    )
    if counts["unknown"]:
        progress.say(
            f"{counts['unknown']:,} of {users.watches:,} watches are of videos not in the index"
        )
    if counts["without"]:
        progress.say(f"{counts['without']:,} users have no video in the index and were left out")
    if counts["fewer"]:
        progress.say(f"{counts['fewer']:,} users have fewer than {k} recommendations")


def _write(
    place: Path,
    index: Index,
    users: UserHistories,
    request: RecommendOptions,
    candidates: np.ndarray | None,
    progress: Progress,
) -> dict[str, int]:
    metadata = {"by": "vidembed recommend", "space": index.space, "asked": repr(request)}
    fields = [pa.field(name, kind, nullable=False) for name, kind in TYPES.items()]
    schema = pa.schema(fields, {METADATA_KEY: json.dumps(metadata).encode()})
    counts, done = dict.fromkeys(("rows", "users", "unknown", "without", "fewer"), 0), 0
    with (
        progress.stage("recommending", users.users, "users") as stage,
        whole_file(place) as unfinished,
        pq.ParquetWriter(unfinished, schema, write_page_checksum=True) as writer,
    ):
        for block in users.blocks():
            watched = Watched(block.videos, block.offsets, block.seconds)
            results, unknown, without = recommend(index, watched, request, candidates=candidates)
            writer.write_table(pa.table(dict(_columns(block.users, results)), schema=schema))
            counts["rows"] += len(results.ids)
            counts["users"] += int((results.counts > 0).sum())
            counts["unknown"] += len(unknown)
            counts["without"] += int(without.sum())
            counts["fewer"] += int(((results.counts < request.k) & ~without).sum())
            done += len(block.users)
            stage.update(done)
    return counts


def _columns(users: np.ndarray, results: RankedVideos) -> Iterator[tuple[str, Any]]:
    ends = np.cumsum(results.counts)
    ranks = 1 + np.arange(len(results.ids)) - np.repeat(ends - results.counts, results.counts)
    yield "user_id", _text(np.repeat(users, results.counts))
    yield "rank", pa.array(ranks.astype(np.int32))
    yield "video_id", _text(results.ids)
    yield "score", pa.array(results.scores)


def _text(ids: np.ndarray) -> pa.Array:
    try:
        return pa.array(ids, pa.binary()).cast(pa.string())
    except pa.ArrowInvalid as error:
        raise ValueError(
            f"an id of the index is not UTF-8 text ({error}): Parquet output needs UTF-8 ids"
        ) from error
