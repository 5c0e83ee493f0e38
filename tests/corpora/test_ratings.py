"""Ratings in foreign file formats, and their faults."""

import os
from datetime import UTC, datetime
from functools import partial

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from vidembed.corpora.ratings import Ratings, read_ratings
from vidembed.corpora.ratings_files import RatingsError

ROWS = [("196", "242", 3.0, 881250949), ("186", "302", 4.5, 891717742), ("196", "51", 5.0, 5)]
FORMS = {
    "u.data": "{0}\t{1}\t{2}\t{3}\n",
    "ratings.dat": "{0}::{1}::{2}::{3}\n",
    "ml.inter": "{0}\t{1}\t{2}\t{3}\n",
    "ratings.csv": "{0},{1},{2},{3}\n",
    "any.csv": '{3};"{1}";{0};{2}\n',
}
HEADERS = {
    "ml.inter": "user_id:token\titem_id:token\trating:float\ttimestamp:float\n",
    "ratings.csv": "userId,movieId,rating,timestamp\n",
    "any.csv": "timestamp;item_id;user_id;rating\n",
}


def rows_of(ratings):
    names = ratings.users[ratings.user], ratings.items[ratings.item]
    return sorted(zip(*(n.astype(str).tolist() for n in names), ratings.value.tolist()))


def csv(tmp_path, *lines, header="user_id,item_id,rating,timestamp"):
    (tmp_path / "r.csv").write_text("\n".join([header, *lines]) + "\n")
    return tmp_path / "r.csv"


@pytest.mark.parametrize(
    ("name", "folder"),
    [*((name, False) for name in FORMS), *((name, True) for name in list(FORMS)[:4])],
)
def test_every_form_gives_the_same_ratings(tmp_path, name, folder):
    text = HEADERS.get(name, "") + "".join(FORMS[name].format(*row) for row in ROWS)
    (tmp_path / name).write_text(text)
    ratings = read_ratings(tmp_path if folder else tmp_path / name)
    assert rows_of(ratings) == sorted((u, i, r) for u, i, r, _ in ROWS)
    assert ratings.users.tolist() == [b"186", b"196"]
    assert ratings.items.tolist() == [b"242", b"302", b"51"]
    assert ratings.time.tolist() == [891717742, 881250949, 5]  # by user, then as in the file
    assert ratings.offsets.tolist() == [0, 1, 3]
    assert ratings.explicit
    assert ratings.notes == ()


def test_parquet_with_times_of_its_own_type(tmp_path):
    when = datetime(2024, 1, 31, 10, tzinfo=UTC)
    table = pa.table({"user_id": [7, 7], "video_id": ["a", "b"], "timestamp": [when, when]})
    pq.write_table(table, tmp_path / "r.parquet")
    ratings = read_ratings(tmp_path / "r.parquet")
    assert (ratings.explicit, ratings.value.tolist()) == (False, [1, 1])
    assert ratings.time.tolist() == [when.timestamp()] * 2


def test_milliseconds_are_seconds(tmp_path):
    ratings = read_ratings(csv(tmp_path, "1,a,3,1700000000000", "1,b,3,1700000001500"))
    assert ratings.time.tolist() == [1_700_000_000, 1_700_000_001.5]


@pytest.mark.parametrize(
    "written",
    [
        ("2024-01-31T10:00:00Z", "2024-01-31T12:00:01.5+02:00", "2024-01-31 09:00 -01"),
        ("2024-01-31 10:00:00", "2024-01-31T10:00:01.500000001", "2024/01/31 10:00"),
        ("2024-01-31", "2024/02/01", "1969-12-31"),
    ],
)
def test_times_in_iso_8601_are_seconds(tmp_path, written):
    """As Python's own parser reads them, in UTC if they have no zone."""
    plain = [time.replace("/", "-").replace(" -01", "-01:00") for time in written]
    moments = [datetime.fromisoformat(time[:26] if "." not in time else time) for time in plain]
    expected = [
        (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() for moment in moments
    ]
    lines = [f"1,{item},3,{time}" for item, time in zip("abc", written)]
    ratings = read_ratings(csv(tmp_path, *lines, "1,d,3,"))
    assert ratings.time[:3] == pytest.approx(expected, abs=1e-6)
    assert np.isnan(ratings.time[3])


def test_parquet_dates_are_seconds(tmp_path):
    days = pa.array([0, 2], pa.date32())
    table = pa.table({"user_id": [7, 7], "video_id": ["a", "b"], "timestamp": days})
    pq.write_table(table, tmp_path / "r.parquet")
    assert read_ratings(tmp_path / "r.parquet").time.tolist() == [0, 2 * 86400]


@pytest.mark.fault(
    "Recommendation: timestamps of ratings of two kinds, unknown, or that do not exist",
    "refused, with the row",
)
@pytest.mark.parametrize(
    ("times", "message"),
    [
        (("2024-01-31", "1700000000"), "row 0: timestamp '2024-01-31', one of dates; and row 1"),
        (("2024-01-31T10:00:00", "2024-01-31T10:00:00Z"), "one of times without a zone; and row 1"),
        (
            ("2024-01-31", "31.01.2024"),
            "row 1: timestamp '31.01.2024', which is neither a number nor a",
        ),
        (("2024-01-31", "2024-02-30"), "row 1: timestamp '2024-02-30' does not exist as a time"),
        (("yesterday", "today"), "row 0: timestamp 'yesterday', which is neither a number nor"),
    ],
)
def test_times_that_cannot_be_compared_are_refused(tmp_path, times, message):
    lines = [f"1,{item},3,{time}" for item, time in zip("ab", times)]
    with pytest.raises(RatingsError, match=message):
        read_ratings(csv(tmp_path, *lines))


def test_a_prepared_data_set(tmp_path, monkeypatch):
    """A builder of TensorFlow Datasets with MovieLens' columns, prepared here."""
    import tensorflow_datasets as tfds

    names = {
        "user_id": np.str_,
        "movie_id": np.str_,
        "user_rating": np.float32,
        "timestamp": np.int64,
    }

    class Movielens(tfds.core.GeneratorBasedBuilder):
        VERSION = tfds.core.Version("0.1.1")
        BUILDER_CONFIGS = (tfds.core.BuilderConfig(name="tiny-ratings"),)

        def _info(self):
            features = tfds.features.FeaturesDict(names)
            return tfds.core.DatasetInfo(builder=self, features=features)

        def _split_generators(self, _):
            return {"train": self._generate_examples()}

        def _generate_examples(self):
            yield from ((n, dict(zip(names, row))) for n, row in enumerate(ROWS))

    options = {"data_dir": str(tmp_path), "file_format": "array_record"}
    Movielens(config="tiny-ratings", **options).download_and_prepare()
    local = partial(tfds.data_source, data_dir=str(tmp_path))
    monkeypatch.setattr(tfds, "data_source", local)
    ratings = read_ratings("tfds:movielens/tiny-ratings")
    assert rows_of(ratings) == sorted(row[:3] for row in ROWS)
    assert sorted(ratings.time) == sorted(row[3] for row in ROWS)
    with pytest.raises(
        RatingsError, match=r"tfds:other: .*\(Dataset other not found\.\): check the name"
    ):
        read_ratings("tfds:other")


@pytest.mark.fault(
    "Recommendation: an item twice for a user", "the last rating counts, by time; counted"
)
def test_the_last_of_repeated_ratings_counts(tmp_path):
    ratings = read_ratings(csv(tmp_path, "1,a,3,20", "1,b,1,30", "1,a,5,10", "2,a,2,40"))
    assert rows_of(ratings) == [("1", "a", 3), ("1", "b", 1), ("2", "a", 2)]
    assert ratings.notes == ("1 rows repeat a user and an item: the last of them is kept",)
    (tmp_path / "r.csv").write_text("user_id,item_id,rating\n1,a,3\n1,a,5\n")
    assert rows_of(read_ratings(tmp_path / "r.csv")) == [("1", "a", 5)]


@pytest.mark.fault(
    "Recommendation: ratings out of range, NaN or missing; rows without ids", "left out, counted"
)
def test_bad_rows_are_left_out_and_counted(tmp_path):
    path = csv(
        tmp_path, "1,a,3,1", "1,b,NaN,1", "1,c,,1", "1,d,9,1", ",e,3,1", "1,f,5,1", "2,a,4,1"
    )
    ratings = read_ratings(path)
    assert rows_of(ratings) == [("1", "a", 3), ("1", "f", 5), ("2", "a", 4)]
    assert ratings.notes == (
        "1 rows have no user or no item: left out",
        "2 ratings are missing or not a number: left out",
        "1 ratings lie outside 0 to 5: left out",
    )
    assert len(read_ratings(path, scale=(0, 10))) == 4


@pytest.mark.fault(
    "Recommendation: ratings on another scale than stars", "refused, with the scale and an example"
)
def test_another_scale_is_refused(tmp_path):
    with pytest.raises(RatingsError, match=r"2 of 3 ratings lie outside 0 to 5, such as 80: give"):
        read_ratings(csv(tmp_path, "1,a,80,1", "1,b,60,1", "1,c,5,1"))


@pytest.mark.fault(
    "Recommendation: ratings without timestamps", "read, with a note; a temporal split refuses them"
)
def test_missing_timestamps_are_noted(tmp_path):
    ratings = read_ratings(csv(tmp_path, "1,a,3,20", "1,b,1,"))
    assert ratings.notes == ("1 of the rows have no timestamp, the others have one",)
    assert np.isnan(ratings.time).tolist() == [False, True]
    none = read_ratings(csv(tmp_path, "1,a,3", header="user_id,item_id,rating"))
    assert (none.time, *none.notes) == (
        None, "there are no timestamps: the order of the interactions is unknown",
    )  # fmt: skip


@pytest.mark.fault(
    "Recommendation: timestamps of ratings in seconds and milliseconds", "refused, with both"
)
def test_mixed_units_are_refused(tmp_path):
    with pytest.raises(
        RatingsError, match="timestamps mix units, found 1700000000 to 1700000000000"
    ):
        read_ratings(csv(tmp_path, "1,a,3,1700000000", "1,b,3,1700000000000"))


@pytest.mark.fault(
    "Recommendation: an empty file of ratings, or one without users or items", "refused by name"
)
def test_invalid_files_are_refused(tmp_path):
    for text, message in {
        "": "it is empty",
        "user_id,item_id\n": "holds no ratings, only a header",
        "a,b\n1,2\n": "column user_id, item_id is missing",
        "user_id,item_id,rating\n1,a,nan\n": "none of its 1 rows can be used",
        "user_id,item_id,rating\n1,a,good\n": "row 0: rating is 'good', not a number",
    }.items():
        (tmp_path / "r.csv").write_text(text)
        with pytest.raises(RatingsError, match=f"r.csv.*{message}"):
            read_ratings(tmp_path / "r.csv")
    with pytest.raises(RatingsError, match=r"no such file; .* holds \['r.csv'\]"):
        read_ratings(tmp_path / "nothing.csv")
    os.mkdir(tmp_path / "folder")
    with pytest.raises(RatingsError, match=r"holds none of ratings.csv, u.data.*found nothing"):
        read_ratings(tmp_path / "folder")


@pytest.mark.fault(
    "Recommendation: rated items that the table lacks", "left out, counted; refused if all are"
)
def test_items_become_rows_of_a_table(tmp_path):
    ratings = read_ratings(csv(tmp_path, "1,a,3,1", "1,z,3,1", "2,c,4,1", "2,a,5,1"))
    on = ratings.on(np.array([b"c", b"b", b"a"]))
    assert isinstance(on, Ratings)
    assert (on.item.tolist(), on.value.tolist()) == ([2, 0, 2], [3, 4, 5])
    assert on.notes == (
        "1 of 4 interactions are with items that the table lacks (1 of 3 items): left out",
    )
    with pytest.raises(
        RatingsError, match=r"none of the 3 items is in the table of 1: .* such as a, c"
    ):
        ratings.on(np.array([b"tt1"]))
