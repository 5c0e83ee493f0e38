"""One seed's world: its sessions, graph, split, clusters, trainings, and scores query by query."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import numpy as np

from experiments.stages import Stages
from experiments.systems import embeddings_of_features, score_systems
from vidembed.corpus import Corpus, CorpusPaths
from vidembed.evaluate import Evaluation, values_of
from vidembed.feeds.simulated_sessions import PARAMETERS, permute_ids, simulate, write_sessions
from vidembed.graph.affinity import Linkage, affinity_clusters
from vidembed.graph.cowatch import count_cowatches
from vidembed.graph.hierarchy import read_hierarchy, write_hierarchy
from vidembed.models.fusion import Fusion
from vidembed.recipe import Recipe
from vidembed.records.table import FeatureTable
from vidembed.scores_file import Scores, read_scores, write_scores
from vidembed.stopping import StopFlag, StoppedError
from vidembed.train import train
from vidembed.workdir import Workdir

ROUNDS = 4
FORM = 2
"""Of per_query.parquet; another one is made where an older version wrote it."""
LINKAGE: Linkage = "average"
"""How every world's train graph is clustered, with no limits."""


def refuse_seeds(seeds: Sequence[int]) -> None:
    """Raises ValueError unless `seeds` are different numbers of which each can make a world."""
    valid = all(0 <= seed < 2**32 for seed in seeds)
    if not seeds or not valid or len(set(seeds)) < len(seeds):
        raise ValueError(
            f"seeds must be one or more different numbers in [0, 2^32), found {tuple(seeds)}"
        )


@dataclass(frozen=True, kw_only=True)
class World:
    """Simulated sessions on a table, made, trained on and measured in `folder`, stage by stage.

    `permuted` exchanges the video ids of the sessions at random: the control, in which content
    has nothing to do with what is watched together.
    """

    stages: Stages
    stop: StopFlag
    table_path: Path
    folder: Path
    recipe: Recipe
    models: Mapping[str, Fusion]
    """System → network; all else of the recipe is the same for all."""
    seed: int
    permuted: bool = False

    @property
    def name(self) -> str:
        """seed0, seed0-permuted."""
        return f"seed{self.seed}" + ("-permuted" if self.permuted else "")

    @cached_property
    def corpus(self) -> Corpus:
        """The videos with the relations of this seed's sessions and their clusters; makes them
        where missing."""
        corpus = replace(self._paths(), hierarchy="").open()
        file = self.folder / self.name / "hierarchy.parquet"
        key = {"corpus": corpus.fingerprint, "rounds": ROUNDS, "linkage": LINKAGE}

        def cluster(_: object) -> None:
            made = affinity_clusters(
                corpus.train_graph, corpus.is_train, rounds=ROUNDS, linkage=LINKAGE
            )
            parameters = {**made.parameters, "simulated": corpus.simulated}
            write_hierarchy(replace(made, parameters=parameters), file, corpus.table.ids)

        self.stages.run(f"{self.name}/hierarchy", key, cluster, outputs=[file])
        hierarchy = read_hierarchy(file, corpus.table.ids)
        hierarchy.check(corpus.train_graph, corpus.is_train)
        return replace(corpus, hierarchy=hierarchy)

    def recipe_of(self, system: str) -> Recipe:
        """The whole recipe of one training."""
        task = replace(self.recipe.task, model=self.models[system])
        return self.placed(replace(self.recipe, task=task))

    def placed(self, recipe: Recipe) -> Recipe:
        """`recipe` on the videos and relations of this world, with its seed."""
        folder = self.folder / self.name
        corpus = replace(
            recipe.corpus,
            table=str(self.table_path),
            edges=str(folder / "edges.parquet"),
            hierarchy=str(folder / "hierarchy.parquet"),
            split_seed=self.seed,
        )
        return replace(recipe, corpus=corpus, seed=self.seed)

    def run(self, system: str) -> Workdir:
        """The work directory of one training."""
        return Workdir(self.folder / self.name / system)

    def scores(self) -> Scores:
        """Trains what is not trained yet and measures every system."""
        with self.stop.raising():
            corpus = self.corpus
        for system in self.models:
            self._train(system)
            if self.stop.asked:
                raise StoppedError(f"stopped after {self.name}/{system}")
        file = self.folder / self.name / "per_query.parquet"
        exchange = ("trained",) if self.permuted else ()

        def measure(_: object) -> None:
            embeddings = {system: self.embed(system) for system in self.models}
            # The state before the first update is a checkpoint like any other.
            embeddings["untrained"] = self.embed(next(iter(self.models)), step=0)
            embeddings |= embeddings_of_features(corpus)
            measured = score_systems(
                embeddings,
                corpus,
                self.recipe.evaluator,
                seed=self.seed,
                exchange=exchange,
            )
            write_scores(file, measured)

        recipes = {system: self.recipe_of(system).to_json() for system in self.models}
        key = {
            "corpus": corpus.fingerprint,
            "recipes": recipes,
            "exchange": list(exchange),
            "form": FORM,
        }
        with self.stop.raising():
            self.stages.run(f"{self.name}/evaluation", key, measure, outputs=[file])
        return read_scores(file)

    def embed(self, system: str, *, step: int | None = None) -> np.ndarray:
        """f32[N, D]: all videos, at the last step or another."""
        evaluation = Evaluation(self.recipe_of(system), self.run(system), corpus=self.corpus)
        return evaluation.embed(evaluation.restore(self.recipe.steps if step is None else step))

    def _paths(self) -> CorpusPaths:
        table = FeatureTable.open(self.table_path)
        sessions = self.folder / self.name / "sessions.parquet"
        paths = self.placed(self.recipe).corpus
        key = {
            "table": table.fingerprint,
            "seed": self.seed,
            "permuted": self.permuted,
            "parameters": dict(PARAMETERS),
        }

        def make(_: object) -> int:
            made = simulate(table.ids, table.label_offsets, table.label_values, seed=self.seed)
            write_sessions(permute_ids(made, seed=self.seed) if self.permuted else made, sessions)
            return len(made)

        def count(_: object) -> dict[str, Any]:
            return count_cowatches(sessions, paths.edges)

        watches = self.stages.run(f"{self.name}/sessions", key, make, outputs=[sessions])
        found = self.stages.run(f"{self.name}/graph", key, count, outputs=[Path(paths.edges)])
        self.stages.progress.say(f"  {watches:,} SIMULATED watches, {found['edges']:,} edges")
        return paths

    def _train(self, system: str) -> None:
        recipe, workdir, corpus = self.recipe_of(system), self.run(system), self.corpus

        def evaluate(step: int) -> dict[str, float]:
            # The checkpoint is saved: what is broken off is measured when the run goes on.
            with self.stop.raising():
                return values_of(evaluation().measure(step))

        @cache
        def evaluation() -> Evaluation:
            return Evaluation(recipe, workdir, corpus=corpus, progress=self.stages.progress)

        def work(_: object) -> int:
            with workdir.lease() as lease:
                last = train(
                    recipe,
                    workdir,
                    lease=lease,
                    stop=self.stop,
                    corpus=corpus,
                    progress=self.stages.progress,
                    evaluate=evaluate,
                )
            if last < recipe.steps:
                raise StoppedError(f"{self.name}/{system} stopped at step {last}")
            return last

        key = {"recipe": recipe.to_json(), "corpus": corpus.fingerprint}
        done = Path(workdir.path) / "DONE"
        self.stages.run(f"{self.name}/{system}", key, work, outputs=[done])
