"""What may happen to a run's folder and to its data, and what the command line then says."""

import json
import re
import shutil
import subprocess
import sys

import numpy as np
import pyarrow.parquet as pq
import pytest

from experiments.cdml import recipe
from vidembed.cli import launch
from vidembed.cli.run_report import journal_of
from vidembed.records.table import FeatureTable
from vidembed.workdir.layout import Workdir

STEPS = 5
COMMAND = [sys.executable, "-m", "experiments.cdml"]


def options(paths, *more):
    return [
        "--corpus.table", str(paths[0]), "--corpus.edges", str(paths[1]),
        "--task.model.layers.hidden", "16", "--task.model.layers.size", "8",
        "--feed.batch-triplets", "32", "--checkpoints.every-steps", "2",
        "--checkpoints.keep-last", "9", "--log-every", "1", "--steps", str(STEPS), *more,
    ]  # fmt: skip


def run(verb, workdir, *more):
    return launch.main(recipe, [verb, "--workdir", str(workdir), *more], name="cdml")


def losses(workdir):
    lines = map(json.loads, Workdir(workdir).metrics_file.read_text().splitlines())
    return {line["step"]: line["loss"] for line in lines if line["kind"] == "train"}


@pytest.fixture(scope="module")
def data(corpus_paths):
    return corpus_paths.table, corpus_paths.edges


@pytest.fixture(scope="module")
def finished(tmp_path_factory, data):
    """A run that was trained and measured; copied by those who hurt it."""
    workdir = tmp_path_factory.mktemp("finished")
    assert run("train", workdir, *options(data)) == 0
    assert run("evaluate", workdir) == 0
    return workdir


@pytest.fixture
def workdir(finished, tmp_path):
    return shutil.copytree(finished, tmp_path / "run")


def refused(capsys, verb, workdir, *more):
    """The one message of a command that ends with code 1, and leaves the folder as it is."""
    before = contents(workdir)
    capsys.readouterr()
    assert run(verb, workdir, *more) == 1
    said = capsys.readouterr().err
    assert "Traceback" not in said
    assert contents(workdir) == before
    return said


def contents(workdir):
    files = (path for path in workdir.rglob("*") if path.is_file())
    return {str(path): path.read_bytes() for path in files if not path.name.endswith(".lock")}


# ---- damaged files of the folder


@pytest.mark.fault(
    "Runs: `recipe.json` cut or changed",
    "1: the file, or the difference",
)
@pytest.mark.parametrize("verb", ["train", "evaluate", "report"])
def test_a_cut_recipe_is_named(workdir, data, capsys, verb):
    file = Workdir(workdir).recipe_file
    file.write_bytes(file.read_bytes()[:-40])
    more = options(data) if verb == "train" else []
    assert f"{file} is damaged, it is not JSON" in refused(capsys, verb, workdir, *more)


@pytest.mark.fault("Runs: `recipe.json` cut or changed")
def test_a_changed_value_in_the_recipe_is_a_changed_recipe(workdir, data, capsys):
    file = Workdir(workdir).recipe_file
    file.write_text(file.read_text().replace('"batch_triplets": 32', '"batch_triplets": 36'))
    assert "--feed.batch-triplets: stored 36, given 32" in refused(
        capsys, "train", workdir, *options(data)
    )
    file.write_text(file.read_text().replace('"batch_triplets"', '"batch_tripletz"'))
    assert "batch_tripletz" in refused(capsys, "evaluate", workdir)


@pytest.mark.fault(
    "Runs: results or `best.json` cut",
    "1: the file; without it, it is made again",
)
def test_a_cut_result_and_a_cut_list_of_the_best(workdir, capsys):
    for file in sorted((workdir / "evaluation").rglob("*.json")):
        good = file.read_bytes()
        file.write_bytes(good[: len(good) // 2])
        capsys.readouterr()
        code = run("evaluate", workdir)
        said = capsys.readouterr().err
        assert (code, f"{file} is damaged, it is not JSON" in said) == (1, True), (file, said)
        file.unlink()
        assert run("evaluate", workdir) == 0
        made, before = json.loads(file.read_text()), json.loads(good)
        made.pop("seconds", None), before.pop("seconds", None)
        assert made == before


@pytest.mark.fault(
    "Runs: last line of `metrics.jsonl` torn",
    "written anew on resuming",
)
def test_a_torn_line_of_the_metrics_is_written_anew(workdir, data, capsys):
    whole = losses(workdir)
    file = Workdir(workdir).metrics_file
    file.write_bytes(file.read_bytes()[:-30])
    shutil.rmtree(Workdir(workdir).checkpoints / str(STEPS))
    assert run("train", workdir, *options(data)) == 0
    assert losses(workdir) == whole


@pytest.mark.fault(
    "Runs: another line of `metrics.jsonl` damaged",
    "`report` 1: file and line; a resumed run drops it",
)
@pytest.mark.parametrize("bad", [b"{", b"[1]", b'{"kind": 3}', b"\xff\x00"])
def test_a_damaged_line_of_the_metrics_is_named(bad, workdir):
    file = Workdir(workdir).metrics_file
    file.write_bytes(file.read_bytes().replace(b"\n", b"\n" + bad + b"\n", 1))
    with pytest.raises(ValueError, match=r"metrics\.jsonl: line 2 is damaged"):
        journal_of(Workdir(workdir))


@pytest.mark.fault("Runs: bits flipped in a checkpoint")
def test_every_damaged_checkpoint_is_said_and_the_first_whole_one_is_taken(workdir, data, capsys):
    whole = losses(workdir)
    for step in (4, STEPS):
        for file in (workdir / "checkpoints" / str(step)).rglob("d/*"):
            file.write_bytes(file.read_bytes()[:-7])
    capsys.readouterr()
    assert run("train", workdir, *options(data)) == 0
    said = capsys.readouterr().out
    assert "WARNING: step 4 is damaged" in said
    assert f"WARNING: step {STEPS} is damaged" in said
    assert "going on from step 2" in said
    assert losses(workdir) == whole


@pytest.mark.fault("Runs: bits flipped in a checkpoint")
def test_where_no_checkpoint_is_whole_none_is_set_aside(workdir, data, capsys):
    steps = sorted(path.name for path in (workdir / "checkpoints").iterdir())
    for file in (workdir / "checkpoints").rglob("d/*"):
        file.write_bytes(file.read_bytes()[:-7])
    assert run("train", workdir, *options(data)) == 1
    said = capsys.readouterr().err
    assert f"step {STEPS} is damaged" in said
    assert "restore checkpoints from a copy, or start a new run" in said
    assert sorted(path.name for path in (workdir / "checkpoints").iterdir()) == steps


# ---- another run, another recipe, other data


@pytest.mark.fault(
    "Runs: two runs on one folder",
    "1: the owner, and `--steal`",
)
def test_a_second_run_is_refused_by_name_and_changes_nothing(workdir, data):
    """Two real processes: the first holds the folder, the second is a command."""
    code = "import sys, time; from vidembed.workdir.layout import Workdir\n"
    code += "with Workdir(sys.argv[1]).lease(): print(flush=True); time.sleep(600)"
    holder = subprocess.Popen([sys.executable, "-c", code, workdir], stdout=subprocess.PIPE)
    try:
        assert holder.stdout.readline()
        done = subprocess.run(
            [*COMMAND, "train", "--workdir", workdir, *options(data)],
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert done.returncode == 1
        assert re.search(rf"{workdir} is in use by process {holder.pid} on .*--steal", done.stderr)
        assert json.loads(Workdir(workdir).lease_file.read_text())["pid"] == holder.pid
    finally:
        holder.kill()
        holder.communicate()


@pytest.mark.fault(
    "Runs: resumed with another model, seed, split",
    "1: the difference",
)
@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--seed", "1"], "--seed: stored 0, given 1"),
        (["--task.loss.margin", "0.25"], r"--task\.loss\.margin: stored [\d.]+, given 0\.25"),
        (["--feed.batch-triplets", "64"], "--feed.batch-triplets: stored 32, given 64"),
        (["--corpus.split-seed", "3"], "--corpus.split-seed: stored 0, given 3"),
        (["task.miner:hardest"], "task.miner: stored semi-hard, given hardest\n"),
    ],
)
def test_another_recipe_is_refused_with_the_difference(workdir, data, capsys, more, said):
    told = refused(capsys, "train", workdir, *options(data, *more))
    assert "was started with another recipe" in told
    assert re.search(said, told)


@pytest.mark.fault(
    "Runs: resumed with fewer steps than are done",
    "1, nothing changed",
)
def test_fewer_steps_than_are_done_are_refused(workdir, data, capsys):
    fewer = [*options(data)[:-1], "3"]
    assert f"has applied {STEPS} updates already, --steps is 3" in refused(
        capsys, "train", workdir, *fewer
    )


@pytest.mark.fault(
    "Runs: resumed with another graph or table",
    "1; a copy elsewhere is the same data",
)
def test_another_graph_and_another_table_are_refused(workdir, data, tmp_path, capsys):
    """Whatever their paths: by what is in them. A copy at another place is the same data."""
    table = FeatureTable.open(data[0])
    other = FeatureTable(
        ids=table.ids,
        features={**table.features, "audio": np.roll(table.features["audio"], 1, 0)},
        label_offsets=table.label_offsets,
        label_values=table.label_values,
    )
    other.write(tmp_path / "table")
    edges = pq.read_table(data[1])
    pq.write_table(edges.slice(1), tmp_path / "edges.parquet")
    for paths in ((tmp_path / "table", data[1]), (data[0], tmp_path / "edges.parquet")):
        assert "data, corpus:" in refused(capsys, "train", workdir, *options(paths))
        where = ["--corpus.table", str(paths[0]), "--corpus.edges", str(paths[1])]
        message = refused(capsys, "evaluate", workdir, *where)
        assert "name the earlier data with --corpus.table" in message
    pq.write_table(edges, tmp_path / "edges.parquet")
    copied = shutil.copytree(data[0], tmp_path / "copy"), tmp_path / "edges.parquet"
    assert run("train", workdir, *options(copied)) == 0


@pytest.mark.fault(
    "Runs: resumed on other devices",
    "goes on, the change is said",
)
def test_another_number_of_devices_goes_on(workdir, data, capsys):
    """Seen by this process: 8, of which the mesh takes 8 or, along `model`, 4 × 2."""
    shutil.rmtree(workdir / "checkpoints" / str(STEPS))
    whole = losses(workdir)
    assert run("train", workdir, *options(data, "--mesh.model", "2")) == 0
    said = capsys.readouterr().out
    assert "going on from step 4" in said
    assert "mesh.model: 1 -> 2" in said
    assert list(losses(workdir).values()) == pytest.approx(list(whole.values()), rel=2e-3)


# ---- refused before anything is made


@pytest.mark.fault(
    "Runs: batch not divisible by the mesh",
    "1 before anything is made: the nearest sizes",
)
@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--feed.batch-triplets", "36"], "36 does not divide over 8 devices; choose 32 or 40"),
        (["--task.model.modalities", "visual", "text"], "no 'text'"),
    ],
)
def test_a_run_that_cannot_be_is_not_begun(data, tmp_path, capsys, more, said):
    assert run("train", tmp_path / "run", *options(data), *more) == 1
    assert said in capsys.readouterr().err
    assert not Workdir(tmp_path / "run").recipe_file.exists()


def test_data_that_is_not_there_is_named(data, tmp_path, capsys):
    for paths, said in (
        (("no/such/table", data[1]), "no/such/table holds no feature table"),
        ((data[0], "no/such/edges"), "no/such/edges: no such file"),
    ):
        assert run("train", tmp_path / "run", *options(paths)) == 1
        assert said in capsys.readouterr().err
        assert not Workdir(tmp_path / "run").recipe_file.exists()


@pytest.mark.fault(
    "Relations and sessions: edges naming unknown ids",
    "up to the share a warning with the first ten, beyond it 1",
)
def test_edges_that_name_unknown_videos(data, tmp_path, capsys):
    edges = pq.read_table(data[1]).to_pydict()
    for count in (3, 12):
        ends = [f"gone{n:02d}" for n in range(count)] + edges["target"][count:]
        pq.write_table(
            pq.read_table(data[1]).set_column(1, "target", [ends]), tmp_path / "edges.parquet"
        )
        hurt = options((data[0], tmp_path / "edges.parquet"))
        told = f"{tmp_path / 'run'}{count}"
        capsys.readouterr()
        code = run("train", told, *hurt, "--corpus.max-unknown-share", "0.005")
        out, err = capsys.readouterr()
        if count == 3:
            assert code == 0
            assert "WARNING: 3 edges name one of 3 videos that are not in the table" in out
        else:
            assert code == 1
            assert "12 of" in err
            assert "gone00, gone01" in err
            assert "gone10" not in err  # the first ten
