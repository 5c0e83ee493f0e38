"""The page of faults names only tests that there are, and says which are long."""

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
    text = (TESTS / file).read_text()
    [decorators] = re.findall(rf"^((?:@.*\n(?:[ )].*\n)*)*)def {name}\(", text, re.MULTILINE)
    marks = decorators + "".join(re.findall(r"^pytestmark = .*", text, re.MULTILINE))
    # A single case of several may be long on its own, which is then not the whole test.
    if re.search(r"^(@|pytestmark = )pytest\.mark\.long$", marks, re.MULTILINE):
        assert long
    if long:
        assert "pytest.mark.long" in marks
