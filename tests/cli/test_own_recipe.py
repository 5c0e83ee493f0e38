"""The verbs after training accept the recipe of the run only, and name it otherwise."""

from dataclasses import dataclass, replace

import pytest

from vidembed.__main__ import main
from vidembed.cli.own_recipe import refuse_other_recipe
from vidembed.engine.recipe import Recipe
from vidembed.recipes import cdml, gcml, linear, ridge
from vidembed.tasks.metric_learning import MetricLearning
from vidembed.workdir.layout import Workdir


def named(stored, recipe, paper):
    refuse_other_recipe(stored, recipe, verb="report", paper=paper, workdir="w")


@pytest.mark.fault(
    "Runs: a run's work directory with the recipe of another system",
    "refused, with the command for this run",
)
@pytest.mark.parametrize(
    ("stored", "paper", "words"),
    [
        (cdml.recipe, "linear", "`cdml`, not of `linear`: python -m vidembed report cdml --work"),
        (linear.recipe, "cdml", "`linear`, not of `cdml`: python -m vidembed report linear "),
        (ridge.recipe, "linear", "`ridge`, not of `linear`"),
        (gcml.RECIPES["gcl"], "ridge", "report gcml gcl --workdir w$"),
    ],
)
def test_another_class_of_task_is_refused_with_the_command(stored, paper, words):
    module = {"linear": linear, "cdml": cdml, "ridge": ridge}[paper]
    with pytest.raises(ValueError, match=words):
        named(stored, module.recipe, paper)


def test_recipes_that_share_the_task_and_tasks_of_ones_own_are_accepted():
    @dataclass(frozen=True, kw_only=True)
    class Own(MetricLearning):
        """Of a script."""

    named(gcml.RECIPES["gcml"], cdml.recipe, "cdml")
    named(gcml.RECIPES["gcl"], cdml.recipe, "cdml")  # cdml offers it: task:cluster-labels
    own = replace(cdml.recipe, task=Own())
    named(own, own, "cdml")
    named(own, linear.recipe, "linear")  # nothing better to name


def test_the_command_line_refuses_before_it_reads_the_data(tmp_path, capsys):
    recipe: Recipe = replace(cdml.recipe, corpus=replace(cdml.recipe.corpus, table="missing"))
    Workdir(tmp_path).create()
    Workdir(tmp_path).claim_recipe(recipe.to_json(), {})
    for verb in ("evaluate", "report", "show"):
        assert main([verb, "linear", "--workdir", str(tmp_path)]) == 1
        assert f"vidembed {verb} cdml --workdir {tmp_path}" in capsys.readouterr().err
