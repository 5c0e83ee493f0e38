"""Annotation as a run: against scikit-learn, on eight devices, resumed, warm-started, measured."""

from dataclasses import replace

import jax
import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss

from tests.tasks.made_labels import BATCH, CLASSES, FEED, SMALL, TASK, VIDEOS, made_table
from tests.tasks.test_closed_form import refused, run
from vidembed.cli.launch import main
from vidembed.corpora.labelled import LabelledPaths
from vidembed.engine.model import load_model
from vidembed.engine.optimiser import Adam, Optimiser
from vidembed.engine.recipe import Retention
from vidembed.models.blocks import Blocks
from vidembed.models.mixture_of_experts import MixtureOfExperts
from vidembed.records.bytecode import dequantise
from vidembed.tasks.annotation import Annotation
from vidembed.workdir.layout import Workdir


@pytest.fixture(scope="module")
def table():
    return made_table()


@pytest.fixture(scope="module")
def paths(table, tmp_path_factory):
    folder = tmp_path_factory.mktemp("annotation")
    table.write(folder / "table")
    return LabelledPaths(table=str(folder / "table"))


@pytest.fixture(scope="module")
def labelled(paths):
    return paths.open()


@pytest.fixture(scope="module")
def trained(paths, labelled, tmp_path_factory):
    path = tmp_path_factory.mktemp("annotation") / "run"
    run(replace(SMALL, corpus=paths), path, labelled)
    return path


def probabilities(path, table, step="latest"):
    return load_model(Workdir(path), step)["labels"](table)


def principal(corpus, modality, count):
    """Centred features of all videos on the first components of the train videos, and the share."""
    rows = dequantise(corpus.table.features[modality]).astype(np.float64)
    train = rows[corpus.is_train]
    _, sizes, directions = np.linalg.svd(train - train.mean(axis=0))
    share = (sizes[:count] ** 2).sum() / (sizes**2).sum()
    return (rows - train.mean(axis=0)) @ directions[:count].T, share


def test_before_training_inputs_are_components_and_probabilities_are_shares(labelled):
    feed = FEED.open(labelled, seed=0, reads=TASK.reads)
    parameters, state = TASK.init(jax.random.key(0), feed.spec, feed.statistics())
    table = labelled.table
    blocks = []
    for modality in ("visual", "audio"):
        block, share = principal(labelled, modality, 3)
        blocks.append(block)
        np.testing.assert_allclose(state["kept"][modality], share, rtol=1e-4)
    joined = np.concatenate(blocks, axis=1)
    joined /= np.linalg.norm(joined, axis=1, keepdims=True)
    arrays = TASK.outputs["video"].read(table, np.arange(VIDEOS))
    inputs = np.asarray(TASK.outputs["video"].apply(parameters, state, arrays))
    np.testing.assert_allclose(inputs @ inputs.T, joined @ joined.T, atol=1e-4)
    labels = labelled.labels.of(labelled.train_rows)
    share = np.bincount(labels.values, minlength=CLASSES) / len(labelled.train_rows)
    alone = replace(TASK, classifier=MixtureOfExperts(mixtures=1))
    parameters, state = alone.init(jax.random.key(0), feed.spec, feed.statistics())
    before = alone.outputs["labels"].apply(parameters, state, arrays)
    np.testing.assert_allclose(before, np.broadcast_to(share, before.shape), rtol=1e-4)


def test_one_expert_on_the_whole_split_is_logistic_regression(labelled, tmp_path):
    """Full-batch steps in parts, on unit blocks without components, against scikit-learn."""
    task = Annotation(
        model=Blocks(components=0, norm="per_block"), classifier=MixtureOfExperts(mixtures=1)
    )
    parts = -(-len(labelled.train_rows) // BATCH)
    recipe = replace(
        SMALL,
        task=task,
        feed=replace(FEED, whole_pass=True),
        steps=parts * 100,
        checkpoints=Retention(every_steps=parts * 100),
        optimiser=Optimiser(rule=Adam(), learning_rate=0.5, decay=0.0, accumulate=parts),
    )
    run(recipe, tmp_path / "run", labelled)
    result = probabilities(tmp_path / "run", labelled.table)
    statistics = [dequantise(labelled.table.features[m]) for m in ("visual", "audio")]
    blocks = [rows - rows[labelled.is_train].mean(axis=0) for rows in statistics]
    inputs = np.concatenate([b / np.linalg.norm(b, axis=1, keepdims=True) for b in blocks], axis=1)
    rows, labels = labelled.train_rows, labelled.labels
    for number in range(3):  # classes with many videos, which no plane separates
        truth = [number in labels.of(np.array([row])).values for row in rows]
        oracle = LogisticRegression(C=np.inf, tol=1e-8, max_iter=5000).fit(inputs[rows], truth)
        ours, best = (
            log_loss(truth, of[rows])
            for of in (result[:, number], oracle.predict_proba(inputs)[:, 1])
        )
        shares = np.full(len(rows), np.mean(truth))
        assert best * (1 - 1e-5) < ours < best + 0.05 * (log_loss(truth, shares) - best)


def test_eight_devices_and_classes_in_parts_give_the_same(trained, labelled, tmp_path):
    run(replace(SMALL, mesh=replace(SMALL.mesh, model=2)), tmp_path / "run", labelled, devices=8)
    one, eight = (probabilities(path, labelled.table) for path in (trained, tmp_path / "run"))
    assert one.shape == (VIDEOS, CLASSES)
    np.testing.assert_allclose(eight, one, atol=2e-5)


def test_a_resumed_run_is_the_uninterrupted_one(trained, labelled, tmp_path):
    run(replace(SMALL, steps=6), tmp_path / "run", labelled)
    run(SMALL, tmp_path / "run", labelled)
    resumed, whole = (probabilities(path, labelled.table) for path in (tmp_path / "run", trained))
    np.testing.assert_array_equal(resumed, whole)


def test_a_phase_goes_on_from_another_run_with_projections_alone(trained, labelled, tmp_path):
    recipe = replace(SMALL, init_from=f"{trained}@latest", learns=("blocks",), steps=6)
    run(recipe, tmp_path / "run", labelled)
    before, after = (
        load_model(Workdir(path), "latest").arrays("labels")["parameters"]
        for path in (trained, tmp_path / "run")
    )
    for name, array in before.items():
        same = np.array_equal(array, after[name])
        assert same != name.startswith("blocks"), name


def test_the_verbs_train_and_evaluate(paths, tmp_path, capsys):
    options = [
        *("--workdir", str(tmp_path / "run"), "--corpus.table", paths.table, "--steps", "20"),
        *("--feed.batch-videos", "32", "--task.model.components", "3", "--log-every", "10"),
        *("--optimiser.learning-rate", "0.05", "--checkpoints.every-steps", "10"),
    ]
    assert main(arguments=["train", *options], name="annotation") == 0
    assert main(arguments=["evaluate", "--workdir", str(tmp_path / "run")], name="annotation") == 0
    output = capsys.readouterr().out
    assert "step 20  GAP@20, test" in output
    assert "popularity" in output


@pytest.mark.fault(
    "Annotation: a modality that the table lacks; no classes; a checkpoint of other classes",
    "refused before training, naming what is there",
)
def test_what_does_not_fit_is_refused(trained, labelled, paths, tmp_path):
    task = replace(TASK, model=Blocks(modalities=("visual", "cdml")))
    refused(replace(SMALL, task=task), tmp_path / "a", labelled, "no 'cdml'")
    fewer = replace(paths, min_class_videos=60).open()
    recipe = replace(SMALL, init_from=f"{trained}@latest")
    refused(recipe, tmp_path / "b", fewer, "its class 2, 'label 2', is missing here")
