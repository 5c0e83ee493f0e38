"""A tower for cold movies, trained on users: who likes some train movies likes a further one.

The network maps the standardised features of a movie to a unit vector. An example is a user, and
one of the train movies that they like as the target; their history is the mean of the vectors of
the others. The loss is a softmax over all train movies. Likes of cold movies are not read, and
their features only after training. CDML, which has nothing like it, trains on pairs of movies.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.movielens_training import SETS
from vidembed.corpora.co_likes import matrix
from vidembed.corpora.ratings import Ratings
from vidembed.corpora.watched import Corpus
from vidembed.deploy.composite import side_by_side
from vidembed.evaluators.baselines import raw_features
from vidembed.models.fusion import Layers, SingleModality
from vidembed.models.parameters import apply, initialise
from vidembed.records.statistics import train_statistics

INPUT = "content"
"""The name of the network's input: all modalities of a set of features, side by side."""
BESIDE = (("ridge",), ("closed",), ("closed", "ridge"))
"""What the tower's vectors are put beside, in equal parts."""


@dataclass(frozen=True, kw_only=True)
class Tower:
    """The options. Hidden width (none, 256, 512), dropout (0.3 to 0.5), temperature (0.03 to 0.2),
    steps (200 to 400) and users (256, 512) were chosen by the AUC of tower, closed form and ridge
    side by side, on the seeds 5 to 9 (temperature) and 7 to 9, which are in no table of the tower.
    Most lay within 0.003 of one another, and other random numbers alone change it by 0.002."""

    hidden: int = 256
    size: int = 64
    input_dropout: float = 0.4
    temperature: float = 0.05
    steps: int = 300
    users: int = 512
    """Examples in a step, each of another user; all users if there are fewer."""
    learning_rate: float = 1e-3
    weight_decay: float = 1e-4

    @property
    def network(self) -> SingleModality:
        """One tower over all features."""
        layers = Layers(hidden=(self.hidden,), size=self.size, input_dropout=self.input_dropout)
        return SingleModality(layers=layers, modality=INPUT)


def losses(
    vectors: jax.Array,
    likes: jax.Array,
    targets: jax.Array,
    log_popularity: jax.Array,
    temperature: float,
) -> jax.Array:
    """Unreduced softmax cross-entropy of each example, f32[B].

    vectors: f32[W, D] of all train movies, of unit length; likes: f32[B, W], 1 for what a user
    likes, with the target among at least two; targets: i32[B]; log_popularity: f32[W], log of the
    probability that a movie is a target. It is added to the scores: they then need not learn it,
    and what they learn is how much more likely a movie is for this user than for all. (Sampled
    softmax subtracts the log of how often a candidate is drawn, for the opposite reason: to learn
    popularity in spite of the sample.) A movie that nobody likes has −inf and is no candidate.
    """
    chex.assert_shape(likes, (len(targets), len(vectors)))
    others = likes.at[jnp.arange(len(targets)), targets].set(0)
    history = (others @ vectors) / jnp.sum(others, axis=1, keepdims=True)
    scores = history @ vectors.T / temperature + log_popularity[None]
    return optax.softmax_cross_entropy_with_integer_labels(scores, targets)


def examples(likes: np.ndarray, options: Tower, *, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Users i32[steps, B], different ones in a step, and a target i32[steps, B] that each likes.

    likes: [U, W], each user with one or more; B is at most U.
    """
    rng, shape = np.random.default_rng(seed), (options.steps, len(likes))
    users = np.argsort(rng.random(shape), axis=1)[:, : options.users]
    count = likes.astype(bool).sum(axis=1)
    begins = np.cumsum(count) - count
    place = (rng.random(users.shape) * count[users]).astype(np.int64)
    targets = np.nonzero(likes)[1][begins[users] + place]
    return users.astype(np.int32), targets.astype(np.int32)


@partial(jax.jit, static_argnums=0)
def updated(
    options: Tower, parameters: Any, key: jax.Array, batches: tuple[jax.Array, jax.Array],
    features: jax.Array, likes: jax.Array, log_popularity: jax.Array,
) -> Any:  # fmt: skip
    """The network's parameters after an update on each batch of `examples`; the key gives dropout.

    features: f32[W, F]; likes: f32[U, W]; log_popularity: f32[W].
    """
    rule = optax.adamw(options.learning_rate, weight_decay=options.weight_decay)

    def loss(parameters: Any, users: jax.Array, targets: jax.Array, key: jax.Array) -> jax.Array:
        vectors = apply(options.network, parameters, {INPUT: features}, key)
        each = losses(vectors, likes[users], targets, log_popularity, options.temperature)
        return jnp.mean(each)

    def update(state: Any, batch: Any) -> tuple[Any, None]:
        parameters, moments = state
        direction, moments = rule.update(jax.grad(loss)(parameters, *batch), moments, parameters)
        return (optax.apply_updates(parameters, direction), moments), None

    keys = jax.random.split(key, options.steps)
    begin = parameters, rule.init(parameters)
    return jax.lax.scan(update, begin, (*batches, keys))[0][0]


def trained(
    features: np.ndarray, likes: np.ndarray, options: Tower, *, seed: int
) -> dict[str, jax.Array]:
    """The network's parameters, trained on f32[W, F] features and f32[U, W] likes of train movies.

    Users with fewer than two likes give no example; ValueError if there are no others.
    """
    likes = likes[likes.sum(axis=1) >= 2]
    if not len(likes):
        raise ValueError("no user likes two train movies: give more ratings, or --no-tower")
    of_start, of_dropout = jax.random.split(jax.random.key(seed))
    begin = initialise(options.network, {INPUT: features.shape[1]}, of_start)
    with np.errstate(divide="ignore"):  # −inf for what nobody likes
        log_popularity = np.log((likes / likes.sum(axis=1, keepdims=True)).mean(axis=0))
    batches = examples(likes, options, seed=seed)
    parameters: dict[str, jax.Array] = updated(
        options, begin, of_dropout, batches, features, likes, log_popularity
    )
    return parameters


def towers(
    corpus: Corpus, likes: Ratings, sets: Sequence[str], *, seed: int, options: Tower = Tower()
) -> Iterator[tuple[str, np.ndarray]]:
    """Name and unit vectors f32[N, D] of a tower on each set of features, as z-scores over the
    train movies; trained on the likes of train movies alone."""
    statistics = train_statistics(corpus.table, corpus.is_train)
    liked = matrix(likes).toarray()[:, corpus.is_train]
    embed = jax.jit(partial(apply, options.network))
    for name in sets:
        features = raw_features(corpus.table, tuple(SETS[name]), statistics)
        parameters = trained(features[corpus.is_train], liked, options, seed=seed)
        yield f"tower {name}", np.asarray(embed(parameters, {INPUT: features}))


def beside_others(
    vectors: Mapping[str, np.ndarray], sets: Sequence[str]
) -> Iterator[tuple[str, np.ndarray]]:
    """Name and unit vectors of each set's tower side by side with what is solved for."""
    for name in sets:
        for others in BESIDE:
            kinds = ("tower", *others)
            parts = [vectors[f"{kind} {name}"] for kind in kinds]
            yield f"{' + '.join(kinds)} {name}", np.asarray(side_by_side(parts, [1.0] * len(parts)))
