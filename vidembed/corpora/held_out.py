"""The videos excluded from training: those for testing, and those for validation."""

from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np

from vidembed.graph.relation import RelationGraph

Part = Literal["test", "validation"]


@dataclass(frozen=True, kw_only=True, eq=False)
class HeldOut:
    """One part of the videos outside train, with the relations that it is evaluated on.

    Relations with videos of the other part are left out: each part is evaluated as if the other did
    not exist.
    """

    videos: np.ndarray
    """bool[N]: the videos of this part."""
    is_train: np.ndarray
    """bool[N]"""
    relations: RelationGraph
    """Every relation above the threshold, in any part."""

    @cached_property
    def relevance(self) -> RelationGraph:
        """Relations between train and this part: the ground truth of retrieval across them."""
        return self.relations.between(self.is_train).within(self.is_train | self.videos)

    @cached_property
    def among_themselves(self) -> RelationGraph:
        """Relations within this part, between its new videos."""
        return self.relations.within(self.videos)

    def strengths(self) -> np.ndarray:
        """Weight of each video's relations to train and to this part, f64[N]."""
        return self.relations.within(self.is_train | self.videos).strengths()
