"""Stored recipes of older versions in today's form, so that their runs can still be measured."""

from typing import Any

from vidembed.engine.typed_json import RecipeError


def modernised(recipe: dict[str, Any]) -> dict[str, Any]:
    """The same recipe without what its fields said before they changed; today's are left alone.

    A miner had a margin of its own; where it was used and differs from the loss's, which is today's
    only one, RecipeError is raised. `feed.max_forbidden`, a width per anchor, is no field any more.
    """
    task, feed = recipe.get("task"), recipe.get("feed")
    if isinstance(feed, dict) and "max_forbidden" in feed:
        recipe = recipe | {"feed": {k: v for k, v in feed.items() if k != "max_forbidden"}}
    miner = task.get("miner") if isinstance(task, dict) else None
    if isinstance(task, dict) and isinstance(miner, dict) and "margin" in miner:
        loss = task.get("loss", {}).get("margin")
        if miner.get("inside_margin") and miner["margin"] != loss:
            raise RecipeError(
                f"recipe.task.miner: margin {miner['margin']} is not the loss's, {loss}; miners "
                "have no margin of their own any more: use the version of vidembed that trained "
                "this run"
            )
        miner = {k: v for k, v in miner.items() if k != "margin"}
        recipe = recipe | {"task": task | {"miner": miner}}
    return recipe
