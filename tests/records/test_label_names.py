from pathlib import Path

import pytest

from vidembed.records.label_names import read_label_kinds, read_vocabulary

REAL = Path(__file__).resolve().parents[2] / "data" / "youtube8m" / "vocabulary.csv"
HEAD = "Index,TrainVideoCount,KnowledgeGraphId,Name,Vertical1,Vertical2,Vertical3\n"


def write(folder, text):
    (folder / "v.csv").write_bytes(text.encode())
    return folder / "v.csv"


def test_reads_youtube8m():
    names = read_vocabulary(REAL)
    assert names[0] == "Game"
    assert names[3] == "Concert"
    assert names[120] == "/m/0dxrf"  # it has no name
    assert len(names) == 3862
    kinds = read_label_kinds(REAL)
    assert kinds["label"] == names
    assert kinds["vertical"][0] == "Games"
    assert len(set(kinds["vertical"].values())) == 25


def test_reads_quotes_marks_and_foreign_letters(tmp_path):
    path = write(tmp_path, "\ufeff" + HEAD + '5,1,/m/x,"Gears, of ""War""",A,,\n7,1,,Coupé,A,,\n')
    assert read_vocabulary(path) == {5: 'Gears, of "War"', 7: "Coupé"}
    assert read_vocabulary(write(tmp_path, HEAD + "9,1,,,A,,\n")) == {9: "label 9"}
    assert read_vocabulary(write(tmp_path, "Name,Index\nSpiel,1\n,2\n")) == {
        1: "Spiel",
        2: "label 2",
    }
    assert read_label_kinds(path).keys() == {"label"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a,b\n1,2\n", r"v\.csv has the columns a, b; .* Index, Name"),
        ("", "has the columns none"),
        (HEAD + "0,1,/m/x,A,,,\nx,1,/m/x,B,,,\n", "line 3: the label number 'x' is not a number"),
        (HEAD + "4,1,/m/x,A,,,\n4,1,/m/x,B,,,\n", "line 3: the label number '4' comes twice"),
    ],
)
def test_refuses_another_kind_of_file(tmp_path, text, message):
    with pytest.raises(ValueError, match=message):
        read_vocabulary(write(tmp_path, text))
