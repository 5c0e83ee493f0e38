"""The feed of triplets at paper scale: `python -m experiments.benchmarks.feed`.

Batches of 7,200 triplets with their forbidden pairs, on synthetic graphs of a million videos and
12.5 million edges: "even" has degrees near 25; in "hubs" they go as rank^-0.5, up to tens
of thousands, and an anchor has about a hundred. Sibling negatives come from affinity clusters of
the "even" graph. A batch of row numbers is measured against 2 ms, an accelerator's step; a gather
on the host against the copy of as many contiguous bytes of the same table in the same run. Every
time is one batch's, the mean of a round of batches, best of a few rounds. About a minute, and 3 GB.
The peer is PyTorch's DataLoader, where torch is installed (`pip install -e '.[bench]'`).
"""

import importlib.util
import itertools
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np

from experiments.benchmarks.bench import Row, measured, report
from experiments.benchmarks.step import synthetic_features
from vidembed.feeds.negatives import SiblingNegatives
from vidembed.feeds.triplets import TripletFeed, Triplets
from vidembed.feeds.videos import Placement
from vidembed.graph.affinity import affinity_clusters
from vidembed.graph.hierarchy import Hierarchy
from vidembed.graph.relation import RelationGraph
from vidembed.records.table import FeatureTable

VIDEOS, EDGES, TRIPLETS = 1_000_000, 12_500_000, 7_200
BATCHES, ROUNDS, PEER_WORKERS = 50, 6, 2
STEP_SECONDS = 0.002


def main(*, videos: int = VIDEOS, edges: int = EDGES, triplets: int = TRIPLETS) -> None:
    """Measure all cases and report them; smaller numbers are for trying the benchmark itself."""
    rng = np.random.default_rng(0)
    table = synthetic_table(videos)
    even = synthetic_graph(rng, videos, edges, tail=0.0)
    copy, gathers = host_gathers(table, triplets)
    rows = [
        *made_by_at(table, even, triplets, "even"),
        *sibling_negatives(table, even, triplets),
        scipy_masks(table, even, triplets),
        through_grain(table, even, triplets, "device", STEP_SECONDS),
        *gathers,
        through_grain(table, even, triplets, "host", copy),
    ]
    if importlib.util.find_spec("torch"):
        rows += data_loader_rows(table, even, triplets, copy_seconds=copy)
    hubs = synthetic_graph(rng, videos, edges, tail=0.5)
    rows += made_by_at(table, hubs, triplets, "hubs")
    report("feed", rows)


def synthetic_table(videos: int) -> FeatureTable:
    """Random uint8 features of YouTube-8M's widths, 1,152 bytes a video."""
    return FeatureTable(
        ids=np.char.mod("%08d", np.arange(videos)).astype("S8"),
        features=synthetic_features(videos),
        label_offsets=np.zeros(videos + 1, np.int64),
        label_values=np.zeros(0, np.int32),
    )


def synthetic_graph(
    rng: np.random.Generator, videos: int, edges: int, *, tail: float
) -> RelationGraph:
    """Random edges whose ends are drawn in proportion to rank^-tail, ranks in random order."""
    place = rng.permutation(videos)
    ends = [(videos * rng.random(edges) ** (1 / (1 - tail))).astype(np.int64) for _ in range(2)]
    source, target = place[ends[0]], place[ends[1]]
    real = source != target
    weight = rng.integers(1, 50, edges, np.int32)[real]
    return RelationGraph.from_edges(source[real], target[real], weight, nodes=videos)


def open_feed(
    table: FeatureTable,
    graph: RelationGraph,
    triplets: int,
    *,
    hierarchy: Hierarchy | None = None,
    **options: Any,
) -> TripletFeed:
    """The feed over all videos of a graph, with its hierarchy where there is one."""
    videos = SimpleNamespace(
        table=table,
        train_graph=graph,
        train_relations=graph,
        is_train=np.ones(len(table), bool),
        hierarchy=hierarchy,
    )
    return Triplets(batch_triplets=triplets, **options).open(videos, seed=0)


def row_of(case: str, work: Callable[[int], Any], limit_seconds: float, note: str = "") -> Row:
    """Seconds of one call of `work`, which is given a different step each time."""
    steps = itertools.count()
    work(next(steps))  # the first call of a thread makes its scratch

    def round_of_batches() -> None:
        for step in itertools.islice(steps, BATCHES):
            work(step)

    row = measured(case, round_of_batches, limit_seconds, repeats=ROUNDS, note=note)
    return replace(row, seconds=row.seconds / BATCHES)


def made_by_at(
    table: FeatureTable, graph: RelationGraph, triplets: int, name: str
) -> Iterator[Row]:
    """A batch of row numbers with its forbidden pairs, made by one call on one core."""
    for sampling in ("uniform", "weight"):
        feed = open_feed(table, graph, triplets, sampling=sampling)
        note = f"P {feed.capacities.ordinary:,} of {feed.capacities.large:,}; limit: a 2 ms step"
        yield row_of(f"at, {name}, {sampling}", feed.at, STEP_SECONDS, note)


def sibling_negatives(table: FeatureTable, graph: RelationGraph, triplets: int) -> Iterator[Row]:
    """The same of GCML's triplets, at both levels of three rounds of affinity clustering."""
    hierarchy = affinity_clusters(graph, np.ones(len(table), bool), rounds=3)
    for level in (0, 1):
        negatives = SiblingNegatives(level=level)
        began = time.perf_counter()
        feed = open_feed(
            table, graph, triplets, hierarchy=hierarchy, anchors="videos", negatives=negatives
        )
        note = f"P {feed.capacities.ordinary:,}; opened in {time.perf_counter() - began:.1f} s"
        yield row_of(f"at, even, siblings at level {level}", feed.at, STEP_SECONDS, note)


def scipy_masks(table: FeatureTable, graph: RelationGraph, triplets: int) -> Row:
    """The peer: the forbidden pairs alone, by indexing a sparse matrix with the batch's videos."""
    feed, matrix = open_feed(table, graph, triplets), graph.matrix()
    batches = [feed.at(step)["rows"] for step in range(BATCHES)]

    def pairs(step: int) -> None:
        rows = batches[step % BATCHES]
        matrix[rows[2]][:, np.unique(rows)]

    return row_of("peer: pairs alone by scipy.sparse", pairs, STEP_SECONDS)


def through_grain(
    table: FeatureTable, graph: RelationGraph, triplets: int, placement: Placement, limit: float
) -> Row:
    """The rate of the pipeline, whose consumer does nothing."""
    feed = open_feed(table, graph, triplets, placement=placement)
    batches = feed.batches(0, 10**9)
    case = f"batches, {placement}, {feed.config.read_threads} threads"
    row = row_of(case, lambda step: next(batches), limit, "the consumer takes them at once")
    batches.close()
    return row


def host_gathers(table: FeatureTable, triplets: int) -> tuple[float, list[Row]]:
    """Seconds to copy a batch's bytes, and rows of gathering them.

    One large copy bypasses the cache as it writes, which row after row of 1 kB cannot, even where
    the rows are neighbours ("in order").
    """
    rng = np.random.default_rng(1)
    anywhere = rng.integers(0, len(table), (BATCHES, 3, triplets))
    out = {name: np.empty((3, triplets, width), np.uint8) for name, width in table.widths.items()}
    pieces = len(table) // (3 * triplets)
    in_order = np.arange(pieces * 3 * triplets).reshape(pieces, 3, triplets)

    def copy(step: int) -> None:
        begin = step % pieces * 3 * triplets
        for name, stored in table.features.items():
            np.copyto(out[name].reshape(3 * triplets, -1), stored[begin : begin + 3 * triplets])

    limit = row_of("copy", copy, 1.0).seconds
    note = f"limit: copying the same {3 * triplets * sum(table.widths.values()) / 1e6:.0f} MB"

    def gather(case: str, rows: np.ndarray) -> Row:
        return row_of(case, lambda step: table.rows(rows[step % len(rows)], out=out), limit, note)

    return limit, [
        gather("host gather of rows in order", in_order),
        gather("host gather", anywhere),
    ]


class TripletBatches:
    """What the peer loads, made to be quick: item k is a whole batch, rows i64[3, B] of edges of
    the graph, and where wanted their features u8[3, B, F]; no forbidden pairs are made."""

    def __init__(
        self, table: FeatureTable, graph: RelationGraph, triplets: int, *, gathered: bool
    ) -> None:
        self.table, self.triplets, self.gathered = table, triplets, gathered
        self.anchors, self.neighbours = graph.rows(), graph.neighbours

    def __len__(self) -> int:
        return 10**6

    def __getitem__(self, step: int) -> dict[str, Any]:
        random = np.random.default_rng([0, step])
        edges = random.integers(0, len(self.neighbours), self.triplets)
        negatives = random.integers(0, len(self.table), self.triplets)
        rows = np.stack([negatives, self.neighbours[edges], self.anchors[edges]])
        return {"rows": rows} | (self.table.rows(rows) if self.gathered else {})


def data_loader_rows(
    table: FeatureTable, graph: RelationGraph, triplets: int, *, copy_seconds: float
) -> Iterator[Row]:
    """The rate at which a consumer that does nothing gets row numbers, and gathered rows."""
    from torch.utils.data import DataLoader

    for gathered, limit in ((False, STEP_SECONDS), (True, copy_seconds)):
        batches: Any = TripletBatches(table, graph, triplets, gathered=gathered)
        loader = iter(DataLoader(batches, batch_size=None, num_workers=PEER_WORKERS))

        def take(step: int, loader: Iterator[Any] = loader) -> Any:
            return next(loader)

        what = "host" if gathered else "row numbers"
        note = f"{PEER_WORKERS} worker processes; no forbidden pairs"
        yield row_of(f"peer: DataLoader, {what}", take, limit, note)


if __name__ == "__main__":
    main()
