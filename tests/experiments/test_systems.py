import numpy as np

from experiments.systems import embeddings_of_features, score_systems
from vidembed.evaluators.baselines import exchanged
from vidembed.evaluators.queries import DIRECTIONS, queries
from vidembed.evaluators.related_videos import RelatedVideos

EVERY = RelatedVideos(directions=DIRECTIONS, ks=(10, 60))


def test_every_system_is_scored_on_the_same_queries(corpus):
    scores = score_systems(embeddings_of_features(corpus), corpus, EVERY, seed=0)
    features = {"visual", "audio", "concatenated", "concatenated_standardised"}
    assert scores.keys() == features | {"popularity", "random"}
    for direction in DIRECTIONS:
        sizes = {len(scores[system][direction].ids) for system in scores}
        assert sizes == {len(queries(corpus, direction).rows)}
    usual = score_systems({}, corpus, RelatedVideos(), seed=0)
    assert list(usual["random"]) == ["eval_to_train", "train_to_eval"]


def test_systems_are_measured_again_with_their_queries_exchanged(corpus):
    visual = embeddings_of_features(corpus)["visual"]
    one = {"visual": visual}
    scores = score_systems(one, corpus, EVERY, seed=3, exchange=("visual",))
    for direction in DIRECTIONS:
        expected = exchanged(EVERY, visual, corpus, direction, seed=3)
        found = scores["visual_exchanged"][direction].values["map"]
        assert np.array_equal(found, expected.values["map"])
        assert found.mean() < scores["visual"][direction].values["map"].mean()
