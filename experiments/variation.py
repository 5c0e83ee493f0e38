"""A recipe with other fields of its task and feed, whichever of their kinds these are."""

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any

from vidembed.recipe import Recipe

NOTHING: Mapping[str, Any] = MappingProxyType({})


def varied(
    recipe: Recipe,
    *,
    task: Mapping[str, Any] = NOTHING,
    feed: Mapping[str, Any] = NOTHING,
    **fields: Any,
) -> Recipe:
    """`recipe` with these fields of its task, of its feed and of its own; TypeError for others."""
    task_of, feed_of = replace(recipe.task, **task), replace(recipe.feed, **feed)
    return replace(recipe, task=task_of, feed=feed_of, **fields)
