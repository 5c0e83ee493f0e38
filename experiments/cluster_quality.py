"""Do the clusters of the train graph gather videos of a kind? On YouTube-8M's records:

    python -m experiments.cluster_quality --workdir W --records FOLDER --seeds 0 1 2

Each level of the hierarchy is held against human labels by purity (the share of videos that are of
their cluster's most frequent class) and adjusted mutual information (0 for clusters that know
nothing, 1 for the classes themselves). Videos bear several labels, so two readings are given:

label     a video's RAREST label: the one with the fewest videos in the whole table, of equally
          rare ones that with the smaller number.
vertical  the first vertical of that label (Vertical1 of the vocabulary). Videos whose label has
          none there are left out of it, and counted.

Small clusters are pure by themselves, singletons wholly so; AMI corrects for that, and so does the
comparison with k-means and with shuffled videos at the same number of clusters. Train videos
without relations are singletons in every row and are counted as such; all scores are over the
videos with at least one relation.

Whatever the numbers, they are no evidence about real watches: the sessions are SIMULATED, from
these same labels. They tell how well a method finds in a graph what was put there.
"""

import dataclasses
import os
import sys
import time
from collections.abc import Mapping
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from experiments import cdml
from experiments.cluster_table import print_quality, write_quality
from experiments.clusterings import NO_IGRAPH, clusterings, has_igraph, linked_videos
from experiments.points import Point, refuse_seeds
from experiments.running import SAMPLE, Runner
from experiments.shared_labels import shared_labels
from vidembed.cli.command_line import start
from vidembed.corpora.watched import Corpus
from vidembed.distributed.stopping import StopFlag
from vidembed.records.label_names import vocabulary_lines
from vidembed.records.table import FeatureTable
from vidembed.workdir.layout import Workdir
from vidembed.workdir.versions import versions

UNKNOWN = "(Unknown)"
"""What YouTube-8M's vocabulary writes where a label has no vertical."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class ClusterQuality:
    """Purity and adjusted mutual information of the clusters, on simulated sessions."""

    workdir: str
    """Folder for table, sessions, graphs, clusters and the results; what is there is used again."""
    records: str = os.path.relpath(SAMPLE)
    """Video-level TFRecords: a folder, a file or a pattern."""
    vocabulary: str = os.path.relpath(SAMPLE / "vocabulary.csv")
    """Label numbers with their verticals (Index, Vertical1)."""
    seeds: tuple[int, ...] = (0, 1, 2)
    """Each seed makes its own people, sessions and split."""

    def __post_init__(self) -> None:
        refuse_seeds(self.seeds)

    def run(self) -> int:
        """Measures, prints and writes cluster_quality.json and .md."""
        verticals = read_verticals(self.vocabulary)
        folder = Path(self.workdir)
        measured: list[dict[str, Any]] = []
        with StopFlag() as stop, Workdir(folder).lease(of_run=False), stop.raising():
            runner = Runner(folder, stop, records=self.records)
            for seed in self.seeds:
                world = Point(folder=folder, name="", varied=cdml.recipe, seed=seed)
                corpus = runner.corpus(world)
                with runner.progress.stage(f"{world.world}/cluster quality"):
                    measured.append(quality(corpus, verticals, seed=seed))
            result = {
                "simulated_sessions": any(one["simulated_sessions"] for one in measured),
                "records": self.records,
                "left_out": [] if has_igraph() else [NO_IGRAPH],
                "seeds": dict(zip(map(str, self.seeds), measured)),
                "versions": versions() | _peers(),
            }
            print_quality(result)
            for file in write_quality(result, folder):
                runner.progress.say(f"wrote {file}")
        return 0


def quality(corpus: Corpus, verticals: Mapping[int, str], *, seed: int) -> dict[str, Any]:
    """Of one world: counts of videos, and `rows`, name → counts and scores of a clustering.

    A row has `clusters` of all train videos, those without relations being alone; `linked_clusters`
    of the others; `largest`; `singletons`, the share of the train videos that are alone; `seconds`;
    and for `label` and `vertical` each `purity` and `ami` over the videos with relations.
    `shared_labels`: how many pairs of each kind share a label, GCML's negatives among them.
    """
    if corpus.hierarchy is None:
        raise ValueError("there are no clusters to measure: give a corpus with a hierarchy")
    videos, train = linked_videos(corpus), int(corpus.is_train.sum())
    rarest = rarest_labels(corpus.table)
    truths = {"label": rarest, "vertical": verticals_of(rarest, verticals)}
    known = {name: truth[videos] for name, truth in truths.items()}
    isolated, rows = train - len(videos), {}
    began = time.monotonic()
    for name, cluster in clusterings(corpus, corpus.hierarchy, seed=seed):
        seconds = time.monotonic() - began
        sizes = np.unique(cluster, return_counts=True)[1]
        rows[name] = {
            "clusters": len(sizes) + isolated,
            "linked_clusters": len(sizes),
            "largest": int(sizes.max()),
            "singletons": (int(np.sum(sizes == 1)) + isolated) / train,
            "seconds": seconds,
            **{name: agreement(cluster, truth) for name, truth in known.items()},
        }
        began = time.monotonic()
    return {
        "simulated_sessions": corpus.simulated,
        "fingerprints": {"corpus": corpus.rows, "hierarchy": corpus.hierarchy.fingerprint},
        "train_videos": train,
        "linked_videos": len(videos),
        "without": {name: int(np.sum(truth < 0)) for name, truth in known.items()},
        "classes": {name: len(np.unique(truth[truth >= 0])) for name, truth in known.items()},
        "rows": rows,
        "shared_labels": shared_labels(corpus, seed=seed),
    }


def agreement(cluster: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    """Purity and adjusted mutual information of clusters i64[V] with classes i64[V].

    Videos whose class is negative have none, and are left out. AMI is scikit-learn's, with the
    arithmetic mean of the two entropies.
    """
    from sklearn.metrics import adjusted_mutual_info_score
    from sklearn.metrics.cluster import contingency_matrix

    cluster, truth = cluster[truth >= 0], truth[truth >= 0]
    if not len(truth):
        raise ValueError("no video with a relation has a class: give the records' own vocabulary")
    most = contingency_matrix(truth, cluster, sparse=True).max(axis=0).sum()
    ami = float(adjusted_mutual_info_score(truth, cluster))
    return {"purity": float(most / len(truth)), "ami": ami}


def rarest_labels(table: FeatureTable) -> np.ndarray:
    """Of each video the label that the fewest videos bear, i64[N]; -1 for one without labels."""
    values = table.label_values.astype(np.int64)
    bearers = np.bincount(values)[values]
    rows = np.repeat(np.arange(len(table)), np.diff(table.label_offsets))
    order = np.lexsort((values, bearers, rows))
    videos, first = np.unique(rows[order], return_index=True)
    found = np.full(len(table), -1, np.int64)
    found[videos] = values[order][first]
    return found


def verticals_of(labels: np.ndarray, verticals: Mapping[int, str]) -> np.ndarray:
    """The vertical of each label i64[N] as a number, i64[N]; -1 for none."""
    numbers = {name: number for number, name in enumerate(sorted(set(verticals.values())))}
    return np.array([numbers.get(verticals.get(i, ""), -1) for i in labels.tolist()], np.int64)


def read_verticals(path: str) -> dict[int, str]:
    """Label number → its first vertical, where the vocabulary (Index, Vertical1) knows one."""
    lines = vocabulary_lines(path, "Vertical1").items()
    verticals = {label: line["Vertical1"] for label, line in lines}
    return {label: name for label, name in verticals.items() if name and name != UNKNOWN}


def _peers() -> dict[str, str]:
    names = ["scikit-learn", *(["igraph"] if has_igraph() else [])]
    return {name: metadata.version(name) for name in names}


main = partial(start, ClusterQuality, prog="python -m experiments.cluster_quality")

if __name__ == "__main__":
    sys.exit(main())
