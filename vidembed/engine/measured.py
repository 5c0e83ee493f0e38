"""What one evaluator measures of a run's checkpoints, and where that is kept."""

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


class Outputs(Protocol):
    """A model at a checkpoint: a mapping from the names of its outputs to functions."""

    step: int

    def space(self, output: str, inputs: Mapping[str, str]) -> str:
        """What made an output's vectors of inputs of these spaces."""


class Job(Protocol):
    """What is measured, and where results lie: an `EvaluationJob` is one."""

    workdir: Workdir
    corpus: Any
    mesh: jax.sharding.Mesh
    progress: Progress
    each: "tuple[Measured, ...]"
    selecting: "Measured"
    computed: "Callable[[Measured, dict[str, Any]], None]"

    def described(self) -> dict[str, Any]:
        """What made the vectors, for people: a run's recipe."""

    def steps(self) -> list[int]:
        """The checkpoints that are there."""

    def last_step(self) -> int:
        """Where the run ends."""

    def step_named(self, name: str) -> int:
        """The step that "latest", "best" (by this evaluation) or a number names."""

    def model(self, step: int) -> Any:
        """The `Outputs` at a checkpoint."""

    def measure(self, step: int) -> list[dict[str, Any]]:
        """Results by each evaluator; what was measured before is read."""


class Measured:
    """What one evaluator of a job measures, and where that is kept."""

    def __init__(self, job: Job, evaluator: Evaluator) -> None:
        self._job, self.evaluator = job, evaluator
        self.measurements = job.workdir.measurements(evaluator.identity())

    def measure(self, model: Any) -> dict[str, Any]:
        """Measures a checkpoint, gives it to the job's `computed`, and stores the result; pinned
        first if it is the best."""
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
        # Pinned before it counts as measured: from then on the trainer may delete it.
        if self is job.selecting:
            self.pin(model.step, result)
        if is_first_host():
            self.measurements.write(model.step, result, {TRAINED: measured.per_query})
        return result

    def baselines(
        self, computed: Callable[[dict[str, Any]], None] = lambda record: None
    ) -> dict[str, Any]:
        """Scores of what needs no training (`systems`: name → scores), measured once per corpus.

        `computed` is given them before they are written, where that was not done before.
        """
        job = self._job
        known = record_of_first_host(self.measurements.read(BASELINES))
        if known is not None and known["fingerprints"]["corpus"] == job.corpus.rows:
            return known
        began = time.monotonic()
        with job.progress.stage("measuring the baselines"), jax.set_mesh(job.mesh):
            systems = self.evaluator.baselines(job.corpus, mesh=job.mesh)
        record = {"systems": {name: _scores(found) for name, found in systems.items()}}
        record |= self._about(began)
        computed(record)
        if is_first_host():
            per_query = {name: found.per_query for name, found in systems.items()}
            self.measurements.write(BASELINES, record, per_query)
        return record

    def best(self) -> int | None:
        """The step that is pinned; None before any is measured."""
        best = self.measurements.best()
        # Another evaluation job may be writing: the first host's word counts here, too.
        found = of_first_host([] if best is None else [best["step"]])
        return found[0] if found else None

    def pin(self, step: int, result: Mapping[str, Any]) -> None:
        """Pins this checkpoint, if none with a higher selection number is."""
        steps = self._job.steps()  # which all hosts list together
        if not is_first_host():
            return
        name, value = self.selection(result)
        best = self.measurements.best()
        values = {best["step"]: best["value"]} if best and best["metric"] == name else {}
        if best and not values:
            # Pinned by another metric, of an older version: all that can still be had is compared.
            there = self.measurements.steps() & set(steps)
            known = {other: self.measurements.read(other) for other in sorted(there)}
            values = {other: self.selection(one)[1] for other, one in known.items() if one}
        values.setdefault(step, value)
        highest = max(values, key=values.__getitem__)
        if not best or (best["step"], best["metric"]) != (highest, name):
            self.measurements.pin(highest, name, values[highest])

    def selection(self, result: Mapping[str, Any]) -> Any:
        """The (name, value) by which a result is compared with those of other checkpoints."""
        return self.evaluator.selection(values_of(result))

    def _about(self, began: float) -> dict[str, Any]:
        """What every record says of how it was measured."""
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
    """All scores by name, for the journal. Of one name that several evaluators give, the first
    counts."""
    found: dict[str, float] = {}
    for result in results:
        found = values_of(result) | found
    return found


def values_of(result: Mapping[str, Any]) -> dict[str, float]:
    """The bare values of a result, for the journal."""
    return {name: score["value"] for name, score in result["scores"].items()}
