"""The phases of a run on its data and a mesh: the batch and the update of each step."""

from collections.abc import Generator, Mapping
from contextlib import closing
from typing import Any

import jax
import numpy as np

from vidembed.distributed.agree import arrays_of_first_host, together
from vidembed.engine.placing import Placer, place_constants
from vidembed.engine.recipe import Recipe
from vidembed.engine.step import AVERAGE, State, compile_update


def open_feeds(recipe: Recipe, corpus: Any) -> list[Any]:
    """The feed of each phase; phases with equal options share one. Raises ValueError if their
    states differ in shape, or if a feed's number of steps differs from its phase's."""
    opened: dict[Any, Any] = {}
    for phase in recipe.resolved_phases:
        if phase.feed not in opened:
            feed = phase.feed.open(corpus, seed=recipe.seed, reads=recipe.task.reads)
            opened[phase.feed] = feed
    feeds = [opened[phase.feed] for phase in recipe.resolved_phases]
    specs = [feed.spec for feed in feeds]
    if any(spec != specs[0] for spec in specs):
        raise ValueError(f"all phases share one state, but their feeds have the sizes {specs}")
    for phase, feed in zip(recipe.resolved_phases, feeds):
        if feed.whole_steps not in (None, phase.steps):
            raise ValueError(
                f"{type(phase.feed).__name__} needs exactly one pass of {feed.whole_steps} steps, "
                f"found {phase.steps} steps: set --steps {feed.whole_steps}, or divide the pass "
                "differently (--feed.parts)"
            )
    return feeds


class Phases:
    """A run's phases on a mesh. Every host makes the same calls with its own part of each batch."""

    def __init__(
        self, recipe: Recipe, feeds: list[Any], shape: State, mesh: jax.sharding.Mesh
    ) -> None:
        self._recipe, self._feeds = recipe, feeds
        self._part = (jax.process_index(), jax.process_count())
        first = {id(feed): feed for feed in feeds}
        placers = {i: Placer.of(feed, mesh, steps=recipe.steps) for i, feed in first.items()}
        placed: dict[int, Any] = {}
        constants = {i: place_constants(feed, mesh, placed) for i, feed in first.items()}
        self._placers = [placers[id(feed)] for feed in feeds]
        self._constants = [constants[id(feed)] for feed in feeds]
        self._updates = [
            compile_update(recipe, shape, mesh, phase=number) for number in range(len(feeds))
        ]

    @property
    def events(self) -> tuple[str, ...]:
        """Names of the events of a batch."""
        return tuple(dict.fromkeys(event for placer in self._placers for event in placer.events))

    def batches(self, start: int, stop: int) -> Generator[tuple[int, Any, float], None, None]:
        """(step, this host's batch, seconds waited) of steps start..stop-1; close it early."""
        step = start
        while step < stop:
            phase, done, left = self._recipe.position(step)
            count = min(left, stop - step)
            with closing(self._feeds[phase].batches(done, done + count, self._part)) as batches:
                for number, batch, waited in batches:
                    yield step + number - done, batch, waited
            step += count

    def update(self, state: State, step: int, batch: Any) -> tuple[State, Any, tuple[str, ...]]:
        """(state, measures, events) after one more update, dispatched but not awaited. After the
        last step of a phase the task may solve for the parameters."""
        phase, _, left = self._recipe.position(step)
        placed, events = self._placers[phase].place(batch)
        state, measures = self._updates[phase](state, self._constants[phase], placed)
        if left == 1:
            task, parameters, of_task = self._recipe.task, state["parameters"], state["state"]
            solved = together(lambda: task.solve(parameters, of_task), ValueError)
            if solved is not None:
                state = _with_parameters(state, arrays_of_first_host(solved))
        return state, measures, events

    def ids_at(self, step: int) -> tuple[np.ndarray, int]:
        """Ids of the whole batch of a step, and its number among the batches of its feed."""
        phase, done, _ = self._recipe.position(step)
        return self._feeds[phase].ids_at(done), done


def _with_parameters(state: State, solved: Mapping[str, np.ndarray]) -> State:
    """The state with these parameters, laid out as before; their average is set to them, too."""

    def placed(old: jax.Array, new: np.ndarray) -> jax.Array:
        new = np.asarray(new, old.dtype)
        return jax.make_array_from_callback(old.shape, old.sharding, new.__getitem__)

    changed = {
        name: jax.tree.map(placed, state[name], dict(solved))
        for name in ("parameters", AVERAGE)
        if name in state
    }
    return state | changed
