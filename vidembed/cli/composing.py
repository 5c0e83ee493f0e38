"""`python -m vidembed compose`: combine several runs into one."""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any

import numpy as np
import tyro
from etils import epath

from vidembed.corpora.held_out import Part
from vidembed.deploy.composite import RECIPE, check, compose, is_composite, named_run, side_by_side
from vidembed.deploy.loading import load
from vidembed.engine.evaluation import recipe_of
from vidembed.evaluators.queries import DIRECTIONS
from vidembed.evaluators.related_videos import RelatedVideos
from vidembed.progress import Progress
from vidembed.report import wording
from vidembed.workdir.layout import Workdir

GRID = (0.25, 0.5, 1.0, 2.0, 4.0)
"""Weights that --choose tries for each run after the first, whose weight is 1."""


def main(
    out: Annotated[str, tyro.conf.arg(metavar="OUT")],
    runs: Annotated[tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="RUN")],
    *,
    weights: tuple[float, ...] = (),
    step: str = "best",
    choose: bool = False,
    measure: bool = False,
) -> None:
    """Combine runs: concatenate their unit vectors, each times the root of its weight.

    OUT refers to the runs, so they must stay where they are. embed, index, search and export use
    it like a run. An export of it does not need the runs.

    Args:
        out: the folder to write, local or gs://.
        runs: work directories, exports or composites, as RUN or RUN@STEP.
        weights: one for each run; only their ratios matter. Equal by default.
        step: best (by each run's evaluations), latest, or a number, for runs without @STEP.
        choose: try weights from 1/4 to 4 for each run after the first and keep those with the
            highest mean NDCG@10 on the validation videos of a run's corpus.
        measure: show NDCG@10 of each run and of the composite on the test videos.
    """
    progress = Progress()
    if is_composite(out):
        raise ValueError(f"{out} is a composite already: choose another folder, or remove it")
    if choose and weights:
        raise ValueError("give either --weights or --choose, not both")
    check(runs, list(weights) or [1.0] * len(runs))
    measured = _Measured(runs, step, progress) if choose or measure else None
    if measured and choose:
        candidates = [(1.0, *rest) for rest in itertools.product(GRID, repeat=len(runs) - 1)]
        weights = measured.best(candidates)
    with progress.stage(f"composing {len(runs)} runs"):
        about = compose(out, runs, weights, step)
    for part in about["parts"]:
        progress.say(f"  {part['weight']:g} × {part['run']}, step {part['step']}")
    if measured and measure:
        for line in measured.table([part["weight"] for part in about["parts"]]):
            progress.say(line)
    progress.say(f"{out}: space: {about['space']}")


class _Measured:
    """The vectors of several runs and their scores on the corpus of the first work directory."""

    def __init__(self, runs: Sequence[str], step: str, progress: Progress) -> None:
        self.runs, self._progress = runs, progress
        places = [named_run(name, step) for name in runs]
        trained = [place for place, _ in places if (epath.Path(place) / RECIPE).exists()]
        if not trained:
            raise ValueError(
                "all runs here are exports, which do not store their corpus: give a work "
                "directory as well"
            )
        with progress.stage("reading the data"):
            self._corpus: Any = recipe_of(Workdir(trained[0])).corpus.open()
        self._vectors = [load(p, at).embed(self._corpus.table) for p, at in places]
        self._evaluator = RelatedVideos()

    def scores(self, vectors: np.ndarray, part: Part) -> dict[str, float]:
        """Direction → NDCG@10."""
        each = {d: self._evaluator.per_query(vectors, self._corpus, d, part) for d in DIRECTIONS}
        return {d: float(queries.values["ndcg@10"].mean()) for d, queries in each.items()}

    def best(self, candidates: Sequence[tuple[float, ...]]) -> tuple[float, ...]:
        """The weights with the highest validation mean over directions; prints all scores."""
        if "validation" not in self._corpus.held_out:
            raise ValueError(
                "--choose needs validation videos, and the runs' corpus has none: train with "
                "--corpus.validation-share, or give --weights"
            )
        every: dict[tuple[float, ...], dict[str, float]] = {}
        self._progress.say(f"validation NDCG@10: {', '.join(map(wording.direction, DIRECTIONS))}")
        for weights in candidates:
            scores = self.scores(np.asarray(side_by_side(self._vectors, weights)), "validation")
            every[weights] = scores
            values = "  ".join(f"{value:.3f}" for value in scores.values())
            self._progress.say(f"  {_as_ratio(weights):16} {values}")
        self._progress.say(choice(every))
        return max(every, key=lambda weights: float(np.mean(list(every[weights].values()))))

    def table(self, weights: Sequence[float]) -> Iterator[str]:
        """One line per run and one for the composite; then where it scores above the runs."""
        yield f"test NDCG@10: {', '.join(map(wording.direction, DIRECTIONS))}"
        joined = np.asarray(side_by_side(self._vectors, weights))
        every = {}
        for name, vectors in [*zip(self.runs, self._vectors), ("composite", joined)]:
            every[name] = self.scores(vectors, "test")
            values = "  ".join(f"{v:.3f}" for v in every[name].values())
            yield f"  {values}  {name}"
        yield gains(every)


def choice(every: Mapping[tuple[float, ...], Mapping[str, float]]) -> str:
    """Describe the best weights of each direction; from weights → direction → score."""
    best = {d: max(every, key=lambda weights: every[weights][d]) for d in DIRECTIONS}
    if len(set(best.values())) == 1:
        return f"all directions are highest at {_as_ratio(next(iter(best.values())))}"
    peaks = (
        f"{wording.direction(d)} at {_as_ratio(weights)} ({every[weights][d]:.3f})"
        for d, weights in best.items()
    )
    return (
        f"no weights are best in every direction; the highest scores are {', '.join(peaks)}. "
        "The weights with the highest mean are used"
    )


def gains(every: Mapping[str, Mapping[str, float]]) -> str:
    """Describe in which directions a composite (the last entry) scores above all its runs."""
    *runs, last = every.values()
    above = [d for d in DIRECTIONS if last[d] > max(run[d] for run in runs)]
    if len(above) == len(DIRECTIONS):
        return "the composite scores above each run in every direction"
    below = ", ".join(wording.direction(d) for d in DIRECTIONS if d not in above)
    gained = ", ".join(map(wording.direction, above)) or "no direction"
    return (
        f"the composite scores above each run in {gained}, and not in {below}: more weight on the "
        "run that is better there moves it, at the cost of the other directions"
    )


def _as_ratio(weights: Sequence[float]) -> str:
    return " : ".join(f"{weight:g}" for weight in weights)
