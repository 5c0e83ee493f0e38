"""The report of a run on captions: its scores, random captions, and sentences of the user."""

import csv
import re
from html import unescape

import numpy as np
import pytest

import vidembed
from tests.deploy.test_text_queries import trained, world
from tests.report.test_page import Page
from vidembed.__main__ import main
from vidembed.corpora.captions import CaptionPaths

__all__ = ["trained", "world"]
pytestmark = pytest.mark.long


def written(path, *options):
    few = ("--evaluator.resamples", "40")
    assert main(["report", "jemc", "--workdir", path, *few, *options]) == 0
    with open(f"{path}/report.html", encoding="ascii") as file:
        html = file.read()
    Page(html)  # tags nest
    return unescape(html)


def test_captions_and_sentences_stand_with_what_they_find(trained, world, tmp_path):
    path = trained("words")
    assert main(["evaluate", "jemc", "--workdir", path, "--evaluator.resamples", "40"]) == 0
    titles = tmp_path / "titles.csv"
    with open(titles, "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "title"])
        writer.writerows((f"imagined{n:05d}", f"Clip {n}") for n in range(40))
    known = "a dog runs"
    page = written(path, "--texts", known, "--titles", str(titles))
    assert "Scores, test, text → video" in page
    section = page[page.index("Texts and the videos that they find") :]
    [first, *others] = re.findall(r"<li>(.*?)</li>", section, re.S)[:3]
    assert known in first
    assert "own video" not in first
    assert all("own video: rank" in entry for entry in others)
    paths = {name: str(world / name) for name in ("table",)}
    corpus = CaptionPaths(**paths, captions=str(world / "captions.csv"), least_count=1).open()
    run = vidembed.load(path, "latest")
    rows = np.flatnonzero(corpus.parts["test"])
    scores = run.embed(corpus.table)[rows] @ run.embed_text(known)[0]
    expected = [f"Clip {row}" for row in rows[np.argsort(-scores, kind="stable")[:4]]]
    assert re.findall(r"Clip \d+", first) == expected


@pytest.mark.fault(
    "Captions: texts for the report of a run that embeds none, or without a word that it knows",
    "refused, before a report is written",
)
def test_texts_that_cannot_be_embedded_are_refused(trained, workdir, capsys):
    report = ["report", "jemc", "--workdir", trained("words"), "--texts", "zebra"]
    assert main(report) == 1
    assert "'zebra' has no word that occurred often enough" in capsys.readouterr().err
    assert main(["report", "cdml", "--workdir", workdir, "--texts", "a dog"]) == 1
    assert "this run has no output `text`" in capsys.readouterr().err
