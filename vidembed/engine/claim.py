"""Whether a work directory is a recipe's: what is stored there, by this version's fields."""

from collections.abc import Mapping
from typing import Any

from vidembed import PATH, TUNABLE
from vidembed.engine.old_recipes import modernised
from vidembed.engine.recipe import Recipe
from vidembed.engine.typed_json import fields_with, with_defaults
from vidembed.workdir.layout import Completed, Workdir


def claim(
    workdir: Workdir, recipe: Recipe, fingerprints: dict[str, str], about: Mapping[str, Any]
) -> list[str]:
    """Starts the run or goes on with it; see `Workdir.claim_recipe`."""
    return workdir.claim_recipe(recipe.to_json(), fingerprints, about, **_how(recipe))


def changes_of(
    workdir: Workdir, recipe: Recipe, fingerprints: dict[str, str] | None = None
) -> list[str]:
    """What may change and did; raises RecipeChangedError. See `Workdir.recipe_changes`."""
    return workdir.recipe_changes(recipe.to_json(), fingerprints, **_how(recipe))


def completed_like(recipe: Recipe) -> Completed:
    """How a stored recipe of any version is made one of this version, beside `recipe`."""
    return lambda stored: with_defaults(modernised(stored), recipe)


def _how(recipe: Recipe) -> dict[str, Any]:
    return {"tunable": fields_with(recipe, PATH, TUNABLE), "completed": completed_like(recipe)}
