"""Search by words: closed forms on real features, which a trained system has to surpass.

    python -m experiments.words youtube8m --workdir W --records FOLDER --vocabulary vocabulary.csv
    python -m experiments.words trailers --workdir W --movielens M --trailers T --text X

Captions of YouTube-8M are made of the names of its labels; 40 labels are kept out, for zero-shot.
W/seedS holds captions, split, labels and label sets as files, with which
`vidembed train jemc --corpus.table W/table --corpus.captions W/seedS/captions.csv --corpus.split
W/seedS/split.csv` learns from the same videos. MovieLens, its trailers and their texts may not be
passed on.
"""

import itertools
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import tyro

from experiments.annotation_runs import Titled, print_tables, write_tables
from experiments.points import refuse_seeds
from experiments.words_data import Worded
from experiments.words_measures import AT, measured, questions
from experiments.words_sources import OfTrailers, OfYouTube8M, Source
from experiments.words_systems import EVERY, Answers, Penalties, systems
from experiments.words_trained import trained
from vidembed.cli import command_line
from vidembed.corpora.sentence_vectors import sentence_vectors
from vidembed.metrics.intervals import Interval
from vidembed.workdir.versions import versions

RANKS = (*(f"text_to_video/r@{k}" for k in AT), "text_to_video/median_rank", "video_to_text/r@10")
Results = dict[str, list[dict[str, Interval]]]
"""System → measures of each seed."""


@dataclass(frozen=True, kw_only=True)
class Closed(Source):
    """What both data sets share."""

    workdir: str
    """Folder for the table, the files of each seed and the results."""
    encoder: str
    """Folder of a sentence encoder (`vidembed.media.sentences`)."""
    seeds: tuple[int, ...] = (0, 1, 2)
    """Each has its own split and captions."""
    train: bool = False
    """Also train joint spaces (`train jemc --preset recommended`)."""
    penalties: Penalties = field(default_factory=Penalties)
    resamples: int = 200
    """Behind the intervals of each seed, in words.json."""

    def __post_init__(self) -> None:
        refuse_seeds(self.seeds)

    def run(self) -> int:
        """Fit, measure, print the table, and write words.json and words.md."""
        folder, results, notes = Path(self.workdir), Results(), list[str]()

        def encode(texts: Sequence[str]) -> np.ndarray:
            return sentence_vectors(self.encoder, texts).vectors

        for seed in self.seeds:
            data = self.data(folder, seed)
            asked = questions(data)
            notes.append(counts(data, seed))
            print(notes[-1], flush=True)
            closed = dict(systems(data, encode, self.penalties, seed))
            learned: Iterable[tuple[str, Answers]] = ()
            if self.train:
                place = folder / f"seed{seed}" / "jemc"
                given = self.given(folder, seed)
                learned = trained(data, closed[EVERY], place, given, self.encoder, seed)
            for name, answers in itertools.chain(closed.items(), learned):
                scores = measured(data, answers, asked, seed=seed, resamples=self.resamples)
                results.setdefault(name, []).append(scores)
        tables = list(table(results))
        print_tables(tables, notes)
        for path in write_tables(as_json(results, self.seeds), tables, notes, folder / "words"):
            print(f"wrote {path}")
        return 0


@dataclass(frozen=True, kw_only=True)
class YouTube8M(OfYouTube8M, Closed):
    """Videos of YouTube-8M, captions from the names of their labels."""


@dataclass(frozen=True, kw_only=True)
class Trailers(OfTrailers, Closed):
    """Trailers of movies, with what people wrote about the movies."""

    penalties: Penalties = field(default_factory=lambda: Penalties(sentences=10))


def table(results: Mapping[str, Sequence[Mapping[str, Interval]]]) -> Iterator[Titled]:
    """Means over seeds, and over how much the seeds range."""
    first = next(iter(results.values()))[0]
    names = (*RANKS, *(name for name in first if "/" not in name and name != "sum_of_recalls"))
    rows = [
        [system, *(cell(name, [e[name].value for e in seeds if name in e]) for name in names)]
        for system, seeds in results.items()
    ]
    yield (
        "Search by words, per cent; means over seeds ± half their range",
        ["", *map(_short, names)],
        rows,
    )


def _short(name: str) -> str:
    return name.replace("text_to_video/", "t→v ").replace("video_to_text/", "v→t ")


def cell(name: str, values: Sequence[float]) -> str:
    """The mean over seeds ± half their range, if they are several: a rank, or per cent."""
    if not values:
        return "–"
    scale, digits = (1, 0) if "rank" in name else (100, 1)
    mean, half = float(np.mean(values)) * scale, (max(values) - min(values)) / 2 * scale
    return f"{mean:.{digits}f}" + (f" ± {half:.{digits}f}" if len(values) > 1 else "")


def as_json(
    results: Mapping[str, Sequence[Mapping[str, Interval]]], seeds: Sequence[int]
) -> dict[str, Any]:
    """All measures with their intervals, per seed."""
    systems = {
        name: [{key: value._asdict() for key, value in each.items()} for each in of]
        for name, of in results.items()
    }
    return {"seeds": list(seeds), "systems": systems, "versions": versions()}


def counts(data: Worded, seed: int) -> str:
    """How many videos and captions each part has, as a remark."""
    parts = ", ".join(
        f"{int(mask.sum()):,} {name} ({len(data.captions_of(name)):,} captions)"
        for name, mask in data.parts.items()
    )
    return f"seed {seed}: videos {parts}; {int(data.kept_out.sum()):,} kept out for zero-shot"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the data set of the command line; returns an exit code."""
    missing: Any = {"workdir": tyro.MISSING, "encoder": tyro.MISSING}
    commands = {"youtube8m": YouTube8M(**missing), "trailers": Trailers(**missing)}
    given = sys.argv[1:] if arguments is None else arguments
    chosen = command_line.parse(
        commands, given, prog="python -m experiments.words", description="Search by words."
    )
    return command_line.guarded(chosen.run)


if __name__ == "__main__":
    sys.exit(main())
