"""Clips decoded on the host: a network with batch statistics learns what kind they are of."""

from dataclasses import dataclass
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from tests.toys.rows import Corpus, HeldOut
from vidembed.tasks.outputs import Output
from vidembed.tasks.task import Task

MOMENTUM = 0.8


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """A spec of one's own, of which the engine knows nothing but that it is JSON."""

    features: int = 6
    kinds: int = 4


@dataclass(frozen=True, kw_only=True)
class Clips(Corpus):
    """Each clip is a wave in the direction of its kind, of its own phase and speed."""

    spec: ClassVar[Sizes] = Sizes()
    frames: int = 9

    def decode(self, row):
        """f32[T, F]"""
        rng, sizes = np.random.default_rng(row), self.spec
        direction = np.random.default_rng(0).normal(size=(sizes.kinds, sizes.features))
        time = np.arange(self.frames)[:, None] * rng.uniform(0.5, 2) + rng.uniform(0, 6)
        noise = rng.normal(size=(self.frames, sizes.features))
        return np.float32(3 + np.sin(time) * direction[row % sizes.kinds] + 0.3 * noise)

    def clips(self, rows):
        return {"clip": np.stack([self.decode(row) for row in rows])}

    def read(self, rows):
        return self.clips(rows) | {"kind": np.int32(rows % self.spec.kinds)}


@dataclass(frozen=True, kw_only=True)
class Kinds(Task):
    learns_from, hidden = "videos", 16

    @property
    def outputs(self):
        needs = ("parameters/frames", "state/batch_statistics")
        return {"clip": Output(apply=self.embed, read=Clips.clips, needs=needs)}

    def init(self, key, spec, statistics):
        frames, kinds = jax.random.split(key)
        parameters = {
            "frames": jax.random.normal(frames, (spec.features, self.hidden)),
            "kinds": 0.1 * jax.random.normal(kinds, (self.hidden, spec.kinds)),
        }
        known = {"mean": jnp.zeros(self.hidden), "variance": jnp.ones(self.hidden)}
        return parameters, {"batch_statistics": known}

    def pooled(self, hidden, known):
        """f32[B, D] of hidden f32[B, T, D], standardised by these statistics."""
        mean, scale = known["mean"], jax.lax.rsqrt(known["variance"] + 1e-3)
        return jnp.mean(jax.nn.relu((hidden - mean[None, None]) * scale[None, None]), axis=1)

    def embed(self, parameters, state, arrays):
        return self.pooled(arrays["clip"] @ parameters["frames"], state["batch_statistics"])

    def loss_and_measures(self, parameters, state, constants, batch, key):
        hidden = batch["clip"] @ parameters["frames"]
        # Arrays are those of the whole batch, however many devices hold it: so are their means.
        now = {"mean": jnp.mean(hidden, (0, 1)), "variance": jnp.var(hidden, (0, 1))}
        scores = jax.nn.log_softmax(self.pooled(hidden, now) @ parameters["kinds"])
        loss = -jnp.mean(jnp.take_along_axis(scores, batch["kind"][:, None], axis=1))
        new, old = jax.lax.stop_gradient(now), state["batch_statistics"]
        known = jax.tree.map(lambda o, n: MOMENTUM * o + (1 - MOMENTUM) * n, old, new)
        return loss, (state | {"batch_statistics": known}, {"loss": loss})


@dataclass(frozen=True, kw_only=True)
class NearestKind(HeldOut):
    def values(self, outputs, corpus):
        """Whether the nearest clip that was trained on is of the same kind."""
        embedded, rows = outputs["clip"](corpus), np.arange(len(corpus))
        train, test = rows[corpus.is_train], rows[~corpus.is_train]
        apart = np.square(embedded[test][:, None] - embedded[train][None]).sum(axis=2)
        kinds = corpus.spec.kinds
        return {"accuracy": 1.0 * (train[apart.argmin(axis=1)] % kinds == test % kinds)}
