"""What a training accounts for: it learnt nothing, or its checkpoints went unmeasured."""

import dataclasses

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.jobs import SMALL, data
from vidembed.__main__ import main
from vidembed.engine.account import Pruned
from vidembed.workdir.layout import Workdir


@pytest.fixture
def all_related(corpus_paths, corpus, tmp_path):
    """Data in which every video is related to every other."""
    ids = corpus.table.ids.astype(str)
    ends = [(a, b) for place, a in enumerate(ids) for b in ids[:place]]
    source, target = zip(*ends)
    edges = pa.table({"source": source, "target": target, "weight": [2.0] * len(ends)})
    pq.write_table(edges, tmp_path / "all.parquet")
    return data(dataclasses.replace(corpus_paths, edges=str(tmp_path / "all.parquet")))


@pytest.mark.fault(
    "Runs: no triplet has a negative in any step",
    "a WARNING after ten steps; in the end 1, the cause and what to try; never DONE, also "
    "when started again",
)
def test_a_run_that_learns_nothing_does_not_end_well(all_related, tmp_path, capsys):
    """Also when it is started again at its end. Its checkpoints go unmeasured, which is said."""
    options = ["train", "cdml", "--workdir", str(tmp_path / "run"), *all_related, *SMALL]
    options += ["--checkpoints.every-steps", "2", "--checkpoints.keep-last", "2", "--steps", "12"]
    for again in (False, True):
        assert main(options) == 1
        said = capsys.readouterr()
        assert (
            "no step of 12 had anything to learn from; almost no triplets are trained" in said.err
        )
        assert "cowatch --min-weight" in said.err
        assert "The run is not DONE" in said.err
        assert Workdir(tmp_path / "run").done() is None
        assert again == ("WARNING: no step of 10 had" not in said.out)
        first = "step 0 is deleted unmeasured, like each checkpoint older than the last 2"
        assert said.out.count(first) == (not again)
        counted = "5 checkpoints were deleted unmeasured: steps 0, 2, 4, 6, 8\n"
        assert said.out.count(counted) == (not again)


@pytest.mark.fault(
    "Runs: a checkpoint deleted before anything measured it",
    "said at the first, counted in the end",
)
def test_what_was_measured_or_is_one_alone_is_not_counted():
    pruned = Pruned(3)
    assert pruned.add([0, 5], {0, 5}) == ""
    assert "step 10 is deleted" in pruned.add([10], {0, 5})
    assert pruned.summary() == ""
