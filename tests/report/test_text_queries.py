"""Texts and the videos that they find: ranks and order against loops; the page that shows them."""

from html import unescape

import numpy as np
import pytest

from tests.report.test_page import Page
from vidembed.corpora.caption_rows import Captions
from vidembed.records.table import FeatureTable
from vidembed.report import wording
from vidembed.report.page import write_report
from vidembed.report.text_queries import LONGEST, random_captions, text_queries

N = 30
ROWS = np.arange(1, N, 2)


@pytest.fixture(scope="module")
def table():
    return FeatureTable(
        ids=np.array([f"v{n:02}" for n in range(N)], "S3"),
        features={"visual": np.zeros((N, 1), np.float32)},
        label_offsets=np.zeros(N + 1, np.int64),
        label_values=np.zeros(0, np.int32),
    )


@pytest.fixture(scope="module")
def captions():
    counts = np.arange(N) % 3 + 1
    offsets = np.concatenate([[0], np.cumsum(counts)])
    texts = [f"caption {n} of {row}" for row in range(N) for n in range(counts[row])]
    texts[offsets[5]] = "long " * 100
    return Captions(texts=tuple(texts), offsets=offsets)


def test_random_captions_are_of_their_videos_and_follow_the_seed(captions):
    numbers, places = random_captions(captions, ROWS, count=6, seed=3)
    assert len(set(places.tolist())) == 6
    for number, place in zip(numbers, places):
        assert captions.videos[number] == ROWS[place]
    np.testing.assert_array_equal(numbers, random_captions(captions, ROWS, count=6, seed=3)[0])
    assert numbers.tolist() != random_captions(captions, ROWS, count=6, seed=4)[0].tolist()
    assert len(random_captions(captions, ROWS, count=99)[0]) == len(ROWS)


def test_videos_are_ranked_by_dot_products(table, captions):
    rng = np.random.default_rng(0)
    videos = rng.integers(-2, 3, (len(ROWS), 3)).astype(np.float32)  # with ties
    vectors = rng.integers(-2, 3, (9, 3)).astype(np.float32)
    own = np.array([-1, *rng.integers(0, len(ROWS), 8)])
    texts = [f"text {n}" for n in range(9)]
    entries = text_queries(table, captions, ROWS, videos, texts, vectors, own, nearest=5)
    for number, entry in enumerate(entries):
        scores = [float(np.dot(video, vectors[number])) for video in videos]
        order = sorted(range(len(ROWS)), key=lambda place: (-scores[place], place))[:5]
        assert [v["id"] for v in entry["videos"]] == [f"v{ROWS[place]:02}" for place in order]
        assert [v["score"] for v in entry["videos"]] == [scores[place] for place in order]
        assert [v["own"] for v in entry["videos"]] == [place == own[number] for place in order]
        assert entry["text"] == texts[number]
        if own[number] < 0:
            assert (entry["id"], entry["rank"]) == ("", None)
            continue
        mine = scores[own[number]]
        tied = sum(score == mine for score in scores) - 1
        assert entry["rank"] == 1 + sum(score > mine for score in scores) + tied / 2
        assert entry["id"] == f"v{ROWS[own[number]]:02}"
    shown = {video["id"]: video["caption"] for entry in entries for video in entry["videos"]}
    assert shown["v07"] == "caption 0 of 7"
    assert shown["v05"].startswith("long long")
    assert len(shown["v05"]) <= LONGEST


def test_broken_vectors_are_refused(table, captions):
    videos = np.zeros((len(ROWS), 2), np.float32)
    broken = np.full((1, 2), np.nan, np.float32)
    with pytest.raises(ValueError, match="vectors of 1 texts are not finite"):
        text_queries(table, captions, ROWS, videos, ["a"], broken, np.array([0]))


def test_the_page_has_scores_by_direction_and_what_each_text_finds(tmp_path):
    interval = {"value": 0.25, "low": 0.2, "high": 0.3}
    systems = {"trained": {"r@1": interval, "mean_rank": {"value": 38, "low": 30, "high": 45.5}}}
    directions = ("test/text_to_video", "test/video_to_text")
    video = {"id": "v1", "score": 0.5, "own": True, "caption": "a <dog>"}
    queries = [
        {"text": "a dog", "id": "v1", "rank": 1.5, "videos": [video]},
        {"text": "a cat", "id": "", "rank": None, "videos": [{**video, "own": False}]},
    ]
    write_report(
        tmp_path / "report.html",
        title="run",
        summary=None,
        journals={},
        evaluations={},
        corpora={"run": {"videos": 9, "captions": 20}},
        gallery=[],
        recipe=None,
        related_videos=dict.fromkeys(directions, systems),
        text_queries={"queries": queries, "searched": 2},
    )
    html = (tmp_path / "report.html").read_text(encoding="ascii")
    Page(html)  # tags nest
    page = " ".join(unescape(html).split())
    assert "Predicted labels" not in page
    for text in ("Scores, test, text → video", "Test, video → text: each video is a query",
                 "R@1</th>", "38.0 <small>30.0–45.5", "the first 1.", "Videos and captions",
                 "own video: rank 1.5", "and texts given to the report"):  # fmt: skip
        assert text in page, text
    assert "a &lt;dog&gt;" in html
    assert page.count('class="related">own<') == 2  # the legend, and the one video


def test_names_of_scores_of_texts():
    assert wording.metric("text_to_video/r@5") == "text → video R@5"
    assert wording.direction("test/text_to_video") == "test, text → video"
    assert wording.measured("test/text_to_video/r@5") == "R@5, test, text → video"
    assert wording.is_text("validation/video_to_text")
    assert not wording.is_text("test")
    assert wording.score(9.9994) == "9.999"
    assert wording.score(213.83) == "213.8"
