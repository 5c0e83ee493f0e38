"""Start or resume a training: the first state, and checks before it runs."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax

from vidembed.distributed.stopping import StopFlag
from vidembed.engine.evaluation import Evaluation
from vidembed.engine.recipe import Recipe, ResolvedPhase
from vidembed.engine.step import State, new_state
from vidembed.progress import Progress
from vidembed.workdir.checkpoints.store import Checkpoints
from vidembed.workdir.layout import Workdir

Begin = Callable[[State], tuple[State, list[str]]]


def first_state(
    recipe: Recipe,
    feed: Any,
    begin: Begin | None,
    checkpoints: Checkpoints,
    shape: State,
    progress: Progress,
    stop: StopFlag,
) -> tuple[int, State]:
    """(step, state) to start from: the newest intact checkpoint, or a new state, which `begin`, if
    given, initialises from another run."""
    # A separate block: after a stop request no checkpoint may be reported as damaged.
    with stop.raising():
        restored = checkpoints.restore_newest(shape)
    if restored is not None:
        step, state, troubles = restored
        for trouble in troubles:
            progress.say(f"WARNING: {trouble}")
        for newer in [saved for saved in checkpoints.steps() if saved > step]:
            checkpoints.set_aside(newer)
        progress.say(f"going on from step {step}")
        return step, state
    shardings = jax.tree.map(lambda leaf: leaf.sharding, shape)
    make = partial(new_state, recipe, feed.spec)
    state = jax.jit(make, out_shardings=shardings)(feed.statistics())
    if begin:
        state, notes = begin(state)
        for note in notes:
            progress.say(note)
    return 0, state


def refuse_fewer_steps(workdir: Workdir, done: int, steps: int) -> None:
    """Raises ValueError if a run has already passed the requested number of steps."""
    if done > steps:
        raise ValueError(
            f"{workdir} has applied {done} updates already, --steps is {steps}: give --steps "
            f"{done} or more, or another --workdir"
        )


def refuse_torn_pass(phase: ResolvedPhase, feed: Any) -> None:
    """Raises ValueError unless each update uses the gradient of one whole pass."""
    size, drawn_from = feed.one_pass
    parts = -(-size // phase.feed.examples)
    if phase.optimiser.accumulate != parts:
        raise ValueError(
            f"batches are weighted as parts of one pass over {size:,} {drawn_from}, which is "
            f"{parts} batches, but --optimiser.accumulate is {phase.optimiser.accumulate}: set it "
            f"to {parts}, or choose another batch size"
        )


def check_evaluation(
    evaluation: Evaluation | None, corpus: Any, progress: Progress, *, part_of_run: bool
) -> None:
    """Raises if evaluations during training have nothing to measure; warns for those of a job."""
    for evaluator in evaluation.evaluators if evaluation else ():
        try:
            evaluator.check(corpus)
        except ValueError as error:
            if part_of_run:
                raise
            progress.say(f"WARNING: an evaluation job has nothing to measure here: {error}")
