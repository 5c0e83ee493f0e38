"""Videos as distributions: ProViCo's ablations on short clips (CVPR 2022).

    python -m experiments.clips run --workdir W --folder CLIPS --clips CLIPS/split.csv \
        --frames FEATURES/BACKBONE-DIGEST --pair Fight NoFight
    python -m experiments.clips run --workdir W --folder CLIPS --clips LIST --decoded --rates 1e-3

Each row is a `vidembed train provico` in W/runs/ROW/seedS, skipped once it is measured. The list
has the columns path, class, group (the source) and split; FEATURES is made by `vidembed extract
--features FEATURES`. Clips of `experiments.moving_shapes` serve, too: the tables then say that they
are simulated. `run` trains what is missing, and gathers; `gather` makes the tables of what is
there. Both print them, and write W/clips.json and W/clips.md.
"""

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import tyro

from experiments.annotation_runs import print_tables, write_tables
from experiments.clips_lists import Lists
from experiments.clips_rows import Row, at_rates, decoded, rows
from experiments.clips_runs import Runs, Training
from experiments.clips_tables import gathered, remarks, tables
from experiments.points import refuse_seeds
from vidembed import files
from vidembed.cli import command_line
from vidembed.progress import Progress


@dataclass(frozen=True, kw_only=True)
class Gather:
    """Print the tables of what is measured, and write clips.json and clips.md."""

    workdir: str
    """Folder of the lists, trainings, scores and tables."""
    folder: str
    """The folder that the paths of the list start from."""
    clips: str
    """The list of the clips: path, class, group, split; CSV or Parquet."""
    frames: str = ""
    """Stored features of their frames: FEATURES/BACKBONE-DIGEST. Not with --decoded."""
    decoded: bool = False
    """Decode small clips while training, for a small R3D: ProViCo against InfoNCE alone."""
    pair: tuple[str, ...] = ()
    """Two classes that are also measured alone, such as Fight NoFight."""
    seeds: tuple[int, ...] = (0, 1, 2)
    """Of the trainings."""
    rates: tuple[float, ...] = (1e-4, 1e-3, 1e-2)
    """Learning rates to choose from, for each row."""
    videos: tuple[int, ...] = (60, 120, 240)
    """Numbers of train clips to learn from, besides all. Those above the number that is left while
    a rate is chosen are skipped."""
    only: tuple[str, ...] = ()
    """Keys of rows, such as info-nce and provico; all by default."""
    validation: float = 0.2
    """Share of the train sources of each class to choose the rate by, where the list has none."""
    split_seed: int = 0
    """Of this part, and of the train clips that are left out."""
    training: Training = field(default_factory=Training)

    def __post_init__(self) -> None:
        refuse_seeds(self.seeds)
        if not self.rates or min(self.rates) <= 0 or len(set(self.rates)) < len(self.rates):
            raise ValueError(f"rates must be distinct and above 0, found {self.rates}")

    def run(self) -> int:
        """Gather."""
        lists, runs = self._opened()
        rates = files.read_json(Path(self.workdir) / "rates.json") or {}
        return self._gather(lists, runs, rates)

    def _opened(self) -> tuple[Lists, Runs]:
        if bool(self.frames) == self.decoded:
            raise ValueError("give --frames FEATURES/BACKBONE-DIGEST, or else --decoded")
        folder = Path(self.workdir)
        folder.mkdir(parents=True, exist_ok=True)
        lists = Lists(self.clips, folder, share=self.validation, seed=self.split_seed)
        classes = lists.clips.classes
        if len(self.pair) not in (0, 2) or not {*self.pair} <= {*classes}:
            raise ValueError(f"--pair takes two of {', '.join(classes)}; found {self.pair}")
        pair = [classes.index(name) for name in self.pair]
        runs = Runs(
            folder, self.folder, self.frames, lists, self.training, pair=pair, decoded=self.decoded
        )
        return lists, runs

    def _rows(self, lists: Lists) -> list[Row]:
        learning = lists.counts["train"] - lists.counts["of_train_to_choose"]
        fewer = [count for count in self.videos if count <= learning]
        every = list(decoded() if self.decoded else rows(fewer))
        if unknown := {*self.only} - {row.key for row in every}:
            raise ValueError(
                f"--only has {sorted(unknown)}; choose from {', '.join(r.key for r in every)}"
            )
        return [row for row in every if not self.only or row.key in self.only]

    def _every_row(self, lists: Lists, rates: dict[str, float]) -> Iterator[Row]:
        """All rows, and then the two systems at the rates that were not chosen."""
        yield from self._rows(lists)
        if not self.decoded:
            yield from at_rates(self.rates, rates)

    def _gather(self, lists: Lists, runs: Runs, rates: dict[str, float]) -> int:
        result = gathered(runs, list(self._every_row(lists, rates)), self.seeds, rates)
        notes = list(remarks(result, lists.counts, len(lists.clips.sources)))
        result |= {"clips": dict(lists.counts), "remarks": notes}
        parts = list(tables(result))
        print_tables(parts, notes)
        for path in write_tables(result, parts, notes, Path(self.workdir) / "clips"):
            print(f"wrote {path}")
        return 0


@dataclass(frozen=True, kw_only=True)
class Run(Gather):
    """Train and measure what is missing, then gather."""

    def run(self) -> int:
        """Train, measure, gather."""
        lists, runs = self._opened()
        place, progress = Path(self.workdir) / "rates.json", Progress()
        rates: dict[str, float] = files.read_json(place) or {}
        progress.say("controls ...")
        runs.controls()
        for row in self._every_row(lists, rates):
            progress.say(f"{row.name} ...")
            rates[row.key] = row.rate or runs.choose(row, self.rates)
            files.write_json(place, rates)
            for seed in self.seeds:
                runs.measure(row, rates[row.key], seed)
        return self._gather(lists, runs, rates)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the verb of the command line; returns an exit code."""
    missing: Any = {"workdir": tyro.MISSING, "folder": tyro.MISSING, "clips": tyro.MISSING}
    commands = {"run": Run(**missing), "gather": Gather(**missing)}
    given = sys.argv[1:] if arguments is None else arguments
    chosen = command_line.parse(
        commands, given, prog="python -m experiments.clips", description="ProViCo's ablations."
    )
    return command_line.guarded(chosen.run)


if __name__ == "__main__":
    sys.exit(main())
