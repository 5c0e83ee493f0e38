"""Recipes that older versions stored, with classes by their bare names."""

import json
from dataclasses import replace
from typing import get_args

import pytest

from experiments import cdml, gcml
from vidembed.engine.claim import claim
from vidembed.engine.old_recipes import FORMER, former_evaluator, modernised
from vidembed.engine.recipe import Recipe
from vidembed.engine.typed_json import class_name, to_json
from vidembed.feeds.negatives import SiblingNegatives
from vidembed.feeds.triplets import Triplets
from vidembed.recipes.cdml import OFFERED
from vidembed.workdir.layout import RecipeChangedError, Workdir


def bare(data):
    """As it was stored: classes without their modules."""
    if isinstance(data, dict):
        data = {name: bare(value) for name, value in data.items()}
        return data | ({"class": data["class"].rpartition(":")[2]} if "class" in data else {})
    return [bare(item) for item in data] if isinstance(data, list) else data


@pytest.mark.parametrize("recipe", [cdml.recipe, *gcml.RECIPES.values()])
def test_bare_names_are_read(recipe):
    stored = bare(json.loads(json.dumps(recipe.to_json())))
    assert stored["class"] == "Recipe"
    assert Recipe.from_json(stored) == recipe


def test_the_evaluator_is_read_apart():
    stored = bare(json.loads(json.dumps({"evaluator": to_json(gcml.EVALUATOR), "steps": 3})))
    assert former_evaluator(stored)["class"] == class_name(type(gcml.EVALUATOR))
    assert modernised(stored) == {"steps": 3}
    assert former_evaluator({"steps": 3}) is None


def test_former_names_lead_to_the_classes_that_are_offered():
    offered = {kind for union in OFFERED.values() for kind in get_args(union) or (union,)}
    # What came later was never stored by its bare name.
    known = {kind.__name__: class_name(kind) for kind in offered if kind.__name__ in FORMER}
    assert len(known) > 20
    assert known.items() <= FORMER.items()
    for name, place in FORMER.items():
        module, _, path = place.partition(":")
        assert path == name
        kind = getattr(__import__(module, fromlist=[path]), path)
        assert class_name(kind) == place


def test_a_recipe_that_is_older_than_a_field_is_the_same_with_its_default(tmp_path):
    workdir, data = Workdir(tmp_path), {"corpus": "1", "feed": "2"}
    older = bare(json.loads(json.dumps(cdml.recipe.to_json())))
    del older["feed"]["negatives"], older["corpus"]["hierarchy"]
    workdir.claim_recipe(older, data)
    assert claim(workdir, cdml.recipe, data, {}) == []
    other = replace(cdml.recipe, feed=Triplets(negatives=SiblingNegatives()))
    with pytest.raises(
        RecipeChangedError,
        match=r"feed\.negatives: stored uniform-negatives, given sibling-negatives",
    ):
        claim(workdir, other, data, {})
