"""Where the negative of a triplet is drawn from."""

from dataclasses import dataclass
from itertools import pairwise
from typing import Protocol

import numpy as np

from vidembed.feeds.videos import RelatedTrainVideos, needed_hierarchy
from vidembed.graph.hierarchy import HierarchyError
from vidembed.graph.siblings import Siblings, SiblingsOf


class Negatives(Protocol):
    """Where the negatives of triplets come from."""

    @property
    def settings(self) -> tuple[object, ...]:
        """All that the draws depend on besides the data, in an order that must not change."""

    def level_at(self, step: int) -> int:
        """The level that batch `step` is drawn at."""

    def open(self, corpus: RelatedTrainVideos) -> Siblings | None:
        """The index to draw from; None draws from all train videos."""

    def notes(self, siblings: Siblings, chances: np.ndarray) -> tuple[str, ...]:
        """For people: where how many negatives come from, by the anchors' chances f[N]."""


@dataclass(frozen=True, kw_only=True)
class UniformNegatives:
    """Any train video, independent of the anchor (CDML)."""

    @property
    def settings(self) -> tuple[object, ...]:
        """Nothing to set."""
        return ()

    def level_at(self, step: int) -> int:
        """0: there are no levels."""
        del step
        return 0

    def open(self, corpus: RelatedTrainVideos) -> None:
        """No index is needed."""
        del corpus

    def notes(self, siblings: Siblings, chances: np.ndarray) -> tuple[str, ...]:
        """Nothing to say: the default."""
        del siblings, chances
        return ()


@dataclass(frozen=True, kw_only=True)
class SiblingNegatives:
    """A video of a sibling cluster of the anchor's, never related to the anchor (GCML).

    Needs `corpus.hierarchy`. The rules of a draw are those of `graph.siblings.Siblings`. What the
    paper does where a cluster has no siblings, and whether it changes the level as it trains, is
    not known: we climb, and do not.
    """

    level: int = 0
    """How far up the hierarchy negatives come from; 0 is nearest to the anchor, so hardest."""
    siblings_of: SiblingsOf = "cluster"
    """Whose siblings: of the anchor's level-1 cluster, or of the video itself (one level lower)."""
    curriculum_steps: tuple[int, ...] = ()
    """Rising steps at which the level falls by one: with level 0 and (1000, 2000) negatives are
    drawn at level 2, from step 1000 on at level 1 and from step 2000 on at level 0. The first may
    be all train videos."""

    def __post_init__(self) -> None:
        if self.level < 0:
            raise ValueError(f"level must be 0 (hardest) or more, found {self.level}")
        if self.siblings_of not in ("cluster", "video"):
            raise ValueError(
                f"siblings_of must be 'cluster' or 'video', found {self.siblings_of!r}"
            )
        steps = (0, *self.curriculum_steps)
        if any(one >= other for one, other in pairwise(steps)):
            raise ValueError(
                f"curriculum_steps must rise and begin above 0, found {self.curriculum_steps}; "
                "leave them out for one level throughout"
            )

    def level_at(self, step: int) -> int:
        """The level that batch `step` is drawn at."""
        return self.level + sum(step < change for change in self.curriculum_steps)

    @property
    def settings(self) -> tuple[object, ...]:
        """All that the draws depend on besides the data, in an order that must not change."""
        return ("siblings", self.level, self.siblings_of, *self.curriculum_steps)

    def open(self, corpus: RelatedTrainVideos) -> Siblings:
        """The index to draw from; raises ValueError where there is nothing to draw from."""
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
                f"level {top} means all train videos already: leave out {begins - top} of them, or "
                f"make clusters of {begins - top} more rounds"
            )
        return siblings

    def notes(self, siblings: Siblings, chances: np.ndarray) -> tuple[str, ...]:
        """For people: where how many negatives come from, by the anchors' chances f[N]."""
        shares = siblings.shares(self.level, chances)
        top = siblings.levels
        climb = shares[self.level + 1 : top].sum()
        lines = [
            f"negatives come from sibling clusters at level {self.level} (0 is hardest) of the "
            f"anchor's {self.siblings_of}: {_percent(shares[self.level])} of them are found there, "
            f"{_percent(climb)} a level or more above, {_percent(shares[top])} in all train videos"
        ]
        if self.level == top:
            lines = [
                f"negatives come from all train videos but the anchor's {self.siblings_of} and "
                "what is related to it"
            ]
        if shares[-1]:
            lines.append(
                f"{_percent(shares[-1])} of the anchors drawn may take no train video at all; "
                "their triplets are dropped"
            )
        if self.curriculum_steps:
            begins = self.level_at(0)
            told = " (all train videos)" if begins >= top else ""
            changes = ", ".join(
                f"at level {self.level_at(step)} from step {step:,}"
                for step in self.curriculum_steps
            )
            lines.append(f"negatives are drawn at level {begins}{told} first, {changes}")
        return tuple(lines)


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"
