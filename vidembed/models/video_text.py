"""Joint spaces of videos and texts: JEMC's (ICMR 2018).

A space reads some of a video's modalities, maps them linearly, and has a text encoder of its own.
The paper's spaces are object and text, and activity with sound and text; it adds their cosine
similarities. That sum is one dot product of a video's unit vectors side by side with a text's.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import jax
from flax import nnx

from vidembed.models.fusion import Compute
from vidembed.models.joint import Compared, TextSide, VideoMaps
from vidembed.models.text import Gru, TextEncoder, check_dropout

JOIN = "+"
SPACES = ("object", "activity+audio")
"""The paper's two spaces."""


@dataclass(frozen=True, kw_only=True)
class JointSpaces:
    """Spaces that videos and texts share; a video's vector holds that of each space."""

    spaces: tuple[str, ...] = SPACES
    """The modalities of each space, joined by +: object activity+audio are the paper's two spaces,
    object+activity+audio is one space of all. The same modality may be in several spaces."""
    text: TextEncoder = Gru()
    """From a caption to a unit vector; each space has its own. Its size is that of the space."""
    feature_dropout: float = 0.0
    """Share of a video's (standardised) features set to zero in training; not in the paper."""
    compute: Compute = "float32"
    """bfloat16 rounds the operands of the videos' maps only; sums and parameters stay float32."""

    def __post_init__(self) -> None:
        if not self.spaces:
            raise ValueError(f"spaces: name one or more, such as {' '.join(SPACES)}; found none")
        for space, group in zip(self.spaces, self.groups):
            if "" in group or len(set(group)) < len(group):
                raise ValueError(
                    f"spaces: {space!r} must be distinct names of modalities joined by {JOIN}, "
                    f"such as {SPACES[-1]}"
                )
        check_dropout("feature_dropout", self.feature_dropout)

    @property
    def groups(self) -> tuple[tuple[str, ...], ...]:
        """The modalities of each space."""
        return tuple(tuple(space.split(JOIN)) for space in self.spaces)

    @property
    def modalities(self) -> tuple[str, ...]:
        """The modalities of all spaces, each once."""
        return tuple(dict.fromkeys(m for group in self.groups for m in group))

    @property
    def size(self) -> int:
        """S·D, the size of the vectors of a video and of a text."""
        return len(self.spaces) * self.text.size

    @property
    def text_blocks(self) -> int:
        """S, the text encoders."""
        return len(self.spaces)

    @property
    def compared(self) -> Compared:
        """In each space, the video with the text."""
        return Compared(with_text=tuple((n, n) for n in range(len(self.spaces))))

    @property
    def texts(self) -> TextSide:
        """The texts' side, as a network over the arrays of a caption."""
        return TextSide(joint=self)

    def module(self, widths: Mapping[str, int], rngs: nnx.Rngs) -> VideoMaps:
        """The videos' side, for modalities of these widths."""
        return VideoMaps(self, widths, rngs)

    def check(self, widths: Mapping[str, int]) -> None:
        """Raise ValueError if the data lacks a modality of a space."""
        missing = [m for m in self.modalities if m not in widths]
        if missing:
            raise ValueError(
                f"the spaces {' '.join(self.spaces)} read {list(self.modalities)}, the data has "
                f"{sorted(widths)}: no {missing[0]!r}. Name the data's modalities: "
                f"--task.model.spaces {' '.join(sorted(widths)) or 'NAME'}, or joined by {JOIN} "
                "for one space"
            )

    def joined(self, blocks: jax.Array) -> jax.Array:
        """The blocks as they are: a dot product adds the similarities of the spaces."""
        return blocks
