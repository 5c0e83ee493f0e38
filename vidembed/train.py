"""The training loop, top to bottom.

One order holds throughout: save (and measure) the state after k updates, then take batch k, then
update. The batches are a pure function of the step, so that a checkpoint needs no position of the
data, and a run that goes on sees exactly the batches it would have seen.
"""

from collections import deque
from collections.abc import Callable
from contextlib import closing
from functools import partial
from typing import Any

import jax
import numpy as np

from vidembed import mesh as meshes
from vidembed.checkpoint import Checkpoints
from vidembed.corpus import Corpus
from vidembed.journal import Journal, Meter
from vidembed.lease import Lease
from vidembed.profiling import Profile
from vidembed.progress import Progress
from vidembed.recipe import TUNABLE, Recipe
from vidembed.records.statistics import train_statistics
from vidembed.step import State, compile_update, new_state, place_constants, state_shape
from vidembed.stopping import StopFlag
from vidembed.workdir import Workdir

IN_FLIGHT_STEPS = 2
"""Updates dispatched but not yet seen to be finite; also keeps collectives from piling up."""


class NonFiniteLoss(RuntimeError):  # noqa: N818 - a state of the run, not of the program
    """The loss became NaN or infinite; names the step and the batch."""


def train(
    recipe: Recipe,
    workdir: Workdir,
    *,
    lease: Lease,
    corpus: Corpus | None = None,
    progress: Progress | None = None,
    evaluate: Callable[[int], None] | None = None,
    devices: list[Any] | None = None,
) -> int:
    """Trains until `recipe.steps` updates are applied or a stop is asked; returns the last step.

    Goes on from the newest whole checkpoint of the work directory. `evaluate(step)` is called
    after a durable checkpoint every `recipe.evaluate_every` steps. Raises where the work directory
    belongs to another run, recipe or data, and NonFiniteLoss. `lease` is the one that
    the caller holds on the work directory.
    """
    progress = progress or Progress(quiet=jax.process_index() > 0)
    mesh = meshes.make_mesh(recipe.mesh, devices)
    if recipe.feed.batch_triplets % mesh.size:
        raise ValueError(_uneven(recipe.feed.batch_triplets, mesh.size))
    with progress.stage("reading the data"):
        corpus = corpus or recipe.corpus.open()
        feed = recipe.feed.open(
            corpus,
            seed=recipe.seed,
            process_index=jax.process_index(),
            process_count=jax.process_count(),
        )
    unknown = corpus.edges_report.get("unknown_edges")
    if unknown:
        shown = ", ".join(corpus.edges_report["unknown"])
        progress.say(f"WARNING: {unknown} edges name videos that are not in the table: {shown}")
    fingerprints = {"corpus": corpus.fingerprint, "feed": feed.fingerprint}
    workdir.claim_recipe(recipe.to_json(), fingerprints, tunable=TUNABLE)

    with (
        jax.set_mesh(mesh),
        StopFlag() as stop,
        Checkpoints(workdir.checkpoints) as checkpoints,
    ):
        shape = state_shape(recipe, corpus.table.widths, mesh)
        done, state = _start(recipe, corpus, checkpoints, shape, progress)
        if done > recipe.steps:
            raise ValueError(
                f"{workdir} has applied {done} updates already, steps is {recipe.steps}: give "
                f"--steps {done} or more, or another --workdir"
            )
        constants = place_constants(recipe, corpus, mesh)
        update = compile_update(recipe, shape, mesh)
        in_flight: deque[tuple[int, dict[str, Any]]] = deque()

        meter, profile = Meter(), Profile(workdir.path / "profile", steps=recipe.profile_steps)

        with Journal(workdir, recipe.steps, resumed_from=done, progress=progress) as journal:

            def settle(most: int) -> None:
                """Waits until at most so many updates are in flight, and looks at the others."""
                while len(in_flight) > most:
                    step, measures = in_flight.popleft()
                    if not np.isfinite(jax.device_get(measures["loss"])):
                        raise NonFiniteLoss(_non_finite(step, feed.ids_at(step - 1)))
                    meter.count(recipe.feed.batch_triplets)
                    if step % recipe.log_every == 0 or step == recipe.steps:
                        journal.log(step, jax.device_get(measures) | meter.read())

            def save(step: int) -> None:
                settle(0)
                lease.check(now=True)
                checkpoints.save(step, state, {"recipe": recipe.to_json(), **fingerprints})
                prune()

            def prune() -> None:
                checkpoints.prune(
                    keep_last=recipe.checkpoints.keep_last,
                    keep_every=recipe.checkpoints.keep_every or None,
                    pinned=workdir.pinned(),
                    measured=workdir.awaited_measurements(),
                )

            saved = checkpoints.latest()
            if saved is None:
                save(0)
                saved = 0
            workdir.clear_done()
            batches = feed.batches(done, recipe.steps)
            with journal.training(), closing(batches), closing(profile):
                for step, batch, waited in batches:
                    if stop.reached(step):
                        break
                    meter.wait(waited)
                    profile.before_step()
                    placed = meshes.place_batch(mesh, batch, feed.split_axes)
                    state, measures = update(state, constants, placed)
                    done = step + 1
                    in_flight.append((done, measures))
                    settle(IN_FLIGHT_STEPS)
                    lease.check()
                    checkpoints.check()
                    if done % recipe.checkpoints.every_steps == 0:
                        save(done)
                        saved = done
                        if evaluate and recipe.evaluate_every and done % recipe.evaluate_every == 0:
                            checkpoints.wait()
                            evaluate(done)
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
    checkpoints: Checkpoints,
    shape: State,
    progress: Progress,
) -> tuple[int, State]:
    """The state to go on from: the newest whole checkpoint, or a new one."""
    found = checkpoints.restore_newest(shape)
    if found is not None:
        step, state, troubles = found
        for trouble in troubles:
            progress.say(f"WARNING: {trouble}")
        progress.say(f"going on from step {step}")
        return step, state
    shardings = jax.tree.map(lambda leaf: leaf.sharding, shape)
    make = partial(new_state, recipe, corpus.table.widths)
    statistics = train_statistics(corpus.table, corpus.is_train)
    return 0, jax.jit(make, out_shardings=shardings)(statistics)


def _uneven(triplets: int, devices: int) -> str:
    below = triplets // devices * devices
    return (
        f"feed.batch_triplets {triplets} does not divide over {devices} devices; "
        f"choose {below or devices} or {below + devices}"
    )


def _non_finite(step: int, ids: np.ndarray) -> str:
    shown = ", ".join(i.decode(errors="replace") for i in ids.reshape(-1)[:9])
    return (
        f"the loss of step {step} is not finite; its batch has videos {shown} ... "
        f"({ids.size} in all, `feed.ids_at({step - 1})`). The last checkpoint is good. Look for "
        "extreme features with `python -m vidembed inspect`, or lower the learning rate"
    )
