"""A run is loaded from its work directory only, and embeds videos or refuses them."""

import json
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import jax
import ml_dtypes
import numpy as np
import pytest

import vidembed
from experiments.serve import Serve
from vidembed.cli.command_line import start
from vidembed.deploy import run as deployed
from vidembed.deploy.features import features
from vidembed.deploy.inputs import InputError
from vidembed.distributed.mesh import MeshShape, make_mesh
from vidembed.engine.model import load_model
from vidembed.progress import Progress
from vidembed.records.bytecode import dequantise
from vidembed.records.space import SpaceError
from vidembed.workdir.checkpoints.store import CheckpointError
from vidembed.workdir.layout import Workdir

ROOT = Path(__file__).resolve().parents[2]
README = ROOT / "README.md"


@pytest.fixture(scope="module")
def expected(workdir, corpus):
    mesh = make_mesh(MeshShape(), jax.devices()[:1])
    return load_model(Workdir(workdir), "latest", mesh=mesh)["video"](corpus.table)


def test_a_table_its_folder_and_its_arrays_in_any_form_give_the_same_vectors(
    run, corpus, corpus_paths, expected
):
    table = corpus.table
    assert (run.step, run.widths) == (3, {"visual": 8, "audio": 4})
    assert "visual" in run.inputs
    assert "'latest'" not in repr(run)
    wide = {m: dequantise(a) for m, a in table.features.items()}
    forms = [table, corpus_paths.table, table.features, wide]
    forms += [{m: a.astype(np.float64) for m, a in wide.items()}]
    for videos in forms:
        np.testing.assert_allclose(run.embed(videos), expected, atol=1e-5)
    narrow = {m: a.astype(ml_dtypes.bfloat16) for m, a in wide.items()}
    np.testing.assert_allclose(run.embed(narrow), expected, atol=0.05)
    few = {m: a[:3] for m, a in table.features.items()}
    np.testing.assert_allclose(run.embed(few), expected[:3], atol=1e-5)
    assert run.embed({m: a[:0] for m, a in few.items()}).shape == (0, 8)


@pytest.mark.fault(
    "A run in use: a modality that is missing, or all zeros, without being marked as missing",
    "refused: what the model reads, and how to mark it; never silently another vector",
)
def test_a_missing_modality_is_stated_never_guessed(run, corpus, expected):
    features, lacks = dict(corpus.table.features), np.arange(300) % 3 > 0
    part = run.embed(features, present={"audio": lacks})
    np.testing.assert_allclose(part[lacks], expected[lacks], atol=1e-5)
    assert (np.abs(part - expected).max(axis=1)[~lacks] > 1e-3).all()
    table = replace(corpus.table, present={"audio": lacks})
    np.testing.assert_array_equal(run.embed(table), part)
    # Whatever values stand in for it.
    garbage = np.where(lacks[:, None], dequantise(features["audio"]), np.nan)
    other = {"visual": dequantise(features["visual"]), "audio": garbage}
    np.testing.assert_allclose(run.embed(other, present={"audio": lacks}), part, atol=1e-5)
    visual = {"visual": features["visual"]}
    with pytest.raises(InputError, match=r"no 'audio'.*present=\{'audio': False\}"):
        run.embed(visual)
    with pytest.raises(InputError, match="no 'audio'"):
        run.embed(visual, present={"audio": lacks})
    none = run.embed(visual, present={"audio": False})
    np.testing.assert_array_equal(none, run.embed(features, present={"audio": np.zeros(300, bool)}))
    for zero in (np.zeros((300, 4), np.float32), np.zeros((300, 4), np.uint8)):
        with pytest.raises(InputError, match=r"audio: 300 rows are all zero.*present=\{'audio'"):
            run.embed(visual | {"audio": zero})


@pytest.mark.fault(
    "A run in use: features of another width, shape or dtype; rows with NaN; videos without "
    "any modality",
    "refused: modality, count, first row and id; `embed` and `index` leave out videos without"
    " any modality, and count them",
)
@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda f: f | {"audio": f["audio"][:, :3]}, r"audio: the model reads \[N, 4\].*300, 3"),
        (lambda f: f | {"audio": f["audio"][0]}, r"One video is \[1, 4\]"),
        (lambda f: f | {"audio": f["audio"].astype(np.int64)}, "got int64"),
        (lambda f: f | {"audio": f["audio"][:9]}, "'visual': 300, 'audio': 9"),
        (lambda f: {"rgb": f["visual"]}, "none of its modalities is there"),
        (lambda f: f["visual"], "table or arrays by modality.*got ndarray"),
    ],
)  # fmt: skip
def test_features_that_do_not_fit_are_refused_by_name(run, corpus, change, words):
    with pytest.raises(InputError, match=words):
        run.embed(change(dict(corpus.table.features)))


@pytest.mark.fault(
    "A run in use: features of another width, shape or dtype; rows with NaN; videos without "
    "any modality",
)
def test_rows_that_hold_nan_or_nothing_are_refused_by_name(run, corpus):
    wide = {m: dequantise(a) for m, a in corpus.table.features.items()}
    wide["visual"][[17, 40], 2] = np.nan, np.inf
    with pytest.raises(InputError, match="visual: 2 rows hold NaN or infinity, first row 17: "):
        run.embed(wide)
    nothing = {m: np.arange(300) != 5 for m in ("visual", "audio")}
    table = replace(corpus.table, present=nothing)
    with pytest.raises(InputError, match=r"1 videos have none of .* first row 5 \(v0005\)"):
        run.embed(table)
    assert 5 not in run.embeddable(table)
    assert len(run.embeddable(table)) == 299
    for present in ({"sound": False}, {"audio": np.ones(3, bool)}, {"audio": 1}):
        with pytest.raises(InputError, match="present"):
            run.embed(corpus.table.features, present=present)


@pytest.mark.fault(
    "A run in use: videos that lack a modality which the run has not learned to do without",
    "a warning, once: the measured rank, how many videos, what to do",
)
def test_a_run_that_cannot_do_without_a_modality_warns_once(workdir, corpus, caplog):
    table = replace(corpus.table, present={"audio": np.arange(300) > 8})
    run = vidembed.load(workdir, step="latest")
    run.embed_rows(table, np.arange(9, 300))
    assert caplog.messages == []
    for _ in range(2):
        run.embed(table)
    [message] = caplog.messages
    assert "has not learned to do without 'audio'" in message
    assert "(9 here)" in message
    # Concatenated features do without it.
    features(table).embed(table)
    assert len(caplog.messages) == 1


@pytest.mark.fault(
    "A run in use: features from another model than the run's training features; an index of "
    "other vectors",
    "refused: both spaces",
)
def test_features_of_another_space_are_refused(run, corpus):
    named = replace(corpus.table, manifest={"space": {"visual": "clip"}})
    with pytest.raises(SpaceError, match=r"'clip'.*one name"):
        run.embed(named)


def test_the_space_of_a_run_is_that_of_its_model(workdir, run):
    model, stored = load_model(Workdir(workdir), "latest"), Workdir(workdir).read_recipe()
    assert run.space == model.space("video", stored["space"])


@pytest.mark.fault(
    "A run in use: a folder without a run, a run of a version that stored no sizes, a missing step",
    "1: what is there, and what to do",
)
def test_folders_without_a_run_are_refused(workdir, tmp_path):
    with pytest.raises(ValueError, match=r"holds no run \(no recipe.json\)"):
        vidembed.load(tmp_path)
    with pytest.raises(CheckpointError, match="no step is the best"):
        vidembed.load(workdir)
    with pytest.raises(ValueError, match=r"no output 'vidoe': it has \["):
        vidembed.load(workdir, "latest", output="vidoe")
    with pytest.raises(CheckpointError, match="step '7' is not there"):
        vidembed.load(workdir, step=7)
    old = Workdir(shutil.copytree(workdir, tmp_path / "old"))
    stored = old.read_recipe()
    del stored["spec"]
    old.recipe_file.write_text(json.dumps(stored))
    with pytest.raises(ValueError, match="did not store the sizes"):
        vidembed.load(old.path, step="latest")


def test_the_lines_of_the_readme(workdir, corpus_paths):
    [lines] = re.findall(r"```python\n(import vidembed\n.*?)```", README.read_text(), re.DOTALL)
    lines = lines.replace('"work/run1"', f'"{workdir}", step="latest"')
    lines = lines.replace("work/table", corpus_paths.table)
    names = {}
    exec(lines, names)
    assert names["vectors"].shape == (300, 8)
    assert names["counts"].tolist() == [10] * 300
    assert len(names["ids"]) == len(names["scores"]) == 10


def test_the_example_script(workdir, corpus_paths, capsys):
    options = ["--workdir", workdir, "--table", corpus_paths.table, "--step", "latest", "--k", "4"]
    assert start(Serve, options, prog="serve") == 0
    first, near, beside, alone, liked, common = capsys.readouterr().out.splitlines()
    assert first == "300 videos; the first three as vectors (3, 8)"
    found = [line.split(": ")[1].split(", ") for line in (near, beside, alone, liked)]
    assert [len(ids) for ids in found] == [4] * 4
    assert found[0] == ["v0000", *found[1][:3]]
    assert not {"v0000", "v0001", "v0002"} & set(found[3])
    assert common.endswith(f"{len(set(found[1]) & set(found[2]))} of 4")


def test_progress_is_shown_only_for_long_work(run, corpus, monkeypatch, capsys):
    monkeypatch.setattr(deployed, "BLOCK_ROWS", 128)
    run.embed(corpus.table)
    assert capsys.readouterr().out == ""
    monkeypatch.setattr(deployed, "QUIET_SECONDS", 0.0)
    run.embed(corpus.table)
    assert "embedding: 300 of 300 videos" in capsys.readouterr().out
    run.embed(corpus.table, progress=Progress(quiet=True))
    assert capsys.readouterr().out == ""


def test_importing_vidembed_is_light():
    program = "import sys, vidembed; assert not {'numpy', 'jax', 'typing'} & sys.modules.keys()"
    subprocess.run([sys.executable, "-S", "-c", program], check=True, cwd=ROOT)
    assert "load" in dir(vidembed)
    with pytest.raises(AttributeError, match="no attribute 'lod'"):
        vidembed.lod  # noqa: B018
