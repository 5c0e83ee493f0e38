import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from vidembed.records.titles import TitlesError, read_titles


def test_titles_of_text_and_parquet_are_read_alike(tmp_path):
    csv, parquet = tmp_path / "titles.csv", tmp_path / "titles.parquet"
    csv.write_text('year,title,id\n1999,"Cats, dogs & <b>",v1\n2000,,v2\n2001,Größe,3\n')
    columns = {"id": ["v1", "v2", "3"], "title": ["Cats, dogs & <b>", None, "Größe"]}
    pq.write_table(pa.table(columns), parquet)
    assert read_titles(csv) == read_titles(parquet) == {"v1": "Cats, dogs & <b>", "3": "Größe"}
    pq.write_table(pa.table({"id": [7], "title": ["numbered"]}), parquet)
    assert read_titles(parquet) == {"7": "numbered"}
    csv.write_text("video_id,title\nv1,one\n")
    assert read_titles(csv) == {"v1": "one"}


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ({"id": ["a", "b", "a"], "title": ["x", "y", "z"]}, "1 ids have more than one title: a"),
        ({"id": ["a", ""], "title": ["x", "y"]}, "1 of 2 titles have no id"),
        ({"id": ["a"], "title": [3.5]}, "column title is of type double, and must be text"),
        ({"id": ["a"], "name": ["x"]}, "title"),
        ({"name": ["a"], "title": ["x"]}, "column id is missing"),
    ],
)
def test_other_files_are_refused(tmp_path, columns, words):
    path = tmp_path / "titles.parquet"
    pq.write_table(pa.table(columns), path)
    with pytest.raises(TitlesError, match=words):
        read_titles(path)
