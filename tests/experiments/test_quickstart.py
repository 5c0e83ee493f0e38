"""The quickstart with one seed and two steps (long): what it leaves, and running it again."""

import json
import os
import subprocess
import sys

import numpy as np
import pyarrow.parquet as pq
import pytest

import vidembed
from experiments import composites, on_closed_form
from vidembed.models.fusion import LateFusion, Layers
from vidembed.records.scores_file import read_scores
from vidembed.records.table import FeatureTable

pytestmark = pytest.mark.long
SYSTEMS = {
    "trained", "trained_visual_only", "visual", "audio", "concatenated",
    "concatenated_standardised", "closed_form", "composite", "untrained", "popularity", "random",
}  # fmt: skip


@pytest.fixture(scope="module")
def quickstart(tmp_path_factory):
    folder = tmp_path_factory.mktemp("quickstart")

    command = [sys.executable, "-m", "experiments.quickstart"]

    def run(*more):
        return subprocess.run(
            [*command, "--workdir", str(folder), "--seeds", "0", "--steps", "2", *more],
            # One device, compiled with little effort: what is tested is what runs.
            env=os.environ | {"XLA_FLAGS": "--xla_backend_optimization_level=0"},
            capture_output=True,
            text=True,
            timeout=300,
        )

    first = run()
    assert first.returncode == 0, first.stderr
    return folder, first, run


def test_the_summary_has_what_was_promised(quickstart):
    folder, done, _ = quickstart
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["simulated_sessions"] is True
    for direction in ("eval_to_train", "train_to_eval"):
        systems = summary["related_videos"][direction]
        assert systems.keys() == SYSTEMS
        for metrics in systems.values():
            assert metrics.keys() == {"ndcg@10", "map", "recall@10"}
            for entry in metrics.values():
                assert 0 <= entry["low"] <= entry["value"] <= entry["high"] <= 1
    # Raw features of these videos under these sessions: known from the simulator's design.
    visual = summary["related_videos"]["eval_to_train"]["visual"]["ndcg@10"]["value"]
    assert 0.15 < visual < 0.21
    assert summary["peak_memory_bytes"] > 1e8
    assert next(iter(summary["seconds"])) == "import"
    assert {"seed0/graph", "seed0/trained", "seed0/evaluation"} <= summary["seconds"].keys()
    assert "jax" in summary["versions"]
    assert "SIMULATED" in done.stdout


def scores_of(run):
    """System → direction → metrics of each query, from the files that evaluation writes."""
    (measured,) = (run / "evaluation").iterdir()
    found = read_scores(measured / "2.parquet")
    if (measured / "baselines.parquet").exists():
        found |= read_scores(measured / "baselines.parquet")
        found["untrained"] = read_scores(measured / "0.parquet")["trained"]
    if (run / "beside_closed_form.parquet").exists():
        found |= read_scores(run / "beside_closed_form.parquet")
    if (run / "per_query.parquet").exists():
        found |= read_scores(run / "per_query.parquet")
    return found


def test_the_summary_compares_what_it_says(quickstart):
    folder, _, _ = quickstart
    summary = json.loads((folder / "summary.json").read_text())
    scores = scores_of(folder / "seed0" / "trained")
    visual_only = scores_of(folder / "seed0" / "trained_visual_only")
    scores["trained_visual_only"] = visual_only["trained"]
    for direction, systems in summary["related_videos"].items():
        for system in SYSTEMS:
            mean = scores[system][direction].values["ndcg@10"].mean()
            assert systems[system]["ndcg@10"]["value"] == pytest.approx(mean)
        audio = summary["audio_contribution"][direction]["map"]["value"]
        both, one = (
            scores[system][direction].values["map"].mean()
            for system in ("trained", "trained_visual_only")
        )
        assert audio == pytest.approx(both - one)
        control = scores_of(folder / "seed0-permuted" / "trained")
        for pair in summary["permuted_difference"]:
            one, other = (
                control[pair[side]][direction].values["ndcg@10"].mean() for side in ("one", "other")
            )
            found = pair["difference"][direction]["ndcg@10"]["value"]
            assert found == pytest.approx(one - other)
        ratio = summary["ratio_to_visual"][direction]
        assert ratio["low"] < ratio["mean"] < ratio["high"]
    for direction in ("eval_to_train", "train_to_eval"):
        assert not np.array_equal(
            scores["untrained"][direction].values["map"],
            scores["trained"][direction].values["map"],
        )


def test_the_control_is_permuted_and_falls_to_chance(quickstart):
    folder, _, _ = quickstart
    marks = []
    for world in ("seed0", "seed0-permuted"):
        metadata = pq.read_schema(folder / world / "sessions.parquet").metadata
        marks.append(bool(json.loads(metadata[b"vidembed"]).get("permuted")))
    assert marks == [False, True]
    summary = json.loads((folder / "summary.json").read_text())
    for systems in summary["permuted_control"].values():
        assert systems["visual"]["ndcg@10"]["value"] < 0.02
        assert systems["popularity"]["ndcg@10"]["value"] > 0.03


def test_the_summary_names_what_made_it(quickstart):
    folder, _, _ = quickstart
    text = (folder / "summary.json").read_text()
    summary = json.loads(text)
    assert summary["recipes"]["trained"]["steps"] == 2
    assert summary["recipes"]["trained_visual_only"]["task"]["model"]["class"].endswith(
        ":SingleModality"
    )
    assert {"table", "seed0"} <= summary["fingerprints"].keys()
    assert "report" in summary["seconds"]


def test_vectors_are_coded_indexed_and_searched(quickstart):
    folder, done, _ = quickstart
    codes = json.loads((folder / "summary.json").read_text())["codes"]
    assert {(row["code"], row["bytes"]) for row in codes} > {("float32", 1024), ("4 bit", 128)}
    # The same as the terminal shows, by the vectors of the checkpoint themselves.
    table = FeatureTable.open(folder / "table")
    vectors = vidembed.load(folder / "seed0" / "trained", step=2).embed(table)
    said = done.stdout.splitlines()
    (begin,) = (number for number, line in enumerate(said) if line.startswith("nearest to "))
    query = said[begin].split()[2]
    (row,) = table.find([query])
    near = np.argsort(-(vectors @ vectors[row]), kind="stable")
    expected = [table.ids[i].decode() for i in near if i != row][:5]
    assert [line.split()[1] for line in said[begin + 1 : begin + 6]] == expected


def test_the_report_says_that_sessions_are_simulated(quickstart):
    folder, _, _ = quickstart
    assert "simulated sessions" in (folder / "report.html").read_text().lower()


def test_the_report_shows_clusters_by_the_names_of_their_labels(quickstart):
    folder, _, _ = quickstart
    text = (folder / "report.html").read_text()
    assert "Clusters of the train graph" in text
    shown = text[text.index("Clusters of the train graph") :]
    assert "<b>level 4</b>" in shown
    assert "Video game" in shown


def test_running_again_recognises_what_is_done_and_makes_what_is_missing(quickstart):
    folder, _, run = quickstart
    before = json.loads((folder / "summary.json").read_text())
    (lost,) = (folder / "seed0" / "trained").glob("evaluation/*/2.parquet")
    lost.unlink()
    # As if the sessions had been made from another table.
    stamp = folder / "stages" / "seed0-sessions.json"
    made = json.loads(stamp.read_text())
    stamp.write_text(json.dumps(made | {"key": made["key"] | {"table": "other"}}))
    # As if the composite had been measured before the training went on.
    record = folder / "seed0" / "trained" / composites.RECORD
    record.write_text(json.dumps(json.loads(record.read_text()) | {"step": 1}))
    again = run()
    assert again.returncode == 0, again.stderr
    assert lost.exists()
    assert json.loads(stamp.read_text())["key"] == made["key"]
    assert "seed0/sessions ..." in again.stdout
    assert "seed0/graph: done before" in again.stdout
    assert json.loads(record.read_text())["step"] == 2
    assert "seed0/trained_visual_only: done before" in again.stdout
    assert "seed0-permuted/trained: done before" in again.stdout
    assert again.stdout.count("evaluating step 2 ...") == 1
    assert "nothing to do: all 2 steps are done" in again.stdout
    after = json.loads((folder / "summary.json").read_text())
    # Of the stages, not of the process that recognised them.
    assert after["peak_memory_bytes"] >= before["peak_memory_bytes"]
    assert after["seconds"].keys() == before["seconds"].keys()
    assert after["related_videos"] == before["related_videos"]


def test_the_closed_form_stands_beside_what_was_trained(quickstart, monkeypatch, capsys):
    """In three directions, from a finished folder."""
    folder, _, _ = quickstart
    monkeypatch.setattr(composites, "WEIGHTS", (1.0,))
    out = folder / "composites.json"
    assert composites.main(["--workdir", str(folder), "--out", str(out)]) == 0
    assert "closed form alone" in (folder / "composites.svg").read_text()
    systems = json.loads(out.read_text())["systems"]
    assert list(systems) == ["visual", "closed_form", "trained", "composite"]
    summary = json.loads((folder / "summary.json").read_text())["related_videos"]
    for name, directions in systems.items():
        for direction in summary:
            expected = summary[direction][name]["ndcg@10"]["value"]
            assert directions[direction]["mean"]["value"] == pytest.approx(expected, abs=1e-4)
    # Two seconds without training: what the closed form is for.
    assert systems["closed_form"]["eval_to_eval"]["ratio"]["value"] > 1
    assert "| closed form |" in capsys.readouterr().out


def test_towers_are_tried_on_top_of_the_closed_form(quickstart, monkeypatch, capsys):
    """They learn, and with a gate of 0 would add nothing."""
    folder, _, _ = quickstart
    small = LateFusion(layers=Layers(hidden=(), size=256))
    monkeypatch.setattr(on_closed_form, "NETWORK", small)
    monkeypatch.setattr(on_closed_form, "PARTS", ("validation",))
    learnt, calls = on_closed_form.learnt, []

    def keep(corpus, closed, **options):
        calls.append((corpus, closed, learnt(corpus, closed, **options)))
        return calls[-1][-1]

    monkeypatch.setattr(on_closed_form, "learnt", keep)
    words = ["--workdir", str(folder), "--seeds", "0", "--steps", "1"]
    assert on_closed_form.main(words) == 0
    assert "| towers on closed form |" in capsys.readouterr().out
    corpus, closed, towers = calls[0]
    np.testing.assert_allclose(np.linalg.norm(towers, axis=1), 1, atol=1e-5)
    nothing = learnt(corpus, closed, seed=0, steps=0, gate=0.0)
    np.testing.assert_allclose(nothing, closed, atol=1e-6)
    assert np.abs(towers - closed).sum(axis=1).mean() > 0.1
