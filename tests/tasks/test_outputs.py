"""A task's declarations: its layout, what it reads, and what its outputs need."""

import jax
import numpy as np
import pytest

from vidembed.losses.softmax import FullSoftmax
from vidembed.models.cluster_classifier import DotClassifier
from vidembed.models.fusion import EarlyFusion, LateFusion, Layers, SingleModality
from vidembed.records.statistics import train_statistics
from vidembed.tasks.cluster_labels import ClusterLabels
from vidembed.tasks.metric_learning import MetricLearning
from vidembed.tasks.spec import Spec
from vidembed.tasks.task import Task
from vidembed.workdir.checkpoints.record import entries_of, part_of
from vidembed.workdir.checkpoints.store import Checkpoints

LAYERS = Layers(hidden=(16,), size=8)
TASKS = [
    MetricLearning(model=LateFusion(layers=LAYERS)),
    MetricLearning(model=EarlyFusion(layers=LAYERS)),
    ClusterLabels(model=LateFusion(layers=LAYERS)),
    ClusterLabels(model=SingleModality(layers=LAYERS), loss=FullSoftmax()),
]


def begin(task, corpus):
    statistics = train_statistics(corpus.table, corpus.is_train)
    return task.init(jax.random.key(1), Spec(widths=corpus.table.widths, classes=290), statistics)


def layer(number, kernel, bias, towers=1):
    names = [f"towers/{tower}/layers/{number}" for tower in range(towers)]
    return {f"{n}/kernel": kernel for n in names} | {f"{n}/bias": bias for n in names}


@pytest.mark.parametrize(
    ("task", "axes"),
    [
        (TASKS[0], layer(0, 1, 0, 2) | layer(1, 0, None, 2)),
        (TASKS[1], layer(0, 1, 0) | layer(1, 0, None)),
        (
            TASKS[2],
            layer(0, 1, 0, 2)
            | layer(1, 0, None, 2)
            | {"classes/kernel": 0, "classes/log_scale": None},
        ),
        (
            ClusterLabels(
                model=SingleModality(layers=Layers(hidden=(), size=8)), classifier=DotClassifier()
            ),
            layer(0, None, None) | {"classes/kernel": 0},
        ),
    ],
)
def test_the_layout_names_every_parameter(task, axes, corpus):
    parameters, state = begin(task, corpus)
    assert task.layout(parameters, state) == (axes, {})
    assert axes.keys() == parameters.keys()
    shapes = jax.eval_shape(lambda: (parameters, state))
    assert task.layout(*shapes) == (axes, {})


@pytest.mark.parametrize("task", TASKS)
def test_an_output_is_computed_only_from_what_it_needs_and_reads(task, corpus, tmp_path):
    parameters, state = begin(task, corpus)
    whole = {"parameters": parameters, "state": state}
    video = task.outputs["video"]
    needed = part_of(whole, video.needs)
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, whole | {"optimiser": parameters}, {})
        checkpoints.wait()
        stored = checkpoints.restore(1, needed, only=video.needs)
    assert not [name for name in entries_of(stored) if "classes" in name]
    rows = np.array([5, 0, 299])
    arrays = video.read(corpus.table, rows)
    assert tuple(arrays["features"]) == task.reads == task.model.modalities
    vectors = jax.jit(video.apply)(stored["parameters"], stored["state"], arrays)
    features = {m: corpus.table.features[m][rows] for m in task.reads}
    expected = jax.jit(task.embed)(parameters, state, features, {})
    np.testing.assert_array_equal(vectors, expected)


def test_defaults_of_a_task():
    class Plain(Task):
        pass

    task = Plain()
    assert task.layout({"a": 1, "b": 2}, {"c": 3}) == ({"a": None, "b": None}, {})
    assert (task.reads, task.outputs, task.grown_axis("a")) == ((), {}, None)
    assert task.diagnose([], finished=True) == {}
