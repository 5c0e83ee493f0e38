"""Label many videos block by block: their classes, from a table or records to a file."""

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from vidembed import files
from vidembed.deploy.embedding import QUIET
from vidembed.deploy.label_output import Form, check_form, label_writer
from vidembed.deploy.partial import partial_vectors
from vidembed.deploy.run import Run
from vidembed.deploy.videos import VideosToEmbed, part_of_table
from vidembed.metrics.class_ranks import top_classes
from vidembed.progress import Progress
from vidembed.records.outputs import OutputError, check_apart
from vidembed.records.table import FeatureTable
from vidembed.records.window_ids import Window, window_of

MAKER = "vidembed annotate"


@dataclass(frozen=True, kw_only=True)
class Annotated:
    """The outcome of `annotate_to`: numbers of videos, of labels, and of videos left out because
    they have no modality that the run reads. already_there: the output was complete before.
    alerts: with thresholds and windows, label → windows in which it reaches its threshold."""

    videos: int = 0
    labels: int = 0
    left_out: int = 0
    already_there: bool = False
    alerts: dict[str, list[Window]] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, eq=False)
class Assignment:
    """Which classes a video gets: the `top` best, of these those from their threshold f32[C] on.

    names: of the C classes. chosen: how the thresholds were chosen, for the record.
    """

    names: Sequence[str]
    top: int = 20
    thresholds: np.ndarray | None = None
    chosen: str = ""

    def __post_init__(self) -> None:
        if self.top < 1:
            raise ValueError(f"top must be 1 or more classes per video, found {self.top}")

    def best(self, scores: np.ndarray) -> np.ndarray:
        """f32[n, 2k]: the k best classes of scores f32[n, C], then their scores."""
        classes = top_classes(scores, min(self.top, scores.shape[1]))
        picked = np.take_along_axis(scores, classes, axis=1)
        return np.concatenate([classes.astype(np.float32), picked], axis=1)

    def of(self, best: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield (classes i32[m], scores f32[m]) of each row of `best`."""
        for row in best:
            classes, scores = np.split(row, 2)
            classes = classes.astype(np.int32)
            if self.thresholds is not None:
                inside = scores >= self.thresholds[classes]
                classes, scores = classes[inside], scores[inside]
            yield classes, scores


def annotate_to(
    run: Run,
    assignment: Assignment,
    videos: VideosToEmbed,
    out: str | os.PathLike[str],
    *,
    form: Form = "rows",
    force: bool = False,
    progress: Progress | None = None,
) -> Annotated:
    """Write the labels of the videos to `out`, a local file, whole or not at all.

    run: of the output `labels`. If `out` already holds the same labels, it is left as it is; other
    contents are an error unless `force` replaces them. After a stop or a fault, the scores computed
    so far stay in OUT.partial and are reused. Raises OutputError for another kind of name, for
    other contents, and for an `out` that is an input; also whatever reading the videos raises.
    """
    place = files.local_path(out)
    check_apart(place, videos.inputs)
    check_form(str(out), form)
    made = {"by": MAKER, "space": run.space, "run": run.name, "step": run.step, "form": form}
    made |= {"top": assignment.top, "thresholds": assignment.chosen, "videos": videos.identity}
    record_file = place.with_name(place.name + ".json")
    if place.exists() and not force:
        known = files.read_json(record_file) or {}
        if any(known.get(name) != made[name] for name in made if name != "run"):
            raise OutputError(
                f"{place} exists and does not hold these labels: choose another place, or replace "
                "it (--force)"
            )
        return Annotated(already_there=True)
    progress, labels, left_out = progress or Progress(), 0, 0
    size = 2 * min(assignment.top, len(assignment.names))

    def score(block: FeatureTable) -> Callable[[], np.ndarray]:
        return lambda: assignment.best(run.embed(block, progress=QUIET))

    alerts: dict[str, list[Window]] = {}

    def alerted(ids: np.ndarray, best: np.ndarray) -> None:
        for id, (classes, _) in zip(ids.tolist(), assignment.of(best)):
            if (window := window_of(id.decode())) is not None:
                for label in classes.tolist():
                    alerts.setdefault(assignment.names[label], []).append(window)

    with (
        partial_vectors(place, f"{run.space}, best {assignment.top}", size) as partial,
        progress.stage("annotating", videos.total, "videos") as stage,
        label_writer(place, form, assignment.names, made, windows=videos.windows) as write,
    ):
        for table in videos.blocks():
            _check_modalities(run, table)
            rows = run.embeddable(table)
            left_out += len(table) - len(rows)
            if len(rows):
                block = table if len(rows) == len(table) else part_of_table(table, rows)
                best = partial.block(run.rows(block), score(block))
                labels += write(block.ids, assignment.of(best))
                if videos.windows and assignment.thresholds is not None:
                    alerted(block.ids, best)
            stage.update(partial.videos + left_out)
        if not partial.videos:
            raise ValueError(
                f"none of {left_out:,} videos can be annotated: the run reads {list(run.widths)}"
            )
        files.write_json(record_file, made)
    return Annotated(videos=partial.videos, labels=labels, left_out=left_out, alerts=alerts)


def _check_modalities(run: Run, table: FeatureTable) -> None:
    if missing := [modality for modality in run.widths if modality not in table.features]:
        raise ValueError(
            f"{run.name} reads {missing[0]!r}, and the videos have {', '.join(table.features)}: if "
            f"it is an embedding, give its vectors for these videos (--embeddings {missing[0]}"
            ".parquet); if it is pooled from frames, give frame-level records; else import it"
        )
