import json
import math
from collections import Counter
from html.parser import HTMLParser

import pytest

from vidembed.report import wording
from vidembed.report.page import write_report

VOID = {"meta", "link", "wbr", "br", "hr", "img", "input"}
EMPTY = {
    "title": "Nothing",
    "summary": None,
    "journals": {},
    "evaluations": {},
    "corpora": {},
    "gallery": [],
    "recipe": None,
}
MAIN = "eval_to_train/ndcg@10"
EVIL = "<script>alert('x')</script>\"&"


class Page(HTMLParser):
    """Checks that tags nest; stores tags, attributes and their text."""

    def __init__(self, html):
        super().__init__(convert_charrefs=True)
        self.open, self.tags, self.attributes, self.text = [], Counter(), [], {}
        self.feed(html)
        self.close()
        assert not self.open, f"never closed: {self.open}"

    def handle_starttag(self, tag, attributes):
        names = [name for name, _ in attributes]
        assert len(names) == len(set(names)), (tag, names)
        self.tags[tag] += 1
        self.attributes += [(tag, *pair) for pair in attributes]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        assert "svg" in self.open, f"<{tag}/> outside of SVG"
        self.tags[tag] += 1
        self.attributes += [(tag, *pair) for pair in attributes]

    def handle_endtag(self, tag):
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag

    def handle_data(self, data):
        place = self.open[-1] if self.open else ""
        self.text[place] = self.text.get(place, "") + data

    @property
    def words(self):
        return " ".join(text for place, text in self.text.items() if place != "style")


@pytest.fixture
def write(tmp_path):
    def write(**inputs):
        write_report(tmp_path / "report.html", **inputs)
        return (tmp_path / "report.html").read_text(encoding="ascii")

    return write


def numbers(value):
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        return [number for part in value for number in numbers(part)]
    return [value] if wording.is_number(value) else []


def test_shows_everything_in_nested_tags(full_page):
    assert full_page.startswith("<!DOCTYPE html>")
    page = Page(full_page)
    assert page.tags["h1"] == 1
    assert page.text["title"] == "A report"
    wanted = (
        "Related videos, cold start",
        "What audio adds",
        "Control: permuted videos",
        "Bytes of a vector",
        "Nearest neighbours",
        "Clusters of the train graph",
        "Checkpoints",
        "Training",
        "Videos and relations",
        "Time",
        "How it was made",
    )
    for heading in wanted:
        assert heading in page.text["h2"]
    assert page.text["h2"].count("e") == "".join(wanted).count("e")  # and no others


def test_every_number_of_the_summary_appears(full_page, inputs):
    page = Page(full_page)
    summary = inputs["summary"]
    for number in numbers(summary):
        assert json.dumps(number) in page.text["pre"]
    shown = page.text["td"] + page.text["small"]
    for part in ("related_videos", "permuted_control"):
        assert len(numbers(summary[part])) > 30
        for number in numbers(summary[part]):
            assert f"{number:.3f}" in shown
    for number in numbers(summary["audio_contribution"]):
        assert f"{number:+.4f}" in shown
    for stage, seconds in summary["seconds"].items():
        assert stage in page.words
        assert f"{seconds:.1f}" in shown
    for text in (
        "1.397 ×",
        "1.120 ×",
        "1.93 GB",
        "3 min 34 s",
        "aim 1.35: reached",
        "1.15: missed",
    ):
        assert text in page.words
    assert "means over the seeds 0, 1, 2" in page.words


def test_one_row_per_system_and_the_oracle_is_named(write, inputs):
    html = write(**{**EMPTY, "summary": {"related_videos": inputs["summary"]["related_videos"]}})
    shown = inputs["summary"]["related_videos"]["eval_to_train"]
    for name in (wording.SYSTEMS[system] for system in shown):
        wanted = 1 if name == "popularity" else 2
        assert html.count(f'<th scope="row">{name}</th>') == wanted, name
    assert html.count('<th scope="row">popularity (oracle)</th>') == 1
    assert html.count('class="best"') == 6
    assert html.count('class="mark" title') == 6


def test_loads_nothing_from_outside(full_page):
    for word in ("http:", "https:", "//", "@import", "<script", "<img", "<iframe", "<object"):
        assert word not in full_page, word
    page = Page(full_page)
    for tag, name, value in page.attributes:
        assert not name.startswith("on"), (tag, name)
        if name in ("href", "src", "srcset", "action", "data", "poster"):
            assert value == "data:," or value.startswith("#"), (tag, name, value)
        if "url(" in (value or ""):
            assert value.startswith("url(#"), (tag, name, value)
    assert "url(" not in page.text["style"]
    assert ("meta", "http-equiv", "Content-Security-Policy") in page.attributes


def test_ids_are_unique_and_found(full_page):
    page = Page(full_page)
    ids = [value for _, name, value in page.attributes if name == "id"]
    assert len(ids) == len(set(ids)) > 0
    for _, name, value in page.attributes:
        if name == "href" and value.startswith("#"):
            assert value[1:] in ids
        if value and value.startswith("url(#"):
            assert value[5:-1] in ids


def test_foreign_text_is_escaped(write, inputs):
    inputs["title"] = EVIL
    inputs["recipe"] = {EVIL: EVIL}
    inputs["gallery"][0]["labels"] = [EVIL]
    inputs["gallery"][0]["nearest"][0] |= {"id": EVIL, "labels": [EVIL]}
    cluster = inputs["clusters"]["examples"][0]["clusters"][0]
    cluster["videos"][0] = cluster["labels"][0]["name"] = EVIL
    inputs["journals"] = {EVIL: inputs["journals"]["seed0/trained"]}
    inputs["evaluations"] = {EVIL: inputs["evaluations"]["seed0/trained"]}
    inputs["corpora"] = {EVIL: inputs["corpora"]["seed0"]}
    summary = inputs["summary"]
    summary["seconds"][EVIL] = 1.0
    summary["related_videos"]["eval_to_train"][EVIL] = {EVIL: {"value": 1, "low": 1, "high": 1}}
    summary["related_videos"][EVIL] = summary["related_videos"].pop("train_to_eval")
    html = write(**inputs)
    assert "<script" not in html
    page = Page(html)
    assert page.text["title"] == EVIL
    assert page.words.count(EVIL) > 10
    assert page.tags["script"] == 0


def test_same_inputs_give_the_same_bytes(write, inputs, full_page):
    assert write(**inputs) == full_page


def test_says_simulated_on_top_and_at_every_table_and_chart(full_page):
    page = Page(full_page)
    assert full_page.index('class="notice"') < full_page.index("<main>")
    captions = full_page.split("<figcaption>")[1:]
    assert len(captions) == page.tags["figcaption"] == page.tags["figure"]
    assert page.tags["figure"] == page.tags["svg"] + page.tags["table"] > 20
    for caption in captions:
        assert "simulated sessions</span>" in caption.split("</figcaption>")[0]


def test_codes_are_shown_with_their_bytes_scores_and_ratios(full_page, inputs):
    page = Page(full_page)
    assert "Bytes of a vector" in page.text["h2"]
    for row in inputs["coded"]:
        assert f"256 × {row['code']}" in page.words
        for direction in row["scores"]:
            for end in ("value", "low", "high"):
                assert f"{row['scores'][direction]['ndcg@10'][end]:.3f}" in page.words
                assert f"{100 * row['own'][direction]['ndcg@10'][end]:.1f}" in page.words
    assert full_page.count("bytes of a vector</text>") == 2


def test_clusters_are_shown_with_all_their_numbers(write, inputs):
    shown = inputs["clusters"]
    page = Page(write(**EMPTY, clusters=shown))
    assert page.text["h2"] == "Clusters of the train graph"
    for level in shown["levels"]:
        for name in ("clusters", "singletons", "largest"):
            assert str(level[name]) in page.text["td"]
        assert f"{100 * level['weight_inside']:.1f} %" in page.text["td"]
    for entry in shown["examples"]:
        assert f"level {entry['level']}" in page.text["b"]
        for cluster in entry["clusters"]:
            assert f"{cluster['size']} videos" in page.text["b"]
            assert " ".join(cluster["videos"]) in page.text["p"]
            for label in cluster["labels"]:
                assert label["name"] in page.text["p"]
                assert f"{100 * label['share']:.0f} %" in page.text["b"]
                assert f"({100 * label['share_of_all']:.3g} %)" in page.text["small"]


def test_clusters_of_real_watches_are_not_called_simulated(write, inputs):
    real = {**inputs["clusters"], "simulated_sessions": False}
    page = Page(write(**EMPTY, clusters=real))
    assert "simulated" not in page.words.lower()
    page = Page(write(**EMPTY, clusters=inputs["clusters"]))
    assert "are simulated from them" in page.words


@pytest.mark.parametrize("said_by", ["summary", "evaluation", "corpus", None])
def test_any_simulated_part_marks_the_page_as_simulated(write, said_by):
    parts = {
        "summary": {"seconds": {"import": 1.0}},
        "evaluation": {"step": 1, "scores": {}, "simulated_sessions": False},
        "corpus": {"videos": 3, "simulated_sessions": False},
    }
    if said_by:
        parts[said_by]["simulated_sessions"] = True
    html = write(
        **{
            **EMPTY,
            "summary": parts["summary"],
            "evaluations": {"a": [{"step": 0, "scores": {}}], "b": [parts["evaluation"]]},
            "corpora": {"a": {"videos": 2}, "b": parts["corpus"]},
        }
    )
    assert ('class="notice"' in html) == bool(said_by)
    assert ("simulated sessions</span>" in html) == bool(said_by)


def test_an_empty_report_is_a_page(write):
    page = Page(write(**EMPTY))
    assert page.text["h1"] == "Nothing"
    for tag in ("h2", "table", "svg", "figure", "details", "dl"):
        assert page.tags[tag] == 0, tag


@pytest.mark.parametrize(
    ("missing", "heading"),
    [
        ("related_videos", "Related videos"),
        ("audio_contribution", "What audio adds"),
        ("permuted_control", "Control"),
        ("seconds", "Time"),
    ],
)
def test_what_the_summary_lacks_leaves_out_its_section(write, inputs, missing, heading):
    only = {**EMPTY, "summary": inputs["summary"]}
    assert heading in Page(write(**only)).text["h2"]
    del inputs["summary"][missing]
    assert heading not in Page(write(**only)).text["h2"]


def test_a_single_run_without_a_summary(write, inputs):
    run = inputs["evaluations"]["seed0/trained"]
    html = write(
        **{
            **EMPTY,
            "journals": {"run1": inputs["journals"]["seed0/trained"]},
            "evaluations": {"run1": run},
            "recipe": inputs["recipe"],
        }
    )
    page = Page(html)
    assert page.text["h2"] == "CheckpointsTrainingHow it was made"
    last = run[-1]["scores"]["eval_to_train/ndcg@10"]
    assert f"{last['value']:.3f}" in page.text["dd"]
    assert "at step 30" in page.text["dd"]
    assert "<details open>" in html
    for number in numbers([one["scores"] for one in run]):
        assert f"{number:.3f}" in page.words
    assert '"batch_triplets": 512' in page.text["pre"]


def test_a_single_run_shows_its_best_step_and_what_needs_no_training(write, inputs):
    run = [
        result | {"scores": {MAIN: result["scores"][MAIN]}}
        for result in inputs["evaluations"]["seed0/trained"]
    ]
    related = {
        "eval_to_train": {
            "visual": {"ndcg@10": {"value": 0.25}},
            "text_standardised": {"ndcg@10": {"value": 0.375}},
            "closed_form": {"ndcg@10": {"value": 0.5}},
            "popularity": {"ndcg@10": {"value": 0.625}},
        }
    }
    page = Page(
        write(**EMPTY | {"evaluations": {"run1": run}}, related_videos=related, step=0,
              evaluate_command="", notes=["7 of 9 videos have no audio."])
    )  # fmt: skip
    assert f"{run[0]['scores'][MAIN]['value']:.3f}" in page.text["dd"]
    assert "at step 30" not in page.text["dd"]
    beside = "at step 0; without training: standardised text 0.375, closed form 0.500"
    assert page.text["dd"].count(beside) == page.text["dd"].count("without training") == 1
    assert "No evaluation yet" not in page.words


def test_a_run_without_evaluations_shows_the_command(write, inputs):
    command = "python -m x evaluate --workdir 'a <b>'"
    html = write(**EMPTY | {"corpora": inputs["corpora"]}, evaluate_command=command,
                 notes=["7 of 9 videos have no audio.", EVIL])  # fmt: skip
    page = Page(html)
    assert page.text["strong"].endswith("No evaluation yet.")
    assert page.text["code"] == command
    assert "7 of 9 videos have no audio." in page.text["p"]
    assert EVIL not in html


def test_a_single_run_is_shown_with_its_baselines_and_warnings(write, inputs):
    systems = ("trained", "visual", "concatenated_standardised", "popularity")
    related = inputs["summary"]["related_videos"]
    beside = {
        d: {name: related[d].get(name, related[d]["audio"]) for name in systems} for d in related
    }
    html = write(
        **EMPTY,
        related_videos=beside,
        related_note="Trained: step 30.",
        warnings=["collapsed", EVIL],
    )
    page = Page(html)
    assert page.text["h2"] == "Related videos, cold start"
    assert "Trained: step 30." in page.words
    for name in ("raw visual", "all standardised", "popularity (oracle)"):
        assert name in page.text["th"]
    for number in numbers(beside):
        assert f"{number:.3f}" in page.words
    assert page.text["strong"] == "Warning.Warning."
    assert "collapsed" in page.text["p"]
    assert EVIL not in html


def test_a_run_with_validation_videos_shows_both_parts(write, inputs):
    related = inputs["summary"]["related_videos"]
    related |= {f"validation_{direction}": systems for direction, systems in related.items()}
    [first, last] = inputs["evaluations"]["seed0/trained"]
    for one in (first, last):
        one["scores"] |= {f"validation_{name}": score for name, score in one["scores"].items()}
        one["selection"] = {"name": "mean of map on validation", "value": 0.1}
    gallery = [{**inputs["gallery"][0], "partition": "test"}]
    html = write(
        **EMPTY | {"evaluations": {"run": [first, last]}, "gallery": gallery},
        related_videos=related,
    )
    page = Page(html)
    assert "validation" not in page.text["dt"], "only test scores are at the top"
    assert "validation: new → known" in page.text["h3"]
    assert "New videos are those for testing" in page.words
    assert "Popularity, known → new, is an oracle" in page.words
    assert "from the test partition" in page.words
    assert "The best is chosen by the mean of map on validation." in page.words
    assert html.count("<details open>") == 2


def test_values_that_are_absent_or_not_finite_are_dashes(write, inputs):
    summary = inputs["summary"]
    summary["related_videos"]["eval_to_train"]["trained"] = {
        "ndcg@10": {"value": None, "low": math.nan, "high": math.inf}
    }
    summary["seconds"]["broken"] = None
    summary["ratio_to_visual"]["eval_to_train"] = {}
    inputs["journals"] = {"a": [{"step": 1, "loss": None, "mined": 0.5, "active": math.nan}]}
    inputs["evaluations"] = {"a": [{"step": 1, "scores": {"map": {"value": None}}}]}
    page = Page(write(**inputs))
    assert "–" in page.text["td"]
    assert "nan" not in page.text["td"] + page.text["small"]
    assert "inf" not in page.text["td"] + page.text["small"]


def test_the_gallery(write, inputs):
    html = write(**{**EMPTY, "gallery": inputs["gallery"]})
    page = Page(html)
    assert page.text["h2"] == "Nearest neighbours"
    for text in (
        "qqqq",
        "nnn1",
        "nnn2",
        "0.938",
        "0.500",
        "7 related videos in total",
        "no labels",
    ):
        assert text in page.words
    assert html.count('class="video hit"') == 1
    assert html.count('<span class="related">related</span></p>\n<p class="id">') == 1
    # The query's labels are marked in its neighbours.
    assert html.count('<span class="shared">Guitar</span>') == 1
    assert html.count("<span>Guitar</span>") == 1


def test_replaces_the_file_whole(tmp_path, write, inputs):
    (tmp_path / "report.html").write_text("old " * 1_000_000)
    write(**EMPTY)
    assert "old" not in (tmp_path / "report.html").read_text()
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]


def test_light_dark_phone_and_paper(write):
    page = Page(write(**EMPTY))
    style = page.text["style"]
    assert "prefers-color-scheme: dark" in style
    assert "@media print" in style
    assert ("meta", "content", "width=device-width, initial-scale=1") in page.attributes
    # Dark mode defines every colour of light mode.
    light, dark = style.split("prefers-color-scheme: dark")
    names = {line.split(":")[0].strip() for line in light.splitlines() if "--" in line}
    assert names
    for name in names:
        assert f"{name}:" in dark, name
