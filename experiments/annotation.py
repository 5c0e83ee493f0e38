"""Video annotation: figure 6 and table 6 of CDML, the forms of its model, and controls.

    python -m experiments.annotation run --workdir W --records FOLDER --vocabulary vocabulary.csv
    python -m experiments.annotation gather --workdir W

Each seed has its own split and its own SIMULATED watch sessions, from which CDML, GCML and GCL are
trained; their vectors are inputs of the annotation models, beside content. As sessions are
simulated from the labels of videos, an embedding may know more of labels than real sessions would
tell: the group `halves` simulates sessions from half of the classes and measures the other half.
Every stage is a verb of vidembed, whose command is printed; running again goes on from what is
done. W/seedS/NAME are ordinary runs.
"""

import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import tyro

from experiments.annotation_points import (
    BASELINES_OF,
    BATCH,
    GROUPS,
    RESAMPLES,
    Group,
    Training,
    trainings,
)
from experiments.annotation_runs import print_tables, train_and_evaluate, verb, write_tables
from experiments.annotation_tables import gathered, remarks, tables
from experiments.points import refuse_seeds
from vidembed.cli import command_line
from vidembed.corpora.labelled import LabelledPaths
from vidembed.records.table import FeatureTable
from vidembed.records.vectors import read_vector_file


@dataclasses.dataclass(frozen=True, kw_only=True)
class Run:
    """Train and measure everything with every seed; what is done is skipped."""

    workdir: str
    """Folder for the table, the runs and the results."""
    records: str = "data/youtube8m"
    """Video-level TFRecords: a folder, a file or a pattern."""
    vocabulary: str = "data/youtube8m/vocabulary.csv"
    """Names of the classes: Index and Name."""
    seeds: tuple[int, ...] = (0, 1, 2)
    """Each seed has its own split, sessions and trainings."""
    groups: tuple[Group, ...] = GROUPS
    """inputs: figure 6; forms: of the input; experts: their number; phases: full-batch RPROP;
    halves: the control of simulated sessions."""

    def __post_init__(self) -> None:
        refuse_seeds(self.seeds)

    def run(self) -> int:
        """All stages; raises FailedError where one fails."""
        folder = Path(self.workdir)
        verb("import", self.records, str(folder / "table"))
        for number, seed in enumerate(self.seeds):
            world, chosen = folder / f"seed{seed}", list(trainings(self.groups, number == 0))
            for name in dict.fromkeys(name for each in chosen for name in each.embeddings):
                self._embedding(world, name, seed)
            if any(training.labels for training in chosen):
                _other_half(folder / "table", self.vocabulary, world / "other_half.parquet")
            for training in chosen:
                self._train(world, training, seed)
        return 0

    def _train(self, world: Path, training: Training, seed: int) -> None:
        run, table = world / training.name, world.parent / "table"
        count = len(_corpus(table, self.vocabulary, seed).train_rows)
        batches = -(-count // BATCH)
        labels = (
            ("--corpus.labels", str(world / training.labels))
            if training.labels
            else ("--corpus.vocabulary", self.vocabulary)
        )
        paths = (str(world / f"{name}.parquet") for name in training.embeddings)
        beside = ("--corpus.embeddings", *paths) if training.embeddings else ()
        start = (
            ("--init-from", f"{world / training.begins_from}@latest")
            if training.begins_from
            else ()
        )
        whole = "--feed.whole-pass" in training.options
        parts = ("--optimiser.accumulate", str(batches)) if whole else ()
        data = ("--corpus.table", str(table), "--corpus.split-seed", str(seed), *labels, *beside)
        train_and_evaluate(
            run, *data, "--seed", str(seed), "--task.model.modalities", *training.modalities,
            *training.options, *parts, *start, steps=batches * training.epochs, log_every=batches,
            every=batches * training.every, resamples=RESAMPLES,
            baselines=training.name == BASELINES_OF,
        )  # fmt: skip

    def _embedding(self, world: Path, name: str, seed: int) -> None:
        """W/seedS/NAME.parquet: vectors of a run on simulated sessions."""
        out = world / f"{name}.parquet"
        if name == "cdml-permuted":
            self._embedding(world, "cdml", seed)
            _permute(world / "cdml.parquet", out, seed)
            return
        system, _, half = name.partition("-")
        source = world.parent / "table"
        if half:
            source = world / "half_of_the_classes"
            _half(world.parent / "table", source)
        suffix = f"-{half}" if half else ""
        sessions, edges, hierarchy = (
            world / f"{kind}{suffix}.parquet" for kind in ("sessions", "edges", "hierarchy")
        )
        table = str(world.parent / "table")
        if not edges.exists():
            verb("simulate", str(source), str(sessions), "--seed", str(seed))
            verb("cowatch", str(sessions), str(edges))
        if not hierarchy.exists():
            split = ("--split-seed", str(seed))
            verb("cluster", str(edges), str(hierarchy), "--table", table, "--rounds", "4", *split)
        recipe = ("cdml",) if system == "cdml" else ("gcml", system)
        run = str(world / f"run-{name}")
        verb(
            "train", *recipe, "--workdir", run, "--preset", "laptop", "--corpus.table", table,
            "--corpus.edges", str(edges), "--corpus.hierarchy", str(hierarchy),
            "--corpus.split-seed", str(seed), "--seed", str(seed),
        )  # fmt: skip
        verb("embed", run, table, str(out), "--step", "latest")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Gather:
    """Print the tables, with differences paired by video; write them to WORKDIR."""

    workdir: str
    """Folder of the runs."""

    def run(self) -> int:
        """Print, and write annotation.json and annotation.md."""
        folder = Path(self.workdir)
        result = gathered(folder)
        print_tables(tables(result), remarks(result))
        for path in write_tables(result, tables(result), remarks(result), folder / "annotation"):
            print(f"wrote {path}")
        return 0


def _corpus(table: Path, vocabulary: str, seed: int) -> Any:
    return LabelledPaths(table=str(table), vocabulary=vocabulary, split_seed=seed).open()


def _half(table: Path, out: Path) -> None:
    """The table with the labels of even number only, from which sessions are simulated."""
    if out.exists():
        return
    whole = FeatureTable.open(table)
    even = whole.label_values % 2 == 0
    before = np.concatenate([[0], np.cumsum(even)])
    offsets, values = before[whole.label_offsets], whole.label_values[even]
    dataclasses.replace(
        whole, label_offsets=offsets.astype(np.int64), label_values=values, manifest={}
    ).write(out)


def _other_half(table: Path, vocabulary: str, out: Path) -> None:
    """Labels of odd number as a file of video_id, label."""
    corpus = _corpus(table, vocabulary, 0)
    labels, ids = corpus.labels, corpus.table.ids.astype(str)
    rows = np.repeat(np.arange(len(labels)), labels.per_row)
    odd = labels.values % 2 == 1
    names = [f"{number}" for number in labels.values[odd]]
    out.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table({"video_id": ids[rows[odd]], "label": names}), out)


def _permute(vectors: Path, out: Path, seed: int) -> None:
    """The same vectors with the ids shuffled: the control in which they say nothing."""
    ids, rows = read_vector_file(vectors)
    order = np.random.default_rng(seed).permutation(len(ids))
    lists = pa.FixedSizeListArray.from_arrays(pa.array(rows[order].reshape(-1)), rows.shape[1])
    pq.write_table(pa.table({"video_id": ids.astype(str), "vector": lists}), out)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the verb of the command line; returns an exit code."""
    commands = {"run": Run(workdir=tyro.MISSING), "gather": Gather(workdir=tyro.MISSING)}
    given = sys.argv[1:] if arguments is None else arguments
    title = "Video annotation: what embeddings add to content. SIMULATED sessions."
    chosen = command_line.parse(
        commands, given, prog="python -m experiments.annotation", description=title
    )
    return command_line.guarded(chosen.run)


if __name__ == "__main__":
    sys.exit(main())
