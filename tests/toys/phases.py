"""Two phases in turn: an encoder learns from batches at random, a head from the whole split."""

from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from tests.toys.rows import Corpus, HeldOut, Rows
from vidembed.engine.optimiser import Optimiser, Sgd
from vidembed.engine.recipe import Phase
from vidembed.tasks.outputs import Output
from vidembed.tasks.spec import Spec
from vidembed.tasks.task import Task


@dataclass(frozen=True, kw_only=True)
class Ratings(Corpus):
    """Ratings f32[N, 3] that follow from what is shown f32[N, F]."""

    spec: ClassVar[Spec] = Spec(widths={"visual": 6})

    @cached_property
    def made(self):
        rng, width = np.random.default_rng(0), self.spec.widths["visual"]
        shown = rng.normal(size=(self.videos, width))
        ratings = np.tanh(shown @ rng.normal(size=(width, 4))) @ rng.normal(size=(4, 3))
        return np.float32(shown), np.float32(ratings)

    def shown(self, rows):
        return {"shown": self.made[0][rows]}

    def read(self, rows):
        return self.shown(rows) | {"rating": self.made[1][rows]}


@dataclass(frozen=True, kw_only=True)
class InTurn(Rows):
    """All train rows in order, part by part; the last part is filled up with rows that are masked.

    Weights make the mean over the parts that of the whole split.
    """

    def drawn(self, train, seed, step):
        size = self.batch_videos
        parts = -(-len(train) // size)
        place = step % parts * size + np.arange(size)
        counts = place < len(train)
        weight = np.float32(counts.sum() * parts / len(train))
        return train[np.minimum(place, len(train) - 1)], {"counts": counts, "weight": weight}


@dataclass(frozen=True, kw_only=True)
class Regression(Task):
    learns_from = "videos"

    @property
    def outputs(self):
        return {"rating": Output(apply=self.rate, read=Ratings.shown, needs=("parameters",))}

    def init(self, key, spec, statistics):
        shapes = {"encoder": (spec.widths["visual"], 8), "head": (8, 3)}
        return {name: jax.random.normal(key, shape) for name, shape in shapes.items()}, {}

    def rate(self, parameters, state, arrays):
        return jnp.tanh(arrays["shown"] @ parameters["encoder"]) @ parameters["head"]

    def loss_and_measures(self, parameters, state, constants, batch, key):
        squares = jnp.square(self.rate(parameters, state, batch) - batch["rating"]).sum(axis=1)
        counts = batch.get("counts", jnp.ones(len(squares), bool))
        loss = jnp.sum(jnp.where(counts, squares, 0.0)) / jnp.sum(counts)
        return loss, (state, {"loss": loss})


@dataclass(frozen=True, kw_only=True)
class Explained(HeldOut):
    def values(self, outputs, corpus):
        """Shares of the squares of ratings that are explained."""
        test, given = ~corpus.is_train, corpus.made[1]
        missed = np.square(outputs["rating"](corpus) - given)[test].sum(axis=1)
        return {"explained": 1 - missed / np.square(given)[test].sum(axis=1).mean()}


WHOLE = InTurn(batch_videos=24)
PHASES = (
    Phase(steps=4, learns=("encoder",)),
    Phase(
        steps=6,
        learns=("head",),
        feed=WHOLE,
        # Six parts are one update, by the gradient of the whole split.
        optimiser=Optimiser(rule=Sgd(momentum=0.0), learning_rate=0.1, accumulate=6),
    ),
)
