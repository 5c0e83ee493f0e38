"""The command line as a user meets it: help, typos, values out of range, exit codes."""

import re
import signal
import subprocess
import sys
import time

import pytest

from experiments.cdml import recipe
from vidembed import launch

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


def command(*arguments):
    return [sys.executable, "-m", "experiments.cdml", *arguments]


def test_help_names_the_verbs_and_their_options(capsys):
    code, text = run(["--help"], capsys)
    assert code == 0
    assert all(verb in text for verb in ("train", "evaluate", "show"))
    code, text = run(["train", "--help"], capsys)
    assert code == 0
    assert all(f"--{o}" in text for o in ("workdir", "task.pool", "feed.batch-triplets", "steps"))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["train", "--workdir", "w", "--stepz", "3"], "--steps"),
        (["train"], "--workdir"),
        (["train", "--workdir", "w", "--task.pool", "al"], "all"),
        (["train", "--workdir", "w", "--steps", "0"], "must be 1 or more"),
        (["train", "--workdir", "w", "--task.loss.margin", "0"], "margin"),
        (["trian"], "train"),
    ],
)
def test_mistakes_are_refused_with_what_is_nearest(arguments, words, capsys):
    code, text = run(arguments, capsys)
    assert code == 2
    assert words in text


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


def test_show_prints_the_arithmetic_of_the_paper(capsys):
    code, text = run(["show", "--mesh.model", "2"], capsys)
    assert code == 0
    assert "data 4 × model 2" in text
    # 21,600 rows through 1024+128 → 4000 → 256 twice: 2·rows·entries·3 less the first layer's dx.
    entries = (1024 + 128) * 4000 + 2 * 4000 * 256
    work = 2 * 21_600 * (3 * entries - (1024 + 128) * 4000) / 1e9
    assert f"{work:,.1f} GFLOP" in text
    assert "79.6 GFLOP (7,200 × 21,600 × 256)" in text
    assert "86.4 kB" in text


def test_parts_are_switched_and_their_fields_set(capsys):
    code, text = run(
        ["show", "task.miner:hardest", "task.model:single-modality",
         "--task.model.layers.hidden", "8", "4"], capsys,
    )  # fmt: skip
    assert code == 0
    assert '"Hardest"' in text
    assert '"SingleModality"' in text


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
