"""Simulate watch sessions from the human labels of real videos, for data sets without sessions.

The rules are fixed and are never tuned on a model's score. There are two people per video. Each
person has three different interests: labels of at least three videos, drawn in proportion to
count^0.5 (so rarer labels get more than their share). A video's popularity is Pareto(1.5) + 0.1.
A person has one session per interest: six watches drawn by popularity among the label's videos,
each replaced with probability 0.05 by any video, drawn by popularity. Features are not used.
"""

import json
import os
from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from rich.console import Console

from vidembed.files import local_path, whole_file
from vidembed.records.checks import not_utf8
from vidembed.records.outputs import SESSIONS
from vidembed.records.table import FeatureTable
from vidembed.records.tabular import METADATA_KEY

PARAMETERS: Mapping[str, Any] = {
    "people_per_video": 2,
    "interests_per_person": 3,
    "videos_per_label_at_least": 3,
    "interest_exponent": 0.5,
    "popularity": "pareto(1.5) + 0.1",
    "watches_per_session": 6,
    "stray_probability": 0.05,
}
FIRST_DAY = np.datetime64("2026-01-01T00:00:00", "s")
SECONDS_BETWEEN_WATCHES = 240
SESSIONS_WITHIN_SECONDS = 28 * 24 * 3600


def simulate(
    ids: np.ndarray, label_offsets: np.ndarray, label_values: np.ndarray, *, seed: int
) -> pa.Table:
    """Simulate watch sessions over the videos `ids` S[N] by the rules above.

    Video i has the labels `label_values[label_offsets[i]:label_offsets[i + 1]]`, from label_offsets
    i64[N+1] and label_values i32[L]. Returns `session_id i64, timestamp (UTC, ms), video_id` of
    2·N people × 3 sessions × 6 watches, session by session. The schema metadata marks them as
    simulated, with seed and parameters. Equal input and seed give equal sessions. Raises ValueError
    if fewer than three labels have at least three videos each.
    """
    rng = np.random.default_rng(seed)
    videos = len(ids)
    if len(label_offsets) != videos + 1:
        raise ValueError(
            f"{videos} ids need {videos + 1} label offsets, found {len(label_offsets)}"
        )
    starts, labelled, weights = _labels(label_offsets, label_values)
    popularity = rng.pareto(1.5, videos) + 0.1
    interests = _interests(rng, weights, PARAMETERS["people_per_video"] * videos)

    label = interests.reshape(-1, 1)
    shape = (len(label), PARAMETERS["watches_per_session"])
    watched = labelled[_places(popularity[labelled], starts, label, rng.random(shape))]

    stray = rng.random(shape) < PARAMETERS["stray_probability"]
    cumulative = np.cumsum(popularity)
    strays = np.searchsorted(
        cumulative, rng.random(int(stray.sum())) * cumulative[-1], side="right"
    )
    watched[stray] = np.minimum(strays, videos - 1)

    began = rng.integers(0, SESSIONS_WITHIN_SECONDS, len(label))
    seconds = began[:, None] + SECONDS_BETWEEN_WATCHES * np.arange(shape[1])
    mark = {"simulated": True, "seed": seed, "permuted": False, "parameters": dict(PARAMETERS)}
    stamp = pa.array(FIRST_DAY + seconds.ravel().astype("timedelta64[s]"))
    columns = {
        "session_id": np.repeat(np.arange(len(label)), shape[1]),
        "timestamp": stamp.cast(pa.timestamp("ms", "UTC")),
        "video_id": pa.array(ids).cast(pa.string()).take(pa.array(watched.ravel())),
    }
    return pa.table(columns, metadata={METADATA_KEY: json.dumps(mark)})


def permute_ids(sessions: pa.Table, *, seed: int) -> pa.Table:
    """Permute the video ids of simulated `sessions`: the control in which content says nothing.

    One permutation is applied to all sessions. Graph, degrees and popularity keep their shape, but
    each video's place is random, so content cannot predict it. The metadata records the seed.
    """
    stored = (sessions.schema.metadata or {}).get(METADATA_KEY)
    if stored is None:
        raise ValueError(
            "these sessions are not marked as simulated, and only simulated ones are permuted: "
            "make them with simulate"
        )
    coded = sessions["video_id"].combine_chunks().dictionary_encode()
    order = np.random.default_rng(seed).permutation(len(coded.dictionary))
    permuted = coded.dictionary.take(pa.array(order)).take(coded.indices)
    mark = {**json.loads(stored), "permuted": True, "permutation_seed": seed}
    column = sessions.schema.get_field_index("video_id")
    table = sessions.set_column(column, sessions.schema.field(column), permuted)
    return table.replace_schema_metadata({METADATA_KEY: json.dumps(mark)})


def write_sessions(sessions: pa.Table, path: str | os.PathLike[str]) -> None:
    """Write sessions with their metadata as Parquet; the file appears whole or not at all.

    Raises ValueError for a path that is not on a local disk.
    """
    with whole_file(local_path(path)) as unfinished:
        pq.write_table(sessions, unfinished)


def main(table: str, sessions: str, *, seed: int = 0, permute: bool = False) -> None:
    """Simulate watch sessions from the labels of a feature table.

    Args:
        table: the imported feature table.
        sessions: the Parquet file to write.
        seed: random seed for simulated users, interests and popularity.
        permute: shuffle the video ids: the control in which content says nothing.
    """
    sessions = str(SESSIONS.check(sessions, [table]))  # before anything is read
    videos = FeatureTable.open(table)
    if bad := list(not_utf8(videos.ids)):
        raise ValueError(
            f"{table}: {len(bad):,} ids are not UTF-8, first {bad[0]}, and ids in session files "
            "are text: give these videos UTF-8 ids and import them again"
        )
    simulated = simulate(videos.ids, videos.label_offsets, videos.label_values, seed=seed)
    simulated = permute_ids(simulated, seed=seed) if permute else simulated
    write_sessions(simulated, sessions)
    Console(highlight=False, soft_wrap=True).print(
        f"{len(simulated):,} SIMULATED watches of {len(videos):,} videos in "
        f"{len(simulated) // PARAMETERS['watches_per_session']:,} sessions (seed {seed}"
        f"{', video ids permuted' if permute else ''}) written to {sessions}",
        markup=False,
    )


def _labels(offsets: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The C labels with enough videos: starts i64[C+1] in labelled i64[.], weights f64[C]."""
    rows = np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))
    # A label given twice to a video counts once.
    label_rows = np.unique(np.stack([values.astype(np.int64), rows]), axis=1)
    labels, counts = np.unique(label_rows[0], return_counts=True)
    enough = counts >= PARAMETERS["videos_per_label_at_least"]
    if not len(labels):
        raise ValueError(
            "the table has no labels, from which sessions are simulated: use your own sessions "
            "(`vidembed cowatch SESSIONS EDGES`)"
        )
    if enough.sum() < PARAMETERS["interests_per_person"]:
        raise ValueError(
            f"only {int(enough.sum())} of {len(labels)} labels have at least "
            f"{PARAMETERS['videos_per_label_at_least']} videos, and each simulated person needs "
            f"{PARAMETERS['interests_per_person']} such labels: simulate over more labelled videos"
        )
    labelled = label_rows[1][np.repeat(enough, counts)]
    starts = np.concatenate([[0], np.cumsum(counts[enough])])
    return starts, labelled, counts[enough] ** PARAMETERS["interest_exponent"]


def _interests(rng: np.random.Generator, weights: np.ndarray, people: int) -> np.ndarray:
    """Different labels for each person, drawn one after the other by weight: i64[people, 3]."""
    total = np.cumsum(weights)
    chosen = np.full((people, PARAMETERS["interests_per_person"]), -1)
    for turn in range(chosen.shape[1]):
        undecided = np.arange(people)
        while len(undecided):
            draw = np.searchsorted(total, rng.random(len(undecided)) * total[-1], side="right")
            draw = np.minimum(draw, len(total) - 1)
            taken = (chosen[undecided, :turn] == draw[:, None]).any(axis=1)
            chosen[undecided, turn] = draw
            undecided = undecided[taken]
    return chosen


def _places(
    weights: np.ndarray, starts: np.ndarray, label: np.ndarray, share: np.ndarray
) -> np.ndarray:
    """Draw positions by weights f64[.] within each label's range, from uniform shares in [0, 1).

    A draw within a label is a uniform draw on its interval of the cumulative sum of all weights.
    """
    ends = np.concatenate([[0.0], np.cumsum(weights)])
    low, high = ends[starts[:-1]], ends[starts[1:]]
    point = low[label] + share * (high - low)[label]
    place = np.searchsorted(ends, point, side="right") - 1
    # Rounding may move a point to the end of its interval, which is the next label's first video.
    return np.minimum(place, starts[label + 1] - 1)
