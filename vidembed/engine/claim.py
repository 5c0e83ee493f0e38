"""Claim a work directory for a recipe, comparing the stored recipe in this version's form."""

from collections.abc import Mapping
from typing import Any

from vidembed import PATH, TUNABLE, files
from vidembed.distributed.agree import is_first_host
from vidembed.engine.field_roles import fields_with
from vidembed.engine.old_recipes import former_evaluator, modernised
from vidembed.engine.recipe import Recipe
from vidembed.engine.typed_json import with_defaults
from vidembed.workdir.layout import Completed, Workdir


def claim(
    workdir: Workdir, recipe: Recipe, fingerprints: dict[str, str], about: Mapping[str, Any]
) -> list[str]:
    """Start or resume the run; see `Workdir.claim_recipe`.

    An evaluator that an older version stored in the recipe becomes the run's evaluation.
    """
    former = former_evaluator((workdir.read_recipe() or {}).get("recipe", {}))
    if former and is_first_host() and not workdir.evaluation_file.exists():
        # Before the recipe is rewritten without it.
        files.write_json(workdir.evaluation_file, {"evaluators": [former]})
    return workdir.claim_recipe(recipe.to_json(), fingerprints, about, **_how(recipe))


def changes_of(
    workdir: Workdir, recipe: Recipe, fingerprints: dict[str, str] | None = None
) -> list[str]:
    """Allowed changes to the recipe; raises RecipeChangedError. See `Workdir.recipe_changes`."""
    return workdir.recipe_changes(recipe.to_json(), fingerprints, **_how(recipe))


def refuse_another(workdir: Workdir, recipe: Recipe) -> None:
    """Raises RecipeChangedError if the recipe is not the run's, apart from paths and mesh."""
    may_differ = fields_with(recipe, PATH) | {"mesh"}
    workdir.recipe_changes(recipe.to_json(), **_how(recipe) | {"tunable": may_differ})


def completed_like(recipe: Recipe) -> Completed:
    """A function that converts a stored recipe of any version to this one, given `recipe`."""
    return lambda stored: with_defaults(modernised(stored), recipe)


def tunable(recipe: Recipe) -> frozenset[str]:
    """Dotted paths of the fields that may change between the starts of a run."""
    if any(phase.optimiser.schedule == "cosine" for phase in recipe.resolved_phases):
        # The rate of every step depends on the number of steps.
        return fields_with(recipe, PATH, TUNABLE) - {"steps"}
    return fields_with(recipe, PATH, TUNABLE)


def _how(recipe: Recipe) -> dict[str, Any]:
    return {"tunable": tunable(recipe), "completed": completed_like(recipe)}
