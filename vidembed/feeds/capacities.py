"""How many forbidden pairs a batch has room for: arrays of a compiled step have a fixed length.

Two lengths, so that ordinary batches do not pay for what hubs need once in a while. A batch picks
by its own count of pairs, which is a function of the step alone: all hosts pick alike.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

# The ordinary length is sized from this many batches, with this much to spare.
SIZING_BATCHES, SIZING_SPARE = 8, 1.25
# Lengths are multiples of this.
ROUNDED_TO = 1024
# The large length is exceeded by a batch with at most this chance.
EXCEEDED = 1e-12
BYTES_PER_PAIR = 8
SHOWN_DEGREES = 3


@dataclass(frozen=True, kw_only=True)
class Capacities:
    """Room for pairs in an ordinary and in a large batch; the same number if one is enough."""

    ordinary: int
    large: int

    @staticmethod
    def of(
        counts: Iterable[int],
        degrees: np.ndarray,
        chances: np.ndarray,
        *,
        triplets: int,
        max_forbidden_pairs: int,
    ) -> "Capacities":
        """Sized from the pairs of the first batches and from the graph.

        degrees: i64[N], relations of each row. chances: f[N], in proportion to how often it is an
        anchor. Raises ValueError if a large batch may have more than `max_forbidden_pairs` pairs.
        """
        bound = most_pairs(degrees, chances, triplets)
        if bound > max_forbidden_pairs:
            top = np.sort(degrees)[: -1 - SHOWN_DEGREES : -1]
            raise ValueError(
                f"a batch of {triplets:,} triplets may have {bound:,} forbidden pairs "
                f"({bound * BYTES_PER_PAIR / 1e6:,.0f} MB on every host and device), above "
                f"max_forbidden_pairs {max_forbidden_pairs:,}; the largest degrees of the graph "
                f"are {', '.join(f'{degree:,}' for degree in top)}. Raise "
                "--feed.max-forbidden-pairs, choose a smaller --feed.batch-triplets, or make the "
                "edges with a higher "
                "`cowatch --min-weight`"
            )
        large = min(_rounded(bound), max_forbidden_pairs)
        ordinary = _rounded(math.ceil(max(counts) * SIZING_SPARE))
        return Capacities(ordinary=min(ordinary, large), large=large)

    def fitting(self, count: int, step: int) -> int:
        """The smaller capacity that holds the `count` pairs of batch `step`."""
        if count <= self.ordinary:
            return self.ordinary
        if count <= self.large:
            return self.large
        raise ValueError(
            f"batch {step} has {count:,} forbidden pairs, more than the {self.large:,} that the "
            f"degrees of the graph gave reason to expect; none may be left out. Choose another "
            "--feed.batch-triplets or --seed, and please report it"
        )

    @property
    def note(self) -> str:
        """For people."""
        room = f"a batch has room for {self.ordinary:,} forbidden pairs"
        if self.ordinary == self.large:
            return room
        return f"{room}; one with more takes a second compiled step, for {self.large:,}"


def most_pairs(degrees: np.ndarray, chances: np.ndarray, triplets: int) -> int:
    """Forbidden pairs that a batch does not exceed: the smaller of what is certain and of a
    Bernstein bound on the sum over its anchors, which are drawn independently.

    An anchor has itself and at most its relations, of which a batch of B triplets holds 3B - 1.
    Bernstein: P(sum > B mean + t) <= exp(-t^2 / (2 B variance + 2 (most - mean) t / 3)).
    """
    drawn = chances > 0
    pairs = 1.0 + np.minimum(degrees[drawn], 3 * triplets - 1)
    share = chances[drawn] / chances.sum()
    most, mean = pairs.max(), share @ pairs
    variance = share @ np.square(pairs - mean)
    nats = -math.log(EXCEEDED)
    half = (most - mean) * nats / 3
    beyond = half + math.sqrt(half**2 + 2 * triplets * variance * nats)
    return math.ceil(min(triplets * most, triplets * mean + beyond))


def _rounded(count: int) -> int:
    return -(-count // ROUNDED_TO) * ROUNDED_TO
