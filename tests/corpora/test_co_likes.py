"""Co-like edges from ratings, on the command line, and ratings without any."""

import itertools
import re

import numpy as np
import pyarrow.parquet as pq
import pytest

from vidembed.__main__ import main
from vidembed.corpora.watched import CorpusPaths
from vidembed.graph.edges import EdgeError, read_edges
from vidembed.records.table import FeatureTable


@pytest.fixture(scope="module")
def rated(tmp_path_factory):
    """The folder of a table of 12 items and ratings of 9 users; and who likes each item."""
    rng = np.random.default_rng(0)
    folder = tmp_path_factory.mktemp("rated")
    ids = np.array([b"m%02d" % number for number in range(12)])
    table = FeatureTable(
        ids=ids,
        features={"visual": rng.integers(0, 256, (12, 3), np.uint8)},
        label_offsets=np.zeros(13, np.int64),
        label_values=np.zeros(0, np.int32),
    )
    table.write(folder / "table")
    stars = {(user, item): rng.integers(1, 6) for user in range(9) for item in range(12)}
    lines = [f"{user},m{item:02d},{value}" for (user, item), value in stars.items()]
    (folder / "ratings.csv").write_text("\n".join(["user_id,item_id,rating", *lines]) + "\n")
    liking = [{user for user in range(9) if stars[user, item] >= 4} for item in range(12)]
    return folder, liking


@pytest.mark.parametrize("weight", ["cosine", "count"])
def test_edges_are_what_the_same_people_like(rated, tmp_path, weight, capsys):
    folder, liking = rated
    out = tmp_path / "edges.parquet"
    assert main(["colike", str(folder), str(out), "--weight", weight]) == 0
    assert f"{sum(map(len, liking))} likes in 108 ratings" in capsys.readouterr().out
    expected = {}
    for low, high in itertools.combinations(range(12), 2):
        both = len(liking[low] & liking[high])
        if both >= 2:
            scale = np.sqrt(len(liking[low]) * len(liking[high])) if weight == "cosine" else 1
            expected[low, high] = both / scale
    edges = read_edges(out, FeatureTable.open(folder / "table"))
    weights = dict(zip(zip(edges.source.tolist(), edges.target.tolist()), edges.weight.tolist()))
    assert weights == pytest.approx(expected)
    assert edges.metadata["parameters"] == {"least": 2, "weight": weight, "liked_from": 4.0}
    every = ["--liked-from", "1", "--scale", "0", "4"]
    assert main(["colike", str(folder), str(tmp_path / "all.parquet"), *every]) == 0
    said = capsys.readouterr().out
    below_five = re.search(r"([\d,]+) ratings lie outside 0 to 4: left out", said)
    assert below_five
    kept = 108 - int(below_five[1])
    assert f"{kept} likes in {kept} ratings" in said
    paths = CorpusPaths(table=str(folder / "table"), edges=str(out))
    assert not paths.open().simulated  # a corpus as any other


@pytest.mark.fault(
    "Relations and sessions: no two rated items with enough common likers, a limit below one, or "
    "co-likes that would overwrite another file",
    "refused: the number of likes, and the option to lower; nothing is lost",
)
def test_ratings_without_co_likes_are_refused(rated, tmp_path, capsys):
    folder, _ = rated
    out = tmp_path / "edges.parquet"
    assert main(["colike", str(folder), str(out), "--least", "10"]) == 1
    assert "no two of 12 items are liked by 10 users in" in capsys.readouterr().err
    assert main(["colike", str(folder), str(out), "--least", "0"]) == 1
    assert "1 common user or more (--least), found 0" in capsys.readouterr().err
    assert not out.exists()
    out.write_bytes(b"something else")
    assert main(["colike", str(folder), str(out)]) == 1
    assert "was not made by `python -m vidembed colike`" in capsys.readouterr().err
    assert out.read_bytes() == b"something else"
    assert main(["colike", str(folder), str(folder / "ratings.csv")]) == 1
    out.unlink()
    assert main(["colike", str(folder), str(out)]) == 0
    pq.write_table(pq.read_table(out).slice(1), out)
    with pytest.raises(EdgeError, match="damaged"):
        read_edges(out, FeatureTable.open(folder / "table"))
