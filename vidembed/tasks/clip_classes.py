"""Learn the class of videos from their clips: a linear softmax on the vectors of an encoder.

The encoder usually comes from another run, such as one of `ProbabilisticVideos`, and is tuned
further or stays as it is. The head reads the encoder's vector, before the other run's heads: its
linear map, LayerNorm and unit length serve the comparison of videos and are left out, as is usual
for representations learned by contrast.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import chex
import jax
import jax.numpy as jnp

from vidembed.models.parameters import Parameters
from vidembed.models.softmax_head import SoftmaxHead
from vidembed.tasks.clip_task import ENCODER, OF_ENCODER, STATISTICS, ClipTask
from vidembed.tasks.outputs import Output
from vidembed.tasks.spec import LABELS, Spec
from vidembed.tasks.task import Axes
from vidembed.tasks.video import Arrays

HEAD = SoftmaxHead()


@dataclass(frozen=True, kw_only=True)
class ClipClasses(ClipTask):
    """Classification of videos by their clips.

    Every clip of a train video learns the video's class. The probabilities of a video are the means
    of those of its clips.
    """

    encoder_rate: float = 1.0
    """Learning rate of the encoder, as a share of the head's. 0: the encoder stays as it is, its
    batch statistics included, and the head alone learns (linear evaluation)."""
    dropout: float = 0.0
    """Share of the numbers of a clip's vector that are dropped while training."""
    inherits: ClassVar[tuple[str, ...]] = OF_ENCODER

    def __post_init__(self) -> None:
        if not 0 <= self.encoder_rate < float("inf"):
            raise ValueError(f"encoder_rate is {self.encoder_rate}, but must be 0 or more")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout is {self.dropout}, but must be a share from 0 to below 1")

    @property
    def reads(self) -> tuple[str, ...]:
        """The labels, and the modality of the windows, if one is named."""
        return (LABELS, *super().reads)

    @property
    def outputs(self) -> Mapping[str, Output]:
        """From a source of clips: `labels` f32[B, C], the probability of each class, 0 for a video
        without clips; `video` f32[B, F], the mean of the vectors of its clips."""
        of_classes = (f"parameters/{name}" for name in HEAD.split_axes)
        needs, read = (*OF_ENCODER, *of_classes, "state/classes"), self.embedded.read
        return {
            "labels": Output(apply=self._labels, read=read, needs=needs),
            "video": Output(apply=self._video, read=read, needs=OF_ENCODER),
        }

    def init(
        self, key: jax.Array, spec: Spec, statistics: Mapping[str, Arrays] | None
    ) -> tuple[Parameters, dict[str, Any]]:
        """Parameters `encoder/` and `classes/`, zero at first, and the state of `begin` with
        `classes` i32[C], their numbers."""
        parameters, state, size = self.begin(key, spec, statistics)
        if spec.classes < 2:
            raise ValueError(
                f"this task learns classes, and the feed gives {spec.classes}: give a list of "
                "clips of two classes or more"
            )
        parameters |= HEAD.initialise(key, size=size, biases=jnp.zeros(spec.classes))
        return parameters, state | {"classes": jnp.arange(spec.classes, dtype=jnp.int32)}

    def layout(self, parameters: Mapping[str, Any], state: Mapping[str, Any]) -> tuple[Axes, Axes]:
        """The head's parameters are split by class."""
        axes, of_state = super().layout(parameters, state)
        return axes | dict(HEAD.split_axes), of_state

    def masked(self, updates: Mapping[str, Any], state: Any) -> Mapping[str, Any]:
        """The updates of the encoder's parameters times `encoder_rate`."""
        if self.encoder_rate == 1:
            return updates
        return {
            name: self.encoder_rate * update if name.startswith(ENCODER) else update
            for name, update in updates.items()
        }

    def loss_and_measures(
        self,
        parameters: Parameters,
        state: Arrays,
        constants: Arrays,
        batch: Arrays,
        key: jax.Array,
    ) -> tuple[jax.Array, tuple[Arrays, dict[str, jax.Array]]]:
        """(loss f32[], (state, measures)) of a batch: labels i32[B], and clips and present as in
        `vectors`.

        The loss of a clip is −log p of its video's class; it is averaged over the clips of a video,
        then over videos. Measures: `loss`, and `accuracy`, the share of the batch's videos whose
        most probable class is right.
        """
        del constants
        chex.assert_rank(batch[LABELS], 1)
        learns = self.encoder_rate > 0
        augment_key, dropout_key = jax.random.split(key)
        vectors, running = self.vectors(parameters, state, batch, training=learns, key=augment_key)
        vectors = vectors if learns else jax.lax.stop_gradient(vectors)
        if self.dropout:
            kept = jax.random.bernoulli(dropout_key, 1 - self.dropout, vectors.shape)
            vectors = jnp.where(kept, vectors / (1 - self.dropout), 0.0)
        present = batch["present"]
        labels = jnp.broadcast_to(batch[LABELS][:, None], present.shape)
        flat, count = vectors.reshape(-1, vectors.shape[-1]), len(state["classes"])
        losses = HEAD.loss(_of_head(parameters), flat, labels.reshape(-1, 1), count)
        per_video = _mean(losses.reshape(*present.shape, 1), present)[:, 0]
        valid = jnp.any(present, axis=1)
        videos = jnp.maximum(jnp.sum(valid, dtype=jnp.float32), 1)
        loss = jnp.sum(per_video) / videos
        scores = self._scores(parameters, state, jax.lax.stop_gradient(vectors), present)
        right = valid & (jnp.argmax(scores, axis=1) == batch[LABELS])
        measures = {"loss": loss, "accuracy": jnp.sum(right, dtype=jnp.float32) / videos}
        return loss, ({**state, STATISTICS: running}, measures)

    def _labels(self, parameters: Parameters, state: Arrays, arrays: Arrays) -> jax.Array:
        vectors, _ = self.vectors(parameters, state, arrays)
        return self._scores(parameters, state, vectors, arrays["present"])

    def _video(self, parameters: Parameters, state: Arrays, arrays: Arrays) -> jax.Array:
        return _mean(self.vectors(parameters, state, arrays)[0], arrays["present"])

    def _scores(
        self, parameters: Parameters, state: Arrays, vectors: jax.Array, present: jax.Array
    ) -> jax.Array:
        """f32[B, C]: the mean probabilities of the clips f32[B, N, F]."""
        flat, count = vectors.reshape(-1, vectors.shape[-1]), len(state["classes"])
        scores = HEAD.scores(_of_head(parameters), flat, count)[:, :count]
        return _mean(scores.reshape(*present.shape, count), present)


def _of_head(parameters: Parameters) -> Parameters:
    return {name: parameters[name] for name in HEAD.split_axes}


def _mean(values: jax.Array, present: jax.Array) -> jax.Array:
    """f32[B, K]: the means of f32[B, N, K] over the clips that are present; 0 without any."""
    total = jnp.sum(jnp.where(present[..., None], values, 0.0), axis=1)
    return total / jnp.maximum(jnp.sum(present, axis=1, dtype=jnp.float32), 1)[:, None]
