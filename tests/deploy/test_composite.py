"""Composites: vectors compared with a computation by hand, use as a run, and refusals."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import jax
import numpy as np
import pytest

import vidembed
from vidembed.__main__ import main
from vidembed.cli import composite_verbs
from vidembed.cli.composing import GRID, choice, gains
from vidembed.deploy.composite import Part, compose, joint
from vidembed.deploy.composite_job import CompositeJob
from vidembed.deploy.index import VideoIndex
from vidembed.deploy.inputs import VideoRows
from vidembed.deploy.run import Run
from vidembed.distributed.stopping import StopFlag
from vidembed.engine.evaluation import Evaluation
from vidembed.engine.recipe import Retention
from vidembed.engine.train import train
from vidembed.evaluators.related_videos import RelatedVideos
from vidembed.feeds.whole_pass import WholePass
from vidembed.models.fusion import Layers, SingleModality
from vidembed.progress import Progress
from vidembed.recipes import linear
from vidembed.records.space import SpaceError
from vidembed.tasks.closed_form import ClosedForm
from vidembed.workdir.layout import Workdir


def solved(corpus_paths, corpus, path, size=4):
    """A closed form on the visual features only."""
    model = SingleModality(layers=Layers(hidden=(), size=size))
    recipe = replace(
        linear.recipe,
        corpus=corpus_paths,
        task=ClosedForm(model=model),
        feed=WholePass(parts=1, batch_shares=8, read_threads=0, prefetch_batches=0),
        checkpoints=Retention(every_steps=1),
        steps=1,
    )
    made = Workdir(path)
    with StopFlag() as stop, made.lease() as lease:
        options = {"lease": lease, "stop": stop, "progress": Progress(quiet=True)}
        train(recipe, made, corpus=corpus, devices=jax.devices()[:1], **options)
    return str(path)


@pytest.fixture(scope="module")
def closed(corpus_paths, corpus, tmp_path_factory):
    return solved(corpus_paths, corpus, tmp_path_factory.mktemp("closed") / "run")


@pytest.fixture(scope="module")
def composed(workdir, closed, tmp_path_factory):
    folder = tmp_path_factory.mktemp("composed") / "both"
    words = ["compose", str(folder), workdir, closed, "--weights", "1", "3", "--step", "latest"]
    assert main(words) == 0
    return str(folder)


def by_hand(run, closed, table):
    one, other = run.embed(table), vidembed.load(closed, step="latest").embed(table)
    joined = np.concatenate([one / 2, other * np.sqrt(3) / 2], axis=1)
    assert np.allclose(np.linalg.norm(joined, axis=1), 1, atol=1e-5)
    return joined


def test_vectors_are_concatenated(composed, closed, run, corpus):
    loaded = vidembed.load(composed)
    assert (loaded.size, loaded.widths) == (12, {"visual": 8, "audio": 4})
    np.testing.assert_allclose(
        loaded.embed(corpus.table), by_hand(run, closed, corpus.table), atol=1e-6
    )
    # If a video lacks what one run reads, it gets the other run's vector only.
    lacking = VideoRows(features=corpus.table.features, present={"visual": np.zeros(300, bool)})
    alone = loaded.compute(lacking, np.arange(5))
    np.testing.assert_allclose(alone[:, :8], run.compute(lacking, np.arange(5)), atol=1e-6)
    assert not alone[:, 8:].any()


def test_it_is_indexed_and_searched_like_a_run(composed, run, corpus, tmp_path):
    loaded, table = vidembed.load(composed), corpus.table
    found = loaded.index(table, tmp_path / "index").search(loaded.embed(table)[:1], k=3)
    assert found.ids[0] == table.ids[0]
    with pytest.raises(SpaceError, match="2 runs, "):
        VideoIndex.open(tmp_path / "index", run)


ASKED = ["--no-baselines", "--evaluator.directions", "eval_to_eval"]


def measured(folder, evaluator):
    return Workdir(folder).measurements(evaluator.identity()).read(0)


def test_it_is_measured_and_shown_like_a_run(composed, closed, run, corpus, tmp_path, capsys):
    folder = shutil.copytree(composed, tmp_path / "both")
    words = ["composite", "--workdir", str(folder)]
    assert main(["evaluate", *words, *ASKED]) == 0
    evaluator = RelatedVideos(directions=("eval_to_eval",))
    expected = evaluator.measure(by_hand(run, closed, corpus.table), corpus).scores
    scores = {name: score["value"] for name, score in measured(folder, evaluator)["scores"].items()}
    assert scores == pytest.approx({name: score.value for name, score in expected.items()})
    capsys.readouterr()
    assert main(["show", *words]) == 0
    assert f"{expected['eval_to_eval/ndcg@10'].value:.4f}" in capsys.readouterr().out


def test_its_report_takes_titles_links_and_pictures(composed, tmp_path, monkeypatch):
    """The same options as the report of a run; only the page itself is not written here."""
    (tmp_path / "titles.csv").write_text("id,title\nv0001,The first\n")
    (tmp_path / "names.csv").write_text("Index,Name\n7,Cat\n")
    given = []
    monkeypatch.setattr(
        composite_verbs, "report_run", lambda job, *more, **options: given.append((more, options))
    )
    monkeypatch.setattr(CompositeJob, "measure", lambda job, step: [])
    words = ["report", "composite", "--workdir", composed, "--vocabulary", tmp_path / "names.csv"]
    words += ["--titles", tmp_path / "titles.csv", "--url-template", "https://e.org/{id}"]
    assert main([*map(str, words), "--thumbnail-template", "https://e.org/{id}.jpg"]) == 0
    (((names,), options),) = given
    captions = options["captions"]
    assert captions.titles == {"v0001": "The first"}
    assert (captions.link, captions.picture) == ("https://e.org/{id}", "https://e.org/{id}.jpg")
    assert names["label"] == {7: "Cat"}


def test_it_says_so_if_it_does_not_know_the_data_of_its_runs(
    composed, corpus_paths, tmp_path, capsys
):
    """As a composite of exports from before `rows` was stored; one that knows them is silent."""
    note = "does not record the data of its runs: if their split was another one, the scores"
    evaluation = Evaluation(evaluators=(RelatedVideos(),))
    CompositeJob(composed, evaluation, corpus_paths, progress=Progress())
    assert note not in capsys.readouterr().out
    folder = shutil.copytree(composed, tmp_path / "both")
    about = json.loads((folder / "composite.json").read_text())
    (folder / "composite.json").write_text(json.dumps(about | {"rows": None}))
    CompositeJob(folder, evaluation, corpus_paths, progress=Progress())
    assert note in capsys.readouterr().out


@pytest.mark.long
def test_a_composite_is_reported_and_measured_anew(composed, run, closed, tmp_path, capsys):
    folder, evaluator = tmp_path / "both", RelatedVideos(directions=("eval_to_eval",))
    shutil.copytree(composed, folder)
    words = ["composite", "--workdir", str(folder), *ASKED]
    assert main(["report", *words]) == 0
    assert "NDCG@10" in (folder / "report.html").read_text()
    capsys.readouterr()
    assert main(["evaluate", *words]) == 0
    assert "evaluating" not in capsys.readouterr().out  # stored results are read
    assert main(["compose", str(tmp_path / "more"), run.name, closed, "--step", "latest"]) == 0
    shutil.copy(tmp_path / "more" / "composite.json", folder)  # other weights in the same folder
    assert main(["evaluate", *words]) == 0
    assert measured(folder, evaluator)["spaces"]["video"] == vidembed.load(folder).space


@pytest.mark.fault(
    "A run in use: evaluating another folder as a composite, a composite as a run, or a composite "
    "on other data than its runs'",
    "refused: what to type instead, or both data sets",
)
def test_only_composites_are_measured_as_composites(composed, corpus_paths, workdir, capsys):
    assert main(["evaluate", "composite", "--workdir", workdir]) == 1
    assert "holds no composite" in capsys.readouterr().err
    assert main(["evaluate", "cdml", "--workdir", composed]) == 1
    assert "use `composite` as the recipe" in capsys.readouterr().err
    split = ["--corpus.split-seed", "5"]
    assert main(["evaluate", "composite", "--workdir", composed, *split]) == 1
    assert "were trained on data" in capsys.readouterr().err


@pytest.mark.long
def test_a_composite_is_exported_and_composed_again(composed, run, corpus, tmp_path):
    assert main(["export", composed, str(tmp_path / "export")]) == 0
    exported, loaded = vidembed.load(tmp_path / "export"), vidembed.load(composed)
    table = corpus.table
    np.testing.assert_allclose(exported.embed(table), loaded.embed(table), atol=1e-5)
    assert (exported.space, exported.step) == (loaded.space, loaded.step)
    words = ["compose", str(tmp_path / "again"), str(tmp_path / "export"), f"{run.name}@latest"]
    assert main(words) == 0
    loaded = vidembed.load(tmp_path / "again")
    assert loaded.size == 20
    assert main(["export", str(tmp_path / "again"), str(tmp_path / "more")]) == 0
    exported = vidembed.load(tmp_path / "more")
    np.testing.assert_allclose(exported.embed(corpus.table), loaded.embed(corpus.table), atol=1e-5)


@pytest.mark.long
def test_weights_are_chosen_on_validation(corpus_paths, tmp_path, capsys):
    paths = replace(corpus_paths, validation_share=0.5)
    places = [solved(paths, paths.open(), tmp_path / str(size), size=size) for size in (2, 4)]
    words = ["compose", str(tmp_path / "both"), *places, "--step", "latest"]
    assert main([*words, "--choose", "--measure"]) == 0
    said = capsys.readouterr().out
    lines = [line.split() for line in said.splitlines() if line.startswith("  1 : ")]
    assert len(lines) == len(GRID)
    means = {float(line[2]): np.mean([float(value) for value in line[3:]]) for line in lines}
    about = json.loads((tmp_path / "both" / "composite.json").read_text())
    chosen = about["parts"][1]["weight"] / about["parts"][0]["weight"]
    assert means[chosen] >= max(means.values()) - 1e-3
    assert said.splitlines()[-3].endswith("composite")
    assert "above each run in" in said.splitlines()[-2]
    assert "with the highest mean are used" in said or "all directions are highest at" in said


def test_the_effect_of_the_weight_is_printed():
    directions = ("eval_to_train", "train_to_eval", "eval_to_eval")
    every = {
        (1.0, 0.5): dict(zip(directions, (0.3, 0.2, 0.1))),
        (1.0, 4.0): dict(zip(directions, (0.2, 0.2, 0.4))),
    }
    sentence = choice(every)
    assert "new → known at 1 : 0.5 (0.300), " in sentence
    assert "new → new at 1 : 4 (0.400)" in sentence
    assert choice({(1.0, 2.0): every[1.0, 4.0]}) == "all directions are highest at 1 : 2"
    runs = {"a": every[1.0, 0.5], "b": every[1.0, 4.0]}
    joined = dict(zip(directions, (0.31, 0.21, 0.3)))
    assert "in new → known, known → new, and not in new → new" in gains(runs | {"c": joined})
    assert gains(runs | {"c": dict.fromkeys(directions, 0.5)}).endswith("in every direction")


@pytest.mark.fault(
    "A run in use: a composite of a single run, of the same run twice, with a weight of zero or "
    "below, of runs with different videos, widths or spaces, or of a run that was trained anew",
    "refused: which run, and why",
)
def test_invalid_composites_are_refused_by_name(
    workdir, closed, composed, corpus_paths, corpus, tmp_path, capsys
):
    out = tmp_path / "out"
    both = [workdir, closed]
    for runs, weights, words in (
        ([workdir], (), "at least two runs, found 1"),
        ([workdir, workdir], (), f"named twice: {workdir}"),
        (both, (1.0,), "2 runs need 2 weights, found 1"),
        (both, (1.0, 0.0), f"the weight of {closed} is 0.0"),
        (both, (-1.0, 1.0), f"the weight of {workdir} is -1.0"),
        (both, (1.0, float("nan")), "is nan"),
    ):
        with pytest.raises(ValueError, match=words):
            compose(out, runs, weights, "latest")
    split = replace(corpus_paths, split_seed=1)
    other = solved(split, split.open(), tmp_path / "other")
    with pytest.raises(ValueError, match="different videos, relations or splits"):
        compose(out, [closed, other], step="latest")
    copy = Path(shutil.copytree(closed, tmp_path / "copy"))
    stored = json.loads((copy / "recipe.json").read_text())
    changed = stored | {"space": {"visual": "another network"}}
    (copy / "recipe.json").write_text(json.dumps(changed))
    with pytest.raises(SpaceError, match="copy 'another network'"):
        compose(out, [workdir, str(copy)], step="latest")
    options = {"step": 1, "output": "video", "inputs": {}, "space": "narrow"}
    narrow = Run(lambda source, rows: None, name="narrow", widths={"visual": 7}, **options)
    with pytest.raises(ValueError, match="narrow reads visual of 7 features"):
        joint([Part(vidembed.load(closed, step="latest"), 1.0), Part(narrow, 1.0)], "both")
    assert main(["compose", str(out), *both, "--step", "latest", "--choose"]) == 1
    assert "--corpus.validation-share" in capsys.readouterr().err
    assert main(["compose", composed, *both, "--step", "latest"]) == 1
    assert "is a composite already" in capsys.readouterr().err
    assert not out.exists()
    copy = Path(shutil.copytree(composed, tmp_path / "stale"))
    about = json.loads((copy / "composite.json").read_text())
    about["parts"][1]["space"] = "of before"
    (copy / "composite.json").write_text(json.dumps(about))
    with pytest.raises(ValueError, match="trained again; compose it again"):
        vidembed.load(copy)
