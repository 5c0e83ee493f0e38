from vidembed.report import page


def test_one_column_per_corpus_and_a_chart_of_its_degrees(corpus):
    report = corpus.report()
    other = {"videos": 5, "relations": {}}
    rows = {row["name"]: row["cells"] for row in page.counts({"a": report, "b": other})}
    assert rows["videos"] == ["60", "5"]
    assert rows["simulated sessions"] == ["yes", "–"]
    assert rows["edges"] == [str(corpus.relations.edges), "–"]
    assert "degree histogram" not in rows
    (chart,) = page.degrees({"a": report, "b": other})
    assert chart["title"] == "Videos by their number of relations, a"
    for count in report["relations"]["degree_histogram"].values():
        assert f">{count}</text>" in chart["svg"]
