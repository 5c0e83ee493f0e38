"""Sources of the negatives of triplets."""

from dataclasses import dataclass
from itertools import pairwise
from typing import Protocol

import numpy as np

from vidembed.feeds.videos import RelatedTrainVideos, needed_hierarchy
from vidembed.graph.hierarchy import HierarchyError
from vidembed.graph.siblings import Siblings, SiblingsOf


class Negatives(Protocol):
    """A source of the negatives of triplets."""

    @property
    def settings(self) -> tuple[object, ...]:
        """Everything the draws depend on besides the data, in an order that must not change."""

    def level_at(self, step: int) -> int:
        """The sibling level at which batch `step` is drawn."""

    def open(self, corpus: RelatedTrainVideos) -> Siblings | None:
        """The index to draw from; None draws from all train videos."""

    def notes(self, siblings: Siblings, chances: np.ndarray) -> tuple[str, ...]:
        """Sentences to show the user: shares of negatives by source, for anchor chances f[N]."""


@dataclass(frozen=True, kw_only=True)
class UniformNegatives:
    """Any train video, independent of the anchor (CDML)."""

    @property
    def settings(self) -> tuple[object, ...]:
        """No settings."""
        return ()

    def level_at(self, step: int) -> int:
        """Always 0: there are no levels."""
        del step
        return 0

    def open(self, corpus: RelatedTrainVideos) -> None:
        """None: no index is needed."""
        del corpus

    def notes(self, siblings: Siblings, chances: np.ndarray) -> tuple[str, ...]:
        """No notes: this is the default."""
        del siblings, chances
        return ()


@dataclass(frozen=True, kw_only=True)
class SiblingNegatives:
    """A video from a sibling cluster of the anchor's cluster, never related to the anchor (GCML).

    Needs `corpus.hierarchy`. The rules of a draw are those of `graph.siblings.Siblings`. The paper
    does not say what it does if a cluster has no siblings, or whether the level changes during
    training: we move up one level, and keep the level by default.
    """

    level: int = 0
    """How far up the hierarchy negatives come from; 0 is nearest to the anchor, and hardest."""
    siblings_of: SiblingsOf = "cluster"
    """Siblings of the anchor's level-1 cluster, or of the video itself (one level lower)."""
    curriculum_steps: tuple[int, ...] = ()
    """Ascending steps at which the level drops by one: with level 0 and (1000, 2000), negatives are
    drawn at level 2, from step 1000 on at level 1, and from step 2000 on at level 0. The first
    level may mean all train videos."""

    def __post_init__(self) -> None:
        if self.level < 0:
            raise ValueError(f"level must be 0 (hardest) or more, found {self.level}")
        if self.siblings_of not in ("cluster", "video"):
            raise ValueError(
                f"siblings_of must be 'cluster' or 'video', found {self.siblings_of!r}"
            )
        steps = (0, *self.curriculum_steps)
        if any(step >= next_step for step, next_step in pairwise(steps)):
            raise ValueError(
                f"curriculum_steps must rise and begin above 0, found {self.curriculum_steps}; "
                "omit them to keep one level throughout"
            )

    def level_at(self, step: int) -> int:
        """The sibling level at which batch `step` is drawn."""
        return self.level + sum(step < change for change in self.curriculum_steps)

    @property
    def settings(self) -> tuple[object, ...]:
        """Everything the draws depend on besides the data, in an order that must not change."""
        return ("siblings", self.level, self.siblings_of, *self.curriculum_steps)

    def open(self, corpus: RelatedTrainVideos) -> Siblings:
        """The index to draw from; raises ValueError if there are no siblings to draw."""
        hierarchy = needed_hierarchy(corpus, "negatives from sibling clusters")
        siblings = Siblings.of(
            hierarchy,
            corpus.train_graph,
            corpus.is_train,
            relations=corpus.train_relations,
            siblings_of=self.siblings_of,
            level=self.level,
        )
        if (begins := self.level_at(0)) > (top := siblings.levels):
            raise HierarchyError(
                f"curriculum_steps {self.curriculum_steps} begin at sibling level {begins}, but "
                f"level {top} already means all train videos: leave out {begins - top} of them, or "
                f"make clusters with {begins - top} more rounds"
            )
        return siblings

    def notes(self, siblings: Siblings, chances: np.ndarray) -> tuple[str, ...]:
        """Sentences to show the user: shares of negatives by source, for anchor chances f[N]."""
        shares = siblings.shares(self.level, chances)
        top = siblings.levels
        climb = shares[self.level + 1 : top].sum()
        lines = [
            f"negatives come from sibling clusters at level {self.level} (0 is hardest) of the "
            f"anchor's {self.siblings_of}: {_percent(shares[self.level])} of them from there, "
            f"{_percent(climb)} from higher levels, {_percent(shares[top])} from all train videos"
        ]
        if self.level == top:
            lines = [
                f"negatives come from all train videos except the anchor's {self.siblings_of} and "
                "videos related to it"
            ]
        if shares[-1]:
            lines.append(
                f"{_percent(shares[-1])} of the drawn anchors have no allowed negative; their "
                "triplets are dropped"
            )
        if self.curriculum_steps:
            first_level = self.level_at(0)
            meaning = " (all train videos)" if first_level >= top else ""
            changes = ", ".join(
                f"at level {self.level_at(step)} from step {step:,}"
                for step in self.curriculum_steps
            )
            lines.append(
                f"negatives are first drawn at level {first_level}{meaning}, then {changes}"
            )
        return tuple(lines)


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"
