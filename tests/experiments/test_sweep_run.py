"""Sweeps in action: their files, what they skip, and the effects of faults and stops (long)."""

import csv
import html
import json
import os
import runpy
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from experiments.points import points_of, refuse_unfinished
from experiments.sweep import REFERENCE
from experiments.sweep_command import main
from vidembed.engine.evaluation import Evaluation, store_evaluation
from vidembed.records.scores_file import PerQuery, read_scores, write_scores
from vidembed.workdir.layout import Workdir

pytestmark = pytest.mark.long
SCRIPT = Path(__file__).with_name("tiny_sweep.py")
TINY = runpy.run_path(str(SCRIPT))
RECORDS = str(Path(__file__).resolve().parents[2] / "data" / "youtube8m" / "validate0000.tfrecord")
POINTS = [f"seed0/{REFERENCE}", "seed0/early", f"seed0-permuted/{REFERENCE}"]
COLUMNS = {
    "eval_to_train": ["ndcg@10", "map"],
    "train_to_eval": ["ndcg@10", "map"],
    "eval_to_eval": ["ndcg@60", "map"],
}


def options(folder, *more):
    size = ["--steps", "3", "--triplets", "16", "--records", RECORDS, "--seeds", "0"]
    return ["run", "--workdir", str(folder), *size, *more]


def refused(sweep, folder, *more):
    """A run in this process that is refused."""
    return main(TINY[sweep], options(folder, *more))


def start(sweep, folder, *more):
    """A run in a separate process with one device; most of its time would go into compiling."""
    flags = "--xla_backend_optimization_level=0"
    return subprocess.Popen(
        [sys.executable, str(SCRIPT), sweep, *options(folder, *more)],
        env=os.environ | {"XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu", "PYTHONPATH": os.getcwd()},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def run(sweep, folder, *more):
    process = start(sweep, folder, *more)
    out, errors = process.communicate(timeout=300)
    return process.returncode, out, errors


def gather(sweep, folder):
    assert main(TINY[sweep], ["gather", "--workdir", str(folder)]) == 0
    return json.loads((folder / f"{TINY[sweep].name}.json").read_text())


def attempts(folder, job):
    return json.loads((folder / job / "attempts.json").read_text())


def states(folder, jobs):
    """The times at which each job's files were last written."""
    files = ("metrics.jsonl", "recipe.json", "result.json", "attempts.json")
    paths = [folder / job / name for job in jobs for name in files]
    return {str(path): path.stat().st_mtime_ns for path in paths if path.exists()}


def per_query(folder, job, direction, metric):
    """Slow and obvious: video id → value, read directly from the file."""
    (path,) = (folder / job).glob("evaluation/*/3.parquet")
    rows = pq.read_table(path).to_pylist()
    asked = [row for row in rows if (row["system"], row["direction"]) == ("trained", direction)]
    return {row["video_id"]: row[metric] for row in asked}


@pytest.fixture(scope="module")
def swept(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sweep")
    code, _, errors = run("sweep", folder)
    assert code == 0, errors
    second_seed(folder)
    return folder


def second_seed(folder):
    """Make the files of another seed, with other scores, without another training."""
    for job in POINTS:
        copy = folder / job.replace("seed0", "seed1")
        shutil.copytree(folder / job, copy)
        stored = json.loads((copy / "recipe.json").read_text())
        stored["recipe"]["seed"] = stored["recipe"]["corpus"]["split_seed"] = 1
        (copy / "recipe.json").write_text(json.dumps(stored))
        evaluator = replace(TINY["sweep"].evaluator, seed=1)
        store_evaluation(Workdir(copy), Evaluation(evaluators=(evaluator,)))
        (measured,) = (copy / "evaluation").iterdir()
        measured.rename(Workdir(copy).measurements(evaluator.identity()).folder)
        for path in (*copy.glob("evaluation/*/*.parquet"), *copy.glob("per_query.parquet")):
            change_scores(path, lambda values: values[::-1] * 0.9)


def change_scores(path, change, systems=None):
    """Replace the values of the same queries."""
    scores = read_scores(path)
    for system in systems or scores:
        scores[system] = {
            direction: PerQuery(
                ids=of_direction.ids,
                values={name: change(v) for name, v in of_direction.values.items()},
            )
            for direction, of_direction in scores[system].items()
        }
    write_scores(path, scores)


def test_every_point_is_a_run_of_its_own(swept):
    for name in (REFERENCE, "early"):
        point = swept / "seed0" / name
        assert json.loads((point / "DONE").read_text()) == {"step": 3}
        assert json.loads((point / "recipe.json").read_text())["recipe"]["seed"] == 0
        saved = {p.name for p in (point / "checkpoints").iterdir() if p.name.isdecimal()}
        # For the reference, the untrained network is measured, too.
        assert saved == ({"0", "3"} if name == REFERENCE else {"3"})
        [measured] = (point / "evaluation").glob("*/3.json")
        assert "eval_to_train/ndcg@10" in measured.read_text()
        [attempt] = attempts(swept, f"seed0/{name}")
        assert 0 < attempt["train_seconds"] < attempt["seconds"]


def test_gather_reports_the_values_of_the_files(swept, capsys):
    result = gather("sweep", swept)
    tables, _, remarks = capsys.readouterr().out.partition("The paper: ")
    # Two tables, each in two parts of four scores.
    assert tables.count("SIMULATED SESSIONS") == 4
    assert max(map(len, tables.splitlines())) <= 80
    assert "…" not in tables
    assert "Popularity, known → new and new → new, is an oracle" in remarks
    assert "new → new: queries and candidates are new videos" in remarks
    assert result["missing"] == []
    assert result["columns"] == COLUMNS
    for direction, metrics in COLUMNS.items():
        for metric in metrics:
            both = {}
            for name in (REFERENCE, "early"):
                each = [
                    per_query(swept, f"seed{seed}/{name}", direction, metric) for seed in (0, 1)
                ]
                score = result["points"][name]["scores"][direction][metric]
                means = [np.mean(list(values.values())) for values in each]
                assert score["value"] == pytest.approx(np.mean(means))
                both[name] = each
            difference = result["comparisons"][0]["differences"][direction][metric]
            minus = [
                {video: one[video] - other[video] for video in one}
                for one, other in zip(both["early"], both[REFERENCE])
            ]
            means = [np.mean(list(values.values())) for values in minus]
            assert difference["value"] == pytest.approx(np.mean(means))
            low, high = slow_interval(minus)
            width = high - low
            assert difference["low"] == pytest.approx(low, abs=width / 8)
            assert difference["high"] == pytest.approx(high, abs=width / 8)


def slow_interval(seeds, draws=2000):
    """Interval of the mean over seeds (video → value each); all seeds resample the same videos."""
    rng = np.random.default_rng(1)
    videos = sorted(set().union(*seeds))
    means = []
    for _ in range(draws):
        drawn = [videos[i] for i in rng.integers(0, len(videos), len(videos))]
        each = [[values[video] for video in drawn if video in values] for values in seeds]
        means.append(np.mean([np.mean(values) for values in each]))
    return np.percentile(means, [2.5, 97.5])


def test_the_table_is_written_in_every_form(swept):
    gather("sweep", swept)
    rows = list(csv.DictReader((swept / "tiny.csv").read_text().splitlines()))
    assert [row["point"] for row in rows[:2]] == [REFERENCE, "early"]
    assert rows[0]["eval_to_train/ndcg@10/paper_percent"] == "13.46"
    assert rows[0]["simulated_sessions"] == "True"
    scores = [f"{direction}/{metric}" for direction in COLUMNS for metric in COLUMNS[direction]]
    assert [name for name in rows[0] if name.count("/") == 1] == scores
    assert all(float(row[name]) > 0 for row in rows for name in scores)
    # The paper does not make this comparison.
    assert {row["eval_to_eval/map/paper_percent"] for row in rows} == {""}
    # Late: towers of 1024 and 128 to 8 to 4, with biases.
    assert int(rows[0]["parameters"]) == (1024 + 128) * 8 + 2 * (8 + 8 * 4 + 4)
    controls = {row["point"] for row in rows if row["kind"] == "control"}
    assert controls == {
        "visual", "audio", "concatenated", "concatenated_standardised", "closed_form", "untrained",
        "popularity", "random",
    }  # fmt: skip
    for suffix in ("md", "html"):
        text = (swept / f"tiny.{suffix}").read_text()
        assert "simulated sessions" in text.lower()
        assert "13.46" in text
    # The same comparison twice; the paper made one of them.
    assert (swept / "tiny.md").read_text().count("paper -0.33") == 1
    page = (swept / "tiny.html").read_text()
    assert "&lt;b&gt;early&lt;/b&gt;" in page
    assert "<b>early" not in page
    assert "http" not in page.replace("http-equiv", "")
    assert "NDCG@60, new → new" in html.unescape(page)
    assert "known → new and new → new, is an oracle" in " ".join(html.unescape(page).split())
    result = json.loads((swept / "tiny.json").read_text())
    assert [one["seeds"] for one in result["permuted"]] == [[0, 1]] * 5
    for one in result["permuted"][:4]:
        assert one["asks"] == "not above zero"
        assert one["differences"]["eval_to_train"]["ndcg@10"]["low"] <= 0, one["one"]
    assert {"table", "seed0", "seed1", "seed1-permuted"} <= result["fingerprints"].keys()
    assert "jax" in result["versions"]


def test_the_controls_are_those_of_the_reference(swept):
    controls = gather("sweep", swept)["controls"]
    (step_zero,) = (swept / "seed0" / REFERENCE).glob("evaluation/*/0.parquet")
    (baselines,) = (swept / "seed0" / REFERENCE).glob("evaluation/*/baselines.parquet")
    of_file = {"untrained": (step_zero, "trained"), "visual": (baselines, "visual")}
    for control, (path, system) in of_file.items():
        assert controls[control]["seeds"] == [0, 1]
        for direction, metrics in COLUMNS.items():
            for metric in metrics:
                asked = [
                    [
                        row[metric]
                        for row in pq.read_table(file).to_pylist()
                        if (row["system"], row["direction"]) == (system, direction)
                    ]
                    for file in (path, *swept.glob(f"seed1/{REFERENCE}/evaluation/*/{path.name}"))
                ]
                value = controls[control]["scores"][direction][metric]["value"]
                assert value == pytest.approx(np.mean([np.mean(values) for values in asked]))


def test_baselines_alone_are_those_of_a_sweep(swept, tmp_path, capsys):
    """In a folder of their own, where nothing is trained."""
    command = ["baselines", "--workdir", str(tmp_path), "--records", RECORDS, "--seeds", "0"]
    assert main(TINY["sweep"], command) == 0
    assert "closed form" in capsys.readouterr().out
    found = json.loads((tmp_path / "baselines.json").read_text())["scores"]
    (stored,) = (swept / "seed0" / REFERENCE).glob("evaluation/*/baselines.json")
    systems = json.loads(stored.read_text())["systems"]
    for direction, metrics in COLUMNS.items():
        assert found[direction].keys() == systems.keys()
        for name, of in found[direction].items():
            for metric in metrics:
                expected = systems[name][f"{direction}/{metric}"]["value"]
                assert of[metric]["value"] == pytest.approx(expected, rel=1e-3), (name, metric)
    assert not [*tmp_path.glob("**/checkpoints")]


def test_a_folder_of_an_older_version_is_read(swept, tmp_path):
    """Older versions stored the controls of a world in a separate folder."""
    folder = tmp_path / "older"
    shutil.copytree(swept, folder)
    for world in ("seed0", "seed1", "seed0-permuted", "seed1-permuted"):
        measured = next((folder / world / REFERENCE / "evaluation").iterdir())
        scores = read_scores(measured / "baselines.parquet")
        scores["untrained"] = read_scores(measured / "0.parquet")["trained"]
        write_scores(folder / world / "controls" / "per_query.parquet", scores)
        for name in ("baselines.parquet", "baselines.json", "0.parquet", "0.json"):
            (measured / name).unlink()
    before, after = gather("sweep", swept), gather("sweep", folder)
    assert after == before


def test_finished_points_are_skipped(swept, capsys):
    before = states(swept, POINTS)
    assert main(TINY["sweep"], options(swept)) == 0
    assert capsys.readouterr().out.count("done before\n") == 3
    assert states(swept, POINTS) == before


def test_a_damaged_file_affects_only_its_point(swept, capsys):
    file = swept / POINTS[0] / "attempts.json"
    whole = file.read_text()
    file.write_text(whole[:10])
    try:
        assert main(TINY["sweep"], options(swept)) == 1
    finally:
        file.write_text(whole)
    out, errors = capsys.readouterr()
    assert out.count("done before\n") == 3
    assert f"1 of 3 failed: {POINTS[0]}." in errors
    assert "attempts.json is damaged" in out


def test_results_are_combined_only_when_all_points_are_done(swept, tmp_path):
    sweep = TINY["sweep"]
    base = sweep.base(3, 16)
    refuse_unfinished(points_of(sweep, base, swept, [0]))
    with pytest.raises(ValueError, match=rf"{REFERENCE}: not run.*all points are done"):
        refuse_unfinished(points_of(sweep, base, tmp_path, [0]))


def test_a_sweep_of_one_number_is_drawn(swept):
    gather("sized", swept)
    for direction in COLUMNS:
        svg = (swept / f"sized-{direction}.svg").read_text()
        assert svg.startswith('<svg xmlns="http://www.w3.org/2000/svg"')
        # A tick for each of the two sizes, and the name of the axis.
        assert all(f">{text}</text>" in svg for text in ("4", "6", "size"))


def test_seeds_that_lack_a_point_are_named(swept, tmp_path, capsys):
    shutil.copytree(swept, tmp_path / "part")
    for job in ("seed0/early", f"seed1-permuted/{REFERENCE}"):
        shutil.rmtree(tmp_path / "part" / job)
    result = gather("sweep", tmp_path / "part")
    assert result["missing"] == [
        "seed0/early: not run",
        f"seed1-permuted/{REFERENCE}: not run",
    ]
    assert [one["seeds"] for one in result["permuted"]] == [[0]] * 5
    printed = capsys.readouterr().out
    assert "Means over seeds 0, 1, unless a row names others" in printed
    # A point, two comparisons with it, and five where ids are permuted; each in two parts.
    assert (printed.count("ONLY seed 1"), printed.count("ONLY seed 0")) == (6, 10)
    assert "ONLY seed 1" in (tmp_path / "part" / "tiny.md").read_text()
    rows = csv.DictReader((tmp_path / "part" / "tiny.csv").read_text().splitlines())
    assert [row["seeds"] for row in rows][:2] == ["0 1", "1"]


def test_points_permuted_besides_the_reference_are_distinguished(swept, tmp_path):
    """Make the files of a second permuted training, with twice the scores of the reference."""
    folder = tmp_path / "both"
    shutil.copytree(swept, folder)
    for seed in (0, 1):
        reference = folder / f"seed{seed}-permuted" / REFERENCE
        copy = reference.with_name("early")
        shutil.copytree(reference, copy)
        stored = json.loads((copy / "recipe.json").read_text())
        early = json.loads((folder / f"seed{seed}" / "early" / "recipe.json").read_text())
        stored["recipe"]["task"] = early["recipe"]["task"]
        (copy / "recipe.json").write_text(json.dumps(stored))
        (path,) = copy.glob("evaluation/*/3.parquet")
        change_scores(path, lambda values: values * 2)
    before, result = gather("sweep", swept), gather("both_permuted", folder)
    assert result["missing"] == []
    assert result["permuted"][:5] == before["permuted"]
    further, chance = result["permuted"][5:]
    assert (further["one"], further["other"]) == (
        "permuted, early trained", "early trained exchanged",
    )  # fmt: skip
    for direction, metrics in COLUMNS.items():
        for metric in metrics:
            one, other = (
                np.mean(
                    [
                        np.mean(list(per_query(folder, job, direction, metric).values()))
                        for job in (f"seed{seed}-permuted/{name}" for seed in (0, 1))
                    ]
                )
                for name in ("early", REFERENCE)
            )
            assert one == pytest.approx(2 * other)
            each = further["differences"][direction][metric]["value"]
            known = before["permuted"][3]["differences"][direction][metric]["value"]
            assert each == pytest.approx(known + other)
    assert chance["differences"] == before["permuted"][4]["differences"]


def test_points_that_cannot_be_compared_are_refused(swept, capsys):
    """Another split has other queries; another evaluator measures something else."""
    assert refused("halved", swept) == 1
    said = capsys.readouterr().err
    assert "half has another corpus than the base recipe" in said
    assert "its points must share the split" in said
    missing = gather("unlike", swept)["missing"]
    said = "not measured by this evaluator, or not completely"
    assert missing[:2] == [f"{point}: {said}" for point in POINTS[:2]]


def test_a_failed_point_is_recorded_and_the_others_run(swept):
    shared = states(swept, POINTS)
    code, _, errors = run("failing", swept)
    assert code == 1
    assert "1 of 4 failed: seed0/broken" in errors
    # Points that other sweeps have finished are not run again.
    assert states(swept, POINTS) == shared
    assert ["message" in one for one in attempts(swept, "seed0/audio")] == [False]
    first = attempts(swept, "seed0/broken")
    assert "not finite" in first[0]["message"]
    assert first[0]["seconds"] > 0
    missing = gather("failing", swept)["missing"]
    assert any(line.startswith("seed0/broken: failed, NonFiniteLoss") for line in missing)
    assert any(line == "seed1/audio: not run" for line in missing)
    assert run("failing", swept, "--shard", "1/4")[0] == 1
    assert len(attempts(swept, "seed0/broken")) == 2


def test_another_recipe_under_the_same_name_is_refused(swept, capsys):
    before = (swept / "seed0" / "early" / "result.json").read_bytes()
    assert refused("changed", swept) == 1
    assert "--task.model.layers.size: stored 6, given 5" in capsys.readouterr().out
    assert (swept / "seed0" / "early" / "result.json").read_bytes() == before
    lines = gather("changed", swept)["missing"]
    assert "seed0/early: another recipe of the same name" in lines
    assert gather("sweep", swept)["missing"] == []


def test_another_size_or_other_records_are_refused(swept, capsys):
    assert refused("sweep", swept, "--steps", "4") == 1
    assert "--steps: stored 3, given 4" in capsys.readouterr().err
    other = RECORDS.replace("validate0000", "validate0001")
    assert refused("sweep", swept, "--records", other) == 1
    assert "imported differently" in capsys.readouterr().err


def test_mistakes_in_the_command_line_are_refused(tmp_path, capsys):
    wrongs = {
        ("--shard", "0/2"): "--shard: shard '0/2' must be i/n",
        ("--shard", "3/2"): "--shard: shard '3/2' must be i/n",
        ("--seeds", "1", "1"): "--seeds: seeds must be one or more different",
        ("--seeds=-1",): "--seeds: seeds must be one or more different numbers in [0, 2^32)",
        ("--steps=-1",): "--steps -1",
        ("--stpes", "3"): "--stpes",
    }
    for wrong, message in wrongs.items():
        with pytest.raises(SystemExit) as stopped:
            refused("sweep", tmp_path, *wrong)
        assert stopped.value.code == 2
        assert message in capsys.readouterr().err
    assert main(TINY["sweep"], ["gather", "--workdir", str(tmp_path)]) == 1
    assert "holds no sweep" in capsys.readouterr().err
    assert not any(tmp_path.iterdir())


def test_two_processes_share_the_work(tmp_path):
    both = [start("sweep", tmp_path, "--shard", f"{number}/2") for number in (1, 2)]
    out = [process.communicate(timeout=200) for process in both]
    assert [process.returncode for process in both] == [0, 0], out
    output = "".join(text for text, _ in out)
    # What both need is made by one process while the other waits.
    assert output.count("import ...\n") == 1
    assert output.count("seed0/graph ...\n") == 1
    assert [len(attempts(tmp_path, job)) for job in POINTS] == [1] * 3
    assert gather("sweep", tmp_path)["missing"] == []


def wait_for(process, path, lines):
    """Wait until `path`, written by `process`, has this many lines."""
    waited = time.monotonic() + 120
    while not (path.exists() and path.read_text().count("\n") >= lines):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < waited
        time.sleep(0.05)


def test_a_stopped_sweep_resumes(tmp_path):
    stopped = start("sweep", tmp_path, "--steps", "200000")
    point = tmp_path / "seed0" / REFERENCE
    journal = point / "metrics.jsonl"
    wait_for(stopped, journal, 4)
    stopped.send_signal(signal.SIGTERM)
    _, errors = stopped.communicate(timeout=100)
    assert stopped.returncode == 143, errors
    assert "continues from there" in errors
    assert "train_seconds" in attempts(tmp_path, f"seed0/{REFERENCE}")[0]
    (line,) = (m for m in gather("sweep", tmp_path)["missing"] if m.startswith("seed0/late"))
    assert "stopped after step" in line
    # Step 0, the untrained network, is also kept.
    names = (path.name for path in (point / "checkpoints").iterdir())
    saved = max(int(name) for name in names if name.isdecimal())
    again = start("sweep", tmp_path, "--steps", "200000")
    wait_for(again, journal, journal.read_text().count("\n") + 1)
    again.send_signal(signal.SIGTERM)
    out, _ = again.communicate(timeout=100)
    assert again.returncode == 143
    assert f"going on from step {saved}\n" in out


def test_a_killed_point_says_so(tmp_path):
    job = f"seed0/{REFERENCE}"
    killed = start("sweep", tmp_path, "--steps", "200000")
    wait_for(killed, tmp_path / job / "metrics.jsonl", 4)
    assert f"{job}: under way" in gather("sweep", tmp_path)["missing"]
    killed.kill()
    killed.communicate(timeout=100)
    # Its lease still exists, with the id of a process that has ended.
    assert (tmp_path / job / "lease.json").exists()
    assert f"{job}: killed after step" in "".join(gather("sweep", tmp_path)["missing"])
