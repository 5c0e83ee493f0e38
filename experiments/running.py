"""Run points: make each world with the verbs, then train and evaluate one point after another.

Several processes can work in one work directory, on shards or on everything: only one process at a
time works in a folder, and what all of them need is made by one while the others wait.
"""

import contextlib
import fcntl
import gc
import resource
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any

import jax

from experiments.points import Point
from vidembed import files
from vidembed.cli import clustering
from vidembed.corpora.watched import Corpus
from vidembed.distributed.stopping import StopFlag, StoppedError
from vidembed.engine.claim import changes_of, completed_like
from vidembed.engine.evaluate import EvaluationJob
from vidembed.engine.measured import values_of_all
from vidembed.engine.recipe import Recipe
from vidembed.engine.train import train
from vidembed.evaluators.baselines import exchanged
from vidembed.progress import Progress
from vidembed.records import importing
from vidembed.records.scores_file import PerQuery, write_scores
from vidembed.records.shards import shards
from vidembed.records.table import FeatureTable
from vidembed.sessions import cowatch, simulate
from vidembed.workdir.layout import Workdir
from vidembed.workdir.lease import Lease, LeaseHeldError

SAMPLE = Path(__file__).resolve().parents[1] / "data" / "youtube8m"
"""Real YouTube-8M records, ten shards of 295 videos."""
ROUNDS = 4
"""Rounds of clustering, with average linkage and no limits."""


class Runner:
    """Runs points in a work directory that other processes may also use.

    seconds: duration of each stage, in this process or an earlier one.
    """

    def __init__(self, folder: Path, stop: StopFlag, *, records: str) -> None:
        self.folder, self.stop, self.records = folder, stop, records
        self.progress = Progress()
        self.seconds: dict[str, float] = {}
        self.peak_memory_bytes = 0
        self._corpora: dict[str, Corpus] = {}

    def run(self, points: Sequence[Point]) -> int:
        """Run the points that are not done; return 1 if any failed. A failure stops no other point.

        Raises StoppedError after a stop request, and any error of the import.
        """
        self.table()
        failed = []
        for number, point in enumerate(points, 1):
            if self.stop.asked:
                raise StoppedError(f"stopped before {point}")
            self.progress.say(f"[{number} of {len(points)}] {point}")
            try:
                with point.run.lease() as lease:
                    self._run(point, lease)
                self._account_attempts(point)
            except LeaseHeldError:
                self.progress.say(f"{point}: skipped, another process is working on it")
            except Exception as error:
                failed.append(str(point))
                self.progress.say(f"{point} FAILED, going on with the others: {_message(error)}")
            if number % 10 == 0:
                # Each point has its own compiled programs, which would accumulate.
                jax.clear_caches()
                gc.collect()
        if failed:
            print(
                f"{len(failed)} of {len(points)} failed: {', '.join(failed)}. See above for why, "
                f"and attempts.json of each folder started in {self.folder}; the same command "
                "tries them again",
                file=sys.stderr,
            )
        return int(bool(failed))

    def table(self, base: Recipe | None = None) -> FeatureTable:
        """The feature table, imported if it is missing; refused if it was made from other records.

        base: claim the work directory for points that vary this recipe.
        """
        path = str(self.folder / "table")
        key = {"shards": [[file.name, file.stat().length] for file in shards(self.records)]}
        with self._alone():
            self._stage("import", key, path, partial(importing.main, self.records, path))
            table = FeatureTable.open(path, verify=False)
            if base:
                Workdir(self.folder).claim_recipe(
                    base.to_json(), {"table": table.fingerprint}, completed=completed_like(base)
                )
        return table

    def corpus(self, point: Point) -> Corpus:
        """The videos with the relations and clusters of a world, made if they are missing."""
        world = point.world
        paths: Any = point.recipe.corpus
        if world not in self._corpora:
            sessions = str(self.folder / world / "sessions.parquet")
            options = ("split_seed", "train_share", "max_degree")
            split = {"rounds": ROUNDS} | {name: getattr(paths, name) for name in options}
            simulating = partial(simulate.main, seed=point.seed, permute=point.permuted)
            cluster = partial(clustering.main, table=paths.table, **split)
            key = {"table": self.table().fingerprint, "seed": point.seed, **split}
            key |= {"permuted": point.permuted, "parameters": dict(simulate.PARAMETERS)}
            with self._alone():
                for name, verb, source, output in (
                    ("sessions", simulating, paths.table, sessions),
                    ("graph", cowatch.main, sessions, paths.edges),
                    ("hierarchy", cluster, paths.edges, paths.hierarchy),
                ):
                    self._stage(f"{world}/{name}", key, output, partial(verb, source, output))
                self._corpora[world] = paths.open()
        return self._corpora[world]

    def _stage(self, name: str, key: dict[str, Any], output: str, work: Callable[[], Any]) -> None:
        """Call `work()` unless its output exists and was made with the same `key`;
        stages/NAME.json stores the key and the seconds."""
        stamp = self.folder / "stages" / f"{name.replace('/', '-')}.json"
        stored = files.read_json(stamp)
        if stored is None or stored["key"] != key or not Path(output).exists():
            self.progress.say(f"{name} ...")
            began = time.monotonic()
            work()
            stored = {"key": key, **_spent(began)}
            files.write_json(stamp, stored)
            self.progress.say(f"{name}: {stored['seconds']:.1f} s")
        elif name in self.seconds:
            return
        else:
            self.progress.say(f"{name}: done before ({stored['seconds']:.1f} s)")
        self.account(name, stored["seconds"], stored)

    def _account_attempts(self, point: Point) -> None:
        for attempt in point.attempts:
            training = attempt.get("train_seconds", 0.0)
            self.account(f"{point}", training, attempt)
            evaluating = attempt.get("seconds", 0.0) - training
            self.account(f"{point.world}/evaluation", evaluating, attempt)

    def account(self, name: str, seconds: float, record: Mapping[str, Any] = {}) -> None:
        """Add the seconds of a stage, and its `peak_memory_bytes` if the record has them."""
        self.seconds[name] = self.seconds.get(name, 0.0) + seconds
        peak = record.get("peak_memory_bytes", 0)
        self.peak_memory_bytes = max(self.peak_memory_bytes, peak)

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """Wait for and hold the lock that all processes of the work directory share."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with self.stop.raising(), (self.folder / "preparing.lock").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def _run(self, point: Point, lease: Lease) -> None:
        """Train and measure, unless that is done; always record how long it took, and why it
        failed."""
        run, recipe = point.run, point.recipe
        if point.scores():
            data = (run.read_recipe() or {})["fingerprints"]
            data = data | {"corpus": self.corpus(point).rows}
            changes_of(run, recipe, data)
            self.progress.say(f"{point}: done before")
            return
        began, attempt, before = time.monotonic(), dict[str, Any](), point.attempts
        # Written now, because nothing runs after SIGKILL.
        files.write_json(run.path / "attempts.json", [*before, {"killed": True}])
        try:
            # Opened here, so that an error in one world only fails its own points.
            corpus = self.corpus(point)
            job = cache(
                lambda: EvaluationJob(
                    recipe, point.evaluation, run, corpus=corpus, progress=self.progress
                )
            )

            def evaluate(step: int) -> dict[str, float]:
                # The checkpoint is saved, so an interrupted measurement is repeated on resume.
                with self.stop.raising():
                    return values_of_all(job().measure(step))

            training = time.monotonic()
            last = train(
                recipe, run, lease=lease, stop=self.stop, corpus=corpus,
                progress=self.progress, evaluation=point.evaluation, evaluate=evaluate,
            )  # fmt: skip
            attempt["train_seconds"] = _spent(training)["seconds"]
            if last < recipe.steps:
                raise StoppedError(f"{run} stopped at step {last}")
            with self.stop.raising():
                _measure(point, job())
        except Exception as error:
            attempt |= {"message": _message(error), "traceback": traceback.format_exc()}
            raise
        finally:
            files.write_json(run.path / "attempts.json", [*before, attempt | _spent(began)])


def _measure(point: Point, job: EvaluationJob) -> None:
    recipe, corpus, measured = job.recipe, job.corpus, job.selecting
    measurements = measured.measurements
    for step in (recipe.steps, 0) if point.controls else (recipe.steps,):
        if measurements.read_per_query(step) is None:
            # A result without its queries is measured again.
            (measurements.folder / f"{step}.json").unlink(missing_ok=True)
        job.measure(step)
    if point.controls:
        measured.baselines()
    if point.permuted:
        vectors = job.model(recipe.steps)["video"](corpus.table)
        scores: dict[str, PerQuery] = {
            direction: exchanged(point.evaluator, vectors, corpus, direction, seed=recipe.seed)
            for direction in point.evaluator.directions
        }
        write_scores(point.run.path / "per_query.parquet", {"trained_exchanged": scores})
    result = {"parameters": job.parameters()}
    # Last: if there is a result, everything is there.
    files.write_json(point.run.path / "result.json", result | {"data": corpus.report()})


def _spent(began: float) -> dict[str, float]:
    """Seconds since `began`, and the peak memory of the process so far."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {"seconds": round(time.monotonic() - began, 3), "peak_memory_bytes": peak}


def _message(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"
