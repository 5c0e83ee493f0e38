"""`python -m vidembed` as people run it: a real process, its exit code, what it prints."""

import configparser
import json
import os
import subprocess
import sys
from fnmatch import fnmatch
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from vidembed.__main__ import DATA, RUNS, main
from vidembed.cli import launch
from vidembed.cli.command_line import guarded
from vidembed.records import inspecting
from vidembed.records.table import FeatureTable

ROOT = Path(__file__).resolve().parents[2]
SAMPLE = ROOT / "data/youtube8m"


def run(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "vidembed", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env={**os.environ, "COLUMNS": "200"},
    )


def ended(capsys, *arguments):
    """Exit code and words of a command that ends while it is parsed."""
    with pytest.raises(SystemExit) as end:
        main(arguments)
    said = capsys.readouterr()
    return end.value.code, said.out + said.err


def test_help_lists_the_verbs_and_imports_none():
    """Nor does `import vidembed`, which takes no time."""
    program = (
        "import sys; from vidembed.__main__ import main\n"
        "try: main(['--help'])\n"
        "except SystemExit as end: assert end.code == 0\n"
        "assert main(['--version']) == 0\n"
        "assert not {'numpy', 'jax', 'grain', 'tyro', 'duckdb'} & sys.modules.keys()"
    )
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True)
    for verb in DATA | RUNS:
        assert verb in done.stdout.decode()


@pytest.mark.parametrize("words", [[verb] for verb in DATA] + [[verb, "cdml"] for verb in RUNS])
def test_each_verb_explains_itself(words, capsys):
    code, text = ended(capsys, *words, "--help")
    assert code == 0
    assert f"python -m vidembed {' '.join(words)}" in text


def test_wrong_commands(capsys):
    assert run("inspekt", "x").returncode == 2
    for given, words in (
        (["inspekt", "x"], "error: there is no verb 'inspekt'; did you mean inspect?"),
        ([], "usage: python -m vidembed VERB"),
        (["train"], "usage: python -m vidembed train RECIPE"),
        (["train", "cdmll"], "did you mean cdml?"),
        (["train", "cdml", "--workdir", "w", "--stepz", "3"], "--steps"),
        (["import", str(SAMPLE), "table", "--dtipe", "uint8"], "--dtype"),
    ):
        code, text = ended(capsys, *given)
        assert code == 2
        assert words in text


def test_a_recipe_is_the_same_by_both_ways(capsys):
    """`vidembed VERB PAPER SYSTEM` and `python -m experiments.PAPER SYSTEM VERB`."""
    options = ["--mesh.data", "64", "--feed.min-cluster-size", "3", "--seed", "7"]
    assert main(["show", "gcml", "gcl", *options]) == 0
    recipe, _ = json.JSONDecoder().raw_decode(capsys.readouterr().out)
    assert (recipe["task"]["class"], recipe["feed"]["min_cluster_size"]) == (
        "vidembed.tasks.cluster_labels:ClusterLabels", 3,
    )  # fmt: skip
    assert launch.main(arguments=["gcl", "show", *options], name="gcml") == 0
    assert json.JSONDecoder().raw_decode(capsys.readouterr().out)[0] == recipe
    # As processes: of the other way there are many in tests/faults.
    command = [sys.executable, "-m", "vidembed", "show", "cdml", "--mesh.data", "64"]
    done = subprocess.run(
        [*command, "task.miner:hardest"], capture_output=True, text=True, check=True
    )
    recipe, _ = json.JSONDecoder().raw_decode(done.stdout)
    assert recipe["task"]["miner"]["class"] == "vidembed.mining.miners:Hardest"


def test_vidembed_alone_is_installed():
    settings = configparser.ConfigParser()
    settings.read(ROOT / "setup.cfg")
    included = settings["options.packages.find"]["include"].split()
    folders = (folder.parent.name for folder in ROOT.glob("*/__init__.py"))
    assert [f for f in folders if any(fnmatch(f, each) for each in included)] == ["vidembed"]


@pytest.mark.fault("Records: a table flipped, cut, a chunk lost or exchanged")
def test_inspect_import_inspect(tmp_path):
    shard = SAMPLE / "validate0009.tfrecord"
    done = run("inspect", shard)
    assert done.returncode == 0, done.stderr
    assert "no faults" in done.stdout
    assert "Game" in done.stdout
    done = run("import", shard, tmp_path / "t", "--dtype", "bfloat16")
    assert done.returncode == 0, done.stderr
    assert "266 rows from 266 records in 1 shards" in done.stdout
    assert FeatureTable.open(tmp_path / "t").features["audio"].dtype.name == "bfloat16"
    again = run("import", shard, tmp_path / "t", "--dtype", "bfloat16")
    assert again.returncode == 0
    assert "imported before" in again.stdout
    chunk = tmp_path / "t/features/audio/c/0/0"
    content = bytearray(chunk.read_bytes())
    content[100] ^= 1
    chunk.write_bytes(content)
    done = run("inspect", tmp_path / "t")
    assert done.returncode == 1
    assert "features/audio" in done.stdout
    assert "1 faults" in done.stdout


def test_errors_are_one_line_and_no_traceback(tmp_path):
    content = (SAMPLE / "validate0009.tfrecord").read_bytes()
    (tmp_path / "cut.tfrecord").write_bytes(content[:-5])
    cut = run("import", tmp_path / "cut.tfrecord", tmp_path / "t")
    assert cut.returncode == 1
    assert cut.stderr.startswith("error: ")
    assert "cut.tfrecord: record 265 at byte" in cut.stderr
    assert len(cut.stderr.splitlines()) == 1
    nothing = run("inspect", tmp_path / "cut.tfrecords")
    assert nothing.returncode == 1
    assert "cut.tfrecord" in nothing.stderr
    assert "Traceback" not in nothing.stderr


def test_too_little_memory_and_missing_packages_are_errors_in_words(tmp_path, monkeypatch, capsys):
    watches = {"session_id": range(50_000), "timestamp": range(50_000)}
    videos = [f"v{n}" for n in range(50_000)]
    pq.write_table(pa.table({**watches, "video_id": videos}), tmp_path / "s.parquet")
    cowatch = ["cowatch", str(tmp_path / "s.parquet"), str(tmp_path / "e.parquet")]
    assert main([*cowatch, "--memory-limit", "1MB"]) == 1
    [told] = capsys.readouterr().err.splitlines()
    assert "--memory-limit" in told
    monkeypatch.setitem(sys.modules, "gcsfs", None)
    for command in (["import", "gs://b/x", str(tmp_path / "t")], ["inspect", "gs://b/x"]):
        assert main(command) == 1
        assert "pip install -e '.[gcs]'" in capsys.readouterr().err


def test_another_missing_package_is_not_taken_for_that_of_a_bucket(capsys):
    def needs_sklearn():
        raise ModuleNotFoundError("No module named 'sklearn'", name="sklearn")

    assert guarded(needs_sklearn) == 1
    assert capsys.readouterr().err == "error: No module named 'sklearn'\n"


def test_no_edges_are_a_warning(tmp_path, capsys):
    (tmp_path / "s.csv").write_text("session_id,timestamp,video_id\n1,0,a\n1,1,b\n")
    assert main(["cowatch", str(tmp_path / "s.csv"), str(tmp_path / "e.parquet")]) == 0
    assert "holds no edges" in capsys.readouterr().out


def test_traceback_on_request(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("VIDEMBED_TRACEBACK", "1")
    assert main(["inspect", str(tmp_path / "cut.tfrecords")]) == 1
    assert "Traceback" in capsys.readouterr().err


def test_interruption_is_quiet(monkeypatch, capsys):

    def interrupted(path: str) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(inspecting, "main", interrupted)
    assert main(["inspect", "x"]) == 130
    assert "interrupted" in capsys.readouterr().err
