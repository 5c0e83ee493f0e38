"""The report of a run on clips, against its evaluation file."""

import json
import re
from html import unescape

import pytest

from tests.deploy import clip_run
from tests.report.test_page import Page
from vidembed.__main__ import main

pytestmark = pytest.mark.long
FEW = ("--evaluator.resamples", "40")


def test_scores_neighbours_map_and_variances_are_shown(tmp_path):
    run, shapes = tmp_path / "run", clip_run.shapes(tmp_path / "shapes", groups=3)
    stored = clip_run.features(tmp_path, [path.stem for path in shapes.glob("*/*.mp4")])
    clip_run.trained(run, shapes, frames=stored)
    assert main(["evaluate", "provico", "--workdir", str(run), *FEW]) == 0
    assert main(["report", "provico", "--workdir", str(run), *FEW]) == 0
    html = (run / "report.html").read_text(encoding="ascii")
    Page(html)  # tags nest
    page = unescape(html)
    [file] = run.glob("evaluation/*/1.json")
    scores = json.loads(file.read_text())["scores"]
    rows = re.search(r"All metrics, test .*?</table>", page, re.S)[0]
    [trained] = re.findall(r"<tr><th scope=\"row\">trained</th>(.*?)</tr>", rows, re.S)
    shown = [cell.split()[0] for cell in re.findall(r"<td[^>]*>(.*?)</td>", trained, re.S)]
    assert shown == [f"{score['value']:.3f}" for score in scores.values()]
    top = re.findall(r'<dd class="value">(.*?)</dd><dt>(.*?)</dt>', page)
    assert [name for _, name in top] == ["R@1, test", "probe, test", "same source, test"]
    assert "Simulated videos." in page
    assert "simulated sessions" not in page
    assert page.count("<b>query</b>") == 8
    for title in ("Classes and sources", "Nearest neighbours", "Map of the embedding"):
        assert f"<h2>{title}</h2>" in page
    assert "Total variance of a clip (solid)" in page
    assert "class: left" in page
    assert re.search(r'<th scope="row">sources</th><td>3</td>', page)
