"""The training loop, from top to bottom.

The order is always: save (and measure) the state after k updates, take batch k, update. Batches are
a pure function of the step, so a checkpoint needs no position in the data, and a resumed run gets
exactly the batches of an uninterrupted one.
"""

from collections import deque
from collections.abc import Callable, Mapping
from contextlib import closing
from functools import partial
from typing import Any

import jax
import numpy as np

from vidembed.distributed import mesh as meshes
from vidembed.distributed.agree import agree, is_first_host
from vidembed.distributed.stopping import StopFlag
from vidembed.engine.account import Pruned, Trained
from vidembed.engine.claim import claim, tunable
from vidembed.engine.evaluation import Evaluation, store_evaluation
from vidembed.engine.field_roles import located
from vidembed.engine.init_from import begin_from, planned, resolve
from vidembed.engine.pace import Pace, Profile
from vidembed.engine.phases import Phases, open_feeds
from vidembed.engine.recipe import Recipe
from vidembed.engine.start import (
    check_evaluation,
    first_state,
    refuse_fewer_steps,
    refuse_torn_pass,
)
from vidembed.engine.step import refuse_uneven_batch, state_shape
from vidembed.engine.typed_json import to_json
from vidembed.progress import Progress
from vidembed.workdir.checkpoints.store import Checkpoints
from vidembed.workdir.journal import Journal
from vidembed.workdir.layout import Workdir
from vidembed.workdir.lease import Lease
from vidembed.workdir.versions import versions

IN_FLIGHT_STEPS = 2
"""Most updates dispatched but not yet checked to be finite; also limits queued collectives."""
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
    corpus: Any = None,
    progress: Progress | None = None,
    evaluation: Evaluation | None = None,
    evaluate: Callable[[int], Mapping[str, float]] | None = None,
    devices: list[Any] | None = None,
) -> int:
    """Trains until `recipe.steps` updates are applied or `stop` is set; returns the last step.

    Resumes from the newest intact checkpoint of the work directory, on which the caller holds
    `lease`. `evaluate(step)` measures a durable checkpoint every `recipe.evaluate_every` steps and
    the last one (none if that is 0); the scores it returns go to the journal. `evaluation` is
    stored beside the recipe, and checked at once for something to measure. Raises if hosts have
    different data, if the work directory belongs to another run, recipe or data, or if nothing
    could be measured; NothingTrainedError, NonFiniteLoss and HopelessError; StoppedError for a stop
    request before there is anything to save.
    """
    progress = progress or Progress(quiet=jax.process_index() > 0)
    recipe = located(recipe)
    mesh = meshes.make_mesh(recipe.mesh, devices)
    refuse_uneven_batch(recipe, mesh.size)
    with progress.stage("preparing the batches"), stop.raising():
        corpus = corpus or recipe.corpus.open()
        feeds = open_feeds(recipe, corpus)
    spec = feeds[0].spec
    fingerprints = {"corpus": corpus.rows, **_numbered("feed", [f.fingerprint for f in feeds])}
    notes = tuple(dict.fromkeys(note for feed in feeds for note in feed.notes))
    agree(
        {
            "videos, relations and split": corpus.rows,
            "batches (the feed, and the clusters that it draws by)": " ".join(
                feed.fingerprint for feed in feeds
            ),
            "what the feed says of itself": list(notes),
        }
    )
    part = (jax.process_index(), jax.process_count())
    for phase, feed in zip(recipe.resolved_phases, feeds):
        batch = feed.at(0, part)
        corpus.check(batch)
        if "weight" in batch:
            refuse_torn_pass(phase, feed)
    pace = Pace(recipe, feeds)
    for note in (*corpus.notes, *pace.describe(), *notes):
        progress.say(note)
    measuring = evaluate if recipe.evaluate_every else None
    check_evaluation(evaluation, corpus, progress, part_of_run=measuring is not None)

    with jax.set_mesh(mesh), Checkpoints(workdir.checkpoints) as checkpoints:
        # Check everything that can be refused before the recipe is stored.
        shape = state_shape(recipe, spec, mesh)
        refuse_fewer_steps(workdir, checkpoints.latest() or 0, recipe.steps)
        about = {"spec": to_json(spec), "space": dict(corpus.space)}
        about["imported"] = dict(getattr(corpus, "imported", {}))
        begin = None
        if recipe.init_from and checkpoints.latest() is None:
            # If this run was started before, use the step resolved then.
            name = (workdir.read_recipe() or {}).get("init_from", recipe.init_from)
            source = resolve(name)
            plan = planned(recipe, source, shape, corpus, spec)
            begin = partial(begin_from, recipe, source, plan)
            about["init_from"] = str(source)
        for change in claim(workdir, recipe, fingerprints, about):
            progress.say(f"changed since the run was started: --{change.replace('_', '-')}")
        if evaluation and is_first_host():
            store_evaluation(workdir, evaluation)
        with stop.raising():
            done, state = first_state(recipe, feeds[0], begin, checkpoints, shape, progress, stop)
            phases = Phases(recipe, feeds, shape, mesh)
        if done == recipe.steps:
            longer = "raise --steps" if "steps" in tunable(recipe) else "take another --workdir"
            progress.say(f"nothing to do: all {done} steps are done; {longer} to train longer")
        else:
            workdir.clear_done()
        in_flight: deque[tuple[int, dict[str, Any]]] = deque()
        pace.start(phases.events)
        pruned = Pruned(recipe.checkpoints.keep_last)
        profile = Profile(workdir.path / "profile", steps=recipe.profile_steps)

        with Journal(
            workdir,
            recipe.steps,
            resumed_from=done,
            progress=progress,
            diagnose=recipe.task.diagnose,
            show_loss=getattr(recipe.task, "optimised", True),
            stop_at=getattr(recipe.task, "stop_at", None),
        ) as journal:
            trained = Trained(recipe, journal, progress.say)

            def settle(most: int) -> None:
                """Waits until at most `most` updates are in flight; checks and logs the others."""
                while len(in_flight) > most:
                    step, measures = in_flight.popleft()
                    if not np.isfinite(jax.device_get([measures[name] for name in FINITE])).all():
                        raise NonFiniteLoss(_non_finite(step, *phases.ids_at(step - 1)))
                    trained.see(step, measures)
                    pace.did(step)
                    journal.reached(step)
                    if words := pace.estimate(step):
                        progress.say(words)
                    if step % recipe.log_every == 0 or step in (1, recipe.steps):
                        journal.log(step, jax.device_get(measures) | pace.read(step))

            def prune() -> None:
                # Read measured steps before pins: an evaluation pins a step before it stores it.
                measured = workdir.awaited_measurements()
                stale = recipe.checkpoints.stale(
                    checkpoints.steps(), pinned=workdir.pinned(), measured=measured
                )
                if lost := pruned.add(stale, workdir.measured_steps()):
                    progress.say(lost)
                checkpoints.delete(stale)

            def save(step: int) -> int:
                settle(0)
                lease.check(now=True)
                made_by = {"versions": versions(), **fingerprints}
                checkpoints.save(step, state, {"recipe": recipe.to_json(), **made_by})
                prune()
                return step

            def measure(step: int) -> None:
                if not measuring or not step:
                    return
                if step == recipe.steps or step % recipe.evaluate_every == 0:
                    checkpoints.wait()
                    journal.log(step, measuring(step), kind="evaluation")

            saved = checkpoints.latest()
            saved = save(0) if saved is None else saved
            measure(done)  # the run may have been killed between saving and measuring
            batches = phases.batches(done, recipe.steps)
            with journal.training(), closing(batches), closing(profile):
                for step, batch, waited in batches:
                    if stop.reached():
                        break
                    profile.before_step()
                    state, measures, events = phases.update(state, step, batch)
                    pace.took(waited, events)
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
                measure(done)
            checkpoints.wait()
            prune()
            if lost := pruned.summary():
                progress.say(lost)
            if done == recipe.steps:
                trained.refuse_nothing(done)
                if is_first_host():
                    workdir.mark_done(done)
    return done


def _numbered(name: str, values: list[str]) -> dict[str, str]:
    """The values by name; from the second on, the name has a number."""
    return {f"{name}{number or ''}": value for number, value in enumerate(values)}


def _non_finite(step: int, ids: np.ndarray, number: int) -> str:
    """The message for a loss or parameters that are not finite; ids: S[...] of the batch, which has
    this number in its feed."""
    shown = ", ".join(i.decode(errors="replace") for i in ids.reshape(-1)[:9])
    return (
        f"the loss of step {step}, or the parameters after it, is not finite; its batch has videos "
        f"{shown} ... ({ids.size} in all, `feed.ids_at({number})`). The last checkpoint is good. "
        "Check for extreme features with `python -m vidembed inspect`, or lower the learning rate"
    )
