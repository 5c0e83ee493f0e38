"""Say what the metrics of predicted labels and of a search by words mean."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from vidembed.report import wording

MEANINGS: Mapping[str, str] = {
    "gap": "the {depth} most probable labels of all videos form one list, ordered by probability; "
    "its average precision, where labels that are not in it count as missed.",
    "map_per_class": "each class orders all videos by its probability; the mean of their average "
    "precisions, in which rare classes count as much as common ones.",
    "map_per_class@": "each class orders the videos that have it among their {depth} most probable "
    "labels, and its other videos count as missed; the mean of their average precisions.",
    "hit": "the share of videos with a true label among their {depth} most probable.",
    "hit@1": "the share of videos whose most probable label is true.",
    "perr": "the share of true labels among a video's n most probable, if it has n labels; the "
    "mean over videos.",
    "map_per_video": "each video orders all classes by probability; the mean of their average "
    "precisions.",
    "accuracy": "the share of videos whose class is among their {depth} most probable.",
    "accuracy@1": "the share of videos whose most probable class is right.",
    "class_accuracy": "the mean of this share over classes, in which rare classes count as much as "
    "common ones.",
    "r": "the share of queries with a right answer among the first {depth}.",
    "median_rank": "the median, over queries, of the rank of the first right answer, 1 at best.",
    "mean_rank": "the mean of these ranks.",
    "probe": "the share of videos whose class a logistic regression on the vectors of the train "
    "videos names.",
    "same_source": "the share of videos whose nearest other video of the same part is of their "
    "source, which is not what is looked for; of those with such a video.",
    "sum_of_recalls": "the sum of the shares R of both directions; it compares checkpoints.",
}
"""Metric, its name up to the depth, or without depth → what it means."""


def meanings(metrics: Iterable[str]) -> list[dict[str, str]]:
    """`name` and `means` of each metric that has a meaning here."""
    entries = []
    for metric in metrics:
        kind, at, depth = metric.partition("@")
        text = MEANINGS.get(metric) or MEANINGS.get(kind + at) or MEANINGS.get(kind)
        if text:
            entries.append({"name": wording.metric(metric), "means": text.format(depth=depth)})
    return entries


def of_panels(panels: Sequence[Mapping[str, Any]]) -> list[dict[str, str]]:
    """The meanings of the metrics of all panels, each once."""
    return meanings(dict.fromkeys(name for panel in panels for name in panel["metrics"]))
