"""Refuse a recipe that is not that of the run in a work directory, and name the right command."""

import shlex
import typing
from collections.abc import Mapping
from typing import Any

from vidembed.engine.protocols import Task
from vidembed.engine.recipe import Recipe
from vidembed.recipes import PAPERS, module_of


def refuse_other_recipe(
    stored: Recipe, named: Recipe, *, verb: str, paper: str, workdir: str
) -> None:
    """Raise ValueError if the stored task is one that only other recipes have.

    Otherwise the stored recipe takes the place of the named one, and its options are those typed.
    A task of a script of one's own is accepted.
    """
    task = type(stored.task)
    offered = module_of(paper).OFFERED[Task]
    if task is type(named.task) or task in (typing.get_args(offered) or (offered,)):
        return
    if words := _recipes().get(task):
        command = ["python", "-m", "vidembed", verb, *words.split(), "--workdir", workdir]
        raise ValueError(
            f"{workdir} is a run of `{words}`, not of `{paper}`: {shlex.join(command)}"
        )


def _recipes() -> Mapping[type, str]:
    """Class of a task → the words of the first recipe that has it by default."""
    words: dict[type, str] = {}
    for paper in PAPERS:
        recipes: Mapping[str, Any] = module_of(paper).RECIPES
        for system, recipe in recipes.items():
            name = paper if len(recipes) == 1 else f"{paper} {system}"
            words.setdefault(type(recipe.task), name)
    return words
