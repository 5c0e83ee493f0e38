"""The command lines of the recipes: recipe, verb and options. For exit codes see `guard`."""

import dataclasses
import sys
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Literal

import tyro

from vidembed.cli import command_line, descriptions, names
from vidembed.cli.guard import guarded
from vidembed.cli.lengths import lengths_of, unless_in_steps
from vidembed.cli.offered import Offered
from vidembed.cli.own_recipe import refuse_other_recipe
from vidembed.cli.verbs import VERBS, Preset
from vidembed.distributed.mesh import MeshShape
from vidembed.engine.evaluation import Evaluation, evaluation_of, recipe_of
from vidembed.engine.field_roles import classes_of, located
from vidembed.engine.passes import Lengths
from vidembed.engine.recipe import Recipe
from vidembed.engine.watching import PATIENCE_SECONDS, await_run
from vidembed.progress import Progress
from vidembed.recipes import PAPERS, module_of
from vidembed.workdir.layout import Workdir

COMPOSITE = {"composite": "several runs as one, made by `vidembed compose`"}
"""What verbs other than `train` accept instead of a recipe."""


def main(
    recipe: Recipe | None = None,
    arguments: Sequence[str] | None = None,
    *,
    name: str,
    evaluation: Evaluation | None = None,
) -> int:
    """Run `python -m experiments.NAME [SYSTEM] VERB ...`; returns an exit code.

    recipe, evaluation: by default those of NAME, a word of `PAPERS`.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    prog = f"python -m experiments.{name}"
    lengths = Lengths()
    if recipe is None:
        recipe, given, prog = _chosen(name, given, prog)
        lengths = lengths_of(module_of(name))
    words = {word: descriptions.summary(verb).rstrip(".") for word, verb in VERBS.items()}
    verb, rest = command_line.choose(words, given, prog=prog)
    return _run(verb, name, recipe, rest, lengths, prog=f"{prog} {verb}", evaluation=evaluation)


def of_paper(verb: str, arguments: Sequence[str], *, prog: str) -> int:
    """Run `vidembed VERB PAPER [SYSTEM] ...`; returns an exit code."""
    words = PAPERS if verb == "train" else {**PAPERS, **COMPOSITE}
    paper, given = command_line.choose(words, arguments, prog=prog, kind="recipe")
    if paper in COMPOSITE:
        from vidembed.cli import composite_verbs

        return composite_verbs.main(verb, given, prog=f"{prog} {paper}")
    recipe, given, prog = _chosen(paper, given, f"{prog} {paper}")
    return _run(verb, paper, recipe, given, lengths_of(module_of(paper)), prog=prog)


def _chosen(paper: str, arguments: list[str], prog: str) -> tuple[Recipe, list[str], str]:
    """The paper's recipe (of several, the one named by the first argument) and the other words."""
    module = module_of(paper)
    recipes: Mapping[str, Recipe] = module.RECIPES
    if len(recipes) == 1:
        return next(iter(recipes.values())), arguments, prog
    word, rest = command_line.choose(
        module.ABOUT, arguments, prog=prog, kind="system", about=module.__doc__ or ""
    )
    return recipes[word], rest, f"{prog} {word}"


def _run(
    verb: str,
    paper: str,
    recipe: Recipe,
    arguments: Sequence[str],
    lengths: Lengths,
    *,
    prog: str,
    evaluation: Evaluation | None = None,
) -> int:
    commands: list[Any] = []

    def run() -> int:
        module, workdir = module_of(paper), command_line.option_of(arguments, "--workdir")
        by_default = evaluation or module.EVALUATION
        follows = verb == "evaluate" and "--follow" in arguments
        if follows and workdir and not command_line.asks_help(arguments):
            command = _command(verb, recipe, by_default, lengths)
            shadow = Offered(module.OFFERED, command).shadow(command)
            command_line.refuse_unknown(shadow, arguments, prog=prog)
            given = command_line.option_of(arguments, "--patience-seconds") or ""
            is_number = given.replace(".", "", 1).isdecimal()
            patience = float(given) if is_number else PATIENCE_SECONDS
            await_run(Workdir(workdir), Progress().say, patience_seconds=patience)
        classes = classes_of(recipe) | classes_of(by_default)
        known = evaluation_of(Workdir(workdir), classes) if workdir and verb != "show" else None
        of_run = _recipe_of_run(verb, workdir, classes)
        if of_run and workdir:
            refuse_other_recipe(of_run, recipe, verb=verb, paper=paper, workdir=workdir)
        preset = module.PRESETS.get(command_line.option_of(arguments, "--preset"), "").split()
        by_passes, preset = unless_in_steps(lengths, preset, arguments)
        if of_run:
            by_passes = Lengths()  # a run has its steps
        command = _command(verb, of_run or recipe, known or by_default, by_passes)
        presets = Literal[tuple(module.PRESETS)]  # type: ignore[valid-type]
        offered = Offered({**module.OFFERED, Preset: presets}, command)
        shadow = offered.shadow(command)
        commands.append(shadow)
        chosen = command_line.parse_one(shadow, arguments, prog=prog, preset=preset)
        code: int = located(offered.plain(chosen)).run()
        return code

    def as_typed(words: str) -> str:
        return names.with_options(commands[0], words) if commands else words

    return guarded(run, stops=not command_line.asks_help(arguments), as_typed=as_typed)


def _command(verb: str, recipe: Recipe, evaluation: Evaluation, lengths: Lengths) -> Any:
    """A verb with its defaults."""
    if verb == "show":
        return VERBS[verb](recipe=recipe, lengths=lengths)
    first, *others = evaluation.in_order
    options = {"lengths": lengths} if verb == "train" else {}
    return VERBS[verb](
        recipe=recipe, evaluator=first, others=tuple(others), workdir=tyro.MISSING, **options
    )


def _recipe_of_run(verb: str, workdir: str | None, classes: Collection[type]) -> Recipe | None:
    """The recipe of an existing run, whose values are the defaults of every verb but `train`.

    Evaluations use all local devices: they may run on another machine than the training.
    """
    if verb == "train" or not workdir or Workdir(workdir).read_recipe() is None:
        return None
    recipe = recipe_of(Workdir(workdir), classes)
    return recipe if verb == "show" else dataclasses.replace(recipe, mesh=MeshShape())
