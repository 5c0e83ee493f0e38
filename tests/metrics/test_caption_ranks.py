"""Ranks of captions and videos against sorting all scores, one query at a time."""

import itertools

import numpy as np
import pytest

from vidembed.metrics.caption_intervals import bootstrap
from vidembed.metrics.caption_ranks import caption_ranks
from vidembed.metrics.intervals import times_drawn
from vidembed.metrics.tied_ranks import Ranks, median_rank, summary


def world(videos=13, width=4, seed=0):
    """Vectors of small integers, so that products are exact and many tie; ragged captions."""
    rng = np.random.default_rng(seed)
    owners = np.repeat(np.arange(videos), rng.integers(1, 5, videos))
    owners = rng.permutation(owners)
    draw = lambda n: rng.integers(-1, 2, (n, width)).astype(np.float32)  # noqa: E731
    return draw(videos), draw(len(owners)), owners


def by_sorting(scores, right):
    """Above, tied and right of one query: scores [C], right bool[C]."""
    best = max(s for s, r in zip(scores, right) if r)
    above = sum(s > best and not r for s, r in zip(scores, right))
    tied = sum(s == best and not r for s, r in zip(scores, right))
    return above, tied, sum(s == best and r for s, r in zip(scores, right))


def check_against_sorting(ranks, to_video, to_text, owners):
    of_texts = [by_sorting(row, np.arange(len(row)) == o) for row, o in zip(to_video, owners)]
    np.testing.assert_array_equal(np.transpose(ranks.text_to_video), of_texts)
    of_videos = [by_sorting(row, owners == v) for v, row in enumerate(to_text)]
    np.testing.assert_array_equal(np.transpose(ranks.video_to_text), of_videos)


@pytest.mark.parametrize("block", [7, None])
def test_ragged_captions_with_ties(block):
    videos, texts, owners = world()
    ranks = caption_ranks(videos, texts, owners, block=block)
    assert (ranks.text_to_video.tied > 0).any()
    assert (ranks.video_to_text.right > 1).any()
    scores = texts.astype(np.float64) @ videos.T.astype(np.float64)
    check_against_sorting(ranks, scores, scores.T, owners)


def test_dual_softmax():
    _, _, owners = world()
    rng = np.random.default_rng(1)
    videos, texts = rng.standard_normal((13, 4)), rng.standard_normal((len(owners), 4))
    ranks = caption_ranks(
        videos.astype(np.float32), texts.astype(np.float32), owners, temperature=0.5, block=7
    )
    scores = texts @ videos.T
    share = np.exp(scores / 0.5)
    to_video = share / share.sum(axis=0)
    to_text = (share / share.sum(axis=1, keepdims=True)).T
    check_against_sorting(ranks, to_video, to_text, owners)
    assert (
        ranks.text_to_video.above
        != caption_ranks(
            videos.astype(np.float32), texts.astype(np.float32), owners
        ).text_to_video.above
    ).any()


def test_ties_by_all_orders():
    """Two right answers and three wrong ones that tie, below one wrong answer."""
    firsts = [2 + order.index("r") for order in itertools.permutations("rrwww")]
    ranks = Ranks(*np.array([[1], [3], [2]]))
    np.testing.assert_allclose(ranks.expected(), [np.mean(firsts)])
    for k in range(1, 8):
        np.testing.assert_allclose(ranks.recall(k), [np.mean(np.array(firsts) <= k)], atol=1e-12)


def test_a_constant_similarity_scores_chance():
    videos, texts, owners = world(videos=20)
    ranks = caption_ranks(np.ones_like(videos), np.ones_like(texts), owners)
    rng = np.random.default_rng(2)
    found = summary(ranks.text_to_video, at=(1, 5, 10))
    np.testing.assert_allclose([found["r@1"], found["r@5"], found["r@10"]], [0.05, 0.25, 0.5])
    assert found["mean_rank"] == 10.5
    orders = [rng.permutation(owners) for _ in range(2000)]
    first = np.array([[np.argmax(order == v) + 1 for v in range(20)] for order in orders])
    found = summary(ranks.video_to_text, at=(1, 5, 10))
    np.testing.assert_allclose(found["r@10"], (first <= 10).mean(), atol=0.01)
    np.testing.assert_allclose(found["mean_rank"], first.mean(), rtol=0.01)


def test_equal_videos_tie_although_products_are_rounded():
    rng = np.random.default_rng(3)
    videos = np.repeat(rng.standard_normal((1, 300)), 9, axis=0).astype(np.float32)
    texts = rng.standard_normal((9, 300)).astype(np.float32)
    ranks = caption_ranks(videos, texts, np.arange(9), block=2)
    assert (ranks.text_to_video.above == 0).all()
    assert (ranks.text_to_video.tied == 8).all()


def test_the_median_rank_is_a_whole_number():
    assert median_rank(np.array([1.0, 2.0])) == 1
    assert median_rank(np.array([1.0, 3.0, 4.0])) == 3
    assert median_rank(np.array([2.0, 5.0])) == 3


def test_perfect_vectors():
    found = caption_ranks(np.eye(5, dtype=np.float32), np.eye(5, dtype=np.float32), np.arange(5))
    for ranks in found:
        assert summary(ranks, at=(1,)) == {"r@1": 1.0, "mean_rank": 1.0, "median_rank": 1.0}


def test_intervals_resample_videos_with_all_their_captions():
    videos, texts, owners = world(videos=17)
    ranks = caption_ranks(videos, texts, owners)
    intervals = bootstrap(ranks, owners, at=(1, 5), seed=3, resamples=60)
    resampled = {name: [] for name in intervals}
    for drawn in np.concatenate(list(times_drawn(17, seed=3, resamples=60))):
        picked = np.repeat(np.arange(17), drawn)
        captions = np.concatenate([np.flatnonzero(owners == v) for v in picked])
        recalls = 0
        for name, rank, some in (
            ("text_to_video", ranks.text_to_video, captions),
            ("video_to_text", ranks.video_to_text, picked),
        ):
            values = summary(Ranks(*(a[some] for a in rank)), at=(1, 5))
            recalls += values["r@1"] + values["r@5"]
            for metric, value in values.items():
                resampled[f"{name}/{metric}"].append(value)
        resampled["sum_of_recalls"].append(recalls)
    for name, values in resampled.items():
        np.testing.assert_allclose(
            intervals[name][1:], np.quantile(values, [0.025, 0.975]), err_msg=name
        )
    whole = summary(ranks.text_to_video, at=(1, 5))
    assert intervals["text_to_video/median_rank"].value == whole["median_rank"]
    assert intervals["text_to_video/r@5"].value == whole["r@5"]


@pytest.mark.fault("Captions: a measured vector is not finite", "refused, with their number")
def test_vectors_that_are_not_finite():
    videos, texts, owners = world()
    texts[3, 1] = np.nan
    with pytest.raises(ValueError, match=r"1 of .* texts have vectors that are not finite"):
        caption_ranks(videos, texts, owners)


@pytest.mark.fault("Captions: a measured video has no caption", "refused, with their number")
def test_bad_arguments():
    videos, texts, owners = world()
    with pytest.raises(ValueError, match="1 have none"):
        caption_ranks(np.concatenate([videos, videos[:1]]), texts, owners)
    with pytest.raises(ValueError, match="rows of one width"):
        caption_ranks(videos[:, :2], texts, owners)
    with pytest.raises(ValueError, match="owners"):
        caption_ranks(videos, texts, owners[1:])
    with pytest.raises(ValueError, match="temperature is 0"):
        caption_ranks(videos, texts, owners, temperature=0.0)
