"""Recommendation to real people: MovieLens with real trailers (CDML, sections 4.2.2 and 4.2.3).

    python -m experiments.movielens run --workdir W \\
        --movielens FOLDER --trailers FOLDER --text FOLDER
    python -m experiments.movielens gather --workdir W

Three measurements, each with every seed: `t4`, user models and what a history is made of (Table 4);
`t5`, few ratings of users that nothing was trained on (Table 5 and figure 5); `cold`, movies that
nobody has rated. Each has raw features, a ridge, the closed form, CDML, and the closed form beside
the ridge and beside CDML; `--no-cdml` leaves CDML out. `cold` also has a tower trained on users,
alone and beside the others; `--no-tower` leaves it out. With MovieLens 100K (`--ml100k FOLDER`)
there is `ml100k`, the SVD row of Table 5 on the paper's own ratings. Running again goes on from
what is done. W/results holds the metrics of each user, W/TEST/seedS/NAME the trainings, which
`show`, `evaluate` and `vidembed.load` take as any other run.

MovieLens and the trailers may not be passed on: get MovieLens from grouplens.org, the features of
trailers from MMTF-14K.
"""

import csv
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import tyro
import xxhash

from experiments.movielens_100k import hundred_k, joined, svd_row
from experiments.movielens_gathering import gathered
from experiments.movielens_tables import print_tables, write_tables
from experiments.movielens_tower import Tower
from experiments.movielens_training import SETS, Weight, recipe
from experiments.movielens_trials import DEFAULT_SETS, TRIALS, WITHOUT_TRAILERS, Measured, Trial
from experiments.movielens_workdir import Sources, prepared
from experiments.points import refuse_seeds
from vidembed import files
from vidembed.cli import command_line
from vidembed.corpora.ratings import Ratings, read_ratings
from vidembed.distributed.stopping import StopFlag, StoppedError
from vidembed.models.linear import POWER, RIDGE, SIZE, check_options
from vidembed.progress import Progress
from vidembed.records.scores_file import write_scores
from vidembed.workdir.layout import Workdir
from vidembed.workdir.versions import versions

Test = Literal["t4", "t5", "cold", "ml100k"]
Work = tuple[dict[str, Any], Callable[[], Measured]]
"""What a result is made of, and how."""


@dataclass(frozen=True, kw_only=True)
class Run:
    """Train and measure every test with every seed; what is done is skipped."""

    workdir: str
    """Folder for the table, the trainings and the results."""
    movielens: str = ""
    """MovieLens as unpacked: ratings.csv, movies.csv, and tags.csv and ml-youtube.csv if there."""
    ratings: str = ""
    """Ratings from elsewhere (a file, a folder, tfds:movielens/100k-ratings) with movieId's of
    --movielens; by default those of --movielens."""
    trailers: str = ""
    """Trailer features of MMTF-14K: audio*.csv, visual*.csv. Without: genres and tags of movies."""
    text: str = ""
    """Folder of trailer_text.csv (overview, keywords); without there is no modality text."""
    ml100k: str = ""
    """MovieLens 100K (u.data and u.item, or RecBole's .inter and .item), for `--tests ml100k`."""
    tests: tuple[Test, ...] = ("t4", "t5", "cold")
    """What to measure."""
    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)
    """Each draws users, ratings and movies, and trains."""
    sets: tuple[str, ...] = ()
    """Sets of features, such as trailers+genres; by default those of each test that there are."""
    steps: int = 600
    """Updates of each training."""
    triplets: int = 256
    """Triplets in a batch."""
    liked: float = 4.0
    """The lowest rating of a movie that is liked: relevant for AP, AUC and NDCG of cold movies, and
    what co-likes are counted of."""

    weight: Weight = "cosine"
    """What co-likes weigh, which says who is among the strongest relations that CDML learns from:
    the cosine of who likes both movies, or the count of who does."""

    closed_ridge: float = RIDGE
    """λ of the closed form, as a share of the mean eigenvalue."""
    cdml: bool = True
    """Train CDML. Without it (`--no-cdml`) and without the tower, all takes seconds a seed.
    Trainings are kept for a later run with it."""
    tower: bool = True
    """Train a tower on users for `cold`, each time that it is measured. Without it (`--no-tower`)
    what was measured before there was one counts as done."""

    def __post_init__(self) -> None:
        refuse_seeds(self.seeds)
        check_options(size=SIZE, ridge=self.closed_ridge, power=POWER)
        if unknown := set(self.sets) - SETS.keys():
            raise ValueError(f"sets are of {', '.join(SETS)}; found {', '.join(sorted(unknown))}")
        recipe(self.steps, self.triplets)  # refuses sizes that no recipe has

    def run(self) -> int:
        """Does what is not done yet; raises StoppedError when asked to stop."""
        progress, folder = Progress(), Path(self.workdir)
        with StopFlag() as stop, Workdir(folder).lease(of_run=False):
            sources = Sources(movielens=self.movielens, trailers=self.trailers, text=self.text)
            with progress.stage("reading MovieLens"), stop.raising():
                table, table_notes = prepared(sources, folder)
                ratings = read_ratings(self.ratings or self.movielens).on(table.ids)
            users = int((np.diff(ratings.offsets) > 0).sum())
            counts = f"{len(ratings):,} ratings of {users:,} users fall on them"
            notes = [*table_notes, *ratings.notes, counts]
            for line in notes:
                progress.say(line)
            todo = [(test, seed) for test in self.tests for seed in self.seeds]
            for number, (test, seed) in enumerate(todo, 1):
                if stop.asked:
                    raise StoppedError(f"stopped before {test}, seed {seed}")
                progress.say(f"[{number} of {len(todo)}] {test}, seed {seed}")
                trial = Trial(
                    folder=folder, table=table, ratings=ratings, seed=seed, liked=self.liked,
                    base=recipe(self.steps, self.triplets), weight=self.weight,
                    closed_ridge=self.closed_ridge, cdml=self.cdml, tower=self.tower, stop=stop,
                    progress=progress,
                )  # fmt: skip
                self._measure(test, trial, notes)
        return 0

    def _measure(self, test: Test, trial: Trial, notes: Sequence[str]) -> None:
        """One test with one seed, unless its result is there and was made from the same."""
        stored = trial.folder / "results" / f"{test}-seed{trial.seed}.json"
        key, work = self._hundred_k(trial) if test == "ml100k" else self._work(test, trial)
        known = files.read_json(stored)
        if known and known["key"] == key:
            trial.progress.say(f"done before ({known['seconds']:.0f} s)")
            return
        began = time.monotonic()
        scores, about = work()
        write_scores(stored.with_suffix(".parquet"), scores)
        result = {"key": key, "about": about, "notes": list(notes), "versions": versions()}
        # Last: where there is this file, there is everything.
        files.write_json(stored, result | {"seconds": round(time.monotonic() - began, 1)})

    def _work(self, test: str, trial: Trial) -> Work:
        there = trial.table.features.keys()
        names = self.sets or (
            *DEFAULT_SETS[test],
            *([] if "audio" in there else [WITHOUT_TRAILERS]),
        )
        sets = [name for name in names if there >= set(SETS[name])]
        if not sets:
            raise ValueError(
                f"{test}: none of its sets of features can be made of {', '.join(there)}: give "
                "--trailers, or other --sets"
            )
        key: dict[str, Any] = {"table": trial.table.fingerprint, "sets": sets}
        key |= {"ratings": _digest(trial.ratings), "weight": trial.weight}
        key |= {"liked": trial.liked, "recipe": trial.base.to_json() if trial.cdml else None}
        key |= {"closed_ridge": trial.closed_ridge}
        if test == "cold" and trial.tower:
            key |= {"tower": asdict(Tower())}
        return key, partial(TRIALS[test], trial, sets)

    def _hundred_k(self, trial: Trial) -> Work:
        ratings, titles = hundred_k(self.ml100k)
        with (trial.folder / "movies.csv").open(newline="") as file:
            names = {row["id"]: row["title"] for row in csv.DictReader(file)}
        trial.progress.say(joined(ratings, titles, names)[1])
        key = {"ratings": _digest(ratings), "liked": trial.liked}
        return key, partial(svd_row, ratings, seed=trial.seed, relevant=trial.liked)


@dataclass(frozen=True, kw_only=True)
class Gather:
    """Print the tables, the paper's numbers beside ours; write them into WORKDIR."""

    workdir: str
    """Folder of `run`."""
    seeds: tuple[int, ...] = ()
    """Seeds to take together; those that are there, unless said."""

    def run(self) -> int:
        """Prints and writes movielens.json, .md and figure 5 as SVG."""
        folder = Path(self.workdir)
        result = gathered(folder, self.seeds)
        print_tables(result)
        for file in write_tables(result, folder):
            print(f"wrote {file}")
        return 0


def _digest(ratings: Ratings) -> str:
    digest = xxhash.xxh3_128()
    for array in (ratings.users, ratings.items, ratings.user, ratings.item, ratings.value):
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the verb that the command line names; an exit code."""
    verbs: Mapping[str, Any] = {
        "run": Run(workdir=tyro.MISSING),
        "gather": Gather(workdir=tyro.MISSING),
    }
    given = sys.argv[1:] if arguments is None else arguments
    chosen = command_line.parse(
        verbs, given, prog="python -m experiments.movielens", description=__doc__ or ""
    )
    return command_line.guarded(chosen.run)


if __name__ == "__main__":
    sys.exit(main())
