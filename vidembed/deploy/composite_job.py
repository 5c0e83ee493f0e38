"""Measure a composite like a run: same files and format, with all results at step 0."""

import os
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import numpy as np
from etils import epath

from vidembed import files
from vidembed.deploy import composite
from vidembed.deploy.run import Run
from vidembed.distributed.mesh import MeshShape, make_mesh
from vidembed.engine.evaluation import Evaluation
from vidembed.engine.measured import Measured
from vidembed.engine.protocols import CorpusOptions
from vidembed.progress import Progress
from vidembed.workdir.layout import Workdir

STEP = 0
"""A composite is not trained; this is its only step."""


class CompositeJob:
    """Measures the vectors of a composite; see `engine.measured.Job`."""

    def __init__(
        self,
        path: str | os.PathLike[str],
        evaluation: Evaluation,
        corpus: CorpusOptions,
        *,
        progress: Progress,
    ) -> None:
        """Raises ValueError if there is no composite, if one of its runs has been replaced, or if
        the corpus is not the one that its runs were trained on, where that is recorded."""
        check_composite(path)
        self.workdir, self.progress = Workdir(path), progress
        self._about: dict[str, Any] = files.read_json(self.workdir.path / composite.ABOUT)
        self._run = composite.read_composite(path)
        self.mesh: jax.sharding.Mesh = make_mesh(MeshShape())
        self.corpus: Any = corpus.open()
        if self._about.get("rows") not in (None, self.corpus.rows):
            raise ValueError(
                f"the runs of {path} were trained on data {self._about['rows']}, but {corpus} is "
                f"{self.corpus.rows}: give theirs by --corpus.table and --corpus.edges"
            )
        if self._about.get("rows") is None:
            progress.say(
                f"{path} does not record the data of its runs: if their split was another one, "
                "the scores include videos that they were trained on"
            )
        self.each = tuple(Measured(self, evaluator) for evaluator in evaluation.evaluators)
        self.selecting = self.each[evaluation.select]
        self.computed: Callable[[Measured, dict[str, Any]], None] = lambda measured, result: None

    def described(self) -> dict[str, Any]:
        """The contents of the composite."""
        return {"composite": self._about, "steps": STEP}

    def steps(self) -> list[int]:
        """The only step."""
        return [STEP]

    def last_step(self) -> int:
        """The only step."""
        return STEP

    def step_named(self, name: str) -> int:
        """The only step, whatever the name."""
        del name
        return STEP

    def model(self, step: int = STEP) -> "CompositeOutputs":
        """The composite's outputs."""
        del step
        return CompositeOutputs(self._run)

    def measure(self, step: int = STEP) -> list[dict[str, Any]]:
        """The results of each evaluator. Stored results are reused if they belong to these runs
        and weights, and measured again otherwise."""
        results = []
        for measured in self.each:
            result = measured.measurements.read(step)
            if result is None or result["spaces"].get("video") != self._run.space:
                measured.evaluator.check(self.corpus)
                with self.progress.stage("evaluating the composite"):
                    result = measured.measure(self.model(step))
            results.append(result)
        return results


class CompositeOutputs(Mapping[str, Callable[..., np.ndarray]]):
    """The output `video` of a composite."""

    step = STEP

    def __init__(self, run: Run) -> None:
        self._run = run

    def __getitem__(self, name: str) -> Callable[..., np.ndarray]:
        if name != "video":
            raise KeyError(name)
        return self._run.embed

    def __iter__(self) -> Iterator[str]:
        return iter(("video",))

    def __len__(self) -> int:
        return 1

    def space(self, output: str, inputs: Mapping[str, str]) -> str:
        """The composite's space."""
        del output, inputs
        return self._run.space


def check_composite(path: str | os.PathLike[str]) -> None:
    """Raise ValueError if the folder holds no composite."""
    if not composite.is_composite(path):
        raise ValueError(
            f"{path} holds no composite (no {composite.ABOUT}): make one with `python -m vidembed "
            "compose`, or give the recipe of a run instead of `composite`"
        )


def trained_part(path: str | os.PathLike[str]) -> Workdir | None:
    """The first work directory among the runs of a composite: its recipe names their corpus. None
    if all are exports."""
    for entry in files.read_json(epath.Path(path) / composite.ABOUT)["parts"]:
        place = epath.Path(entry["run"])
        if composite.is_composite(place):
            if (within := trained_part(place)) is not None:
                return within
        elif (place / composite.RECIPE).exists():
            return Workdir(place)
    return None
