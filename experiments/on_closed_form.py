"""Train towers on top of the closed form, and compare them with the composite.

    python -m experiments.on_closed_form --workdir runs/quickstart

trains, on the data of a finished quickstart and at its size, the towers of its network with their
output added to the closed form's vector, unit(closed + gate × towers), by a softmax over the videos
of the batch; and the same towers alone. Nothing is stored. Half of the videos outside train are for
choosing (validation), the others are shown apart.
"""

import dataclasses
import sys
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.composites import as_markdown, beside, row, solved
from experiments.gathering import over_seeds
from experiments.quickstart import LAYERS, recipe
from vidembed.cli.command_line import start
from vidembed.corpora.held_out import Part
from vidembed.corpora.watched import Corpus
from vidembed.deploy.loading import load
from vidembed.engine.evaluation import recipe_of
from vidembed.evaluators.baselines import raw_features
from vidembed.evaluators.queries import DIRECTIONS
from vidembed.evaluators.related_videos import RelatedVideos
from vidembed.metrics.intervals import differences
from vidembed.models.fusion import LateFusion
from vidembed.models.parameters import apply, initialise
from vidembed.pairwise import normalise
from vidembed.progress import Progress
from vidembed.records.scores_file import Scores
from vidembed.records.statistics import train_statistics
from vidembed.workdir.layout import Workdir

PARTS: tuple[Part, ...] = ("validation", "test")
REFERENCES = ("visual", "closed_form", "trained", "composite")
"""Systems that the others are compared with."""
GATE, TEMPERATURE, RATE = 0.3, 0.1, 1e-3
NETWORK = LateFusion(layers=LAYERS)


def learnt(
    corpus: Corpus, closed: jax.Array, *, seed: int, steps: int, gate: float | None
) -> np.ndarray:
    """Vectors f32[N, D] of towers on top of the closed form's unit vectors f32[N, D], which stay.

    gate: what the towers' unit vector is multiplied by at the start; None for the towers alone.
    """
    statistics = train_statistics(corpus.table, corpus.is_train)
    inputs = {m: jnp.asarray(raw_features(corpus.table, (m,), statistics)) for m in statistics}
    widths = {m: values.shape[1] for m, values in inputs.items()}
    begin = initialise(NETWORK, widths, jax.random.key(seed)), jnp.float32(gate or 0)
    rule = optax.adam(RATE)

    def embed(learns: Any, rows: jax.Array, key: jax.Array | None = None) -> jax.Array:
        towers = apply(NETWORK, learns[0], {m: x[rows] for m, x in inputs.items()}, key)
        return towers if gate is None else normalise(closed[rows] + learns[1] * towers)

    def loss(learns: Any, batch: Any, key: jax.Array) -> jax.Array:
        """Each anchor's positive among all videos of the batch that are not related to it."""
        slots = embed(learns, batch["rows"], key)
        anchors, pool = slots[2], slots.reshape(-1, slots.shape[-1])
        allowed = jnp.tile(batch["first"].reshape(-1), (len(anchors), 1))
        allowed = allowed.at[tuple(batch["forbidden"])].set(False, mode="drop")
        others = jnp.where(allowed, anchors @ pool.T / TEMPERATURE, -jnp.inf)
        own = jnp.sum(anchors * slots[1], axis=-1) / TEMPERATURE
        return jnp.mean(jax.nn.softplus(jax.nn.logsumexp(others, axis=1) - own))

    @jax.jit
    def update(learns: Any, moments: Any, batch: Any, key: jax.Array) -> Any:
        direction, moments = rule.update(jax.grad(loss)(learns, batch, key), moments)
        return optax.apply_updates(learns, direction), moments

    state = begin, rule.init(begin)
    feed: Any = recipe.feed.open(corpus, seed=seed)
    for step, batch, _ in feed.batches(0, steps):
        used = {name: np.asarray(batch[name]) for name in ("rows", "first", "forbidden")}
        state = update(*state, used, jax.random.fold_in(jax.random.key(seed), step))
    return np.asarray(jax.jit(embed)(state[0], jnp.arange(len(corpus.table))))


@dataclasses.dataclass(frozen=True, kw_only=True)
class OnClosedForm:
    """What towers learn on top of the closed form, beside the composite; over all seeds."""

    workdir: str = "runs/quickstart"
    """A finished quickstart: its folders are seedN."""
    seeds: tuple[int, ...] = (0, 1, 2)
    steps: int = recipe.steps
    """Updates of each training."""

    def run(self) -> int:
        """Trains and measures, and prints tables of validation and of test videos."""
        progress, seeds = Progress(), list[dict[Part, Scores]]()
        for seed in self.seeds:
            with progress.stage(f"seed {seed}"):
                seeds.append(self._measured(seed))
        for part in PARTS:
            scores = [each[part] for each in seeds]
            progress.say(f"{part} videos; below, NDCG@10 minus the composite's")
            for line in as_markdown({name: row(scores, name) for name in scores[0]}):
                progress.say(line)
            for name in (n for n in scores[0] if n not in REFERENCES):
                of = over_seeds(scores, name, "composite", by=differences)
                each = (of[d]["ndcg@10"] for d in DIRECTIONS)
                cells = (f"{e['value']:+.4f} [{e['low']:+.4f}, {e['high']:+.4f}]" for e in each)
                progress.say(f"{name}: {', '.join(cells)}")
        return 0

    def _measured(self, seed: int) -> dict[Part, Scores]:
        place = Path(self.workdir) / f"seed{seed}" / "trained"
        paths: Any = recipe_of(Workdir(place)).corpus
        corpus: Corpus = dataclasses.replace(paths, validation_share=0.5).open()
        closed = normalise(jnp.asarray(solved(corpus)))
        known, trained = np.asarray(closed), load(place, "latest").embed(corpus.table)
        residual, softmax = (
            learnt(corpus, closed, seed=seed, steps=self.steps, gate=gate) for gate in (GATE, None)
        )
        systems = {
            "visual": raw_features(corpus.table, ("visual",)),
            "closed_form": known,
            "trained": trained,
            "composite": beside(trained, known),
            "composite, closed form × 2": beside(trained, known, 2.0),
            "softmax": softmax,
            "softmax beside closed form": beside(softmax, known),
            "towers on closed form": residual,
            "these beside half a closed form": beside(residual, known, 0.5),
            "these beside closed form": beside(residual, known),
        }
        measure = partial(RelatedVideos(directions=DIRECTIONS).per_query, corpus=corpus)
        return {
            part: {
                name: {d: measure(vectors, direction=d, part=part) for d in DIRECTIONS}
                for name, vectors in systems.items()
            }
            for part in PARTS
        }


main = partial(start, OnClosedForm, prog="python -m experiments.on_closed_form")

if __name__ == "__main__":
    sys.exit(main())
