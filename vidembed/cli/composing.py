"""`python -m vidembed compose`: several runs as one."""

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
"""What --choose tries for each run beside the first, whose weight is 1."""


def main(
    out: Annotated[str, tyro.conf.arg(metavar="OUT")],
    runs: Annotated[tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="RUN")],
    *,
    weights: tuple[float, ...] = (),
    step: str = "best",
    choose: bool = False,
    measure: bool = False,
) -> None:
    """Several runs as one: their unit vectors side by side, each times the root of its weight.

    OUT names the runs, which have to stay where they are; it is used like a run by embed, index,
    search and export. An export of it needs none of them.

    Args:
        out: the folder to write, local or gs://.
        runs: work directories, exports or composites, as RUN or RUN@STEP.
        weights: one for each run; only their ratios count. None: equal ones.
        step: best (by each run's evaluations), latest, or a number, where RUN names none.
        choose: try 1/4 to 4 for the weight of each run beside the first, and take the highest mean
            of NDCG@10 on the validation videos of a run's corpus.
        measure: show NDCG@10 of each run and of the composite on the test videos.
    """
    progress = Progress()
    if is_composite(out):
        raise ValueError(f"{out} is a composite already: choose another folder, or remove it")
    if choose and weights:
        raise ValueError("give --weights, or have them chosen (--choose)")
    check(runs, list(weights) or [1.0] * len(runs))
    measured = _Measured(runs, step, progress) if choose or measure else None
    if measured and choose:
        tried = [(1.0, *rest) for rest in itertools.product(GRID, repeat=len(runs) - 1)]
        weights = measured.best(tried)
    with progress.stage(f"composing {len(runs)} runs"):
        about = compose(out, runs, weights, step)
    for part in about["parts"]:
        progress.say(f"  {part['weight']:g} × {part['run']}, step {part['step']}")
    if measured and measure:
        for line in measured.table([part["weight"] for part in about["parts"]]):
            progress.say(line)
    progress.say(f"{out}: space: {about['space']}")


class _Measured:
    """The vectors of some runs, and what they score on the corpus of the first work directory."""

    def __init__(self, runs: Sequence[str], step: str, progress: Progress) -> None:
        self.runs, self._progress = runs, progress
        places = [named_run(name, step) for name in runs]
        trained = [place for place, _ in places if (epath.Path(place) / RECIPE).exists()]
        if not trained:
            raise ValueError("only work directories know their corpus; all runs here are exports")
        with progress.stage("reading the data"):
            self._corpus: Any = recipe_of(Workdir(trained[0])).corpus.open()
        self._vectors = [load(p, at).embed(self._corpus.table) for p, at in places]
        self._evaluator = RelatedVideos()

    def scores(self, vectors: np.ndarray, part: Part) -> dict[str, float]:
        """Direction → NDCG@10."""
        each = {d: self._evaluator.per_query(vectors, self._corpus, d, part) for d in DIRECTIONS}
        return {d: float(found.values["ndcg@10"].mean()) for d, found in each.items()}

    def best(self, tried: Sequence[tuple[float, ...]]) -> tuple[float, ...]:
        """The weights with the highest mean over directions on validation; says all of them."""
        if "validation" not in self._corpus.held_out:
            raise ValueError(
                "weights are chosen on validation videos, and the runs' corpus has none: train "
                "with --corpus.validation-share, or give --weights"
            )
        every: dict[tuple[float, ...], dict[str, float]] = {}
        self._progress.say(f"validation NDCG@10: {', '.join(map(wording.direction, DIRECTIONS))}")
        for weights in tried:
            scores = self.scores(np.asarray(side_by_side(self._vectors, weights)), "validation")
            every[weights] = scores
            values = "  ".join(f"{value:.3f}" for value in scores.values())
            self._progress.say(f"  {_as_ratio(weights):16} {values}")
        self._progress.say(choice(every))
        return max(every, key=lambda weights: float(np.mean(list(every[weights].values()))))

    def table(self, weights: Sequence[float]) -> Iterator[str]:
        """A line for each run, and one for the composite; then where it is above the runs."""
        yield f"test NDCG@10: {', '.join(map(wording.direction, DIRECTIONS))}"
        joined = np.asarray(side_by_side(self._vectors, weights))
        every = {}
        for name, vectors in [*zip(self.runs, self._vectors), ("composite", joined)]:
            every[name] = self.scores(vectors, "test")
            values = "  ".join(f"{v:.3f}" for v in every[name].values())
            yield f"  {values}  {name}"
        yield gains(every)


def choice(every: Mapping[tuple[float, ...], Mapping[str, float]]) -> str:
    """What the weights decide, in words; from weights → direction → score."""
    best = {d: max(every, key=lambda weights: every[weights][d]) for d in DIRECTIONS}
    if len(set(best.values())) == 1:
        return f"all directions are highest at {_as_ratio(next(iter(best.values())))}"
    said = (
        f"{wording.direction(d)} at {_as_ratio(weights)} ({every[weights][d]:.3f})"
        for d, weights in best.items()
    )
    return (
        f"the weight is a choice between directions: highest are {', '.join(said)}. Taken is the "
        "highest mean"
    )


def gains(every: Mapping[str, Mapping[str, float]]) -> str:
    """In which directions a composite, the last of these, is above its runs, in words."""
    *runs, last = every.values()
    above = [d for d in DIRECTIONS if last[d] > max(run[d] for run in runs)]
    if len(above) == len(DIRECTIONS):
        return "the composite is above each run in every direction"
    others = [wording.direction(d) for d in DIRECTIONS if d not in above]
    said = ", ".join(map(wording.direction, above)) or "no direction"
    return (
        f"the composite is above each run in {said}, and not in {', '.join(others)}: more weight "
        "on the run that is better there moves it, at the others' cost"
    )


def _as_ratio(weights: Sequence[float]) -> str:
    return " : ".join(f"{weight:g}" for weight in weights)
