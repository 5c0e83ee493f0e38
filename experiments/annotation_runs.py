"""Annotation runs made by verbs: the commands, what was measured, and tables of it."""

import gc
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple, cast

import jax
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from vidembed import __main__ as verbs
from vidembed import files
from vidembed.engine.evaluation import evaluation_of, recipe_of
from vidembed.evaluators.annotation import Annotation
from vidembed.metrics.intervals import Interval
from vidembed.records.scores_file import PerQuery, read_scores
from vidembed.workdir.layout import Workdir
from vidembed.workdir.measurements import BASELINES

PART, ALL = "test", "all_held_out"
METRICS = ("gap@20", "map_per_class@20", "map_per_video", "hit@1", "perr")
Titled = tuple[str, Sequence[str], list[list[str]]]
"""A table: title, header and rows."""


class FailedError(ValueError):
    """A verb ended with an error, which it has printed."""


class Measured(NamedTuple):
    """The last checkpoint of a training, on test videos and on all held-out videos."""

    per_video: PerQuery
    scores: Mapping[str, Any]
    fingerprint: str
    curve: Mapping[int, Mapping[str, Any]]
    """Step → scores of every measured checkpoint, in order."""
    popularity: Mapping[str, Any] | None
    """None where baselines were not measured."""
    popularity_per_video: PerQuery | None


def verb(*words: str) -> None:
    """Run a verb of vidembed, and print its command."""
    print(f"$ vidembed {shlex.join(words)}", flush=True)
    if code := verbs.main(words):
        raise FailedError(f"vidembed {words[0]} ended with code {code}: see above")


def train_and_evaluate(
    run: Path,
    *options: str,
    steps: int,
    log_every: int,
    every: int = 0,
    resamples: int = 1000,
    baselines: bool = True,
) -> None:
    """An annotation run, measured at its last step; what is done is skipped.

    every: steps between further checkpoints that are measured; 0 for none.
    resamples: behind the intervals that are printed; those of tables are made anew.
    """
    apart = every or steps
    number = str(steps // apart)
    saved = ("--checkpoints.every-steps", str(apart), "--checkpoints.keep-last", number)
    length = ("--steps", str(steps), "--log-every", str(log_every))
    verb("train", "annotation", "--workdir", str(run), *options, *length, *saved)
    fewer = () if resamples == 1000 else ("--evaluator.resamples", str(resamples))
    only = () if baselines else ("--no-baselines",)
    for step in range(apart, steps + 1, apart):
        at = ("--step", str(step))
        verb("evaluate", "annotation", "--workdir", str(run), *at, *fewer, *only)
    jax.clear_caches()  # each run has its own programs
    gc.collect()


def measured(run: Workdir, resamples: int = 1000) -> Measured | None:
    """The results of a run's last step; None if it has not been measured with these resamples."""
    evaluation = evaluation_of(run) if run.read_recipe() else None
    if evaluation is None:
        return None
    evaluator = cast(Annotation, evaluation.in_order[0])
    measurements = run.measurements(replace(evaluator, resamples=resamples).identity())
    step, steps = recipe_of(run).steps, sorted(measurements.steps())
    result, baselines = measurements.read(step), measurements.read(BASELINES)
    per_query = measurements.read_per_query(step)
    if result is None or not per_query:
        return None
    simple = None
    if baselines:
        simple = read_scores(measurements.folder / f"{BASELINES}.parquet")["popularity"][PART]
    return Measured(
        per_video=per_query[PART],
        scores=result["scores"],
        curve={step: read["scores"] for step in steps if (read := measurements.read(step))},
        fingerprint=result["fingerprints"]["corpus"],
        popularity=baselines and baselines["systems"]["popularity"],
        popularity_per_video=simple,
    )


def as_json(intervals: Mapping[str, Interval]) -> dict[str, Any]:
    """The intervals of `METRICS` as JSON values."""
    return {name: intervals[name]._asdict() for name in METRICS}


def interval_text(of: Mapping[str, float], sign: bool = False) -> str:
    """A value with its interval; with a sign for differences."""
    form = "+.4f" if sign else ".4f"
    return f"{of['value']:{form}} [{of['low']:{form}}, {of['high']:{form}}]"


def print_tables(tables: Iterable[Titled], remarks: Iterable[str]) -> None:
    """All tables on the terminal, and remarks below them."""
    console = Console(highlight=False)
    for title, header, rows in tables:
        table = Table(title=title, title_justify="left", box=SIMPLE_HEAD)
        for place, name in enumerate(header):
            table.add_column(name, justify="right" if place else "left")
        for row in rows:
            table.add_row(*row)
        console.print(table)
    for line in remarks:
        console.print(line, markup=False, soft_wrap=True)


def write_tables(
    result: Mapping[str, Any], tables: Iterable[Titled], remarks: Iterable[str], path: Path
) -> tuple[Path, Path]:
    """Write PATH.json and, with the tables, PATH.md; return their names."""
    lines = []
    for title, header, rows in tables:
        lines += [f"**{title}**", "", _line(header), _line(["---"] * len(header))]
        lines += [*map(_line, rows), ""]
    lines += [f"- {line}" for line in remarks]
    data, text = path.with_suffix(".json"), path.with_suffix(".md")
    files.write_json(data, dict(result))
    files.write_text(text, "\n".join(lines) + "\n")
    return data, text


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
