"""One space that all modalities of a video and its text share, with losses of pairs of modalities.

The alternative of JEMC's Table 1 to a space for each: "learning a shared space across image, text
and audio", by image-text and image-sound losses.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import jax
import jax.numpy as jnp
from flax import nnx

from vidembed.models.fusion import Compute
from vidembed.models.joint import Compared, TextSide, VideoMaps, is_known, split_blocks
from vidembed.models.text import Gru, TextEncoder, check_dropout

PAIR = "~"


@dataclass(frozen=True, kw_only=True)
class SharedSpace:
    """One space with a linear map of each modality and one encoder of texts.

    In training, the loss compares each modality with the text, and the pairs of modalities of the
    same video with each other. The paper's review names image-text and image-sound losses only;
    here a modality such as audio also has a loss with the text. Videos without a modality have no
    part in its losses.

    A video's vector is the mean of the unit vectors of its modalities, so that one dot product with
    a text's is the mean of their cosine similarities. Missing modalities are skipped in it.
    """

    modalities: tuple[str, ...] = ("object", "activity", "audio")
    """The modalities of the space."""
    pairs: tuple[str, ...] = ("object~audio",)
    """Pairs of modalities whose loss is added to those with the text, joined by ~; may be none."""
    text: TextEncoder = Gru()
    """From a caption to a unit vector. Its size is that of the space."""
    feature_dropout: float = 0.0
    """Share of a video's (standardised) features set to zero in training; not in the paper."""
    compute: Compute = "float32"
    """bfloat16 rounds the operands of the videos' maps only; sums and parameters stay float32."""

    def __post_init__(self) -> None:
        names = self.modalities
        if not names or "" in names or len(set(names)) < len(names):
            raise ValueError(
                f"modalities must be one or more distinct names, found {' '.join(names) or 'none'}"
            )
        for pair in self.pairs:
            both = pair.split(PAIR)
            if len(both) != 2 or both[0] == both[1] or not set(both) <= set(names):
                raise ValueError(
                    f"pairs: {pair!r} must be two of the modalities {' '.join(names)}, joined by "
                    f"{PAIR}; for no loss between modalities give --task.model.pairs without a name"
                )
        if len({frozenset(pair.split(PAIR)) for pair in self.pairs}) < len(self.pairs):
            raise ValueError(f"pairs: {' '.join(self.pairs)} name a pair twice: leave one out")
        check_dropout("feature_dropout", self.feature_dropout)

    @property
    def groups(self) -> tuple[tuple[str, ...], ...]:
        """Each modality has a block of its own."""
        return tuple((modality,) for modality in self.modalities)

    @property
    def size(self) -> int:
        """D, the size of the vectors of a video and of a text."""
        return self.text.size

    @property
    def text_blocks(self) -> int:
        """1: all modalities are compared with the same vector."""
        return 1

    @property
    def compared(self) -> Compared:
        """Each modality with the text, and the pairs of modalities."""
        place = {modality: number for number, modality in enumerate(self.modalities)}
        both = [pair.split(PAIR) for pair in self.pairs]
        return Compared(
            with_text=tuple((number, 0) for number in place.values()),
            within_video=tuple((place[one], place[other]) for one, other in both),
            skip_missing=True,
        )

    @property
    def texts(self) -> TextSide:
        """The texts' side, as a network over the arrays of a caption."""
        return TextSide(joint=self)

    def module(self, widths: Mapping[str, int], rngs: nnx.Rngs) -> VideoMaps:
        """The videos' side, for modalities of these widths; gives f32[..., M·D]."""
        return VideoMaps(self, widths, rngs)

    def check(self, widths: Mapping[str, int]) -> None:
        """Raise ValueError if the data lacks a modality of the space."""
        if missing := [m for m in self.modalities if m not in widths]:
            raise ValueError(
                f"the shared space reads {list(self.modalities)}, the data has {sorted(widths)}: "
                f"no {missing[0]!r}. Name the data's modalities: --task.model.modalities "
                f"{' '.join(sorted(widths)) or 'NAME'}, and pairs of these: --task.model.pairs"
            )

    def joined(self, blocks: jax.Array) -> jax.Array:
        """The mean f32[..., D] of the modalities that a video has; 0 if it has none."""
        each = split_blocks(blocks, self.size)
        count = sum(is_known(block).astype(jnp.float32) for block in each)
        total = sum(each, start=jnp.zeros_like(each[0]))
        return total / jnp.maximum(count, 1.0)[..., None]
