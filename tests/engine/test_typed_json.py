"""Values as JSON that names their classes: what is built of it again, and what never is."""

import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import jax.numpy as jnp
import pytest

from experiments import cdml
from vidembed.engine.recipe import Recipe
from vidembed.engine.typed_json import RecipeError, changed_fields, class_name, from_json, to_json
from vidembed.losses.triplet import Hinge, TripletLoss
from vidembed.mining import Miner
from vidembed.models.fusion import Layers
from vidembed.tasks.metric_learning import MetricLearning


@dataclass(frozen=True, kw_only=True)
class Squared:
    """A loss that is no part of vidembed."""

    margin: float = 0.2
    power: float = 2.0

    def __call__(self, positive_distance, negative_distance):
        return jnp.maximum(positive_distance - negative_distance + self.margin, 0) ** self.power


class Named(Protocol):
    word: str

    @property
    def length(self) -> int: ...


@dataclass(frozen=True, kw_only=True)
class Word:
    word: str
    length: int = 3


@dataclass(frozen=True, kw_only=True)
class Holder:
    sizes: Mapping[str, int] = field(default_factory=dict)
    named: Named | None = None
    several: tuple[Named, ...] = ()
    concrete: Layers | Hinge = Layers()
    anything: Any = None


def again(value, kind=None, classes=()):
    return from_json(kind or type(value), json.loads(json.dumps(to_json(value))), classes=classes)


def test_a_strangers_loss_makes_the_round_trip_where_it_is_passed_in():
    recipe = replace(cdml.recipe, task=replace(cdml.recipe.task, loss=Squared(power=3.0)))
    data = json.loads(json.dumps(recipe.to_json()))
    assert data["task"]["loss"] == {"class": class_name(Squared), "margin": 0.2, "power": 3.0}
    assert Recipe.from_json(data, classes=(Squared,)) == recipe
    words = r"recipe\.task\.loss: '.*:Squared' is not a class of vidembed.* classes=\(TheClass,\)"
    with pytest.raises(RecipeError, match=words):
        Recipe.from_json(data)


def test_any_class_of_vidembed_that_fits_its_protocol_is_built():
    task = MetricLearning(loss=Hinge(margin=0.3))
    assert again(task, Any) == task
    assert again(task.loss, TripletLoss) == task.loss
    words = r"Hinge is not a Miner: it has no inside_margin, only_farther"
    with pytest.raises(RecipeError, match=words):
        again(task.loss, Miner)


def test_protocols_stand_in_unions_and_tuples_and_mappings_are_read():
    holder = Holder(
        sizes={"visual": 1024, "class": 3},
        named=Word(word="a"),
        several=(Word(word="b"), Word(word="c", length=1)),
        anything={"deep": (Hinge(), 1, "x", None)},
    )
    assert again(holder, classes=(Word,)) == holder
    assert again(Holder()) == Holder()


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        (("sizes",), [1], r"recipe\.sizes: expected a mapping"),
        (("sizes",), {"visual": "x"}, r"recipe\.sizes\.visual: expected int"),
        (("named",), {"word": "a"}, r"recipe\.named: expected the class and fields of a Named"),
        (("named",), "a", r"recipe\.named: expected the class and fields of a Named"),
        (("several",), [{"class": "x:Word"}], r"several\[0\]: 'x:Word' is not a class .*passed in"),
        (("concrete", "class"), "vidembed.losses.triplet:Log", "triplet:Log. is not one of"),
        (("anything",), {"class": 3}, "'3' is not a class of vidembed"),
        (("anything",), {"class": class_name(Layers), "sise": 3}, "did you mean 'size'"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused_with_the_place(path, value, words):
    data = place = json.loads(json.dumps(to_json(Holder())))
    for name in path[:-1]:
        place = place[name]
    place[path[-1]] = value
    with pytest.raises(RecipeError, match=words):
        from_json(Holder, data, classes=(Word,))


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("this:Zen", "not a class of vidembed"),
        ("vidembedded.this:Zen", "not a class of vidembed"),
        ("this", "not a class of vidembed"),
        ("vidembed.nowhere:Zen", "No module named 'vidembed.nowhere'"),
        ("vidembed..files:Zen", "vidembed"),
        ("vidembed.losses.triplet:Hing", "has no class 'Hing'; did you mean 'Hinge'"),
        ("vidembed.losses.triplet", "has no class ''"),
        # Imported there, not defined; a function; a class that is no dataclass.
        ("vidembed.tasks.metric_learning:Hinge", "has no class 'Hinge'"),
        ("vidembed.losses.triplet:jax.Array", "has no class 'jax.Array'"),
        ("vidembed.losses.triplet:check", "has no class 'check'"),
        ("vidembed.progress:Progress", "is not a dataclass"),
    ],
)
def test_nothing_else_is_imported_or_called(name, words):
    sys.modules.pop("this", None)
    with pytest.raises(RecipeError, match=words):
        from_json(Any, {"class": name})
    assert "this" not in sys.modules


def test_what_is_passed_in_is_a_dataclass():
    class Plain:
        pass

    with pytest.raises(RecipeError, match="Plain is not a dataclass"):
        from_json(Any, {"class": class_name(Plain)}, classes=(Plain,))


def test_a_field_that_a_later_version_adds_is_not_a_changed_field():
    @dataclass(frozen=True)
    class Loss:
        margin: float = 0.1

    @dataclass(frozen=True)
    class Later:
        margin: float = 0.1
        added: int = 0

    name = "tests:Loss"
    Loss.__qualname__ = Later.__qualname__ = "Loss"
    Loss.__module__ = Later.__module__ = "tests"
    assert changed_fields(Loss(0.3)) == changed_fields(Later(0.3)) == {"class": name, "margin": 0.3}
    assert changed_fields((Later(), 1)) == [{"class": name}, 1]
    assert changed_fields(Later(added=2)) != changed_fields(Loss())
