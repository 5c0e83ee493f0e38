"""An index of a trained point's videos, and what it finds for one of them."""

from collections.abc import Iterator, Mapping
from pathlib import Path

import vidembed
from experiments.points import Point
from vidembed.deploy.index import VideoIndex
from vidembed.progress import Progress
from vidembed.records.space import SpaceError
from vidembed.records.table import FeatureTable


def indexed(point: Point, table: FeatureTable, path: Path, progress: Progress) -> VideoIndex:
    """The index of a table's videos by a point's last checkpoint, in a folder: made, or brought up
    to date where the same checkpoint made it."""
    run = vidembed.load(point.run.path, step=point.recipe.steps)
    if (path / "current").exists():
        try:
            index = VideoIndex.open(path, run)
            index.refresh(table, prune=True)
            return index
        except SpaceError:
            progress.say(f"{path} is of another training, and is made anew")
    return run.index(table, path, over=True, progress=progress)


def neighbours(
    index: VideoIndex, query: str, table: FeatureTable, label_names: Mapping[int, str], k: int = 5
) -> Iterator[str]:
    """Lines to print: a video of the index with its labels, and the k nearest with their scores."""

    def labelled(name: bytes) -> str:
        (row,) = table.find([name])
        labels = [label_names.get(label, f"label {label}") for label in table.labels(row).tolist()]
        return f"{name.decode()} ({', '.join(labels)})"

    yield f"nearest to {labelled(query.encode())}:"
    [(ids, scores)] = index.search(ids=[query], k=k).each()
    for name, score in zip(ids.tolist(), scores.tolist()):
        yield f"  {score:.3f}  {labelled(name)}"
