import numpy as np
import pytest

from experiments.systems import embeddings_of_features, score_systems
from vidembed.evaluators.related_videos import DIRECTIONS, RelatedVideos, queries


def test_every_system_is_scored_on_the_same_queries(corpus):
    scores = score_systems(embeddings_of_features(corpus), corpus, RelatedVideos(), seed=0)
    assert scores.keys() == {"visual", "audio", "concatenated", "popularity", "random"}
    for direction in DIRECTIONS:
        sizes = {len(scores[system][direction]["map"]) for system in scores}
        assert sizes == {len(queries(corpus, direction).rows)}


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_centring_takes_off_what_a_candidate_has_for_every_query(corpus, direction):
    """An embedding of nothing but popularity is chance without it; one of content stays."""
    rng = np.random.default_rng(0)
    videos = len(corpus.table)
    popular = np.ones((videos, 2), np.float32)
    popular[:, 1] = corpus.relations.strengths()
    visual = embeddings_of_features(corpus)["visual"]
    both = {"popular": popular, "content": visual, "noise": rng.normal(size=(videos, 9))}
    scores = score_systems(
        both, corpus, RelatedVideos(similarity="dot"), seed=0, centre=("popular", "content")
    )

    def mean(system):
        return scores[system][direction]["ndcg@10"].mean()

    assert mean("popular") == pytest.approx(mean("popularity"), abs=0.05)
    assert mean("content_centred") > 0.7 * mean("content")
    assert mean("popular_centred") < mean("popular")
