"""An evaluation: by what a run is measured. A file beside the recipe, and no part of it."""

from collections.abc import Collection
from dataclasses import dataclass

from vidembed import files
from vidembed.engine.old_recipes import former_evaluator
from vidembed.engine.protocols import Evaluator
from vidembed.engine.recipe import Recipe
from vidembed.engine.typed_json import from_json, to_json
from vidembed.workdir.layout import Workdir


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """What is measured of each checkpoint, and which number compares them."""

    evaluators: tuple[Evaluator, ...]
    select: int = 0
    """The evaluator, by its place, whose selection number names the best checkpoint."""

    def __post_init__(self) -> None:
        if not 0 <= self.select < len(self.evaluators):
            raise ValueError(f"select {self.select} is none of {len(self.evaluators)} evaluators")
        identities = [evaluator.identity() for evaluator in self.evaluators]
        if any(identities.count(identity) > 1 for identity in identities):
            raise ValueError("two evaluators measure the same: leave one of them out")

    @property
    def in_order(self) -> tuple[Evaluator, ...]:
        """The evaluators, the one that selects first."""
        others = self.evaluators[: self.select] + self.evaluators[self.select + 1 :]
        return (self.evaluators[self.select], *others)


def store_evaluation(workdir: Workdir, evaluation: Evaluation) -> None:
    """Writes what the run is measured by unless told otherwise; another may be added at any time,
    and takes nothing away."""
    files.write_json(workdir.evaluation_file, to_json(evaluation))


def evaluation_of(workdir: Workdir, classes: Collection[type] = ()) -> Evaluation | None:
    """What `store_evaluation` wrote; of a run made before there were evaluations, its evaluator.
    None if neither is there. `classes` as in `Recipe.from_json`."""
    stored = files.read_record(workdir.evaluation_file, ("evaluators",), "of a run")
    if stored is not None:
        return from_json(Evaluation, stored, "evaluation", classes=classes)
    former = former_evaluator((workdir.read_recipe() or {}).get("recipe", {}))
    if former is None:
        return None
    return Evaluation(evaluators=(from_json(Evaluator, former, "evaluator", classes=classes),))


def recipe_of(workdir: Workdir, classes: Collection[type] = ()) -> Recipe:
    """The recipe that a work directory was started with; `classes` as in `Recipe.from_json`."""
    stored = workdir.read_recipe()
    if stored is None:
        hint = ""
        if (workdir.path / "composite.json").exists():
            hint = f". It is a composite: take `composite` as the recipe (--workdir {workdir})"
        raise ValueError(f"{workdir} holds no recipe.json: give the --workdir of a run{hint}")
    return Recipe.from_json(stored["recipe"], classes)
