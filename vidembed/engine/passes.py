"""How often a training goes through the data that it draws from."""

from dataclasses import dataclass

from vidembed.corpora.watched import Corpus
from vidembed.engine.recipe import Recipe


@dataclass(frozen=True, kw_only=True)
class Passes:
    """Steps of a recipe as passes over its corpus."""

    batch: int
    """Examples of a step."""
    unit: str
    """What an example is: triplets, videos."""
    examples: int
    """Examples of a pass."""
    drawn_from: str
    """What is passed over."""

    @staticmethod
    def of(recipe: Recipe, corpus: Corpus) -> "Passes":
        """Of a recipe on an opened corpus."""
        examples, drawn_from = recipe.feed.one_pass(corpus)
        feed = recipe.feed
        return Passes(batch=feed.examples, unit=feed.unit, examples=examples, drawn_from=drawn_from)

    def at(self, step: int) -> float:
        """Passes after so many steps."""
        return step * self.batch / max(self.examples, 1)

    def describe(self, steps: int) -> str:
        """A sentence: 200 steps of 512 triplets are 1.7 passes over 60,000 train relations."""
        passes = self.at(steps)
        number = f"{passes:.1f}" if passes < 100 else f"{passes:,.0f}"
        return (
            f"{steps:,} steps of {self.batch:,} {self.unit} are {number} passes over "
            f"{self.examples:,} {self.drawn_from}"
        )
