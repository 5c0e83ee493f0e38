"""Tags of movies as labels: made files against loops, and files that do not fit."""

import numpy as np
import pyarrow.parquet as pq
import pytest

from experiments.movielens_tags import main
from tests.experiments.made_movies import write_csv

MOVIES, TAGS = 40, 6


@pytest.fixture
def genome(tmp_path):
    """Relevances of some of 40 movies and 6 tags, of which two share their name."""
    rng = np.random.default_rng(0)
    rows = [
        (movie + 1, tag + 1, round(rng.random() ** (tag + 1), 3))
        for movie in range(MOVIES)
        for tag in range(TAGS)
        if rng.random() < 0.9
    ]
    names = ["dark", "space, far", "based on a book", "dark", "funny", "never"]
    scores = write_csv(tmp_path / "genome-scores.csv", ("movieId", "tagId", "relevance"), rows)
    tags = write_csv(tmp_path / "genome-tags.csv", ("tagId", "tag"), enumerate(names, 1))
    return scores, tags, rows, names


def pairs_in(path):
    table = pq.read_table(path)
    pairs = list(zip(table["video_id"].to_pylist(), table["label"].to_pylist()))
    assert len(set(pairs)) == len(pairs)
    return set(pairs)


def of_frequent_tags(pairs, least):
    movies = {tag: {movie for movie, other in pairs if other == tag} for _, tag in pairs}
    return {(movie, tag) for movie, tag in pairs if len(movies[tag]) >= least}


@pytest.mark.parametrize(("threshold", "least"), [(0.5, 8), (0.2, 15), (0.0, 1)])
def test_the_genome_above_a_threshold_is_that_of_a_loop(genome, tmp_path, capsys, threshold, least):
    scores, tags, rows, names = genome
    out = tmp_path / "labels.parquet"
    options = ["--threshold", str(threshold), "--least", str(least)]
    assert main([scores, str(out), "--tags", tags, *options]) == 0
    above = {(str(movie), names[tag - 1]) for movie, tag, value in rows if value >= threshold}
    expected = of_frequent_tags(above, least)
    assert pairs_in(out) == expected
    counts = (len({of for *_, of in expected}), len({movie for movie, _ in expected}))
    assert (
        f"{len(expected)} labels, {counts[0]} tags of {counts[1]} movies" in capsys.readouterr().out
    )


def test_tags_that_people_typed_count_people_and_ids_are_replaced(tmp_path):
    rng = np.random.default_rng(1)
    words = ["Dark", "dark ", "funny", "space"]
    rows = [
        (int(rng.integers(5)), int(rng.integers(1, 12)), words[rng.integers(4)], 0)
        for _ in range(300)
    ]
    scores = write_csv(tmp_path / "tags.csv", ("userId", "movieId", "tag", "timestamp"), rows)
    ids = write_csv(tmp_path / "ids.csv", ("movieId", "video_id"), [(n, f"v{n}") for n in range(9)])
    out = tmp_path / "labels.parquet"
    options = ["--threshold", "4", "--least", "3", "--ids", ids]
    assert main([scores, str(out), *options]) == 0
    people = {}
    for user, movie, tag, _ in rows:
        people.setdefault((str(movie), tag.strip().lower()), set()).add(user)
    several = {pair for pair, users in people.items() if len(users) >= 4}
    assert several < people.keys()
    expected = of_frequent_tags(several, 3)
    assert pairs_in(out) == {(f"v{movie}", tag) for movie, tag in expected if int(movie) < 9}


@pytest.mark.fault(
    "Annotation: tags of movies with a relevance outside [0, 1], a tag without a name, no names, "
    "no tag left",
    "refused, naming file, movie and tag, and what to lower",
)
def test_tags_that_do_not_fit_are_refused(genome, tmp_path, capsys):
    scores, tags, _, names = genome
    out = tmp_path / "labels.parquet"

    def refused(words, scores, *options):
        assert main([scores, str(out), *options]) == 1
        assert words in " ".join("".join(capsys.readouterr()).split())
        assert not out.exists()

    refused("has numbers of tags: give --tags genome-tags.csv", scores)
    header = ("movieId", "tagId", "relevance")
    for value in ("1.5", "-0.1", "nan", ""):
        bad = write_csv(tmp_path / "bad.csv", header, [(1, 1, 0.5), (7, 3, value)])
        refused("movie 7, tag 3: relevance must lie in [0, 1]", bad, "--tags", tags)
    few = write_csv(tmp_path / "few.csv", ("tagId", "tag"), list(enumerate(names, 1))[:4])
    refused("lacks 2 tags", scores, "--tags", few)
    refused(
        "no tag is left: none of 5 has 200 movies or more",
        scores,
        "--tags",
        tags,
        "--threshold",
        "0",
    )
    refused("no tag reaches 1.1: lower --threshold", scores, "--tags", tags, "--threshold", "1.1")
    lacking = write_csv(tmp_path / "lacking.csv", header, [(1, "", 0.5)])
    refused("1 rows have no tagId", lacking, "--tags", tags)
    other = write_csv(tmp_path / "other.csv", ("movieId", "video_id"), [("x", "y")])
    options = ("--tags", tags, "--least", "2", "--threshold", "0.1", "--ids", other)
    refused("has none of the movies", scores, *options)
