"""Classes that are added to a trained annotation model, by training their experts alone."""

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sklearn.metrics import average_precision_score

from tests.tasks.made_labels import CLASSES, SMALL, TASK, VIDEOS, made_table
from tests.tasks.test_closed_form import refused, run
from vidembed.corpora.labelled import LabelledPaths
from vidembed.engine.model import load_model
from vidembed.workdir.layout import Workdir


@pytest.fixture(scope="module")
def paths(tmp_path_factory):
    folder = tmp_path_factory.mktemp("added")
    made_table().write(folder / "table")
    return LabelledPaths(table=str(folder / "table"))


@pytest.fixture(scope="module")
def trained(paths, tmp_path_factory):
    path = tmp_path_factory.mktemp("added") / "run"
    run(replace(SMALL, corpus=paths), path, paths.open())
    return path


def with_new_class(paths, folder, names):
    """The labels of the table and those of a class that follows a feature, by name."""
    folder.mkdir()
    corpus = paths.open()
    labels, ids = corpus.labels, corpus.table.ids.astype(str)
    old = np.repeat(np.arange(VIDEOS), labels.per_row)
    new = np.flatnonzero(corpus.table.features["visual"][:, 0] > 150)
    pq.write_table(
        pa.table(
            {
                "video_id": np.concatenate([ids[old], ids[new]]),
                "label": [f"label {value}" for value in labels.values] + ["new"] * len(new),
            }
        ),
        folder / "labels.parquet",
    )
    lines = ["Index,Name", *(f"{number},{name}" for number, name in enumerate(names))]
    (folder / "vocabulary.csv").write_text("\n".join(lines))
    own = {"labels": str(folder / "labels.parquet"), "vocabulary": str(folder / "vocabulary.csv")}
    return replace(paths, **own)


LONGER = (*(f"label {number}" for number in range(CLASSES)), "new")


@pytest.mark.parametrize(
    ("devices", "unseen"), [(1, 0), pytest.param(8, 260, marks=pytest.mark.long)]
)
def test_a_class_is_added_by_training_its_experts_alone(devices, unseen, trained, paths, tmp_path):
    """With many more classes the table is longer, too, by another multiple of 256 rows."""
    names = (*LONGER, *(f"unseen {number}" for number in range(unseen)))
    more = with_new_class(paths, tmp_path / "own", names)
    corpus = more.open()
    recipe = replace(
        SMALL,
        corpus=more,
        init_from=f"{trained}@latest",
        task=replace(TASK, fixed_classes=CLASSES),
        mesh=replace(SMALL.mesh, model=min(2, devices)),
        steps=24,
    )
    notes = run(recipe, tmp_path / "run", corpus, devices=devices)
    line = f"parameters/classes/experts/kernel: 5 rows are taken, {1 + unseen} drawn anew"
    assert line in notes
    before, after = (
        load_model(Workdir(path), "latest").arrays("labels") for path in (trained, tmp_path / "run")
    )
    for name, array in before["parameters"].items():
        rows = CLASSES if name.startswith("classes") else len(array)
        np.testing.assert_array_equal(array[:rows], after["parameters"][name][:rows])
        if name.startswith("classes"):
            assert (np.asarray(after["parameters"][name][CLASSES : len(names)]) != 0).all()
            assert not np.asarray(after["parameters"][name][len(names) :]).any()
    share = corpus.labels.counts(corpus.train_rows)[CLASSES] / len(corpus.train_rows)
    log_odds = after["state"]["classes"]["log_odds"]
    np.testing.assert_allclose(log_odds[CLASSES], np.log(share / (1 - share)), rtol=1e-5)
    np.testing.assert_array_equal(log_odds[:CLASSES], before["state"]["classes"]["log_odds"])
    output = TASK.outputs["labels"]
    videos = output.read(corpus.table, np.arange(VIDEOS))
    old, new = (
        np.asarray(output.apply(of["parameters"], of["state"], videos)) for of in (before, after)
    )
    np.testing.assert_array_equal(new[:, :CLASSES], old)
    held_out = np.flatnonzero(~corpus.is_train)
    truth = [CLASSES in corpus.labels.of(np.array([row])).values for row in held_out]
    assert average_precision_score(truth, new[held_out, CLASSES]) > np.mean(truth) + 0.3


@pytest.mark.fault(
    "Annotation: classes added out of order, to a run without them, without a run, or none added",
    "refused before training, naming class, number and remedy",
)
def test_classes_that_cannot_be_added_are_refused(trained, paths, tmp_path):
    fixed = replace(TASK, fixed_classes=CLASSES)
    recipe = replace(SMALL, init_from=f"{trained}@latest", task=fixed)
    moved = with_new_class(paths, tmp_path / "moved", ("new", *LONGER[:-1])).open()
    refused(recipe, tmp_path / "a", moved, "its class 0, 'label 0', is 'new' here")
    longer = with_new_class(paths, tmp_path / "longer", (*LONGER, "later")).open()
    more = replace(recipe, task=replace(fixed, fixed_classes=CLASSES + 1))
    refused(more, tmp_path / "b", longer, "give --task.fixed-classes 5")
    refused(recipe, tmp_path / "c", paths.open(), "nothing would learn")
    with pytest.raises(ValueError, match="give --init-from RUN"):
        replace(recipe, init_from="")
    with pytest.raises(ValueError, match="must be 0 or more"):
        replace(fixed, fixed_classes=-1)
