"""JEMC's tables in form, on data of one's own: losses, features, spaces, and controls (ICMR 2018).

    python -m experiments.words_tables youtube8m --workdir W --records R --vocabulary V --encoder E
    python -m experiments.words_tables trailers --workdir W --movielens M --trailers T --text X ...
    python -m experiments.words_tables world --workdir W --encoder E
    python -m experiments.words_tables msrvtt-form --workdir W --table T --captions C --encoder E

Each row is a `vidembed train jemc` in W/seedS/ROW, skipped once it is done, and measured with the
measures of `experiments.words`. Writes W/tables.md and W/tables.json.
"""

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import tyro

from experiments.annotation_runs import print_tables, write_tables
from experiments.points import refuse_seeds
from experiments.words import as_json, counts
from experiments.words_data import Worded
from experiments.words_measures import measured, questions, ranked
from experiments.words_orderings import cells, orderings, queries_of
from experiments.words_paper_tables import Line, narrow, remarks, tables
from experiments.words_published import SOUND, published
from experiments.words_rows import Row, Training, rows
from experiments.words_runs import answers_of, same_options, train
from experiments.words_sources import OfTrailers, OfYouTube8M, Source
from experiments.words_systems import CCA, EVERY, RIDGE, SHUFFLED, Answers, Penalties, systems
from experiments.words_world import planted_world
from vidembed.cli import command_line
from vidembed.corpora.captions import CaptionPaths
from vidembed.corpora.sentence_vectors import sentence_vectors

CONTROLS = "closed forms and controls"
MIXED = "two spaces, features shuffled"


@dataclass(frozen=True, kw_only=True)
class Tables(Source):
    """What all data sets share."""

    workdir: str
    """Folder for the data of each seed, the trainings and the results."""
    encoder: str
    """Folder of a sentence encoder (`vidembed.media.sentences`)."""
    seeds: tuple[int, ...] = (0, 1, 2)
    """Of the trainings; and of split and captions, where these are not given."""
    training: Training = field(default_factory=Training)
    penalties: Penalties = field(default_factory=Penalties)
    resamples: int = 200
    """Behind the intervals of each seed and of differences."""

    def __post_init__(self) -> None:
        refuse_seeds(self.seeds)

    def run(self) -> int:
        """Train what is missing, measure, print the tables and write tables.md and tables.json."""
        folder, lines, notes = Path(self.workdir), dict[str, Line](), dict[str, None]()
        simulated = False
        for seed in self.seeds:
            data = self.data(folder, seed)
            simulated |= bool(data.table.manifest.get("source", {}).get("made_up"))
            notes[counts(data, seed)] = None
            print(counts(data, seed), flush=True)
            self._seed(data, folder, seed, lines, notes)
        differences = list(orderings({k: v.queries for k, v in lines.items()}, self.resamples))
        title = f"{'SIMULATED videos and captions. ' if simulated else ''}Search by words"
        parts = list(tables(title, lines, [cells(*each) for each in differences]))
        said = [*notes, *remarks(lines), *self.goals(lines)]
        print_tables(narrow(parts), said)
        scores = {line.name: line.scores for line in lines.values()}
        result: dict[str, Any] = as_json(scores, self.seeds) | {
            "title": title,
            "orderings": [
                {
                    "claim": claim, "row": lines[one].name, "other": lines[other].name,
                    "differences": {name: each._asdict() for name, each in of.items()},
                }
                for claim, one, other, of in differences
            ],
            "remarks": said,
        }  # fmt: skip
        for path in write_tables(result, parts, said, folder / "tables"):
            print(f"wrote {path}")
        return 0

    def _seed(
        self, data: Worded, folder: Path, seed: int, lines: dict[str, Line], notes: dict[str, None]
    ) -> None:
        """Measure all systems of one seed."""
        asked, first = questions(data), seed * len(data.table) * self.own_videos()

        def encode(texts: Sequence[str]) -> np.ndarray:
            return sentence_vectors(self.encoder, texts).vectors

        def add(key: str, name: str, block: str, answers: Answers, silent: bool = False) -> None:
            of = ranked(data, answers)
            scores = measured(data, answers, asked, seed=seed, resamples=self.resamples, of=of)
            line = lines.setdefault(key, Line(name, block, silent, len(of.videos), [], []))
            line.scores.append(scores)
            line.queries.append(queries_of(of, first))
            found = scores["text_to_video/r@10"].value
            print(f"{name}: text to video R@10 {found:.1%}", flush=True)

        for name, answers in systems(data, encode, self.penalties, seed):
            add(name, name, CONTROLS, answers)
        if silent := [name for name in data.modalities if name != SOUND]:
            of_silent = systems(replace(data, modalities=silent), encode, self.penalties, seed)
            for name, answers in of_silent if len(silent) < len(data.modalities) else ():
                if name in (SHUFFLED, RIDGE, EVERY, CCA):
                    named = f"{name}, without audio"
                    add(named, named, CONTROLS, answers, silent=True)
        captions = len(data.captions_of("train"))
        for row in rows(data.modalities, self.training, self.encoder, captions):
            answers = self._trained(row, data, folder, seed, encode)
            add(row.key, row.name, row.block, answers, row.silent)
            if row.key == "two":
                mixed = np.random.default_rng(seed).permutation(answers.videos)
                add(MIXED, MIXED, CONTROLS, Answers(mixed, answers.texts))

    def _trained(self, row: Row, data: Worded, folder: Path, seed: int, encode: Any) -> Answers:
        place = folder / f"seed{seed}" / row.folder
        train(place, self.given(folder, seed), *row.options, seed=seed)
        return answers_of(place, data, encode)

    def own_videos(self) -> bool:
        """Whether each seed has its own videos."""
        return False

    def goals(self, lines: dict[str, Line]) -> Iterator[str]:
        """What is asked of this data, and whether it is reached."""
        yield from ()


@dataclass(frozen=True, kw_only=True)
class YouTube8M(OfYouTube8M, Tables):
    """Videos of YouTube-8M, captions from the names of their labels."""

    def goals(self, lines: dict[str, Line]) -> Iterator[str]:
        """Label sets by a GRU."""
        if "gru" in lines:
            yield lines["gru"].goal("label sets", 0.32)


@dataclass(frozen=True, kw_only=True)
class Trailers(OfTrailers, Tables):
    """Trailers of movies, with what people wrote about the movies."""

    penalties: Penalties = field(default_factory=lambda: Penalties(sentences=10))
    training: Training = field(
        default_factory=lambda: Training(
            batch=128, passes=24, rate=0.001, temperature=0.2, feature_dropout=0.3,
            text_dropout=0.0, hidden=(),
        )
    )  # fmt: skip

    def goals(self, lines: dict[str, Line]) -> Iterator[str]:
        """Full texts by the best system, closed forms included."""
        best = max(lines.values(), key=lambda line: line.mean("text_to_video/r@10"))
        yield best.goal("text_to_video/r@10", 0.16)
        yield best.goal("text_to_video/median_rank", 53)


@dataclass(frozen=True, kw_only=True)
class World(Tables):
    """Imagined videos with captions (`experiments.words_world`); nothing in it is real."""

    videos: int = 2000
    """Of each seed."""
    captions: int = 5
    """Of each video."""
    ambiguous: float = 0.2
    """Share of captions that fit other videos, too."""
    training: Training = field(default_factory=lambda: Training(batch=128))

    def data(self, folder: Path, seed: int) -> Worded:
        """A world of its own for each seed."""
        place = folder / f"seed{seed}" / "world"
        sizes = (self.videos, self.captions, self.ambiguous)
        same_options(place, [str(each) for each in sizes])
        if not (place / "captions.json").exists():
            planted_world(
                place,
                videos=self.videos,
                captions=self.captions,
                ambiguous=self.ambiguous,
                seed=seed,
            )
        return published(self._paths(folder, seed))

    def _paths(self, folder: Path, seed: int) -> CaptionPaths:
        place = folder / f"seed{seed}" / "world"
        return CaptionPaths(table=str(place / "table"), captions=str(place / "captions.json"))

    def given(self, folder: Path, seed: int) -> tuple[str, ...]:
        """The world's files."""
        paths = self._paths(folder, seed)
        return "--corpus.table", paths.table, "--corpus.captions", paths.captions

    def own_videos(self) -> bool:
        """Yes."""
        return True


@dataclass(frozen=True, kw_only=True)
class PublishedForm(Tables):
    """A feature table of one's own, with captions in a published form."""

    table: str = ""
    """Feature table, such as of object, activity and audio."""
    captions: str = ""
    """Captions, as for `train jemc`: MSR-VTT's videodatainfo.json, MSVD's CSV, or others."""
    split: str = ""
    """Split of the videos, where the captions bring none."""

    def data(self, folder: Path, seed: int) -> Worded:
        """The same for all seeds."""
        return published(CaptionPaths(table=self.table, captions=self.captions, split=self.split))

    def given(self, folder: Path, seed: int) -> tuple[str, ...]:
        """The files."""
        files = ("--corpus.table", self.table, "--corpus.captions", self.captions)
        return (*files, "--corpus.split", self.split) if self.split else files


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the data set of the command line; returns an exit code."""
    missing: Any = {"workdir": tyro.MISSING, "encoder": tyro.MISSING}
    commands = {
        "youtube8m": YouTube8M(**missing),
        "trailers": Trailers(**missing),
        "world": World(**missing),
        "msrvtt-form": PublishedForm(**missing),
    }
    given = sys.argv[1:] if arguments is None else arguments
    prog = "python -m experiments.words_tables"
    chosen = command_line.parse(commands, given, prog=prog, description="JEMC's tables in form.")
    return command_line.guarded(chosen.run)


if __name__ == "__main__":
    sys.exit(main())
