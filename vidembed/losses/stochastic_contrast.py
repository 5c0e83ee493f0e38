"""ProViCo's stochastic contrastive loss over all pairs of the global batch (CVPR 2022).

Pairs nearer than a threshold are positive, all others negative; each is a match or not with the
probability that its samples give, and counts by its variances. Each device compares its own videos
with all, so that the result does not depend on the number of devices.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple

import chex
import jax
import jax.numpy as jnp

from vidembed.distributed import mesh
from vidembed.losses.bhattacharyya import Bhattacharyya
from vidembed.losses.match_probability import Match, Sampled
from vidembed.losses.mixtures import Distribution, Draw, Mixtures
from vidembed.losses.thresholds import Quantile, Threshold
from vidembed.losses.uncertainty import Uncertainty, weights
from vidembed.pairwise import in_blocks

SIDES = ("positive", "negative")


class Pairs(NamedTuple):
    """bool[b, B]: positive and negative pairs, and those of two different videos."""

    positive: jax.Array
    negative: jax.Array
    others: jax.Array


@dataclass(frozen=True, kw_only=True)
class StochasticContrast:
    """Contrast videos as distributions: which pairs are positive, and how each pair counts."""

    samples: int = 4
    """K, the samples of each mixture."""
    draw: Draw = "moments"
    """Samples of the Gaussian with the mixture's moments, as in the paper, or of its clips."""
    views: Literal["whole", "halves"] = "whole"
    """whole: a video is one mixture of all its clips, positive with itself. halves: two mixtures of
    random halves of its clips, which are positive with each other, too; not in the paper."""
    distribution: Distribution = "mixture"
    """What a video is. mixture: of its clips' Gaussians, as in the paper. gaussian: their mean and
    their mean variance, without the variance between clips. point: the mean alone, and nothing
    learns a variance. The last two show what each part adds."""
    distance: Bhattacharyya = Bhattacharyya()
    """The distance that the threshold is compared with; it has no gradient."""
    threshold: Threshold = Quantile()
    """The distance below which two videos are a positive pair."""
    match: Match = Sampled()
    """The probability that two mixtures match."""
    uncertainty: Uncertainty = Uncertainty()
    """How variances weigh pairs, and what holds them."""
    average: Literal["apart", "together"] = "apart"
    """apart: half the mean over positive pairs, and half that over negative ones. together: the
    mean over all pairs, in which the negatives win by their number."""
    block: int = 32
    """Mixtures matched with the batch at a time; memory is about block · B · K² · 16 bytes."""

    def __post_init__(self) -> None:
        if self.samples < 1 or self.block < 1:
            raise ValueError(f"samples {self.samples} and block {self.block} must be 1 or more")
        for name, choices in (
            ("draw", ("moments", "components")),
            ("views", ("whole", "halves")),
            ("distribution", ("mixture", "gaussian", "point")),
            ("average", ("apart", "together")),
        ):
            if getattr(self, name) not in choices:
                found = getattr(self, name)
                raise ValueError(f"{name} must be {' or '.join(choices)}, found {found!r}")
        if self.distribution != "mixture" and self.draw == "components":
            raise ValueError("draw components needs distribution mixture: others have none")
        if self.distribution == "point" and not self.match.sampled:
            raise ValueError(
                "distribution point needs task.loss.match:sampled: the others read variances"
            )

    @property
    def learned(self) -> Mapping[str, float]:
        """The parameters of the match probability."""
        return self.match.learned

    @property
    def draws(self) -> int:
        """The samples that are needed of each mixture: K, or 1 if nothing reads them."""
        return self.samples if self.match.sampled or self.distance.sampled else 1

    def __call__(
        self, mixtures: Mixtures, *, parameters: Mapping[str, jax.Array], batches: jax.Array
    ) -> tuple[jax.Array, dict[str, jax.Array]]:
        """(loss f32[], measures) of all pairs of B mixtures, without the KL divergence.

        batches: i32[], the number of batches before this one. Runs under a mesh; B must be
        divisible by its devices. Measures: `match_loss`, −log p or −log(1 − p) without weights,
        averaged like the loss, and of each side (`match_loss/positive`, `/negative`); `regulariser`
        and the mean `weight`; `pairs` of valid mixtures with each other and themselves, the
        `positives` among them, and `mined`, the share of the pairs of two different videos that
        are positive; `threshold` and the mean `distance` of different videos, per dimension.
        """
        chex.assert_rank([mixtures.mean, mixtures.samples], [2, 3])
        devices = jax.sharding.get_abstract_mesh().size
        if len(mixtures.number) % max(devices, 1):
            raise ValueError(
                f"{len(mixtures.number)} mixtures are not divisible by {devices} devices: choose a "
                "number of videos that is a multiple of them"
            )
        on_all = mesh.on_all_devices(self._sums, (0, None, None))
        sums, threshold = on_all(mixtures, dict(parameters), batches)
        return self._averaged(sums, threshold, mixtures.mean.shape[-1])

    def _sums(
        self, own: Mixtures, parameters: Mapping[str, jax.Array], batches: jax.Array
    ) -> tuple[dict[str, jax.Array], jax.Array]:
        """Sums over all pairs, and τ; each device has its own part of the mixtures."""
        pool = jax.tree.map(lambda part: mesh.gather(part, 0), own)
        distances = self.distance(*jax.lax.stop_gradient((own, pool)))
        pairs, threshold = self._mined(own, pool, distances, batches)
        log_match, log_other = self.match(own, pool, parameters=parameters, block=self.block)
        factors, pooled = (self.uncertainty.factors(side.variance) for side in (own, pool))
        logs, pooled_logs = (self.uncertainty.logarithms(side.variance) for side in (own, pool))

        def of_block(
            sides: tuple[jax.Array, jax.Array],
            losses: tuple[jax.Array, jax.Array],
            factors: jax.Array,
            logs: jax.Array,
        ) -> dict[str, jax.Array]:
            """Sums over the columns, f32[r] each."""
            weight = weights(factors, pooled)
            held = jnp.broadcast_to(logs[:, None], weight.shape)
            held += jnp.broadcast_to(pooled_logs[None], weight.shape)
            sums = {}
            for side, counted, loss in zip(SIDES, sides, losses):
                for name, values in {
                    "pairs": jnp.ones_like(weight),
                    "match_loss": loss,
                    "weighted": weight * loss,
                    "weight": weight,
                    "regulariser": held,
                }.items():
                    sums[f"{name}/{side}"] = jnp.sum(jnp.where(counted, values, 0.0), axis=1)
            return sums

        rows = (pairs.positive, pairs.negative), (-log_match, -log_other), factors, logs
        sums = in_blocks(of_block, *rows, block=self.block)
        sums["others"] = jnp.sum(pairs.others, axis=1, dtype=jnp.float32)
        sums["distance"] = jnp.sum(jnp.where(pairs.others, distances, 0.0), axis=1)
        mined = pairs.others & pairs.positive
        sums["mined"] = jnp.sum(mined, axis=1, dtype=jnp.float32)
        return mesh.total({name: jnp.sum(each) for name, each in sums.items()}), threshold

    def _mined(
        self, own: Mixtures, pool: Mixtures, distances: jax.Array, batches: jax.Array
    ) -> tuple[Pairs, jax.Array]:
        """The pairs, and τ; a video with itself is positive whatever τ is."""
        valid = own.valid[:, None] & pool.valid[None]
        same = own.video[:, None] == pool.video[None]
        others = valid & ~same
        threshold = self.threshold(distances, others, batches)
        near = same | (distances < threshold)
        return Pairs(valid & near, valid & ~near, others), threshold

    def _averaged(
        self, sums: Mapping[str, jax.Array], threshold: jax.Array, dimensions: int
    ) -> tuple[jax.Array, dict[str, jax.Array]]:
        counts = {side: sums[f"pairs/{side}"] for side in SIDES}
        pairs = counts["positive"] + counts["negative"]

        def of(name: str) -> jax.Array:
            if self.average == "together":
                total: jax.Array = sum(sums[f"{name}/{side}"] for side in SIDES)  # type: ignore
                return total / jnp.maximum(pairs, 1)
            parts = (sums[f"{name}/{side}"] / jnp.maximum(counts[side], 1) for side in SIDES)
            return 0.5 * next(parts) + 0.5 * next(parts)

        regulariser = of("regulariser")
        loss = of("weighted") + self.uncertainty.regulariser * regulariser
        measures = {
            "match_loss": of("match_loss"),
            "regulariser": regulariser,
            "weight": of("weight"),
            "pairs": pairs,
            "positives": counts["positive"],
            "mined": sums["mined"] / jnp.maximum(sums["others"], 1),
            "threshold": self.distance.per_dimension(threshold, dimensions),
        }
        distance = sums["distance"] / jnp.maximum(sums["others"], 1)
        measures["distance"] = self.distance.per_dimension(distance, dimensions)
        for side in SIDES:
            part = sums[f"match_loss/{side}"] / jnp.maximum(counts[side], 1)
            measures[f"match_loss/{side}"] = part
        return loss, measures
