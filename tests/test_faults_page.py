"""The page of faults names only tests that there are, and says which are long."""

import ast
import re
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parent
ROWS = [line for line in (TESTS / "FAULTS.md").read_text().splitlines() if line.startswith("| ")]
NAMED = sorted(
    {
        (file, name, bool(long))
        for line in ROWS
        for long, file, name in re.findall(r"(\*long\* )?`([\w/]+\.py)::(\w+)`", line)
    }
)


def test_every_row_names_a_test():
    rows = [line for line in ROWS if not line.startswith("| fault |")]
    assert len(rows) > 40
    assert all("::" in line.split("|")[3] for line in rows)


@pytest.mark.parametrize(("file", "name", "long"), NAMED, ids=lambda value: str(value))
def test_a_named_test_is_there(file, name, long):
    tree = ast.parse((TESTS / file).read_text())
    [test] = [node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == name]
    marks = [ast.unparse(mark) for mark in [*test.decorator_list, *file_marks(tree)]]
    if "pytest.mark.long" in marks:
        assert long
    if long:
        assert any("pytest.mark.long" in mark for mark in marks)


def file_marks(tree):
    for node in tree.body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "pytestmark":
            yield node.value
