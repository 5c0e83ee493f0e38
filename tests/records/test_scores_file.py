import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from vidembed.records.scores_file import PerQuery, read_scores, write_scores


def scores(ids):
    rng = np.random.default_rng(0)
    return {
        system: {
            direction: PerQuery(
                ids=np.array(some, "S"),
                values={name: rng.random(len(some)) for name in ("ndcg@10", "map")},
            )
            for direction, some in (("eval_to_train", ids), ("train_to_eval", ids[:2]))
        }
        for system in ("trained", "visual")
    }


@pytest.mark.parametrize("ids", [[b"a", b"bcd", b"e"], [b"a", b"\xff\xfe", "é".encode()]])
def test_a_round_trip_keeps_every_bit(ids, tmp_path):
    written = scores(ids)
    write_scores(tmp_path / "new" / "5.parquet", written)
    back = read_scores(tmp_path / "new" / "5.parquet")
    assert [(s, list(d)) for s, d in back.items()] == [(s, list(d)) for s, d in written.items()]
    for system, directions in written.items():
        for direction, expected in directions.items():
            result = back[system][direction]
            assert result.ids.tolist() == expected.ids.tolist()
            assert list(result.values) == list(expected.values)
            for name, values in expected.values.items():
                assert np.array_equal(result.values[name], values)


def test_anybody_can_read_the_file(tmp_path):
    write_scores(tmp_path / "5.parquet", scores([b"a", b"b", b"c"]))
    table = pq.read_table(tmp_path / "5.parquet")
    assert table.column_names == ["system", "direction", "video_id", "ndcg@10", "map"]
    assert table.schema.field("video_id").type == pa.string()
    assert table["video_id"].to_pylist() == ["a", "b", "c", "a", "b"] * 2
    assert table["system"].to_pylist() == ["trained"] * 5 + ["visual"] * 5


def test_no_scores_are_no_rows(tmp_path):
    write_scores(tmp_path / "none.parquet", {})
    assert read_scores(tmp_path / "none.parquet") == {}


@pytest.mark.fault(
    "Runs: results per query cut, a bit flipped, or of an older version",
    "the file, and that it will be recreated; an interval over seeds never mixes other queries",
)
def test_a_file_of_an_older_version_and_a_damaged_one_are_refused(tmp_path):
    path = tmp_path / "per_query.parquet"
    pq.write_table(pa.table({"system": ["trained"], "values": [[0.5]]}), path)
    with pytest.raises(ValueError, match=r"does not name its queries .* only evaluated again"):
        read_scores(path)
    write_scores(path, scores([b"a", b"b", b"c"]))
    whole = path.read_bytes()
    at = whole.index(scores([b"a", b"b", b"c"])["trained"]["eval_to_train"].values["map"].tobytes())
    for damaged in (whole[:-9], whole[:at] + b"x" + whole[at + 1 :]):
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match="is damaged"):
            read_scores(path)
