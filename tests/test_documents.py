"""What the documents name exists, their pictures are current, and nothing is left to fill in."""

import re
from pathlib import Path

import pytest

from experiments import pictures

ROOT = Path(__file__).resolve().parents[1]
NAMES = ["README", "GUIDE", "CONTRIBUTING", "CHANGELOG", "BUILD_NOTES", "experiments/README"]
DOCUMENTS = [ROOT / f"{name}.md" for name in NAMES]


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda p: p.name)
def test_nothing_is_left_to_fill_in(path):
    text = re.sub(r"`[^`]*`|BUILD_NOTES", "", path.read_text())
    assert not re.findall(r"\b[A-Z]+_[A-Z0-9]+\b|TODO|TBD", text)


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda p: p.name)
def test_modules_and_links_exist(path):
    text = path.read_text()
    for module in set(re.findall(r"python -m ([a-z_.]+)", text)):
        place = ROOT / module.replace(".", "/")
        named = module.endswith((".NAME", "."))
        assert named or place.with_suffix(".py").exists() or (place / "__main__.py").exists(), (
            module
        )
    for link, _, heading in re.findall(r"\]\(([^)#]+)(#([^)]+))?\)", text):
        if not link.startswith("http"):
            assert (path.parent / link).exists(), link
            assert not heading or heading in headings(path.parent / link), (link, heading)


def headings(path):
    """Names of the anchors of a Markdown file."""
    titles = re.findall(r"^#+ (.+)$", path.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("name", pictures.DRAWN)
def test_pictures_are_drawn_from_the_numbers_that_are_here(name):
    assert pictures.current(name), "python -m experiments.pictures draws them again"


def test_the_readme_shows_the_numbers_of_its_picture():
    text = (ROOT / "README.md").read_text()
    scores = pictures.read_numbers()["scores"]
    for name in ("composite", "closed_form", "trained", "visual", "popularity", "random"):
        score = "{value:.3f} [{low:.3f}, {high:.3f}]".format(**scores[name])
        assert f"| {score} |" in text, name


def test_the_reading_order_counts_lines():
    rows = re.findall(r"^\| `(\S+\.py)` \| (\d+) \|", (ROOT / "CONTRIBUTING.md").read_text(), re.M)
    assert len(rows) > 10
    for file, lines in rows:
        assert abs(len((ROOT / file).read_text().splitlines()) - int(lines)) <= 10, file
