import json
from dataclasses import replace

import pytest

from experiments import cdml, quickstart
from vidembed.engine.optimiser import Sgd
from vidembed.engine.recipe import Recipe, Retention
from vidembed.engine.typed_json import RecipeError
from vidembed.losses.triplet import Log
from vidembed.mining.miners import Hardest, SemiHard
from vidembed.models.fusion import SingleModality

OTHER = replace(
    cdml.recipe,
    task=replace(cdml.recipe.task, model=SingleModality(), miner=Hardest(), loss=Log(margin=0.0)),
    optimiser=replace(cdml.recipe.optimiser, rule=Sgd(), clip_norm=1.0),
)


@pytest.mark.parametrize("recipe", [cdml.recipe, quickstart.recipe, OTHER])
def test_json_round_trip(recipe):
    assert Recipe.from_json(json.loads(json.dumps(recipe.to_json()))) == recipe


def test_the_default_is_the_papers_scale():
    recipe = cdml.recipe
    assert recipe.feed.batch_triplets == 7200
    assert (recipe.task.model.layers.hidden, recipe.task.model.layers.size) == ((4000,), 256)


def changed(path, value):
    data = json.loads(json.dumps(cdml.recipe.to_json()))
    place = data
    *parents, last = path
    for name in parents:
        place = place[name]
    place[last] = value
    return data


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        (("stepz",), 3, r"no field 'stepz'; did you mean 'steps'"),
        (("steps",), "10", r"recipe.steps: expected int, found '10'"),
        (("steps",), True, r"recipe.steps: expected int, found True"),
        (("steps",), 1.5, r"recipe.steps: expected int, found 1.5"),
        (("task", "pool"), "al", r"not one of .*did you mean 'all'"),
        (("task", "miner", "class"), "vidembed.mining.miners:SemiHrd", r"did you mean 'SemiHard'"),
        (("task", "model", "layers", "hidden"), 4000, r"expected a list"),
        (("task", "model", "layers", "hidden"), ["x"], r"hidden\[0\]: expected int"),
        (("task", "loss", "margin"), 9.0, r"recipe.task.loss: margin"),
        (("optimiser", "clip_norm"), "much", r"clip_norm"),
        (("feed",), None, r"recipe.feed: expected .* fields of a FeedOptions, found None"),
        (("feed", "class"), "Captions", r"recipe.feed: .Captions. is not a class of vidembed"),
    ],
)
def test_what_does_not_fit_is_refused_with_the_place(path, value, words):
    with pytest.raises(RecipeError, match=words):
        Recipe.from_json(changed(path, value))


def test_optional_and_whole_numbers_for_floats_are_read():
    data = changed(("optimiser", "clip_norm"), 2)
    assert Recipe.from_json(data).optimiser.clip_norm == 2.0


def test_evaluations_fall_on_checkpoints():
    with pytest.raises(ValueError, match="multiple"):
        replace(cdml.recipe, checkpoints=Retention(every_steps=100), evaluate_every=150)
    with pytest.raises(ValueError, match="keep_last"):
        Retention(keep_last=0)


def older(**miner):
    """A recipe as it was stored when miners had a margin of their own."""
    data = changed(("feed", "max_forbidden"), None)
    data["task"]["miner"] |= miner
    return data


def test_recipes_of_older_versions_are_read_where_they_mean_the_same():
    assert Recipe.from_json(older(margin=0.1)) == cdml.recipe
    assert Recipe.from_json(older(margin=0.5)) == cdml.recipe  # it was not used
    inside = Recipe.from_json(older(margin=0.1, inside_margin=True))
    assert inside.task.miner == SemiHard(inside_margin=True)
    with pytest.raises(
        RecipeError, match=r"margin 0\.5 is not the loss's, 0\.1; .* use the version"
    ):
        Recipe.from_json(older(margin=0.5, inside_margin=True))
