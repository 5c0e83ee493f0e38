"""Titles, links and pictures of videos, on a page that loads nothing else."""

import pytest

from tests.report.test_page import EMPTY, EVIL, Page
from vidembed.report.captions import Captions
from vidembed.report.page import write_report

LINK, PICTURE = "https://example.com/watch?v={id}&t=0", "https://thumbs.example.com:8080/{id}.jpg"


def page_with(path, captions, inputs):
    parts = {"gallery": inputs["gallery"], "clusters": inputs["clusters"]}
    write_report(path, **EMPTY | parts, captions=captions)
    return path.read_text(encoding="ascii")


def test_a_video_is_shown_with_title_link_and_picture(tmp_path, inputs):
    near = inputs["gallery"][0]["nearest"]
    near[0]["id"], near[1]["id"] = "a b/c?", EVIL
    of_cluster = inputs["clusters"]["examples"][0]["clusters"][0]["videos"][0]
    titles = {"qqqq": "The <i>query</i>", EVIL: EVIL, of_cluster: "In a cluster"}
    captions = Captions(titles=titles, link=LINK, picture=PICTURE)
    html = page_with(tmp_path / "r.html", captions, inputs)
    page = Page(html)
    assert EVIL not in html
    assert "The <i>query</i>" in page.text["a"]
    assert "In a cluster" in page.text["a"]
    assert page.tags["i"] == page.tags["script"] == 0
    links = [value for tag, name, value in page.attributes if (tag, name) == ("a", "href")]
    assert "https://example.com/watch?v=qqqq&t=0" in links
    assert "https://example.com/watch?v=a%20b%2Fc%3F&t=0" in links
    assert all(link.startswith("https://example.com/watch?v=") for link in links)
    pictures = [value for tag, name, value in page.attributes if (tag, name) == ("img", "src")]
    assert pictures[:2] == [f"https://thumbs.example.com:8080/{n}.jpg" for n in
                            ("qqqq", "a%20b%2Fc%3F")]  # fmt: skip
    # A picture that does not load leaves no text and no space.
    assert {v for tag, name, v in page.attributes if (tag, name) == ("img", "alt")} == {""}
    assert ("img", "loading", "lazy") in page.attributes
    [policy] = [value for _, name, value in page.attributes if name == "content" and "src" in value]
    assert policy.endswith("img-src data: https://thumbs.example.com:8080")
    assert policy.startswith("default-src 'none'")


def test_titles_alone_and_links_alone(tmp_path, inputs):
    titled = Page(page_with(tmp_path / "r.html", Captions(titles={"qqqq": "A title"}), inputs))
    assert "A title" in titled.text["p"]
    assert titled.tags["a"] == titled.tags["img"] == 0
    linked = Page(page_with(tmp_path / "r.html", Captions(link=LINK), inputs))
    assert "qqqq" in linked.text["a"]
    assert linked.tags["img"] == 0


@pytest.mark.parametrize(
    ("template", "words"),
    [
        ("javascript:alert({id})", "not a web address"),
        ("data:text/html,{id}", "not a web address"),
        ("//example.com/{id}", "not a web address"),
        ("https:///{id}", "not a web address"),
        ("https://{id}.example.com/", "not a web address"),
        ("https://example.com; script-src */{id}", "not a web address"),
        ("https://example.com/watch", "is the same for every video"),
    ],
)
def test_other_templates_are_refused(template, words):
    with pytest.raises(ValueError, match=rf"^--url-template .*{words}"):
        Captions(link=template)
    with pytest.raises(ValueError, match=rf"^--thumbnail-template .*{words}"):
        Captions(picture=template)
