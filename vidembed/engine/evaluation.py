"""An evaluation: the evaluators of a run, stored in a file beside the recipe."""

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
    """The evaluators of each checkpoint, and which one selects the best."""

    evaluators: tuple[Evaluator, ...]
    select: int = 0
    """Index of the evaluator whose selection value determines the best checkpoint."""

    def __post_init__(self) -> None:
        if not 0 <= self.select < len(self.evaluators):
            raise ValueError(
                f"select {self.select} is not an index of the {len(self.evaluators)} evaluators"
            )
        identities = [evaluator.identity() for evaluator in self.evaluators]
        if any(identities.count(identity) > 1 for identity in identities):
            raise ValueError("two evaluators measure the same: leave one of them out")

    @property
    def in_order(self) -> tuple[Evaluator, ...]:
        """The evaluators, with the selecting one first."""
        rest = self.evaluators[: self.select] + self.evaluators[self.select + 1 :]
        return (self.evaluators[self.select], *rest)


def store_evaluation(workdir: Workdir, evaluation: Evaluation) -> None:
    """Writes the run's default evaluation. Results of other evaluators are kept beside it."""
    files.write_json(workdir.evaluation_file, to_json(evaluation))


def evaluation_of(workdir: Workdir, classes: Collection[type] = ()) -> Evaluation | None:
    """The stored evaluation, or the evaluator in the recipe of a run from before evaluations were
    stored. None if there is neither. `classes` as in `Recipe.from_json`."""
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
            hint = f". It is a composite: use `composite` as the recipe (--workdir {workdir})"
        raise ValueError(f"{workdir} holds no recipe.json: give the --workdir of a run{hint}")
    return Recipe.from_json(stored["recipe"], classes)
