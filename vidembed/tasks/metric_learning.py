"""Metric learning from triplets: CDML (section 3.2), with negatives mined over the global batch.

A batch holds B triplets as slots [negatives, positives, anchors]. All slots are embedded, every
device mines for its anchors in the pool gathered from all devices, and the loss compares each
anchor with its positive and with the chosen negative. The result does not depend on the number of
devices.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import chex
import jax
import jax.numpy as jnp

from vidembed.distributed import mesh
from vidembed.losses.triplet import Hinge, TripletLoss, check
from vidembed.mining import Forbidden, Miner, NoMining, SemiHard
from vidembed.models.parameters import Parameters
from vidembed.pairwise import squared_distance
from vidembed.tasks import collapse, video
from vidembed.tasks.video import Arrays

NEGATIVES, POSITIVES, ANCHORS = 0, 1, 2
GROUPS = {"negatives": 1, "negatives+positives": 2, "all": 3}
"""Number of slot groups in each pool."""


@dataclass(frozen=True, kw_only=True)
class MetricLearning(video.VideoTask):
    """An embedding in which co-watched videos are closer than others."""

    miner: Miner = SemiHard()
    """How each triplet's negative is chosen from the pool."""
    loss: TripletLoss = Hinge()
    """Loss of a pair of squared distances."""
    pool: Literal["negatives", "negatives+positives", "all"] = "all"
    """Embeddings of the batch that may be chosen as negatives; the paper says only 'within the
    mini-batch'."""
    unfound: Literal["keep", "drop"] = "keep"
    """If no embedding qualifies: train on the sampled negative, or drop the triplet."""
    learns_from: ClassVar[str] = "triplets"

    def __post_init__(self) -> None:
        check(self.miner, self.loss)
        if isinstance(self.miner, NoMining) and self.unfound == "drop":
            raise ValueError(
                "NoMining finds no negatives and unfound='drop' drops all triplets without one: "
                "nothing would be learnt. Use unfound='keep' to train on the sampled negatives"
            )

    def diagnose(self, lines: Sequence[collapse.Line], *, finished: bool) -> dict[str, str]:
        """Warnings by name, from the journal lines of a finished or continuing run."""
        collapsed = collapse.one_point(lines, finished=finished) or collapse.at_margin(
            lines, loss=self.loss, finished=finished
        )
        return collapsed | collapse.nothing_trains(lines, finished=finished)

    def loss_and_measures(
        self,
        parameters: Parameters,
        state: Arrays,
        constants: Arrays,
        batch: Arrays,
        key: jax.Array,
    ) -> tuple[jax.Array, tuple[Arrays, dict[str, jax.Array]]]:
        """Mean loss f32[] of a batch, and (state, measures).

        `constants` and features as in `video.batch_features`. `batch`: rows i32[3, B], first
        bool[3, B], negative_slot i32[B], negative_allowed bool[B], forbidden i32[2, P], and
        with levels of negatives drawn_at bool[L, B]. The measures then include the share drawn at
        each level, `drawn_at/l`, and the share of these that the miner chose, `survive_at/l`.
        """
        chex.assert_rank([batch["rows"], batch["negative_slot"], batch["forbidden"]], [2, 1, 2])
        features, present = video.batch_features(constants, batch)
        drop_key, mine_key = jax.random.split(key)
        embedded = self.embed(parameters, state, features, present, drop_key)
        triplets = batch["rows"].shape[1]
        drawn_at = batch.get("drawn_at", jnp.zeros((0, triplets), bool))
        forbidden = Forbidden(
            pairs=batch["forbidden"],
            candidates=batch["first"][: GROUPS[self.pool]].reshape(-1),
        )
        on_all = mesh.on_all_devices(self._triplets, (1, 0, 0, 1, None, None))
        totals = on_all(
            embedded,
            batch["negative_slot"],
            batch["negative_allowed"],
            drawn_at,
            forbidden,
            mine_key,
        )
        drawn, survived = totals.pop("drawn_at"), totals.pop("survive_at")
        measures = {name: value / triplets for name, value in totals.items()}
        for level in range(len(drawn)):
            measures[f"drawn_at/{level}"] = drawn[level] / triplets
            # 0/0 = NaN if none was drawn: the share that survives is unknown.
            measures[f"survive_at/{level}"] = survived[level] / drawn[level]
        measures["spread"] = 1 - jnp.sum(jnp.square(measures.pop("mean")))
        loss = totals["loss"] / jnp.maximum(totals["trained"], 1)
        return loss, (state, {"loss": loss} | {k: v for k, v in measures.items() if k != "loss"})

    def _triplets(
        self,
        embedded: jax.Array,
        negative_slot: jax.Array,
        negative_allowed: jax.Array,
        drawn_at: jax.Array,
        forbidden: Forbidden,
        key: jax.Array,
    ) -> dict[str, jax.Array]:
        """Sums over all triplets; each device has its embedded f32[3, b, D] and b flags, and the
        forbidden pairs of the whole batch."""
        groups = GROUPS[self.pool]
        candidates = gather_pool(embedded[:groups])
        anchor, positive = embedded[ANCHORS], embedded[POSITIVES]
        mined, found = self.miner(
            anchor,
            positive,
            candidates.reshape(-1, candidates.shape[-1]),
            forbidden,
            key=key,
            margin=self.loss.margin,
            anchor_offset=mesh.device_number() * len(anchor),
        )
        fallen_back = ~found & negative_allowed & (self.unfound == "keep")
        chosen = jnp.where(found, mined, negative_slot)
        negative = choose(embedded[:groups], candidates, chosen)

        positive_distance = squared_distance(anchor, positive)
        negative_distance = squared_distance(anchor, negative)
        loss = self.loss(positive_distance, negative_distance)
        trained = found | fallen_back
        violating = positive_distance - negative_distance + self.loss.margin > 0

        survive = found & (mined == negative_slot)

        def count(flags: jax.Array) -> jax.Array:
            return jnp.sum(flags.astype(jnp.float32), axis=-1)

        sums = {
            "loss": jnp.sum(jnp.where(trained, loss, jnp.zeros_like(loss))),
            "trained": count(trained),
            "mined": count(found),
            "fallen_back": count(fallen_back),
            "active": count(trained & violating),
            "sampled_survive": count(survive),
            "drawn_at": count(drawn_at),
            "survive_at": count(drawn_at & jnp.broadcast_to(survive, drawn_at.shape)),
            "positive_distance": jnp.sum(positive_distance),
            "negative_distance": jnp.sum(negative_distance),
            "mean": jnp.sum(anchor, axis=0),
        }
        return mesh.total(sums)


def gather_pool(part: jax.Array) -> jax.Array:
    """f32[G, B, D]: every device's part f32[G, b, D], in batch order, without a gradient."""
    return mesh.gather(jax.lax.stop_gradient(part), axis=1)


@jax.custom_vjp
def choose(part: jax.Array, pool: jax.Array, slots: jax.Array) -> jax.Array:
    """f32[b, D]: the pool f32[G, B, D] at flat slots i32[b], 0..G · B - 1, on each device.

    Its gradient goes to `part`, the device's f32[G, b, D] that the pool was gathered from. Mining
    compares an anchor with every slot of the pool, but gradients flow back only to the chosen
    slots: devices exchange these B gradients, while the gradient of the gather would be summed over
    all slots, up to three times as many.
    """
    del part
    return pool.reshape(-1, pool.shape[-1])[slots]


def _forward(
    part: jax.Array, pool: jax.Array, slots: jax.Array
) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    return choose(part, pool, slots), (part, slots)


def _backward(
    residuals: tuple[jax.Array, jax.Array], gradient: jax.Array
) -> tuple[jax.Array, None, None]:
    part, slots = residuals
    groups, share, _ = part.shape
    gradients, slots = mesh.gather(gradient, axis=0), mesh.gather(slots, axis=0)
    group, slot = jnp.divmod(slots, len(slots))
    slot -= mesh.device_number() * share
    is_here = (slot >= 0) & (slot < share)
    # Gradients for other devices go to an index beyond the end, and are dropped.
    place = jnp.where(is_here, group * share + slot, groups * share)
    summed = jax.ops.segment_sum(gradients, place, num_segments=groups * share)
    return summed.reshape(part.shape), None, None


choose.defvjp(_forward, _backward)
