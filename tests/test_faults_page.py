"""The page of faults is what the marks on the tests say."""

import pytest

from tests.faults_page import PAGE, Mark, marks, page


def test_the_page_is_current():
    assert PAGE.read_text() == page(marks()), "run `python -m tests.faults_page`"


def test_a_mark_is_on_a_test_once():
    found = [(mark.fault, mark.test) for mark in marks()]
    assert len(found) == len(set(found)) > 100


@pytest.mark.parametrize("done", [[""], ["a", "b"]])
def test_a_fault_has_one_answer(done):
    with pytest.raises(ValueError, match="what is done"):
        page([Mark("Runs: a fault", words, f"test_{words}", long=False) for words in done])


def test_a_page_by_hand():
    found = [
        Mark("Runs: a", "1: b", "test_x.py::test_a", long=False),
        Mark("Records: c", "2", "test_x.py::test_b", long=True),
        Mark("Runs: a", "", "test_y.py::test_c", long=True),
    ]
    lines = page(found).splitlines()
    assert lines.index("## Records") < lines.index("## Runs")
    assert "| a | 1: b | `test_x.py::test_a`, *long* `test_y.py::test_c` |" in lines
    with pytest.raises(ValueError, match="begin with a section"):
        page([Mark("Elsewhere: a", "b", "test_x", long=False)])
