"""Convert recipes stored by older versions, so that their runs can still be evaluated."""

from typing import Any

from vidembed.engine.typed_json import RecipeError

FORMER = {
    "Recipe": "vidembed.engine.recipe:Recipe",
    "Retention": "vidembed.engine.recipe:Retention",
    "MeshShape": "vidembed.distributed.mesh:MeshShape",
    "Optimiser": "vidembed.engine.optimiser:Optimiser",
    "Adam": "vidembed.engine.optimiser:Adam",
    "Sgd": "vidembed.engine.optimiser:Sgd",
    "Adagrad": "vidembed.engine.optimiser:Adagrad",
    "CorpusPaths": "vidembed.corpora.watched:CorpusPaths",
    "MetricLearning": "vidembed.tasks.metric_learning:MetricLearning",
    "ClusterLabels": "vidembed.tasks.cluster_labels:ClusterLabels",
    "Triplets": "vidembed.feeds.triplets:Triplets",
    "LabelledVideos": "vidembed.feeds.labelled:LabelledVideos",
    "UniformNegatives": "vidembed.feeds.negatives:UniformNegatives",
    "SiblingNegatives": "vidembed.feeds.negatives:SiblingNegatives",
    "SemiHard": "vidembed.mining.miners:SemiHard",
    "Hardest": "vidembed.mining.miners:Hardest",
    "SemiHardRandom": "vidembed.mining.miners:SemiHardRandom",
    "NoMining": "vidembed.mining.miners:NoMining",
    "Hinge": "vidembed.losses.triplet:Hinge",
    "Log": "vidembed.losses.triplet:Log",
    "Exponential": "vidembed.losses.triplet:Exponential",
    "SampledSoftmax": "vidembed.losses.softmax:SampledSoftmax",
    "FullSoftmax": "vidembed.losses.softmax:FullSoftmax",
    "LateFusion": "vidembed.models.fusion:LateFusion",
    "EarlyFusion": "vidembed.models.fusion:EarlyFusion",
    "SingleModality": "vidembed.models.fusion:SingleModality",
    "Layers": "vidembed.models.fusion:Layers",
    "CosineClassifier": "vidembed.models.cluster_classifier:CosineClassifier",
    "DotClassifier": "vidembed.models.cluster_classifier:DotClassifier",
    "RelatedVideos": "vidembed.evaluators.related_videos:RelatedVideos",
}
"""Stored name of a class in older versions → its current name. Add the old name of any class that
moves."""


def modernised(recipe: dict[str, Any]) -> dict[str, Any]:
    """Convert a stored recipe of any version to the current form.

    Miners once had their own margin. If it was used and differs from the loss's margin, which
    replaces it, RecipeError is raised. The former fields `feed.max_forbidden`, a width per anchor,
    and `evaluator` (see `former_evaluator`) are dropped.
    """
    recipe = {name: value for name, value in _renamed(recipe).items() if name != "evaluator"}
    task, feed = recipe.get("task"), recipe.get("feed")
    if isinstance(feed, dict):
        recipe["feed"] = {k: v for k, v in feed.items() if k != "max_forbidden"}
    miner = task.get("miner") if isinstance(task, dict) else None
    if isinstance(task, dict) and isinstance(miner, dict) and "margin" in miner:
        loss = task.get("loss", {}).get("margin")
        if miner.get("inside_margin") and miner["margin"] != loss:
            raise RecipeError(
                f"recipe.task.miner: margin {miner['margin']} is not the loss's, {loss}; miners no "
                "longer have their own margin: use the version of vidembed that trained this run"
            )
        miner = {k: v for k, v in miner.items() if k != "margin"}
        recipe["task"] = task | {"miner": miner}
    return recipe


def former_evaluator(recipe: dict[str, Any]) -> dict[str, Any] | None:
    """The evaluator in a recipe from when it was a field, in the current form; else None."""
    evaluator = recipe.get("evaluator")
    return _renamed(evaluator) if isinstance(evaluator, dict) else None


def _renamed(data: Any) -> Any:
    """JSON values with the current names of classes."""
    if isinstance(data, list):
        return [_renamed(item) for item in data]
    if not isinstance(data, dict):
        return data
    renamed = {name: _renamed(value) for name, value in data.items()}
    if isinstance(name := data.get("class"), str):
        renamed["class"] = FORMER.get(name, name)
    return renamed
