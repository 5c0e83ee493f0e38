"""What a task must know of the data before it sees any of it."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Spec:
    """Sizes that the shapes of parameters follow from."""

    widths: Mapping[str, int]
    """Modality → F, the width of its features."""
    classes: int = 0
    """C, the classes that the feed labels videos with; 0 where there are none."""
    targets: int = 0
    """K, numbers of the target vector that the feed gives a video; 0 where it gives none."""
