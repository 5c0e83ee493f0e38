"""CDML on co-liked movies: edges from ratings, ordinary work directories, vectors of all movies.

W/table, W/groups.csv             all movies; those that share a trailer share a group
W/WORLD/edges.parquet             movies that the same training users liked
W/WORLD/NAME/                     a run as any other: `show`, `evaluate`, `vidembed.load`
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from experiments import cdml
from experiments.sweep import varied
from vidembed import files
from vidembed.corpora.co_likes import LEAST as LEAST_CO_LIKES
from vidembed.corpora.co_likes import Weight as Weight
from vidembed.corpora.co_likes import co_likes as co_likes
from vidembed.corpora.ratings import Ratings
from vidembed.corpora.watched import Corpus, CorpusPaths
from vidembed.distributed.stopping import StopFlag, StoppedError
from vidembed.engine.evaluation import Evaluation
from vidembed.engine.model import load_model
from vidembed.engine.recipe import Recipe, Retention
from vidembed.engine.train import train
from vidembed.evaluators.related_videos import RelatedVideos
from vidembed.models.fusion import EarlyFusion, Layers
from vidembed.progress import Progress
from vidembed.workdir.layout import Workdir

SETS: Mapping[str, Sequence[str]] = {
    "audio": ("audio",),
    "visual": ("visual",),
    "trailers": ("audio", "visual"),
    "genres": ("genres",),
    "tags": ("tags",),
    "text": ("text",),
    "trailers+genres": ("audio", "visual", "genres"),
    "trailers+text": ("audio", "visual", "text"),
    "trailers+genres+text": ("audio", "visual", "genres", "text"),
    "genres+tags": ("genres", "tags"),
}
"""Name of a set of features → its modalities. `tags` are words of users, `text` an overview,
keywords and tags: named, since neither is content of a trailer."""
HELD_OUT = {"cold": 0.3}
"""Share of the movies that are not trained on; elsewhere `OTHERS`, for `evaluate` to measure."""
OTHERS = 0.1


def recipe(steps: int, triplets: int) -> Recipe:
    """CDML at the size of 1,807 movies: all modalities side by side, a linear map to 64 dimensions.

    A hidden layer learns the train movies by heart: AUC of cold trailers .611 with 256 units, .639
    without, on a seed (9) that no table uses.
    """
    return varied(
        cdml.recipe,
        task={"model": EarlyFusion(layers=Layers(hidden=(), size=64, input_dropout=0.5))},
        feed={"batch_triplets": triplets},
        checkpoints=Retention(every_steps=10_000, keep_last=1),
        steps=steps,
        log_every=20,
    )


@dataclass(frozen=True, kw_only=True)
class World:
    """What is known to train on: some ratings of some users, and some of the movies.

    kind: `cold`, or another table's name; the seed draws users, ratings and movies.
    """

    folder: Path
    kind: str
    seed: int
    base: Recipe
    weight: Weight = "cosine"

    def __str__(self) -> str:
        return f"{self.kind}/seed{self.seed}"

    @property
    def paths(self) -> CorpusPaths:
        """Movies are split by their groups."""
        return CorpusPaths(
            table=str(self.folder / "table"),
            edges=str(self.folder / str(self) / "edges.parquet"),
            split=str(self.folder / "groups.csv"),
            split_seed=self.seed,
            train_share=1 - HELD_OUT.get(self.kind, OTHERS),
        )

    def open(self, likes: Ratings) -> Corpus:
        """The corpus, with edges of these likes: those of cold movies are what `evaluate` asks
        for, and are not trained on."""
        edges, path = co_likes(likes, self.weight), Path(self.paths.edges)
        if not len(edges):
            raise ValueError(
                f"{self}: no two movies are liked by {LEAST_CO_LIKES} users: give more ratings"
            )
        if not path.exists() or not pq.read_table(path).equals(edges):
            path.parent.mkdir(parents=True, exist_ok=True)
            files.write_bytes(path, _parquet(edges))
        return self.paths.open()

    def run(self, name: str) -> Workdir:
        """The work directory of a training."""
        return Workdir(self.folder / str(self) / name)

    def trained(self, name: str, corpus: Corpus, stop: StopFlag, progress: Progress) -> np.ndarray:
        """Vectors f32[N, D] of all movies by a training on this set of features; what is trained
        before is read."""
        task: Any = self.base.task
        model = replace(task.model, modalities=tuple(SETS[name]))
        of = replace(varied(self.base, task={"model": model}), corpus=self.paths, seed=self.seed)
        run = self.run(name)
        with run.lease() as lease:
            last = train(
                of, run, lease=lease, stop=stop, corpus=corpus, progress=progress,
                evaluation=_evaluation(self.seed),
            )  # fmt: skip
        if last < of.steps:
            raise StoppedError(f"{run} stopped at step {last}")
        vectors: np.ndarray = load_model(run, str(of.steps), outputs=("video",))["video"](
            corpus.table
        )
        return vectors


def _evaluation(seed: int) -> Evaluation:
    """What `evaluate` measures of such a run: related movies, by co-likes."""
    return Evaluation(evaluators=(RelatedVideos(seed=seed),))


def _parquet(table: pa.Table) -> bytes:
    buffer = pa.BufferOutputStream()
    pq.write_table(table, buffer)
    return buffer.getvalue().to_pybytes()
