"""The evaluator of a joint embedding on a small corpus with planted vectors."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from vidembed.evaluators.video_text import VideoText, gallery
from vidembed.metrics.caption_ranks import caption_ranks
from vidembed.metrics.tied_ranks import summary

VIDEOS = 24
EVALUATOR = VideoText(resamples=60)


@pytest.fixture(scope="module")
def corpus():
    """24 videos in three parts of 8; every fifth has no caption, the others have 1 to 3."""
    counts = np.array([0 if n % 5 == 4 else 1 + n % 3 for n in range(VIDEOS)])
    part = np.arange(VIDEOS) % 3
    return SimpleNamespace(
        table=SimpleNamespace(ids=np.array([f"v{n:02}".encode() for n in range(VIDEOS)])),
        captions=SimpleNamespace(offsets=np.concatenate([[0], np.cumsum(counts)])),
        text_source="captions",
        parts={"test": part == 1, "validation": part == 2},
        owners=np.repeat(np.arange(VIDEOS), counts),
    )


@pytest.fixture(scope="module")
def outputs(corpus):
    rng = np.random.default_rng(0)
    videos = rng.standard_normal((VIDEOS, 6)).astype(np.float32)
    texts = videos[corpus.owners] + rng.standard_normal((len(corpus.owners), 6)).astype(np.float32)

    def video(source, rows):
        assert source is corpus.table
        return videos[rows]

    def text(source, rows):
        assert source is corpus.text_source
        return texts[rows]

    return {"video": video, "text": text}


def test_only_the_first_captions_of_a_video_may_count(corpus, outputs):
    few = replace(EVALUATOR, captions_each=2)
    part = gallery(corpus, "validation", 2)
    kept = [number for row in part.rows for number in np.flatnonzero(corpus.owners == row)[:2]]
    np.testing.assert_array_equal(part.numbers, kept)
    np.testing.assert_array_equal(part.rows[part.owners], corpus.owners[kept])
    videos, texts = outputs["video"](corpus.table, part.rows), outputs["text"]("captions", kept)
    ranks = caption_ranks(videos, texts, part.owners)
    scores = few.run(outputs, corpus).scores
    for direction, of in ranks._asdict().items():
        value = scores[f"validation/{direction}/r@1"].value
        assert value == pytest.approx(summary(of, (1,))["r@1"])
    assert (
        few.counts(corpus)["validation/text_to_video"]["queries"]
        == len(kept)
        < len(gallery(corpus, "validation").numbers)
    )


def test_scores_of_each_part(corpus, outputs):
    result = EVALUATOR.run(outputs, corpus)
    for part, inside in corpus.parts.items():
        rows = [n for n in np.flatnonzero(inside) if n in corpus.owners]
        numbers = [m for m, owner in enumerate(corpus.owners) if owner in rows]
        owners = np.array([rows.index(corpus.owners[m]) for m in numbers])
        of_part = gallery(corpus, part)
        np.testing.assert_array_equal(of_part.rows, rows)
        np.testing.assert_array_equal(of_part.numbers, numbers)
        np.testing.assert_array_equal(of_part.owners, owners)
        videos, texts = outputs["video"](corpus.table, rows), outputs["text"]("captions", numbers)
        recalls = 0
        for direction, ranks in caption_ranks(videos, texts, owners)._asdict().items():
            for name, value in summary(ranks, EVALUATOR.at).items():
                interval = result.scores[f"{part}/{direction}/{name}"]
                assert interval.value == pytest.approx(value)
                assert interval.low <= interval.value <= interval.high
                recalls += value if name.startswith("r@") else 0
            stored = result.per_query[f"{part}/{direction}"]
            mean = result.scores[f"{part}/{direction}/r@5"].value
            assert stored.values["r@5"].mean() == pytest.approx(mean)
        assert result.scores[f"{part}/sum_of_recalls"].value == pytest.approx(recalls)
    ids = result.per_query["test/text_to_video"].ids
    np.testing.assert_array_equal(ids, corpus.table.ids[corpus.owners][corpus.owners % 3 == 1])


def test_validation_chooses_the_checkpoint():
    values = {"test/sum_of_recalls": 2.0, "test/text_to_video/r@1": 0.5}
    assert EVALUATOR.selection(values) == ("test/sum_of_recalls", 2.0)
    values |= {"validation/sum_of_recalls": 1.0}
    assert EVALUATOR.selection(values) == ("validation/sum_of_recalls", 1.0)


def test_chance_and_shuffled(corpus, outputs):
    chance = EVALUATOR.baselines(corpus)["chance"].scores
    constant = {n: lambda _, rows: np.ones((len(rows), 2), np.float32) for n in outputs}
    tied = EVALUATOR.run(constant, corpus).scores
    assert chance == tied
    videos = len(gallery(corpus, "test").rows)
    assert chance["test/text_to_video/r@1"].value == pytest.approx(1 / videos)
    assert chance["test/text_to_video/mean_rank"].value == pytest.approx((videos + 1) / 2)
    trained = EVALUATOR.run(outputs, corpus).scores["test/sum_of_recalls"]
    shuffled = EVALUATOR.shuffled(outputs, corpus).scores["test/sum_of_recalls"]
    assert chance["test/sum_of_recalls"].value < trained.low
    assert shuffled.value < trained.value


def test_dual_softmax_changes_scores_and_identity(corpus, outputs):
    dual = VideoText(resamples=60, dual_softmax=True)
    assert dual.identity() != EVALUATOR.identity()
    plain, scores = EVALUATOR.run(outputs, corpus).scores, dual.run(outputs, corpus).scores
    assert plain.keys() == scores.keys()
    assert plain != scores


def test_counts(corpus):
    counts = EVALUATOR.counts(corpus)
    assert counts["test/video_to_text"]["left_out"] == 2
    assert counts["test/text_to_video"]["queries"] == len(gallery(corpus, "test").numbers)


@pytest.mark.fault("Captions: a part without captions", "refused before anything is computed")
def test_a_part_without_captions(corpus):
    bare = SimpleNamespace(
        captions=SimpleNamespace(offsets=np.zeros(VIDEOS + 1, np.int64)), parts=corpus.parts
    )
    with pytest.raises(ValueError, match="0 of the 8 test videos have captions"):
        EVALUATOR.check(bare)


@pytest.mark.fault("Captions: a task without an output of text", "refused, with what it has")
def test_a_task_without_text(corpus, outputs):
    with pytest.raises(ValueError, match="lacks text and has video"):
        EVALUATOR.run({"video": outputs["video"]}, corpus)


@pytest.mark.parametrize("options", [{"at": (1, 1)}, {"resamples": 5}, {"temperature": 0.0}])
def test_bad_options_are_refused(options):
    with pytest.raises(ValueError, match=next(iter(options))):
        VideoText(**options)
