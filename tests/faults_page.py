"""The page of faults, made from marks on the tests: `python -m tests.faults_page` writes it.

A mark is @pytest.mark.fault("Section: what happens", "what is done"); further tests of the same
fault bear the first text alone. So nothing is promised that no test holds.
"""

import ast
from pathlib import Path
from typing import NamedTuple

TESTS = Path(__file__).resolve().parent
PAGE = TESTS / "FAULTS.md"
SECTIONS = (
    "Records", "Relations and sessions", "Runs", "Processes", "Scores", "A run in use", "Indexes",
    "Recommendation", "Annotation", "Quantisers", "Video files", "Captions",
)  # fmt: skip
HEAD = """# Faults, and the tests that provoke them

Each row: what goes wrong, what the user sees, and the test that makes it happen (real files, real \
disks, real processes). The page is made from marks on these tests, by \
`python -m tests.faults_page`. Exit codes: 0 done; 1 refused or failed, with one message; 2 a \
mistake in the command; 130 interrupted; 143 stopped and saved; 134 another host was lost. Tests \
marked *long* run in `make test-long`.
"""


class Mark(NamedTuple):
    """A mark on a test."""

    fault: str
    done: str
    """What is done about it; "" where another test says so."""
    test: str
    long: bool


def marks(folder: Path = TESTS) -> list[Mark]:
    """All marks, by file and line."""
    found = []
    for path in sorted(folder.rglob("test_*.py")):
        tree = ast.parse(path.read_text())
        assigned = [node.value for node in tree.body if isinstance(node, ast.Assign)]
        whole = any(_is_mark(value, "long") for value in assigned)
        for node in tree.body:
            if not isinstance(node, ast.FunctionDef):
                continue
            long = whole or any(_is_mark(one, "long") for one in node.decorator_list)
            for one in node.decorator_list:
                if isinstance(one, ast.Call) and _is_mark(one.func, "fault"):
                    fault, *done = map(ast.literal_eval, one.args)
                    test = f"{path.relative_to(folder).as_posix()}::{node.name}"
                    found.append(Mark(fault, *(done or [""]), test, long))
    return found


def page(found: list[Mark]) -> str:
    """The page that these marks make; ValueError for a fault without words, with two, or in no
    section."""
    rows: dict[str, str] = {}
    for fault in dict.fromkeys(mark.fault for mark in found):
        of = [mark for mark in found if mark.fault == fault]
        done = [mark.done for mark in of if mark.done]
        section, colon, what = fault.partition(": ")
        if len(done) != 1 or not colon or section not in SECTIONS:
            raise ValueError(
                f"{fault!r} ({', '.join(mark.test for mark in of)}): begin with a section "
                f"({', '.join(SECTIONS)}), and say in one of the marks what is done"
            )
        tests = ", ".join(f"{'*long* ' if mark.long else ''}`{mark.test}`" for mark in of)
        rows[section] = rows.get(section, "") + f"| {what} | {done[0]} | {tests} |\n"
    head = "\n| fault | what the user sees | test |\n|---|---|---|\n"
    return HEAD + "".join(
        f"\n## {section}\n{head}{rows[section]}" for section in SECTIONS if section in rows
    )


def _is_mark(node: ast.expr, name: str) -> bool:
    return ast.unparse(node) == f"pytest.mark.{name}"


if __name__ == "__main__":
    PAGE.write_text(page(marks()))
