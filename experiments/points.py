"""The points of a sweep and their state: ordinary work directories, in one folder per seed.

W/recipe.json               the base recipe; a work directory has one size
W/table, W/seedS/           the videos; each seed's sessions, graph and clusters
W/seedS/POINT/              an ordinary run, and in addition
    attempts.json                  per attempt: seconds, why it failed, or that it was killed
    result.json                    written last: the number of parameters, and counts of the data
    per_query.parquet              with permuted ids: scores with the queries shuffled
W/seedS-permuted/           the reference and some points with permuted ids
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from experiments.sweep import Sweep
from vidembed import files
from vidembed.cli.run_report import journal_of
from vidembed.engine.evaluation import Evaluation, recipe_of
from vidembed.engine.recipe import Recipe
from vidembed.evaluators.related_videos import RelatedVideos
from vidembed.records.scores_file import Scores, read_scores
from vidembed.workdir.layout import Workdir

CONTROLS = (
    "visual", "audio", "concatenated", "concatenated_standardised", "closed_form", "untrained",
    "popularity", "random",
)  # fmt: skip
"""Systems that need no training, measured together with the reference."""


@dataclass(frozen=True, kw_only=True)
class Point:
    """One training with its evaluation: a recipe on the simulated sessions of a seed.

    `permuted` permutes the video ids of the sessions at random: the control, in which content has
    nothing to do with what is watched together.
    """

    folder: Path
    """The work directory of the sweep."""
    name: str
    varied: Recipe
    seed: int
    evaluator: RelatedVideos = RelatedVideos()
    permuted: bool = False
    controls: bool = False
    """Whether the untrained network and the baselines are measured, too."""

    def __str__(self) -> str:
        return f"{self.world}/{self.name}"

    @property
    def world(self) -> str:
        """The folder of the point's sessions."""
        return f"seed{self.seed}" + ("-permuted" if self.permuted else "")

    @property
    def run(self) -> Workdir:
        return Workdir(self.folder / str(self))

    @property
    def recipe(self) -> Recipe:
        """The recipe with data and seed; a reference keeps step 0, the untrained network."""
        recipe, world = self.varied, self.folder / self.world
        paths: Any = recipe.corpus
        checkpoints = replace(recipe.checkpoints, keep_every=recipe.steps)
        return replace(
            recipe,
            corpus=replace(
                paths,
                table=str(self.folder / "table"),
                edges=str(world / "edges.parquet"),
                hierarchy=str(world / "hierarchy.parquet"),
                split_seed=self.seed,
            ),
            checkpoints=checkpoints if self.controls else recipe.checkpoints,
            seed=self.seed,
        )

    @property
    def measured_by(self) -> RelatedVideos:
        """The evaluator, with the seed of the world."""
        return replace(self.evaluator, seed=self.seed)

    @property
    def evaluation(self) -> Evaluation:
        """The evaluation that is stored beside the recipe."""
        return Evaluation(evaluators=(self.measured_by,))

    @property
    def attempts(self) -> list[dict[str, Any]]:
        return files.read_json(self.run.path / "attempts.json") or []

    @property
    def result(self) -> dict[str, Any] | None:
        result: dict[str, Any] | None = files.read_json(self.run.path / "result.json")
        return result

    def scores(self) -> Scores:
        """System → direction → metrics of each query; {} if a part is missing."""
        made_with, path = self._made(), self.run.path
        if not made_with:
            return {}
        measured = self.run.measurements(self.measured_by.identity())
        older_controls = path.parent / "controls" / "per_query.parquet"
        scores: dict[str, Any] = {"trained": measured.read_per_query(made_with.steps)}
        try:
            if self.controls and older_controls.exists():  # measured by an older version
                scores |= read_scores(older_controls)
            elif self.controls:
                baselines = read_scores(measured.folder / "baselines.parquet")
                scores |= {
                    name: of_system for name, of_system in baselines.items() if name in CONTROLS
                }
                scores["untrained"] = measured.read_per_query(0)
            if self.permuted:
                shuffled = read_scores(path / "per_query.parquet")
                scores["trained_exchanged"] = shuffled["trained_exchanged"]
        except FileNotFoundError:
            return {}
        return {} if None in scores.values() else scores

    def missing(self) -> str:
        """Why there are no scores."""
        if not self.run.why_not_leased():
            return "under way"
        if self.result and not self._made():
            return "another recipe of the same name"
        if self.result:
            return "not measured by this evaluator, or not completely"
        last = self.attempts[-1] if self.attempts else {}
        if "message" in last:
            return f"failed, {last['message']}"
        ended, journal = "killed" if "killed" in last else "stopped", journal_of(self.run)
        return f"{ended} after step {journal[-1]['step']}" if journal else "not run"

    def _made(self) -> Recipe | None:
        """The recipe that a finished work directory was made with, if it equals this one apart from
        the paths of its data."""
        if self.result is None:
            return None
        made_with = recipe_of(self.run)
        recipe = replace(self.recipe, corpus=made_with.corpus, checkpoints=made_with.checkpoints)
        return made_with if made_with == recipe else None

    def named(self, system: str) -> str:
        """The name of a measured system in tables: the point's name for the trained system; with
        permuted ids, the reference uses the name of its system."""
        if system == "trained" and not self.permuted:
            return self.name
        return system if self.controls else f"{self.name} {system}"


def refuse_unfinished(points: Sequence[Point]) -> None:
    """Raise ValueError unless all points have scores: another process may be working on one."""
    missing = [f"{point}: {point.missing()}" for point in points if not point.scores()]
    if missing:
        raise ValueError(
            f"{'; '.join(missing)}: results can only be combined when all points are done. Run the "
            "same command again then"
        )


def refuse_uneven(scores: Mapping[Point, Scores]) -> None:
    """Raises ValueError where a point lacks a control that another seed's has, as where an older
    version measured it: it names the files to remove. scores: what `Point.scores` gives."""
    for permuted in (False, True):
        each = {p: of for p, of in scores.items() if p.controls and p.permuted == permuted}
        every = set[str]().union(*each.values())
        for point, of in each.items():
            if lacking := sorted(every - of.keys()):
                folder = point.run.measurements(point.measured_by.identity()).folder
                older = point.run.path.parent / "controls" / "per_query.parquet"
                named = [older] if older.exists() else []
                named += [folder / f"baselines.{kind}" for kind in ("json", "parquet")]
                raise ValueError(
                    f"{point.run} lacks {', '.join(lacking)}, which other seeds have: an older "
                    f"version measured it. Remove {' and '.join(map(str, named))}, and run the "
                    "same command again, which measures them anew"
                )


def refuse_seeds(seeds: Sequence[int]) -> None:
    """Raise ValueError unless `seeds` are different valid numbers, at least one."""
    valid = all(0 <= seed < 2**32 for seed in seeds)
    if not seeds or not valid or len(set(seeds)) < len(seeds):
        raise ValueError(
            f"seeds must be one or more different numbers in [0, 2^32), found {tuple(seeds)}"
        )


def points_of(sweep: Sweep, base: Recipe, folder: Path, seeds: Sequence[int]) -> list[Point]:
    """The points of every seed, in the same order for all shards."""
    recipes = sweep.points(base)
    for name, recipe in recipes.items():
        if recipe.corpus != base.corpus:
            raise ValueError(
                f"{sweep.name}: {name} has another corpus than the base recipe. A sweep compares "
                "query by query: its points must share the split"
            )
    permuted_recipes = {name: recipes[name] for name in (sweep.reference, *sweep.permuted)}
    return [
        Point(
            folder=folder, name=name, varied=recipe, seed=seed, evaluator=sweep.evaluator,
            permuted=permuted, controls=name == sweep.reference,
        )
        for seed in seeds
        for permuted in (False, True)
        for name, recipe in (permuted_recipes if permuted else recipes).items()
    ]  # fmt: skip
