"""The videos that nothing trains on: those for testing, and those for validation."""

from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np

from vidembed.graph.relation import RelationGraph

Part = Literal["test", "validation"]


@dataclass(frozen=True, kw_only=True, eq=False)
class HeldOut:
    """One part of the videos outside train, with the relations that it is measured by.

    Relations with videos of the other part are left out: each part is measured as if the other were
    not there.
    """

    videos: np.ndarray
    """bool[N]: who is in it."""
    is_train: np.ndarray
    """bool[N]"""
    relations: RelationGraph
    """Every relation above the threshold, whatever the part."""

    @cached_property
    def relevance(self) -> RelationGraph:
        """Relations between train and this part: what retrieval across is scored on."""
        return self.relations.between(self.is_train).within(self.is_train | self.videos)

    @cached_property
    def among_themselves(self) -> RelationGraph:
        """Relations within this part: its new videos among themselves."""
        return self.relations.within(self.videos)

    def strengths(self) -> np.ndarray:
        """Weight of each video's relations to train and to this part, f64[N]."""
        return self.relations.within(self.is_train | self.videos).strengths()
