"""What the documents say is there, and holds no gaps."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
DOCUMENTS = [ROOT / "README.md", ROOT / "BUILD_NOTES.md", ROOT / "experiments" / "README.md"]


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
    for link in re.findall(r"\]\(([^)#]+)\)", text):
        assert link.startswith("http") or (path.parent / link).exists(), link
