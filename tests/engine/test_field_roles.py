"""What may differ between two looks at one run is said on the fields, and on all of them."""

from dataclasses import dataclass, replace
from typing import Annotated

import pytest

from experiments import cdml, gcml
from vidembed import PATH, TUNABLE
from vidembed.engine.field_roles import fields_with, located, without
from vidembed.engine.typed_json import class_name, to_json
from vidembed.feeds.labelled import LabelledVideos

PATHS = {"corpus.table", "corpus.edges", "corpus.hierarchy", "corpus.split"}
RESUMED = PATHS | {
    "mesh", "steps", "log_every", "evaluate_every", "profile_steps", "checkpoints",
    "feed.read_threads", "feed.prefetch_batches", "feed.placement",
}  # fmt: skip


@pytest.mark.parametrize("recipe", [cdml.recipe, *gcml.RECIPES.values()])
def test_a_recipe_says_what_does_not_decide_a_run(recipe):
    assert fields_with(recipe, PATH) == PATHS
    room = {"feed.max_forbidden_pairs"} if recipe.feed.unit == "triplets" else set()
    assert fields_with(recipe, PATH, TUNABLE) == RESUMED | room
    left = without(recipe.to_json(), fields_with(recipe, PATH))
    elsewhere = {"table": "a", "edges": "b", "hierarchy": "c", "split": "d"}
    moved = replace(recipe, corpus=replace(recipe.corpus, **elsewhere))
    assert without(moved.to_json(), fields_with(moved, PATH)) == left
    assert left["corpus"]["split_seed"] == 0
    assert {"steps", "task", "feed"} <= left.keys()


@dataclass(frozen=True, kw_only=True)
class Leaf:
    place: Annotated[str, "any other remark", PATH] = "x"
    size: int = 1


@dataclass(frozen=True, kw_only=True)
class Other:
    threads: Annotated[int | None, TUNABLE] = None


@dataclass(frozen=True, kw_only=True)
class Tree:
    part: Leaf | Other = Leaf()
    parts: tuple[Leaf | Other, ...] = ()
    whole: Annotated[Leaf, TUNABLE] = Leaf()
    nothing: Leaf | None = None


def test_the_walk_follows_the_parts_that_are_there():
    assert fields_with(Tree(), PATH) == {"part.place", "whole.place"}
    assert fields_with(Tree(), PATH, TUNABLE) == {"part.place", "whole"}
    assert fields_with(Tree(part=Other()), TUNABLE) == {"part.threads", "whole"}
    several = Tree(parts=(Leaf(), Other()))
    assert fields_with(several, PATH, TUNABLE) == {
        "part.place", "parts.0.place", "parts.1.threads", "whole",
    }  # fmt: skip
    assert fields_with(LabelledVideos(), PATH) == frozenset()
    assert without(to_json(Tree()), {"part.place", "whole"}) == {
        "class": class_name(Tree),
        "part": {"class": class_name(Leaf), "size": 1},
        "parts": [],
        "nothing": None,
    }


@pytest.mark.fault("Runs: a run measured from another folder than it was started in")
def test_paths_are_as_seen_from_everywhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/home/me")
    leaves = (Leaf(place="~/a"), Leaf(place="gs://b/c"), Leaf(place=""), Other())
    found = located(Tree(part=Leaf(place="../b", size=2), parts=leaves, whole=Leaf(place="/c")))
    assert found.part == Leaf(place=str(tmp_path.parent / "b"), size=2)
    assert [leaf.place for leaf in found.parts[:3]] == ["/home/me/a", "gs://b/c", ""]
    assert found.whole.place == "/c"
    assert located(found) is found
