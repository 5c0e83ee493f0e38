"""What a task must know about the data before it reads any."""

from collections.abc import Mapping
from dataclasses import dataclass, field

LABELS = "labels"
"""What a task on clips names in its `reads` to be given the class of each video."""


@dataclass(frozen=True, kw_only=True)
class Spec:
    """Sizes that determine the shapes of parameters."""

    widths: Mapping[str, int]
    """Modality → F, the width of its features."""
    classes: int = 0
    """C, the number of classes that the feed labels videos with; 0 for none."""
    targets: int = 0
    """K, the width of the target vectors that the feed gives; 0 for none."""
    class_names: tuple[str, ...] = ()
    """Names of the classes, where the feed knows them."""
    words: int = 0
    """W, the size of the vocabulary of captions; 0 for none."""
    sentence_space: str = ""
    """What made the sentence vectors."""
    sentence_width: int = 0
    """E, the width of the sentence vectors that the feed gives instead of words; 0 for none."""
    vocabulary: tuple[str, ...] = ()
    """The W words by number, where the feed knows them."""
    framed: tuple[str, ...] = ()
    """The modalities of which the feed gives the frames themselves."""
    clip: tuple[int, ...] = ()
    """The shape of a clip, where the feed gives clips: (T, H, W, 3) of frames u8, or (T, F) of
    features f32."""
    clips: int = 0
    """N, the clips that the feed gives of each video; 0 where it does not say."""
    cut: Mapping[str, float] = field(default_factory=dict)
    """How the feed cuts clips, where it says so: frames, stride and, of decoded ones, rate."""
