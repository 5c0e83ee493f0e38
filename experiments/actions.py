"""Classes and sources of short clips, from features of their frames: retrieval and a linear probe.

    python -m experiments.actions --clips FOLDER/split.csv --table TABLE --workdir W \
        --videos FOLDER --pair Fight NoFight

Every modality of the table, and joint forms, against a colour histogram (with --videos) and chance.
Clips of one source are on one side of the split; intervals resample sources. The list has the
columns path, class, group (the source) and split; the table is made by `vidembed extract`. Clips
themselves are only read. The tables are printed, and written to W/actions.json and W/actions.md.
"""

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import tyro

from experiments.annotation_runs import Titled, interval_text, print_tables, write_tables
from experiments.colour_histogram import histogram
from vidembed.cli import command_line
from vidembed.corpora.clips import ClipCorpus, Clips, joined, read_clips
from vidembed.evaluators import clip_scores
from vidembed.evaluators.clip_scores import LabelledClips, Measured, Probing
from vidembed.evaluators.probe import features_of
from vidembed.metrics.intervals import Interval
from vidembed.progress import Progress
from vidembed.records.table import FeatureTable
from vidembed.workdir.versions import versions

METRICS = ("r@1", "r@5", clip_scores.SAME_SOURCE, clip_scores.PROBE)
OF_PAIR = ("r@1", clip_scores.PROBE)
HISTOGRAM, CHANCE = "colour histogram", "chance"
Both = tuple[Measured, Measured]
"""Retrieval and probe of each test clip; same source."""


@dataclass(frozen=True, kw_only=True)
class Actions:
    """Measure every modality of a table of clips; print the tables and write them to WORKDIR."""

    clips: str
    """The list of the clips: path, class, group, split; CSV or Parquet."""
    workdir: str
    """Folder for the results."""
    table: str = ""
    """The feature table of the clips; without it, only the controls are measured."""
    videos: str = ""
    """The folder that the paths of the list start from, for the colour histogram."""
    systems: tuple[str, ...] = ()
    """What to measure: names of modalities, several joined by +. By default each modality, the
    first one with each other, and all."""
    baseline: str = ""
    """The system that the others are compared with; the first one by default."""
    pair: tuple[str, ...] = ()
    """Two classes that are also measured alone, such as Fight NoFight."""
    scaling: str = "standardised"
    """Inputs of the probe: standardised, or unit (vectors of length 1)."""
    seed: int = 0
    """Seed of the probe's folds and of the bootstrap."""

    def run(self) -> int:
        """All systems; raises ValueError for data and options that do not fit."""
        clips, table = read_clips(self.clips), None
        chosen = self._pair(clips)
        if self.table:
            table = joined(FeatureTable.open(self.table), clips, self.clips)
        elif not self.videos:
            raise ValueError("give --table TABLE, --videos FOLDER (for the controls alone) or both")
        known = _labelled(clips)
        systems = dict(self._systems(clips, table))
        if self.baseline and self.baseline not in systems:
            raise ValueError(
                f"there is no system {self.baseline!r} to compare with: {', '.join(systems)}"
            )
        options = Probing(scaling=self.scaling, seed=self.seed)  # type: ignore[arg-type]
        results: dict[str, Both] = {}
        of_pair: dict[str, Both] = {}
        with Progress().stage("measuring", len(systems), "systems") as stage:
            for number, (name, features) in enumerate(systems.items()):
                stage.update(number, note=name)
                vectors = features()
                results[name] = clip_scores.measured(vectors, known, options=options)
                if chosen:
                    two = known.of_classes(chosen)
                    of_pair[name] = clip_scores.measured(vectors, two, options=options)
        results[CHANCE] = clip_scores.chance(known)
        if chosen:
            of_pair[CHANCE] = clip_scores.chance(known.of_classes(chosen))
        result = self._summary(clips, table, known, results, of_pair)
        print_tables(_tables(result), _remarks(result))
        path = Path(self.workdir) / "actions"
        for written in write_tables(result, _tables(result), _remarks(result), path):
            print(f"wrote {written}")
        return 0

    def _pair(self, clips: Clips) -> list[int]:
        """The numbers of the two classes; [] if none are given."""
        known = len(self.pair) in (0, 2) and set(self.pair) <= set(clips.classes)
        if not known or len(set(self.pair)) < len(self.pair):
            raise ValueError(
                f"--pair takes two of {', '.join(clips.classes)}; found {' '.join(self.pair)}"
            )
        return [clips.classes.index(name) for name in self.pair]

    def _systems(
        self, clips: Clips, corpus: ClipCorpus | None
    ) -> Iterator[tuple[str, Callable[[], np.ndarray]]]:
        """(name, how to get its features f32[n, D] in the order of the list)."""
        if corpus is not None:
            table = corpus.table
            rows = table.find(clips.ids)
            for name in self.systems or _forms(list(table.features)):
                parts = tuple(name.split("+"))
                if unknown := [part for part in parts if part not in table.features]:
                    raise ValueError(
                        f"the table has no modality {unknown[0]!r}: {', '.join(table.features)}"
                    )
                yield name, partial(_of_table, table, parts, rows)
        if self.videos:
            files = clips.files(self.videos)
            yield HISTOGRAM, lambda: np.stack([*map(histogram, files)])

    def _summary(
        self,
        clips: Clips,
        corpus: ClipCorpus | None,
        known: LabelledClips,
        results: Mapping[str, Both],
        of_pair: Mapping[str, Both],
    ) -> dict[str, Any]:
        """Everything that the tables show, as JSON values."""
        base = self.baseline or next(iter(results))
        lacking = {}
        if corpus is not None:
            rows = corpus.table.find(clips.ids)
            counts = {m: int((~corpus.table.has(m)[rows]).sum()) for m in corpus.table.features}
            lacking = {name: count for name, count in counts.items() if count}
        two = known.of_classes(self._pair(clips)) if of_pair else known
        return {
            "clips": {name: int((clips.part == name).sum()) for name in ("train", "test")},
            "sources": len(clips.sources),
            "table": corpus.table.fingerprint if corpus is not None else None,
            "space": dict(corpus.table.space) if corpus is not None else {},
            "lacking": lacking,
            "baseline": base,
            "pair": list(self.pair),
            "scores": {n: self._intervals(both, known) for n, both in results.items()},
            "minus": {
                n: self._differences(both, results[base], known)
                for n, both in results.items()
                if n not in (base, CHANCE)
            },
            "of_pair": {n: self._intervals(both, two) for n, both in of_pair.items()},
            "of_pair_minus": {
                n: self._differences(both, of_pair[base], two)
                for n, both in of_pair.items()
                if n not in (base, CHANCE)
            },
            "classes": {
                n: {
                    clips.classes[number]: _as_json(scores)
                    for number, scores in clip_scores.by_class(
                        both[0], known, seed=self.seed
                    ).items()
                }
                for n, both in results.items()
            },
            "versions": versions(),
        }

    def _intervals(self, both: Both, clips: LabelledClips) -> dict[str, Any]:
        each = [clip_scores.intervals(of, clips, seed=self.seed) for of in both if len(of.rows)]
        return _as_json({name: value for of in each for name, value in of.items()})

    def _differences(self, ones: Both, others: Both, clips: LabelledClips) -> dict[str, Any]:
        pairs = [(one, other) for one, other in zip(ones, others) if len(one.rows)]
        each = [clip_scores.paired(*pair, clips, seed=self.seed) for pair in pairs]
        return _as_json({name: value for of in each for name, value in of.items()})


def _of_table(table: FeatureTable, parts: tuple[str, ...], rows: np.ndarray) -> np.ndarray:
    return features_of(table, parts)[rows]


def _forms(modalities: Sequence[str]) -> list[str]:
    """Each modality, the first with each other, and all of three or more."""
    first, *others = modalities
    pairs = [f"{first}+{other}" for other in others]
    return [*modalities, *pairs, *(["+".join(modalities)] if len(others) > 1 else [])]


def _labelled(clips: Clips) -> LabelledClips:
    return LabelledClips(
        labels=clips.labels.astype(np.int64),
        classes=len(clips.classes),
        groups=clips.groups,
        train=clips.part == "train",
        test=clips.part == "test",
        validation=clips.part == "validation",
    )


def _as_json(intervals: Mapping[str, Interval]) -> dict[str, Any]:
    return {name: interval._asdict() for name, interval in intervals.items()}


def _tables(result: Mapping[str, Any]) -> Iterator[Titled]:
    base = result["baseline"]
    yield "Test clips", ["system", *METRICS], _rows(result["scores"], METRICS)
    if result["minus"]:
        title = f"Differences from {base}, paired by clip"
        yield title, ["system", *METRICS], _rows(result["minus"], METRICS, sign=True)
    if result["of_pair"]:
        title = f"{' and '.join(result['pair'])} alone"
        yield title, ["system", *OF_PAIR], _rows(result["of_pair"], OF_PAIR)
    if result["of_pair_minus"]:
        title = f"{' and '.join(result['pair'])} alone, differences from {base}"
        yield title, ["system", *OF_PAIR], _rows(result["of_pair_minus"], OF_PAIR, sign=True)
    classes = list(next(iter(result["classes"].values())))
    for metric in OF_PAIR:
        rows = [
            [name, *(f"{of[c][metric]['value']:.3f}" for c in classes)]
            for name, of in result["classes"].items()
        ]
        yield f"{metric} of each class", ["system", *classes], rows


def _rows(
    systems: Mapping[str, Any], metrics: Sequence[str], *, sign: bool = False
) -> list[list[str]]:
    return [
        [name, *(interval_text(of[m], sign=sign) if m in of else "" for m in metrics)]
        for name, of in systems.items()
    ]


def _remarks(result: Mapping[str, Any]) -> Iterator[str]:
    counts = result["clips"]
    yield (
        f"{counts['test']} test clips against {counts['train']} train clips of other sources, of "
        f"{result['sources']} sources in all. r@k: a clip of the same class is among the k nearest "
        "train clips by cosine. same_source: the nearest other test clip is of the same source. "
        "probe: accuracy of logistic regression. Intervals resample sources."
    )
    for name, count in result["lacking"].items():
        yield f"{count} clips have no {name}: they never hit, and are never found."


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns an exit code."""
    command = Actions(clips=tyro.MISSING, workdir=tyro.MISSING)
    return command_line.start(command, arguments, prog="python -m experiments.actions")


if __name__ == "__main__":
    sys.exit(main())
