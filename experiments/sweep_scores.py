"""What a sweep measures, query by query: a trained point, and the controls of a seed."""

from collections.abc import Mapping
from functools import partial
from typing import Any

import jax
import numpy as np

from experiments.systems import embeddings_of_features, score_systems
from vidembed.evaluate import Evaluation
from vidembed.records.statistics import train_statistics
from vidembed.scores_file import Scores
from vidembed.step import new_state, spec_of, state_shape


def trained_of(evaluation: Evaluation, *, permuted: bool) -> Scores:
    """The last checkpoint; where ids are permuted, with what is chance there beside it."""
    recipe, corpus = evaluation.recipe, evaluation.corpus
    embedded = evaluation.embed(evaluation.restore(recipe.steps))
    if permuted:
        return score_systems(
            {"trained": embedded},
            corpus,
            recipe.evaluator,
            seed=recipe.seed,
            exchange=("trained",),
        )
    evaluator = recipe.evaluator
    return {"trained": {d: evaluator.per_query(embedded, corpus, d) for d in evaluator.directions}}


def controls_of(evaluation: Evaluation) -> Scores:
    """What needs no training: raw features, an untrained network, popularity, chance."""
    recipe, corpus = evaluation.recipe, evaluation.corpus
    embeddings = {"untrained": _untrained(evaluation), **embeddings_of_features(corpus)}
    return score_systems(embeddings, corpus, recipe.evaluator, seed=recipe.seed)


def parameters_of(evaluation: Evaluation) -> int:
    """How many numbers are learnt."""
    return sum(leaf.size for leaf in _shape(evaluation)["parameters"].values())


def _untrained(evaluation: Evaluation) -> np.ndarray:
    """f32[N, D] of the state before the first update, which is a function of recipe and data."""
    recipe, corpus = evaluation.recipe, evaluation.corpus
    shardings = jax.tree.map(lambda leaf: leaf.sharding, _shape(evaluation))
    make = partial(new_state, recipe, spec_of(recipe, corpus))
    with jax.set_mesh(evaluation.mesh):
        statistics = train_statistics(corpus.table, corpus.is_train)
        state = jax.jit(make, out_shardings=shardings)(statistics)
    return evaluation.embed(state)


def _shape(evaluation: Evaluation) -> Mapping[str, Any]:
    spec = spec_of(evaluation.recipe, evaluation.corpus)
    return state_shape(evaluation.recipe, spec, evaluation.mesh)
