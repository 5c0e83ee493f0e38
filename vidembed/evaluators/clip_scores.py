"""How well features of clips tell classes and sources apart: retrieval, and a linear probe.

Works on arrays: features f32[N, D] (a zero vector where a clip has none), classes i[N], groups
i[N] (source videos), and which rows are for training and for testing.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np

from vidembed.metrics.intervals import Interval, bootstrap, differences
from vidembed.metrics.linear_probe import LinearClassifier, chosen_l2, fit, group_folds
from vidembed.metrics.nearest_hit import chance_of_hit, first_hits, unit

SAME_SOURCE = "same_source"
PROBE = "probe"


@dataclass(frozen=True, kw_only=True, eq=False)
class LabelledClips:
    """What is known of N clips besides their features.

    labels i64[N] in 0..classes-1; groups i64[N]; train, test, validation: bool[N], disjoint. Clips
    in none of them are not used. Validation clips only choose the probe's l2.
    """

    labels: np.ndarray
    classes: int
    groups: np.ndarray
    train: np.ndarray
    test: np.ndarray
    validation: np.ndarray | None = None

    def __post_init__(self) -> None:
        torn = np.intersect1d(self.groups[self.train], self.groups[self.test])
        if len(torn):
            raise ValueError(
                f"{len(torn)} groups have train and test clips, the first is {torn[0]}: scores "
                "would reward remembering a source"
            )
        if not self.test.any() or len(np.unique(self.labels[self.train])) < 2:
            raise ValueError(
                f"found {int(self.test.sum())} test clips and train clips of "
                f"{len(np.unique(self.labels[self.train]))} classes: give test clips, and train "
                "clips of two classes or more"
            )

    def of_classes(self, chosen: Sequence[int]) -> "LabelledClips":
        """Only clips of these classes are used; others are in no part."""
        inside = np.isin(self.labels, chosen)
        validation = None if self.validation is None else self.validation & inside
        number = np.zeros(self.classes, np.int64)
        number[list(chosen)] = np.arange(len(chosen))
        return LabelledClips(
            labels=number[self.labels] * inside,
            classes=len(chosen),
            groups=self.groups,
            train=self.train & inside,
            test=self.test & inside,
            validation=validation,
        )


class Measured(NamedTuple):
    """Values f64[Q] by metric, of the clips rows i64[Q]."""

    rows: np.ndarray
    values: dict[str, np.ndarray]


@dataclass(frozen=True, kw_only=True)
class Probing:
    """Options of the linear probe."""

    scaling: Literal["standardised", "unit"] = "standardised"
    """standardised: each dimension by mean and deviation over the train clips; unit: vectors of
    length 1, centred by the train clips and scaled by one number."""
    l2: tuple[float, ...] = (1e-3, 1e-2, 1e-1, 1.0, 10.0)
    """Penalties to choose from, on the validation clips or else by folds of the train clips."""
    folds: int = 4
    """Parts of the train sources, each held out once."""
    seed: int = 0
    """Seed of the folds."""

    def __post_init__(self) -> None:
        if not self.l2 or min(self.l2) <= 0 or self.folds < 2:
            raise ValueError(
                f"the probe needs positive l2 and two folds or more, found {self.l2} and "
                f"{self.folds}"
            )


def retrieval(
    features: np.ndarray, clips: LabelledClips, *, at: Sequence[int] = (1, 5, 10, 20, 50)
) -> Measured:
    """Each test clip against all train clips by cosine: R@k is 1 if one of the k nearest is of its
    class. A clip without features never hits."""
    refuse_unfinite(features)
    rows, train = np.flatnonzero(clips.test), np.flatnonzero(clips.train)
    ranks = first_hits(features[rows], features[train], clips.labels[rows], clips.labels[train])
    return Measured(rows, {f"r@{k}": (ranks <= k).astype(np.float64) for k in at})


def same_source(features: np.ndarray, clips: LabelledClips) -> Measured:
    """Whether the nearest other test clip is of the same source, for those with such a clip."""
    refuse_unfinite(features)
    test = np.flatnonzero(clips.test)
    groups = clips.groups[test]
    asking = np.flatnonzero(_others(groups) > 0)
    vectors = features[test]
    ranks = first_hits(vectors[asking], vectors, groups[asking], groups, exclude=asking)
    return Measured(test[asking], {SAME_SOURCE: (ranks == 1).astype(np.float64)})


def probe(
    features: np.ndarray, clips: LabelledClips, options: Probing = Probing()
) -> tuple[Measured, float]:
    """Whether a logistic regression fitted on the train clips names each test clip's class, and the
    chosen l2."""
    refuse_unfinite(features)
    inputs = _scaled(features, clips.train, options.scaling)
    train, rows = np.flatnonzero(clips.train), np.flatnonzero(clips.test)
    l2 = _l2(inputs, clips, options)
    classifier: LinearClassifier = fit(
        inputs[train], clips.labels[train], classes=clips.classes, l2=l2
    )
    right = classifier.scores(inputs[rows]).argmax(axis=1) == clips.labels[rows]
    return Measured(rows, {PROBE: right.astype(np.float64)}), l2


def measured(
    features: np.ndarray,
    clips: LabelledClips,
    *,
    at: Sequence[int] = (1, 5, 10, 20, 50),
    options: Probing = Probing(),
) -> tuple[Measured, Measured]:
    """(retrieval and probe of every test clip, same source)."""
    first, (second, _) = retrieval(features, clips, at=at), probe(features, clips, options)
    return Measured(first.rows, first.values | second.values), same_source(features, clips)


def chance(
    clips: LabelledClips, *, at: Sequence[int] = (1, 5, 10, 20, 50)
) -> tuple[Measured, Measured]:
    """As `measured`: the expectation for a random order, and for the most frequent train class."""
    rows, labels = np.flatnonzero(clips.test), clips.labels
    counts = np.bincount(labels[clips.train], minlength=clips.classes)
    relevant = counts[labels[rows]]
    values = {f"r@{k}": chance_of_hit(relevant, int(counts.sum()), k) for k in at}
    values[PROBE] = (labels[rows] == counts.argmax()).astype(np.float64)
    others = _others(clips.groups[rows])
    asking = np.flatnonzero(others > 0)
    same = {SAME_SOURCE: others[asking] / max(1, len(rows) - 1)}
    return Measured(rows, values), Measured(rows[asking], same)


def intervals(
    of: Measured, clips: LabelledClips, *, seed: int = 0, resamples: int = 1000
) -> dict[str, Interval]:
    """Means with 95 % intervals; sources are resampled with all of their clips."""
    sources = [clips.groups[of.rows]]
    return bootstrap([of.values], videos=sources, seed=seed, resamples=resamples)


def paired(
    one: Measured, other: Measured, clips: LabelledClips, *, seed: int = 0, resamples: int = 1000
) -> dict[str, Interval]:
    """Means of `one` − `other` over the same clips, with intervals as in `intervals`.

    Raises ValueError for results of other clips.
    """
    if not np.array_equal(one.rows, other.rows):
        raise ValueError("the two results are of different clips and cannot be paired")
    values, others = ([{m: of.values[m] for m in one.values}] for of in (one, other))
    sources = [clips.groups[one.rows]]
    return differences(values, others, videos=sources, seed=seed, resamples=resamples)


def by_class(
    of: Measured, clips: LabelledClips, *, seed: int = 0, resamples: int = 1000
) -> dict[int, dict[str, Interval]]:
    """Class → its intervals, for the classes that were measured."""
    results = {}
    for number in np.unique(clips.labels[of.rows]).tolist():
        inside = clips.labels[of.rows] == number
        part = Measured(of.rows[inside], {m: v[inside] for m, v in of.values.items()})
        results[number] = intervals(part, clips, seed=seed, resamples=resamples)
    return results


def side_by_side(parts: Sequence[np.ndarray]) -> np.ndarray:
    """Features f32[N, D] of several kinds as one, each at unit length, so that all weigh alike."""
    return np.concatenate([unit(part) for part in parts], axis=1)


def refuse_unfinite(features: np.ndarray) -> None:
    """Raise ValueError, with the first rows, for features that are not finite numbers [N, D]."""
    if features.ndim != 2:
        raise ValueError(f"features must be [N, D], found {list(features.shape)}")
    bad = np.flatnonzero(~np.isfinite(features).all(axis=1))
    if len(bad):
        raise ValueError(f"{len(bad)} rows hold NaN or infinity, the first are {bad[:10].tolist()}")


def _others(groups: np.ndarray) -> np.ndarray:
    """i64[n]: the number of other rows in each row's group."""
    _, place, counts = np.unique(groups, return_inverse=True, return_counts=True)
    return np.asarray(counts[place] - 1)


def _l2(inputs: np.ndarray, clips: LabelledClips, options: Probing) -> float:
    if len(options.l2) == 1:
        return options.l2[0]
    train = np.flatnonzero(clips.train)
    if clips.validation is not None and clips.validation.any():
        rows = np.concatenate([train, np.flatnonzero(clips.validation)])
        folds = [np.arange(len(rows)) >= len(train)]
    else:
        rows = train
        folds = group_folds(clips.groups[rows], options.folds, seed=options.seed)
    labels = clips.labels[rows]
    return chosen_l2(inputs[rows], labels, folds, options.l2, classes=clips.classes)


def _scaled(features: np.ndarray, train: np.ndarray, scaling: str) -> np.ndarray:
    """f64[N, D] by the statistics of the train rows; rows without features are the mean."""
    lacking = ~features.any(axis=1)
    known = np.asarray(unit(features) if scaling == "unit" else features, np.float64)
    own = known[train & ~lacking]
    if not len(own):
        return np.zeros(features.shape)
    deviation = own.std(axis=0)
    if scaling == "unit":
        deviation = np.full_like(deviation, np.sqrt(np.square(deviation).mean()))
    varies = deviation > 1e-6 * np.abs(own).max()
    scale = np.where(varies, 1 / np.where(varies, deviation, 1), 0)
    scaled = (known - own.mean(axis=0)) * scale
    scaled[lacking] = 0
    return scaled
