"""Measure a run's checkpoints with one evaluator, and store the results."""

import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Protocol

import jax

from vidembed.distributed.agree import is_first_host, of_first_host, record_of_first_host
from vidembed.engine.protocols import Evaluator
from vidembed.engine.typed_json import to_json
from vidembed.progress import Progress
from vidembed.workdir.layout import Workdir
from vidembed.workdir.measurements import BASELINES, TRAINED
from vidembed.workdir.versions import versions


class Job(Protocol):
    """What to measure, and where results are stored; implemented by `EvaluationJob`."""

    workdir: Workdir
    corpus: Any
    mesh: jax.sharding.Mesh
    progress: Progress
    each: "tuple[Measured, ...]"
    selecting: "Measured"
    computed: "Callable[[Measured, dict[str, Any]], None]"

    def described(self) -> dict[str, Any]:
        """A description of the model for reports: a run's recipe."""

    def steps(self) -> list[int]:
        """The steps of the existing checkpoints."""

    def last_step(self) -> int:
        """The run's last step."""

    def step_named(self, name: str) -> int:
        """The step that "latest", "best" (by this evaluation) or a number names."""

    def model(self, step: int) -> Any:
        """The outputs at a checkpoint: a mapping with `step` and `space`, such as a `Model`."""

    def measure(self, step: int) -> list[dict[str, Any]]:
        """Results of each evaluator; existing results are read."""


class Measured:
    """One evaluator of a job, with its stored results."""

    def __init__(self, job: Job, evaluator: Evaluator) -> None:
        self._job, self.evaluator = job, evaluator
        self.measurements = job.workdir.measurements(evaluator.identity())

    def measure(self, model: Any) -> dict[str, Any]:
        """Measures a checkpoint, passes the result to the job's `computed`, pins the checkpoint if
        it is the best, and stores the result."""
        job, began = self._job, time.monotonic()
        with jax.set_mesh(job.mesh):
            measured = self.evaluator.run(model, job.corpus, mesh=job.mesh)
        inputs = job.corpus.space
        result = {"step": model.step, "scores": _scores(measured)}
        result |= {
            "selection": self.evaluator.selection(values_of(result))._asdict(),
            **self._about(began),
            "recipe": job.described(),
            "spaces": {"inputs": dict(inputs)}
            | {name: model.space(name, inputs) for name in model},
        }
        job.computed(self, result)
        # Pin before storing: the trainer may delete a checkpoint as soon as it counts as measured.
        if self is job.selecting:
            self.pin(model.step, result)
        if is_first_host():
            self.measurements.write(model.step, result, {TRAINED: measured.per_query})
        return result

    def baselines(
        self, computed: Callable[[dict[str, Any]], None] = lambda record: None
    ) -> dict[str, Any]:
        """Scores of the baselines (`systems`: name → scores), measured once per corpus.

        New scores are passed to `computed` before they are written.
        """
        job = self._job
        known = record_of_first_host(self.measurements.read(BASELINES))
        if known is not None and known["fingerprints"]["corpus"] == job.corpus.rows:
            return known
        began = time.monotonic()
        with job.progress.stage("measuring the baselines"), jax.set_mesh(job.mesh):
            systems = self.evaluator.baselines(job.corpus, mesh=job.mesh)
        record = {"systems": {name: _scores(result) for name, result in systems.items()}}
        record |= self._about(began)
        computed(record)
        if is_first_host():
            per_query = {name: result.per_query for name, result in systems.items()}
            self.measurements.write(BASELINES, record, per_query)
        return record

    def best(self) -> int | None:
        """The pinned step; None before any is measured."""
        best = self.measurements.best()
        # Another evaluation job may be writing: all hosts use what the first host read.
        steps = of_first_host([] if best is None else [best["step"]])
        return steps[0] if steps else None

    def pin(self, step: int, result: Mapping[str, Any]) -> None:
        """Pins this checkpoint unless one with a higher selection value is pinned."""
        steps = self._job.steps()  # a collective call: every host must make it
        if not is_first_host():
            return
        name, value = self.selection(result)
        best = self.measurements.best()
        values = {best["step"]: best["value"]} if best and best["metric"] == name else {}
        if best and not values:
            # An older version pinned by another metric: compare all remaining checkpoints.
            remaining = sorted(self.measurements.steps() & set(steps))
            results = {number: self.measurements.read(number) for number in remaining}
            values = {number: self.selection(r)[1] for number, r in results.items() if r}
        values.setdefault(step, value)
        highest = max(values, key=values.__getitem__)
        if not best or (best["step"], best["metric"]) != (highest, name):
            self.measurements.pin(highest, name, values[highest])

    def selection(self, result: Mapping[str, Any]) -> Any:
        """The (name, value) that compares a result with those of other checkpoints."""
        return self.evaluator.selection(values_of(result))

    def _about(self, began: float) -> dict[str, Any]:
        """The entries of every record that describe how it was measured."""
        return {
            "evaluator": to_json(self.evaluator),
            "queries": self.evaluator.counts(self._job.corpus),
            "simulated_sessions": self._job.corpus.simulated,
            "seconds": time.monotonic() - began,
            "fingerprints": {"corpus": self._job.corpus.rows},
            "versions": versions(),
        }


def _scores(measured: Any) -> dict[str, dict[str, float]]:
    return {name: interval._asdict() for name, interval in measured.scores.items()}


def values_of_all(results: Iterable[Mapping[str, Any]]) -> dict[str, float]:
    """All scores by name, for the journal. If several evaluators give a name, the first counts."""
    values: dict[str, float] = {}
    for result in results:
        values = values_of(result) | values
    return values


def values_of(result: Mapping[str, Any]) -> dict[str, float]:
    """The values of a result without intervals, for the journal."""
    return {name: score["value"] for name, score in result["scores"].items()}
