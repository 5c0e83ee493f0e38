"""Joint embedding of videos and texts from pairs of a video and a caption (JEMC, ICMR 2018).

Videos and captions have unit vectors side by side, the blocks of the model; a ranking loss in both
directions compares every pair with the other pairs of the batch, over all devices. The paper trains
its spaces apart and adds their similarities at the end: `fused` trains that sum instead.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import chex
import jax
import jax.numpy as jnp
import numpy as np

from vidembed.losses.both_directions import both
from vidembed.losses.ranking import PairLoss, WeightedRanking
from vidembed.models.joint import JointModel, is_known, split_blocks
from vidembed.models.parameters import Parameters, apply, initialise, parts
from vidembed.models.text import SENTENCES, TOKENS, WORDS
from vidembed.models.video_text import JointSpaces
from vidembed.pairwise import normalise
from vidembed.tasks import collapse, video
from vidembed.tasks.outputs import Output
from vidembed.tasks.spec import Spec
from vidembed.tasks.video import Arrays

LOSS = "loss/"
"""Prefix of the learned parameters of the loss."""
REMEDY = (
    "Try a lower --optimiser.learning-rate, --optimiser.clip-norm 2, or a loss that does not take "
    "the hardest negative alone (task.loss:sum-of-hinges, task.loss:info-nce), which fails where "
    "captions fit several videos; or less dropout and smaller batches with it"
)


@dataclass(frozen=True, kw_only=True)
class VideoText(video.VideoTask):
    """Vectors of videos and of texts whose dot product says whether they belong together."""

    model: JointModel = JointSpaces()
    """The spaces, or the one shared space, and the networks of both sides."""
    loss: PairLoss = WeightedRanking()
    """The loss of a pair among the pairs of the batch; counted from both sides."""
    fused: bool = False
    """Train the similarity that is searched by, the sum over the spaces or the mean over the
    modalities of a shared space, not each by itself as the paper does."""
    mask_same: bool = True
    """A video's other captions are no negatives; the published code counts them as negatives."""
    reduce: Literal["mean", "sum"] = "mean"
    """How the losses of a batch become one; the published code sums. Matters for
    --optimiser.clip-norm."""
    attention: tuple[str, ...] = ()
    """Of frame-level records: modalities, such as visual, whose frames are averaged with learned
    weights, a softmax of one linear score per frame. They start equal, as those of the mean."""
    learns_from: ClassVar[str] = "pairs"

    def __post_init__(self) -> None:
        if self.reduce not in ("mean", "sum"):
            raise ValueError(f"reduce must be mean or sum, found {self.reduce!r}")

    @property
    def outputs(self) -> Mapping[str, Output]:
        """`video`, from a FeatureTable, and `text`, from rows of captions: f32[N, size], whose dot
        product is the sum of the spaces' cosine similarities (of a shared space, the mean)."""
        network = (f"parameters/{part}" for part in parts(self.model.texts))
        centre = ("state/text",) if self._reads_sentences else ()
        text = Output(
            apply=self._text,
            read=self._read_text,
            needs=(*network, *centre),
            lengths=None if self._reads_sentences else self._words,
        )
        return {**super().outputs, "text": text}

    @property
    def of_texts(self) -> tuple[str, ...]:
        """The text encoders, and the mean of the sentence vectors."""
        network = tuple(f"parameters/{part}" for part in parts(self.model.texts))
        return (*network, "state/text") if self._reads_sentences else network

    def init(
        self, key: jax.Array, spec: Spec, statistics: Mapping[str, Arrays] | None
    ) -> tuple[Parameters, dict[str, Any]]:
        """Add the text encoders, and the learned parameters of the loss: f32[C], one for each of
        the compared blocks (spaces, say), or one for all blocks with the text if fused.

        The state also has `text`: {"mean": f32[E]} of sentence vectors, from
        statistics["sentences"] if that is given, else 0. Raises ValueError for a feed without what
        the text encoder reads.
        """
        self.model.check(spec.widths)
        video_key, text_key = jax.random.split(key)
        parameters, state = super().init(video_key, spec, statistics)
        parameters |= initialise(self.model.texts, self._text_widths(spec), text_key)
        for name, value in self.loss.learned.items():
            with_text = 1 if self.fused else len(self.model.compared.with_text)
            count = with_text + len(self.model.compared.within_video)
            parameters[LOSS + name] = jnp.full((count,), value, jnp.float32)
        if self._reads_sentences:
            known = (statistics or {}).get(SENTENCES, {})
            mean = known.get("mean", np.zeros(spec.sentence_width))
            state["text"] = {"mean": jnp.asarray(mean, jnp.float32)}
        return parameters, state

    def embed_text(
        self, parameters: Parameters, state: Arrays, arrays: Arrays, key: jax.Array | None = None
    ) -> jax.Array:
        """Embed captions: tokens i32[B, L] and words i32[B], or sentences f32[B, E], as unit
        vectors side by side, f32[B, T·D]. `key` turns dropout on.

        Sentence vectors are centred and brought to length √E, the size of standardised features.
        """
        inputs = {name: arrays[name] for name in self.model.text.modalities}
        if self._reads_sentences:
            vectors = inputs[SENTENCES].astype(jnp.float32)
            centred = vectors - jnp.broadcast_to(state["text"]["mean"], vectors.shape)
            inputs[SENTENCES] = normalise(centred) * jnp.sqrt(jnp.float32(vectors.shape[-1]))
        return apply(self.model.texts, parameters, inputs, key)

    def loss_and_measures(
        self,
        parameters: Parameters,
        state: Arrays,
        constants: Arrays,
        batch: Arrays,
        key: jax.Array,
    ) -> tuple[jax.Array, tuple[Arrays, dict[str, jax.Array]]]:
        """(loss f32[], (state, measures)) of a batch of pairs.

        `constants` and features as in `video.batch_features`. `batch`: rows i32[B], and the arrays
        of captions as in `embed_text`. Measures: `loss` per pair, `similarity` of the pairs in the
        mean of the blocks, `spread` of the videos' blocks and `text_spread`, and the loss's
        parameters.
        """
        chex.assert_rank(batch["rows"], 1)
        features, present = video.batch_features(constants, batch, self.attention)
        video_key, text_key = jax.random.split(key)
        videos = self.embed(parameters, state, features, present, video_key)
        texts = self.embed_text(parameters, state, batch, text_key)
        losses = self._of_pairs(parameters, videos, texts, batch["rows"])
        loss = jnp.sum(losses) if self.reduce == "sum" else jnp.mean(losses)
        blocks, text_blocks = (side.shape[-1] // self.model.text.size for side in (videos, texts))
        similarity = jnp.mean(jnp.sum(self.model.joined(videos) * texts, axis=-1))
        measures = {
            "loss": jnp.mean(losses),
            "similarity": similarity / text_blocks,
            "spread": 1 - jnp.sum(jnp.square(jnp.mean(videos, axis=0))) / blocks,
            "text_spread": 1 - jnp.sum(jnp.square(jnp.mean(texts, axis=0))) / text_blocks,
        }
        for name in self.loss.learned:
            for number, value in enumerate(parameters[LOSS + name]):
                measures[f"{name}/{number}"] = value
        return loss, (state, measures)

    def diagnose(self, lines: Sequence[collapse.Line], *, finished: bool) -> dict[str, str]:
        """Warnings by name, from the journal lines of a finished or continuing run."""
        of_videos = collapse.one_point(lines, finished=finished, remedy=REMEDY)
        of_texts = collapse.one_point(lines, finished=finished, remedy=REMEDY, of_texts=True)
        return of_videos | of_texts

    @property
    def _reads_sentences(self) -> bool:
        return SENTENCES in self.model.text.modalities

    def _of_pairs(
        self, parameters: Parameters, videos: jax.Array, texts: jax.Array, rows: jax.Array
    ) -> jax.Array:
        """f32[B]: the loss of each pair, summed over the compared blocks."""
        compared, size = self.model.compared, self.model.text.size
        of_video, of_text = split_blocks(videos, size), split_blocks(texts, size)
        sides = [(of_video[video], of_text[text]) for video, text in compared.with_text]
        if self.fused:
            sides = [(self.model.joined(videos), texts)]
        with_text = len(sides)
        sides += [(of_video[one], of_video[other]) for one, other in compared.within_video]
        total = jnp.zeros(rows.shape, jnp.float32)
        for number, (one, other) in enumerate(sides):
            total += both(
                self.loss,
                one,
                other,
                rows,
                parameters={name: parameters[LOSS + name][number] for name in self.loss.learned},
                # A video is never its own negative, whatever holds for its captions.
                mask_same=self.mask_same or number >= with_text,
                usable=is_known(one) & is_known(other) if compared.skip_missing else None,
            )
        return total

    def _text_widths(self, spec: Spec) -> dict[str, int]:
        if self._reads_sentences:
            if not spec.sentence_width:
                raise ValueError(
                    "the text encoder reads sentence vectors, and the feed gives none: give the "
                    "captions' vectors, or choose task.model.text:gru, which reads words"
                )
            return {SENTENCES: spec.sentence_width}
        if not spec.words:
            raise ValueError(
                "the text encoder reads words, and the feed gives none: choose "
                "task.model.text:sentences for sentence vectors, or a feed of captions"
            )
        return {TOKENS: spec.words, WORDS: 1}

    def _video(self, parameters: Parameters, state: Arrays, arrays: Arrays) -> jax.Array:
        return self.model.joined(super()._video(parameters, state, arrays))

    def _text(self, parameters: Parameters, state: Arrays, arrays: Arrays) -> jax.Array:
        return self.embed_text(parameters, state, arrays)

    def _read_text(self, source: Any, rows: np.ndarray) -> dict[str, np.ndarray]:
        arrays = source.read(rows)
        if lacking := [name for name in self.model.text.modalities if name not in arrays]:
            raise ValueError(
                f"the run reads captions as {' and '.join(self.model.text.modalities)}, and these "
                f"give {' and '.join(arrays)}: no {lacking[0]!r}. Give captions in the run's form"
            )
        return {name: arrays[name] for name in self.model.text.modalities}

    def _words(self, source: Any, rows: np.ndarray) -> np.ndarray:
        """i64[B]: the words of captions."""
        return self._read_text(source, rows)[WORDS].astype(np.int64)
