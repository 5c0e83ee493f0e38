"""What the report of an own run says beside the evaluator's numbers."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from vidembed.cli.run_report import data_notes
from vidembed.cli.same_program import same_program


def test_missing_modalities_and_dropped_edges_are_told(corpus):
    assert data_notes(corpus) == []
    has = np.arange(300) % 3 > 0
    table = dataclasses.replace(corpus.table, present={"audio": has}, manifest={})
    report = {
        "rows": 1200, "unknown_edges": 7, "unknown_ids": 2, "unknown": ["x", "y"], "loops": 3,
        "merged": 0, "notes": ["of the edges"],
    }  # fmt: skip
    split = ("of the split",)
    notes = data_notes(
        dataclasses.replace(corpus, table=table, edges_report=report, split_notes=split)
    )
    assert notes == [
        "100 of 300 videos (33.3%) have no audio.",
        "7 of 1,200 edges were dropped: they name 2 videos that are not in the table, such as x, "
        "y.",
        "3 edges were dropped: they link a video to itself.",
        "of the edges",
        "of the split",
    ]


@pytest.mark.parametrize(
    ("words", "command"),
    [
        ("python -m experiments.cdml report --workdir x --baselines", "python -m experiments.cdml"),
        ("HERE/.venv/bin/python -m experiments.gcml gcl report --workdir x",
         ".venv/bin/python -m experiments.gcml gcl"),
        ("/usr/bin/python3 mine.py report", "/usr/bin/python3 mine.py"),
        ("/usr/bin/python3 /usr/bin/vidembed report cdml --workdir x", "vidembed"),
        ("python -m pytest", ""),
    ],
)  # fmt: skip
def test_the_command_that_measures_is_of_the_same_program(words, command):
    given = words.replace("HERE", str(Path.cwd())).split()
    recipe = " cdml" if "report cdml" in words else ""
    expected = f"{command} evaluate{recipe} --workdir '/a b/run'".strip()
    assert same_program("evaluate", "/a b/run", given) == expected
