"""The command line as a user meets it: help, typos, values out of range, exit codes."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from experiments.cdml import recipe
from vidembed.cli import launch
from vidembed.distributed.mesh import MeshShape
from vidembed.engine.evaluation import Evaluation, store_evaluation
from vidembed.evaluators.related_videos import RelatedVideos
from vidembed.feeds.triplets import Triplets
from vidembed.losses.triplet import Log
from vidembed.mining.miners import Hardest
from vidembed.models.fusion import Layers, SingleModality
from vidembed.records.table import FeatureTable
from vidembed.tasks.metric_learning import MetricLearning
from vidembed.workdir.checkpoints.store import Checkpoints
from vidembed.workdir.layout import Workdir

SMALL = [
    "--task.model.layers.hidden", "16", "--task.model.layers.size", "8",
    "--feed.batch-triplets", "32", "--checkpoints.every-steps", "5", "--log-every", "1",
]  # fmt: skip


def run(arguments, capsys):
    try:
        code = launch.main(recipe, arguments, name="cdml")
    except SystemExit as end:
        code = end.code
    out = capsys.readouterr()
    return code, re.sub(r"[│\s]+", " ", out.out + out.err)


def data(corpus_paths):
    return ["--corpus.table", corpus_paths.table, "--corpus.edges", corpus_paths.edges]


def command(*arguments):
    return [sys.executable, "-m", "experiments.cdml", *arguments]


def test_help_names_the_verbs_and_their_options(capsys):
    code, text = run(["--help"], capsys)
    assert code == 0
    assert all(verb in text for verb in ("train", "evaluate", "show"))
    code, text = run(["train", "--help"], capsys)
    assert code == 0
    assert all(f"--{o}" in text for o in ("workdir", "preset", "feed.batch-triplets", "steps"))
    code, text = run(["train", "--help-all"], capsys)
    assert code == 0
    # Of each part what it is, the evaluator too.
    assert "How well a video's neighbours in the embedding match" in text
    assert "--task.pool {negatives,negatives+positives,all}" in text


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["train", "--workdir", "w", "--stepz", "3"], "--steps"),
        (["train"], "--workdir"),
        (["train", "--workdir", "w", "--task.pool", "al"], "all"),
        (["train", "--workdir", "w", "--steps", "0"], "must be 1 or more"),
        (["train", "--workdir", "w", "--task.loss.margin", "0"], "--task.loss.margin: Hinge("),
        (["train", "--workdir", "w", "task.loss:log", "--task.loss.margin=-1"], "margin: margin"),
        (["train", "--workdir", "w", "--mesh.model", "0", "--steps", "3"], "--mesh.model 0 must"),
        (["train", "--workdir", "w", "--steps", "0"], "error: --steps 0 and --log-every 100 must"),
        (["train", "--workdir", "w", "--checkpoints.keep-last", "0"], "checkpoints.keep-last 0 "),
        (
            ["train", "--workdir", "w", "--feed.batch-triplets", "x"],
            "-triplets: 'x' is not a whole",
        ),
        (["evaluate", "--workdir", "w", "--evaluator.kz", "5"], "--evaluator.ks"),
        (
            ["evaluate", "--workdir", "w", "--evaluator.ks", "0"],
            "--evaluator.ks: ks must be distinct",
        ),
        (["evaluate", "--step", "5"], "--workdir"),
        (["evaluate", "--workdir"], "--workdir"),
        (["report", "--workdir", "w", "--corpus.tabel", "t"], "--corpus.table"),
        (["trian"], "train"),
    ],
)
def test_mistakes_are_refused_with_what_is_nearest(arguments, words, capsys):
    code, text = run(arguments, capsys)
    assert code == 2
    assert words in text
    # The path of our classes, and tyro's wrapper around them, are nothing that anybody typed.
    assert "tyro" not in text
    assert "recipe." not in text


def test_of_an_option_that_is_given_twice_the_last_counts(capsys):
    twice = ["--steps", "3", "--task.loss.margin", "0.1", "--steps=4", "--mesh.data", "64"]
    code, text = run(["show", *twice], capsys)
    assert code == 0
    assert '"steps": 4' in text
    # The values of a list might be meant to add up.
    code, text = run(["evaluate", "--evaluator.ks", "3", "--evaluator.ks", "4"], capsys)
    assert code == 2
    assert "WARNING: --evaluator.ks is given more than once: only the last counts" in text


def test_faults_end_with_one_message_and_code_1(tmp_path, capsys):
    code, text = run(["train", "--workdir", str(tmp_path)], capsys)
    assert code == 1
    assert "no table given: set --corpus.table PATH" in text
    code, text = run(
        ["train", "--workdir", str(tmp_path), "--corpus.table", str(tmp_path / "none"),
         "--corpus.edges", "e"], capsys,
    )  # fmt: skip
    assert code == 1
    assert "none" in text
    code, text = run(["evaluate", "--workdir", str(tmp_path)], capsys)
    assert code == 1
    assert "no recipe.json" in text


def test_a_missing_extra_is_one_message(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "gcsfs", None)  # as where it is not installed
    for verb in ("train", "evaluate"):
        code, text = run([verb, "--workdir", "gs://bucket/run", *data(recipe.corpus)], capsys)
        assert code == 1
        assert text.startswith("error: Please install gcsfs")
        assert "pip install -e '.[gcs]'" in text
        assert "Traceback" not in text


def test_where_a_fault_came_from_is_shown_on_request(tmp_path, monkeypatch, capsys):
    arguments = ["evaluate", "--workdir", str(tmp_path)]
    assert "Traceback" not in run(arguments, capsys)[1]
    monkeypatch.setenv("VIDEMBED_TRACEBACK", "1")
    code, text = run(arguments, capsys)
    assert code == 1
    assert text.startswith("Traceback")
    assert "in recipe_of" in text
    assert "ValueError: " in text.rpartition(" raise ")[2]
    assert "error: " in text.rpartition("ValueError: ")[2]


@pytest.fixture
def claimed(corpus_paths, tmp_path):
    """A run that wrote its recipe, with every part exchanged, and nothing else."""
    workdir = Workdir(tmp_path / "claimed")
    own = replace(
        recipe,
        corpus=corpus_paths,
        task=MetricLearning(
            model=SingleModality(layers=Layers(hidden=(8, 4), size=4)), loss=Log(), miner=Hardest()
        ),
        feed=Triplets(batch_triplets=16),
        mesh=MeshShape(data=1, model=64),
        seed=3,
    )
    workdir.claim_recipe(own.to_json(), {})
    store_evaluation(workdir, Evaluation(evaluators=(RelatedVideos(ks=(5, 20)),)))
    return workdir


@pytest.mark.parametrize(
    "given", [["--workdir", "{}"], ["--workdir={}"], ["--workdir", "w", "--workdir={}"]]
)
def test_the_options_of_an_evaluation_are_those_of_the_run(claimed, given, capsys):
    named = [word.format(claimed) for word in given]
    for verb in ("evaluate", "report"):
        # Nothing differs, the 64 devices of the training are not asked for, and the data are read.
        code, text = run([verb, *named], capsys)
        assert code == 1
        assert "holds no checkpoint: train first" in text
        code, text = run([verb, *named, "--help"], capsys)
        assert code == 0
        assert re.search(r"--evaluator\.ks INT \.\.\. [^-]*\(5 20\)", text)
        assert "task.miner: [hardest], semi-hard" in text
    code, text = run(["evaluate", "--help"], capsys)
    assert code == 0
    assert all(f"--{o}" in text for o in ("workdir", "follow", "evaluator.ks", "corpus.table"))


def test_an_evaluation_may_not_change_what_was_trained(claimed, corpus_paths, tmp_path, capsys):
    named = ["evaluate", "--workdir", str(claimed)]
    code, text = run([*named, "task.miner:semi-hard", "--seed", "5", "--evaluator.ks", "7"], capsys)
    assert code == 1
    assert "task.miner: stored hardest, given semi-hard --seed: stored 3, given 5 A run" in text
    # Where the data are, and how they are measured, may differ.
    shutil.copytree(corpus_paths.table, tmp_path / "moved")
    elsewhere = ["--corpus.table", str(tmp_path / "moved"), "--mesh.model", "2"]
    code, text = run([*named, *elsewhere, "--evaluator.ks", "7"], capsys)
    assert code == 1
    assert "holds no checkpoint: train first" in text


def test_a_damaged_recipe_is_one_message(claimed, capsys):
    claimed.recipe_file.write_text(claimed.recipe_file.read_text().replace(':Log"', ':Lag"'))
    code, text = run(["evaluate", "--workdir", str(claimed)], capsys)
    assert code == 1
    assert "vidembed.losses.triplet has no class 'Lag'; did you mean 'Log'?" in text


@pytest.mark.fault(
    "Runs: a step is asked for on a TPU slice without the compiler, on no slice, or where "
    "it does not fit",
    "1: what to install; the names that work; a smaller batch, host placement or more chips",
)
def test_a_slice_that_cannot_be_compiled_for_is_one_message(monkeypatch, capsys):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    code, text = run(["show", "--compile", "v5e:8x8"], capsys)
    assert code == 1
    assert text.startswith("error: v5e:8x8 needs the TPU compiler, which is not installed")


def test_show_begins_with_the_recipe_of_a_run_on_its_devices(tmp_path, capsys):
    pod = replace(recipe, mesh=MeshShape(data=16, model=2), seed=77)
    Workdir(tmp_path / "run").claim_recipe(pod.to_json(), {})
    code, text = run(["show", "--workdir", f"{tmp_path}/run", "--steps", "123"], capsys)
    assert code == 0
    assert "mesh data 16 × model 2 does not match the 8 devices here" in text
    assert '"steps": 123, "seed": 77' in text
    code, text = run(["show", "--workdir", f"{tmp_path}/nowhere"], capsys)
    assert code == 1
    assert "holds no recipe.json" in text


def test_parts_are_switched_and_their_fields_set(capsys):
    code, text = run(
        ["show", "--mesh.data", "16", "task.miner:hardest", "task.model:single-modality",
         "--task.model.layers.hidden", "8", "4"], capsys,
    )  # fmt: skip
    assert code == 0
    assert ':Hardest"' in text
    assert ':SingleModality"' in text


@pytest.mark.fault(
    "Runs: SIGTERM, SIGKILL",
    "143 and saved; resumed bit for bit",
)
@pytest.mark.long
def test_train_stops_on_sigterm_and_goes_on(corpus_paths, tmp_path):
    arguments = [
        "train", "--workdir", str(tmp_path), "--corpus.table", corpus_paths.table,
        "--corpus.edges", corpus_paths.edges, *SMALL,
    ]  # fmt: skip
    running = subprocess.Popen(command(*arguments, "--steps", "100000"), stdout=subprocess.PIPE)
    metrics = tmp_path / "metrics.jsonl"
    deadline = time.monotonic() + 90
    while not (metrics.exists() and metrics.read_text().count("\n") > 3):
        assert running.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.1)
    running.send_signal(signal.SIGTERM)
    out, _ = running.communicate(timeout=60)
    assert running.returncode == 143
    reached = int(re.search(rb"stopped and saved at step (\d+)", out)[1])
    again = subprocess.run(
        command(*arguments, "--steps", str(reached + 3)),
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert again.returncode == 0, again.stderr
    assert f"going on from step {reached}" in again.stdout


@pytest.mark.parametrize(
    ("verb", "held"),
    [
        ("train", "table"),
        pytest.param("train", "edges", marks=pytest.mark.long),
        pytest.param("evaluate", "table", marks=pytest.mark.long),
    ],
)
def test_sigterm_is_answered_while_data_are_read(verb, held, corpus_paths, tmp_path, capsys):
    """One of the files is a pipe that nobody writes to: the reading would go on for ever."""
    table, edges = tmp_path / "table", tmp_path / "edges.parquet"
    shutil.copytree(corpus_paths.table, table)
    shutil.copy(corpus_paths.edges, edges)
    stuck = table / "features" / "visual" / "c" / "0" / "0" if held == "table" else edges
    whole = stuck.read_bytes()
    stuck.unlink()
    os.mkfifo(stuck)
    workdir = Workdir(tmp_path / "run")
    paths = replace(corpus_paths, table=str(table), edges=str(edges))
    arguments = [verb, "--workdir", str(workdir), *data(paths)]
    if verb == "evaluate":
        workdir.claim_recipe(replace(recipe, corpus=paths).to_json(), {})
    job = subprocess.Popen(
        command(*arguments), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert job.stdout.readline() == "reading the data ...\n", job.communicate()
    job.send_signal(signal.SIGTERM)
    _, said = job.communicate(timeout=60)
    assert job.returncode == 143, said
    assert "stopped as asked, with nothing to save; the same command continues" in said
    assert not workdir.lease_file.exists()
    assert (workdir.read_recipe() is None) == (verb == "train")
    if (verb, held) == ("train", "table"):  # nothing hinders the next start
        stuck.unlink()
        stuck.write_bytes(whole)
        code, text = run([*arguments, "--steps", "1", *SMALL], capsys)
        assert code == 0, text


def test_sigterm_is_answered_while_a_checkpoint_is_measured(
    corpus_paths, tmp_path, monkeypatch, capsys
):
    arguments = [
        "train", "--workdir", str(tmp_path), *data(corpus_paths), *SMALL,
        "--steps", "10", "--evaluate-every", "5",
    ]  # fmt: skip
    with monkeypatch.context() as patch:

        def slow(self, *_, **__):
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(600)

        patch.setattr(RelatedVideos, "run", slow)
        code, text = run(arguments, capsys)
    assert code == 143
    assert "evaluating step 5: stopped after" in text
    workdir = Workdir(tmp_path)
    assert not workdir.lease_file.exists()
    assert Checkpoints(workdir.checkpoints, read_only=True).latest() == 5
    assert [m.steps() for m in workdir.all_measurements()] == []
    code, text = run(arguments, capsys)
    assert code == 0
    assert "going on from step 5" in text
    assert [m.steps() for m in workdir.all_measurements()] == [{5, 10}]


@pytest.mark.fault(
    "Runs: the training collapses: all embeddings nearly one point, a loss that stays at "
    "the margin, hardly a triplet that trains",
)
def test_evaluators_are_chosen_on_the_command_line(corpus_paths, tmp_path, capsys):
    named = ["--workdir", str(tmp_path / "run")]
    train = ["train", *named, *data(corpus_paths), *SMALL, "--steps", "1"]
    assert run(train, capsys)[0] == 0
    code, text = run(["report", *named], capsys)
    assert code == 0
    command = f"evaluate --workdir {tmp_path / 'run'}"
    assert f"the report has no scores, because nothing is evaluated yet: run {command}" in text
    assert f"<code>{command}</code>" in (tmp_path / "run" / "report.html").read_text()
    code, text = run(["evaluate", *named], capsys)
    assert code == 0
    assert re.search(
        r"step 1 new → known: \d+ queries; left out: \d+ videos without relevant", text
    )
    assert "NDCG@10, new → known 0." in text
    assert "mean of NDCG@10 over new → known, known → new: 0." in text
    assert all(f" {name} 0." in text for name in ("this run, step 1", "raw visual", "random"))
    other = ["--evaluator.ks", "3", "7", "--step", "0", "--no-baselines"]
    # As of a run that collapsed: whoever measures it or reads of it is told.
    with open(tmp_path / "run" / "metrics.jsonl", "a") as file:
        file.write('{"kind": "train", "step": 60, "spread": 0.01}\n')
    code, text = run(["evaluate", *named, *other], capsys)
    assert code == 0
    assert all(f"NDCG@{k}, new → known 0." in text for k in (3, 7))
    assert "raw visual" not in text
    collapsed = "the embeddings have collapsed: at step 60 their spread is 0.01"
    assert text.count(f"WARNING: {collapsed}") == 1
    code, text = run(["report", *named], capsys)
    assert code == 0
    other = "not in the report: 1 steps measured by another evaluator (ks [3, 7])"
    assert other in text
    page = " ".join((tmp_path / "run" / "report.html").read_text().split())
    assert other in page
    assert collapsed in page
    assert "standardised visual" in page
    assert "Trained: step 1, the only measured checkpoint." in page
    assert "NDCG@10" in page
    assert "NDCG@7" not in page
    assert "Scores by kind of video" in page
    watched = tmp_path / "watched.csv"
    rng, ids = np.random.default_rng(0), FeatureTable.open(corpus_paths.table).ids.astype(str)
    lines = [
        f"{u},{i},{rng.integers(1, 6)}"
        for u in range(8)
        for i in rng.choice(ids, len(ids) // 2, False)
    ]
    watched.write_text("\n".join(["user_id,item_id,rating", *lines, "1,none,5"]))
    users = ["evaluator:recommendation", "--evaluator.ratings", str(watched)]
    for verb in ("evaluate", "report"):
        code, text = run([verb, *named, *users], capsys)
        assert code == 0
        if verb == "evaluate":
            assert "AUC, cold items 0." in text
            left_out = "0 users without .* 1 interactions with items"
            assert re.search(rf"step 1 cold items: 8 queries; left out: {left_out}", text)
            assert all(f" {name} 0." in text for name in ("ridge from visual", "popularity"))
    page = " ".join((tmp_path / "run" / "report.html").read_text().split())
    assert "By slice, cold items" in page


@pytest.mark.long
def test_the_script_of_the_guide_trains_and_measures_with_a_loss_of_its_own(corpus_paths, tmp_path):
    guide = (Path(launch.__file__).parents[2] / "GUIDE.md").read_text()
    script, workdir = tmp_path / "mine.py", str(tmp_path / "run")
    script.write_text(re.search(r"```python\n(import sys.*?)```", guide, re.DOTALL)[1])
    own = [sys.executable, str(script)]
    arguments = [*data(corpus_paths), *SMALL, "--task.loss.margin", "0.3", "--steps", "2"]
    subprocess.run([*own, "train", "--workdir", workdir, *arguments], check=True)
    loss = Workdir(workdir).read_recipe()["recipe"]["task"]["loss"]
    assert loss == {"class": "__main__:Squared", "margin": 0.3}
    subprocess.run([*own, "evaluate", "--workdir", workdir, "--no-baselines"], check=True)
    found = subprocess.run(
        command("evaluate", "--workdir", workdir), capture_output=True, text=True, check=False
    )
    assert found.returncode == 1
    assert "use the script that trained with it" in found.stderr


@pytest.mark.fault(
    "Runs: a run measured from another folder than it was started in",
    "its paths are found; those given anew are named as seen from everywhere",
)
def test_a_run_is_measured_from_another_folder(corpus_paths, tmp_path, monkeypatch, capsys):
    """Its paths were given as seen from the folder in which it was started."""
    monkeypatch.chdir(Path(corpus_paths.table).parent)
    paths = [
        f"--corpus.{name}={Path(getattr(corpus_paths, name)).name}" for name in ("table", "edges")
    ]
    named = ["--workdir", str(tmp_path / "run")]
    laptop = ["--preset", "laptop", *SMALL, "--steps", "1"]
    assert run(["train", *named, *paths, *laptop], capsys)[0] == 0
    # The recipe is stored as it was resolved: what is given wins over the preset.
    stored = Workdir(tmp_path / "run").read_recipe()["recipe"]
    assert (stored["feed"]["batch_triplets"], stored["steps"]) == (32, 1)
    assert stored["task"]["model"]["layers"]["input_dropout"] == 0.5
    monkeypatch.chdir(tmp_path)
    assert run(["evaluate", *named, "--no-baselines"], capsys)[0] == 0
    code, text = run(["evaluate", *named, "--corpus.table", "none"], capsys)
    assert code == 1
    assert f"{tmp_path}/none holds no feature table" in text
