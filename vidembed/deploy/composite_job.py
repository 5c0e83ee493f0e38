"""A composite measured like a run: results in the same places and form, as those of step 0."""

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
"""A composite is not trained: it has this step and no other."""


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
        """Raises ValueError where there is no composite, a run is another one than was composed,
        or the corpus is not that of its runs."""
        check_composite(path)
        self.workdir, self.progress = Workdir(path), progress
        self._about: dict[str, Any] = files.read_json(self.workdir.path / composite.ABOUT)
        self._run = composite.read_composite(path)
        self.mesh: jax.sharding.Mesh = make_mesh(MeshShape())
        self.corpus: Any = corpus.open()
        if self._about.get("rows") not in (None, self.corpus.rows):
            raise ValueError(
                f"the runs of {path} were trained on data {self._about['rows']}, those of {corpus} "
                f"are {self.corpus.rows}: name theirs, by --corpus.table and --corpus.edges"
            )
        self.each = tuple(Measured(self, evaluator) for evaluator in evaluation.evaluators)
        self.selecting = self.each[evaluation.select]
        self.computed: Callable[[Measured, dict[str, Any]], None] = lambda measured, result: None

    def described(self) -> dict[str, Any]:
        """What the composite consists of."""
        return {"composite": self._about, "steps": STEP}

    def steps(self) -> list[int]:
        """The one step."""
        return [STEP]

    def last_step(self) -> int:
        """The one step."""
        return STEP

    def step_named(self, name: str) -> int:
        """The one step, whatever the name."""
        del name
        return STEP

    def model(self, step: int = STEP) -> "CompositeOutputs":
        """The composite as outputs."""
        del step
        return CompositeOutputs(self._run)

    def measure(self, step: int = STEP) -> list[dict[str, Any]]:
        """Results by each evaluator. What was measured of these runs with these weights before is
        read; what lies there of another composite is measured anew."""
        results = []
        for one in self.each:
            result = one.measurements.read(step)
            if result is None or result["spaces"].get("video") != self._run.space:
                one.evaluator.check(self.corpus)
                with self.progress.stage("evaluating the composite"):
                    result = one.measure(self.model(step))
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
        """The composite's."""
        del output, inputs
        return self._run.space


def check_composite(path: str | os.PathLike[str]) -> None:
    """Raises ValueError where there is no composite."""
    if not composite.is_composite(path):
        raise ValueError(
            f"{path} holds no composite ({composite.ABOUT}): make one with `python -m vidembed "
            "compose`, or name the recipe of a run in the place of `composite`"
        )


def trained_part(path: str | os.PathLike[str]) -> Workdir | None:
    """The first work directory among the runs of a composite, which knows their corpus; None where
    all are exports."""
    for entry in files.read_json(epath.Path(path) / composite.ABOUT)["parts"]:
        place = epath.Path(entry["run"])
        if composite.is_composite(place):
            if (within := trained_part(place)) is not None:
                return within
        elif (place / composite.RECIPE).exists():
            return Workdir(place)
    return None
