"""The phases of a run, opened on its data and a mesh: which batch comes when and does what."""

from collections.abc import Generator
from contextlib import closing
from typing import Any

import jax
import numpy as np

from vidembed.engine.placing import Placer, place_constants
from vidembed.engine.recipe import Recipe
from vidembed.engine.step import State, compile_update


def open_feeds(recipe: Recipe, corpus: Any) -> list[Any]:
    """The feed of each phase; phases with equal options share one. Raises ValueError where they
    give states of different shapes."""
    opened: dict[Any, Any] = {}
    for phase in recipe.resolved_phases:
        if phase.feed not in opened:
            feed = phase.feed.open(corpus, seed=recipe.seed, reads=recipe.task.reads)
            opened[phase.feed] = feed
    feeds = [opened[phase.feed] for phase in recipe.resolved_phases]
    specs = [feed.spec for feed in feeds]
    if any(spec != specs[0] for spec in specs):
        raise ValueError(f"all phases share one state, but their feeds have the sizes {specs}")
    return feeds


class Phases:
    """A run's phases on a mesh. Every host calls the same, and holds its own part of a batch."""

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
        """Names of what may happen to a batch."""
        return tuple(dict.fromkeys(event for placer in self._placers for event in placer.events))

    def batches(self, start: int, stop: int) -> Generator[tuple[int, Any, float], None, None]:
        """(step, this host's batch, seconds waited) of steps start..stop-1; close it early."""
        step = start
        while step < stop:
            phase, done, left = self._recipe.position(step)
            count = min(left, stop - step)
            with closing(self._feeds[phase].batches(done, done + count, self._part)) as batches:
                for own, batch, waited in batches:
                    yield step + own - done, batch, waited
            step += count

    def update(self, state: State, step: int, batch: Any) -> tuple[State, Any, tuple[str, ...]]:
        """(state, measures, events) after one more update, dispatched but not awaited."""
        phase = self._recipe.position(step).phase
        placed, events = self._placers[phase].place(batch)
        state, measures = self._updates[phase](state, self._constants[phase], placed)
        return state, measures, events

    def ids_at(self, step: int) -> tuple[np.ndarray, int]:
        """Ids of the whole batch of a step, and its number among the batches of its feed."""
        phase, done, _ = self._recipe.position(step)
        return self._feeds[phase].ids_at(done), done
