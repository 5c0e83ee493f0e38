"""The training loop, top to bottom.

One order holds throughout: save (and measure) the state after k updates, then take batch k, then
update. The batches are a pure function of the step, so that a checkpoint needs no position of the
data, and a run that goes on sees exactly the batches it would have seen.
"""

from collections import deque
from collections.abc import Callable, Mapping
from contextlib import closing
from functools import partial
from typing import Any

import jax
import numpy as np

from vidembed import mesh as meshes
from vidembed.checkpoint import Checkpoints
from vidembed.corpus import Corpus
from vidembed.graph.split import LeakError
from vidembed.journal import Journal, Meter
from vidembed.lease import Lease
from vidembed.placing import Placer
from vidembed.profiling import Profile
from vidembed.progress import Progress
from vidembed.recipe import TUNABLE, Recipe
from vidembed.records.statistics import train_statistics
from vidembed.step import (
    State,
    compile_update,
    new_state,
    place_constants,
    refuse_uneven_batch,
    spec_of,
    state_shape,
)
from vidembed.stopping import StopFlag
from vidembed.tasks.spec import Spec
from vidembed.workdir import Workdir

IN_FLIGHT_STEPS = 2
"""Updates dispatched but not yet seen to be finite; also keeps collectives from piling up."""
FINITE = ("loss", "parameter_norm")
"""Measures that must be finite: the loss before the update, the parameters after it."""


class NonFiniteLoss(RuntimeError):  # noqa: N818 - a state of the run, not of the program
    """Loss or parameters became NaN or infinite; names the step and the batch."""


def train(
    recipe: Recipe,
    workdir: Workdir,
    *,
    lease: Lease,
    stop: StopFlag,
    corpus: Corpus | None = None,
    progress: Progress | None = None,
    evaluate: Callable[[int], Mapping[str, float]] | None = None,
    devices: list[Any] | None = None,
) -> int:
    """Trains until `recipe.steps` updates are applied or `stop` is asked; returns the last step.

    Goes on from the newest whole checkpoint of the work directory, on which the caller holds
    `lease`. `evaluate(step)` measures a durable checkpoint every `recipe.evaluate_every` steps;
    the scores it returns go to the journal. Raises where the work directory belongs to another
    run, recipe or data, and NonFiniteLoss; StoppedError when asked to stop before there is anything
    to save.
    """
    progress = progress or Progress(quiet=jax.process_index() > 0)
    mesh = meshes.make_mesh(recipe.mesh, devices)
    refuse_uneven_batch(recipe, mesh.size)
    with progress.stage("preparing the batches"), stop.raising():
        corpus = corpus or recipe.corpus.open()
        feed = recipe.feed.open(
            corpus,
            seed=recipe.seed,
            process_index=jax.process_index(),
            process_count=jax.process_count(),
        )
    if corpus.edges_report.get("unknown_edges"):
        progress.say(_unknown(corpus.edges_report))
    _refuse_leak(corpus, feed.at(0)["rows"])
    progress.say(_counts(corpus))
    for note in feed.notes:
        progress.say(note)
    fingerprints = {"corpus": corpus.fingerprint, "feed": feed.fingerprint}

    with jax.set_mesh(mesh), Checkpoints(workdir.checkpoints) as checkpoints:
        # All that can be refused is refused before the recipe is written down.
        spec = spec_of(recipe, corpus)
        shape = state_shape(recipe, spec, mesh)
        _refuse_fewer_steps(workdir, checkpoints.latest() or 0, recipe.steps)
        for change in workdir.claim_recipe(recipe.to_json(), fingerprints, tunable=TUNABLE):
            progress.say(f"changed since the run was started: {change}")
        with stop.raising():
            done, state = _start(recipe, corpus, spec, checkpoints, shape, progress, stop)
            constants = place_constants(recipe, corpus, mesh)
            placer = Placer.of(recipe, feed, len(corpus.table), mesh)
        if done == recipe.steps:
            progress.say(f"nothing to do: all {done} steps are done; raise --steps to go on")
        update = compile_update(recipe, shape, mesh)
        in_flight: deque[tuple[int, dict[str, Any]]] = deque()
        meter = Meter(placer.events)
        profile = Profile(workdir.path / "profile", steps=recipe.profile_steps)

        with Journal(workdir, recipe.steps, resumed_from=done, progress=progress) as journal:

            def settle(most: int) -> None:
                """Waits until at most so many updates are in flight, and looks at the others."""
                while len(in_flight) > most:
                    step, measures = in_flight.popleft()
                    if not np.isfinite(jax.device_get([measures[name] for name in FINITE])).all():
                        raise NonFiniteLoss(_non_finite(step, feed.ids_at(step - 1)))
                    meter.count(recipe.feed.examples)
                    if step % recipe.log_every == 0 or step in (1, recipe.steps):
                        rates = meter.read(recipe.feed.unit)
                        journal.log(step, jax.device_get(measures) | rates)

            def prune() -> None:
                # What is measured is read first: an evaluation pins before it says "measured".
                measured = workdir.awaited_measurements()
                checkpoints.prune(
                    keep_last=recipe.checkpoints.keep_last,
                    keep_every=recipe.checkpoints.keep_every or None,
                    pinned=workdir.pinned(),
                    measured=measured,
                )

            def save(step: int) -> int:
                settle(0)
                lease.check(now=True)
                checkpoints.save(step, state, {"recipe": recipe.to_json(), **fingerprints})
                prune()
                return step

            def measure(step: int) -> None:
                if evaluate and recipe.evaluate_every and step and not step % recipe.evaluate_every:
                    checkpoints.wait()
                    journal.log(step, evaluate(step), kind="evaluation")

            saved = checkpoints.latest()
            saved = save(0) if saved is None else saved
            measure(done)  # the run may have been killed between saving and measuring
            if done < recipe.steps:
                workdir.clear_done()
            batches = feed.batches(done, recipe.steps)
            with journal.training(), closing(batches), closing(profile):
                for step, batch, waited in batches:
                    if stop.reached():
                        break
                    meter.wait(waited)
                    profile.before_step()
                    placed, events = placer.place(batch)
                    for event in events:
                        meter.event(event)
                    state, measures = update(state, constants, placed)
                    done = step + 1
                    in_flight.append((done, measures))
                    settle(IN_FLIGHT_STEPS)
                    lease.check()
                    checkpoints.check()
                    if done % recipe.checkpoints.every_steps == 0:
                        saved = save(done)
                        measure(done)
                settle(0)
                journal.reached(done)
            if done != saved:
                save(done)
            checkpoints.wait()
            prune()
            if done == recipe.steps and jax.process_index() == 0:
                workdir.mark_done(done)
    return done


def _start(
    recipe: Recipe,
    corpus: Corpus,
    spec: Spec,
    checkpoints: Checkpoints,
    shape: State,
    progress: Progress,
    stop: StopFlag,
) -> tuple[int, State]:
    """The state to go on from: the newest whole checkpoint, or a new one."""
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
    make = partial(new_state, recipe, spec)
    statistics = train_statistics(corpus.table, corpus.is_train)
    return 0, jax.jit(make, out_shardings=shardings)(statistics)


def _refuse_fewer_steps(workdir: Workdir, done: int, wanted: int) -> None:
    if done > wanted:
        raise ValueError(
            f"{workdir} has applied {done} updates already, steps is {wanted}: give --steps {done} "
            "or more, or another --workdir"
        )


def _counts(corpus: Corpus) -> str:
    told = " (SIMULATED sessions)" if corpus.simulated else ""
    return (
        f"{len(corpus.table):,} videos, {int(corpus.is_train.sum()):,} of them to train on; "
        f"{corpus.train_graph.edges:,} relations to train on, {corpus.relevance.edges:,} to be "
        f"measured by{told}"
    )


def _refuse_leak(corpus: Corpus, rows: np.ndarray) -> None:
    """Looks at what is really drawn, whatever was meant to be drawn."""
    leaked = np.unique(rows[~corpus.is_train[rows]])
    if len(leaked):
        shown = ", ".join(i.decode(errors="replace") for i in corpus.table.ids[leaked[:10]])
        raise LeakError(
            f"{len(leaked)} videos of the eval partition are in a training batch: {shown}. Nothing "
            "measured after that could be believed; this is a fault of the feed or the split"
        )


def _unknown(report: Mapping[str, Any]) -> str:
    shown = ", ".join(report["unknown"])
    return (
        f"WARNING: {report['unknown_edges']} edges name one of {report['unknown_ids']} videos that "
        f"are not in the table, and are left out: {shown}"
    )


def _non_finite(step: int, ids: np.ndarray) -> str:
    shown = ", ".join(i.decode(errors="replace") for i in ids.reshape(-1)[:9])
    return (
        f"the loss of step {step}, or what it made of the parameters, is not finite; its batch "
        f"has videos {shown} ... ({ids.size} in all, `feed.ids_at({step - 1})`). The last "
        "checkpoint is good. Look for extreme features with `python -m vidembed inspect`, or lower "
        "the learning rate"
    )
