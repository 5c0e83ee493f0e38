"""What a training begins with: the state to go on from, and what is refused before it runs."""

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
    """The state to go on from: the newest whole checkpoint, or a new one, of which `begin`,
    if given, makes one that begins from another run."""
    # A block of its own: where a stop was asked meanwhile, nothing is called damaged after it.
    with stop.raising():
        found = checkpoints.restore_newest(shape)
    if found is not None:
        step, state, troubles = found
        for trouble in troubles:
            progress.say(f"WARNING: {trouble}")
        for newer in [other for other in checkpoints.steps() if other > step]:
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


def refuse_fewer_steps(workdir: Workdir, done: int, wanted: int) -> None:
    """Raises ValueError for a run that has gone further than it is to go."""
    if done > wanted:
        raise ValueError(
            f"{workdir} has applied {done} updates already, --steps is {wanted}: give --steps "
            f"{done} or more, or another --workdir"
        )


def refuse_torn_pass(phase: ResolvedPhase, feed: Any) -> None:
    """Raises ValueError where an update is not by the gradient of one whole pass."""
    size, drawn_from = feed.one_pass
    parts = -(-size // phase.feed.examples)
    if phase.optimiser.accumulate != parts:
        raise ValueError(
            f"batches are weighted as parts of one pass over {size:,} {drawn_from}, which is "
            f"{parts} batches; --optimiser.accumulate is {phase.optimiser.accumulate}: set it to "
            f"{parts}, or choose another batch"
        )


def check_evaluation(
    evaluation: Evaluation | None, corpus: Any, progress: Progress, *, part_of_run: bool
) -> None:
    """Raises where the run's own evaluations have nothing to measure; for a job's, it warns."""
    for evaluator in evaluation.evaluators if evaluation else ():
        try:
            evaluator.check(corpus)
        except ValueError as error:
            if part_of_run:
                raise
            progress.say(f"WARNING: an evaluation job has nothing to measure here: {error}")
