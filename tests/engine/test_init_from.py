"""A run that begins from another: what fits is taken, what does not is said."""

from dataclasses import dataclass, replace
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vidembed.corpora.watched import CorpusPaths
from vidembed.distributed import mesh as meshes
from vidembed.engine.init_from import begin_from, compare, planned, resolve
from vidembed.engine.optimiser import Optimiser
from vidembed.engine.recipe import Recipe
from vidembed.feeds.labelled import LabelledVideos
from vidembed.feeds.triplets import Triplets
from vidembed.losses.softmax import FullSoftmax
from vidembed.models.cluster_classifier import DotClassifier
from vidembed.models.fusion import LateFusion, Layers
from vidembed.tasks.cluster_labels import ClusterLabels
from vidembed.tasks.metric_learning import MetricLearning
from vidembed.tasks.spec import Spec
from vidembed.tasks.task import Task
from vidembed.workdir.checkpoints.store import CheckpointError, Checkpoints
from vidembed.workdir.layout import Workdir

WIDTHS = {"visual": 6, "audio": 4}
MODEL = LateFusion(layers=Layers(hidden=(8,), size=4))
TRIPLETS = MetricLearning(model=MODEL)


@dataclass(frozen=True, kw_only=True)
class SameClasses(ClusterLabels):
    """Whose classes keep their numbers, and may become more."""

    inherits = ("parameters", "state/inputs")

    def grown_axis(self, name):
        return 0 if name == "classes/kernel" else None


CLASSES = SameClasses(model=MODEL)
KERNEL = "parameters/classes/kernel"
TOWER = "towers/0/layers/0/kernel"
RULE = Optimiser(learning_rate=0.1)


def mesh_of(data, model):
    shape = meshes.MeshShape(data=data, model=model)
    return meshes.make_mesh(shape, jax.devices()[: data * model])


def fresh(task, *, seed, classes=0, average=False, mesh=None, widths=WIDTHS):
    """A state before the first update; statistics and moments depend on the seed."""
    mesh = mesh or mesh_of(1, 1)
    inputs = {
        m: {"mean": np.full(w, seed, np.float32), "deviation": np.ones(w, np.float32)}
        for m, w in widths.items()
    }
    parameters, state = task.init(
        jax.random.key(seed), Spec(widths=widths, classes=classes), inputs
    )
    whole = {"step": jnp.int32(0), "parameters": parameters, "state": state}
    whole["optimiser"] = RULE.transformation().init(parameters)
    if average:
        whole["average"] = jax.tree.map(lambda leaf: 2 * leaf, parameters)
    axes, _ = task.layout(parameters, state)
    split = {name: meshes.model_spec(axis) for name, axis in axes.items()}
    layout = jax.tree.map(lambda _: meshes.model_spec(None), whole) | {"parameters": split}
    layout |= {"average": split} if average else {}
    return jax.device_put(whole, meshes.shardings(mesh, layout))


def saved(path, *states):
    """A run with a checkpoint for each state: steps 1, 2 and so on."""
    workdir = Workdir(path)
    workdir.create()
    with Checkpoints(workdir.checkpoints) as checkpoints:
        for step, state in enumerate(states, 1):
            checkpoints.save(step, state, {})
    return workdir


def begin(source, state, task, *, partial=False):
    average = 0.5 if "average" in state else None
    optimiser = replace(RULE, average_decay=average)
    feed = Triplets() if task.learns_from == "triplets" else LabelledVideos()
    recipe = Recipe(
        corpus=CorpusPaths(), task=task, feed=feed, optimiser=optimiser, init_partial=partial
    )
    found = resolve(str(source))
    shape = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), state)
    data = SimpleNamespace(rows="", space={})
    return begin_from(recipe, found, planned(recipe, found, shape, data), state)


def same(one, other):
    assert jax.tree.structure(one) == jax.tree.structure(other)
    jax.tree.map(np.testing.assert_array_equal, one, other)


@pytest.mark.parametrize("task", [TRIPLETS, CLASSES])
@pytest.mark.parametrize("average", [False, True])
def test_what_fits_is_taken_and_the_rest_begins_anew(task, average, tmp_path):
    source = fresh(task, seed=1, classes=9, average=average)
    moved = jax.tree.map(jnp.ones_like, source["optimiser"])
    workdir = saved(tmp_path, source | {"optimiser": moved, "step": jnp.int32(7)})
    new, lines = begin(workdir, fresh(task, seed=2, classes=9, average=True), task)
    taken = source["average" if average else "parameters"]
    same(new["parameters"], taken)
    same(new["average"], taken)
    same(new["state"], source["state"])
    same(new["optimiser"], RULE.transformation().init(taken))
    assert int(new["step"]) == 0
    averaged = ", the average of its parameters" if average else ""
    assert lines == [f"begins from {workdir}@1{averaged}: {len(taken) + 4} arrays are taken"]
    # Each is an array of its own: an update may give up all of them.
    jax.block_until_ready(jax.jit(lambda s: s, donate_argnums=0)(new))


def test_what_is_missing_or_left_over_is_listed_and_must_be_admitted(tmp_path):
    triplets, classes = fresh(TRIPLETS, seed=1), fresh(CLASSES, seed=2, classes=9)
    of_triplets = saved(tmp_path / "triplets", triplets)
    with pytest.raises(ValueError, match=r"(?s)classes/kernel: only here.*--init-partial"):
        begin(of_triplets, classes, CLASSES)
    new, lines = begin(of_triplets, classes, CLASSES, partial=True)
    assert lines[1:] == [
        "parameters/classes/kernel: only here, drawn anew",
        "parameters/classes/log_scale: only here, drawn anew",
    ]
    same(new["parameters"], classes["parameters"] | triplets["parameters"])
    same(new["state"], classes["state"] | triplets["state"])

    of_classes = saved(tmp_path / "classes", classes)
    with pytest.raises(ValueError, match="classes/log_scale: only there, not copied"):
        begin(of_classes, triplets, TRIPLETS)
    new, lines = begin(of_classes, triplets, TRIPLETS, partial=True)
    assert f"{KERNEL}: only there, not copied" in lines
    same(new["parameters"], {name: classes["parameters"][name] for name in triplets["parameters"]})
    same(new["state"], {"inputs": classes["state"]["inputs"]})


def test_other_shapes_are_differences_and_nothing_in_common_is_refused(tmp_path):
    workdir = saved(tmp_path, fresh(TRIPLETS, seed=1))
    wider = fresh(TRIPLETS, seed=2, widths={"visual": 7, "audio": 4})
    words = rf"parameters/{TOWER}: float32\[6, 8\] there, float32\[7, 8\] here, drawn anew"
    with pytest.raises(ValueError, match=words):
        begin(workdir, wider, TRIPLETS)
    new, lines = begin(workdir, wider, TRIPLETS, partial=True)
    same(new["parameters"][TOWER], wider["parameters"][TOWER])
    means = {m: float(known["mean"][0]) for m, known in new["state"]["inputs"].items()}
    assert means == {"visual": 2, "audio": 1}
    assert len(lines) == 4

    class Other(Task):
        learns_from = "triplets"

    other = {"parameters": {"w": jnp.ones(2)}, "state": {}, "optimiser": (), "step": jnp.int32(0)}
    with pytest.raises(ValueError, match="no array that fits this run"):
        begin(workdir, other, Other(), partial=True)


# 300 classes need more padded rows than 200, 250 do not.
@pytest.mark.parametrize(
    ("classes", "shape"),
    [(200, (4, 2)), (250, (1, 1)), (250, (2, 4)), (300, (1, 1)), (300, (4, 2))],
)
def test_classes_grow_the_same_on_any_mesh(classes, shape, tmp_path):
    source = fresh(CLASSES, seed=1, classes=200)
    workdir = saved(tmp_path, source)
    mesh = mesh_of(*shape)
    before = fresh(CLASSES, seed=2, classes=classes, mesh=mesh, average=True)
    table = np.array(before["parameters"]["classes/kernel"])
    table[:200] = source["parameters"]["classes/kernel"][:200]
    with jax.set_mesh(mesh):
        new, lines = begin(workdir, before, CLASSES)
    same(new["parameters"], source["parameters"] | {"classes/kernel": table})
    same(new["average"], new["parameters"])
    assert int(new["state"]["classes"]["count"]) == classes
    assert np.any(table[:classes], axis=1).all()
    assert not table[classes:].any()
    grown = [f"{KERNEL}: 200 rows are taken, {classes - 200} drawn anew"] * (classes > 200)
    assert lines[1:] == grown
    shardings = [jax.tree.map(lambda leaf: leaf.sharding, whole) for whole in (new, before)]
    assert shardings[0] == shardings[1]


@pytest.mark.parametrize("classes", [100, 150])
def test_fewer_classes_are_no_growth(classes, tmp_path):
    workdir = saved(tmp_path, fresh(CLASSES, seed=1, classes=300 if classes == 100 else 200))
    before = fresh(CLASSES, seed=2, classes=classes)
    there = r"float32\[512, 4\] there" if classes == 100 else "200 rows there, 150 here"
    with pytest.raises(ValueError, match=f"{KERNEL}: {there}"):
        begin(workdir, before, CLASSES)
    new, _ = begin(workdir, before, CLASSES, partial=True)
    same(new["parameters"]["classes/kernel"], before["parameters"]["classes/kernel"])


def test_a_strangers_rows_may_divide_unevenly(tmp_path):
    """Three rows cannot be read over four devices; the six that they become lie on them."""

    class Growing(Task):
        learns_from = "triplets"

        def grown_axis(self, name):
            return 1

    mesh = mesh_of(2, 4)
    split = meshes.shardings(mesh, meshes.model_spec(1))
    whole = meshes.replicated(mesh)

    def state(rows, value, sharding):
        parameters = {"w": jax.device_put(jnp.full((2, rows), value), sharding)}
        rest = jax.device_put(
            {"step": jnp.int32(0), "optimiser": RULE.transformation().init(parameters)}, whole
        )
        return {"parameters": parameters, "state": {}} | rest

    workdir = saved(tmp_path, state(3, 1.0, whole))
    new, _ = begin(workdir, state(8, 2.0, split), Growing())
    assert new["parameters"]["w"].tolist() == [[1.0] * 3 + [2.0] * 5] * 2
    assert new["parameters"]["w"].sharding == split


def test_the_plan_by_hand():
    def f32(*shape):
        return jax.ShapeDtypeStruct(shape, jnp.float32)

    class Growing(Task):
        inherits = ("parameters", "state/a")

        def grown_axis(self, name):
            return 0 if name == "table" else None

    stored = {"average/x": f32(2), "parameters/x": f32(2), "parameters/table": f32(3, 2)}
    stored |= {"state/a/m": f32(1), "state/b": f32(1), "optimiser/x": f32(2), "state/a/n": f32(1)}
    wanted = {"parameters/x": f32(2), "parameters/table": f32(5, 2), "state/a/m": f32(1)}
    wanted |= {"parameters/new": f32(1), "state/a/k": jax.ShapeDtypeStruct((1,), jnp.int32)}
    plan = compare(stored | {"state/a/k": f32(1)}, wanted, Growing())
    assert plan.taken == {
        "parameters/x": "average/x",
        "parameters/table": "parameters/table",
        "state/a/m": "state/a/m",
    }
    assert plan.grown == {"parameters/table": 0}
    assert plan.differences == (
        "parameters/new: only here, drawn anew",
        "state/a/k: float32[1] there, int32[1] here, drawn anew",
        "state/a/n: only there, not copied",
    )
    for shape in ((6, 2), (3, 3), (3,)):
        assert not compare({"parameters/table": f32(*shape)}, wanted, Growing()).taken


def test_runs_and_steps_by_name(tmp_path):
    state = {"parameters": {"w": jnp.ones(2)}}
    workdir = saved(tmp_path / "run", state, state, state)
    for name, step in (("", 3), ("@latest", 3), ("@1", 1)):
        found = resolve(f"{workdir}{name}")
        assert (found.workdir.path, found.step) == (workdir.path, step)
    for bad in ("4", "newest", "", "-1"):
        with pytest.raises(CheckpointError, match=rf"'{bad}' is .* best or one of \[1, 2, 3\]"):
            resolve(f"{workdir}@{bad}")
    with pytest.raises(CheckpointError, match="no checkpoint"):
        resolve(str(tmp_path / "nowhere"))
    with pytest.raises(CheckpointError, match="nothing is evaluated yet"):
        resolve(f"{workdir}@best")
    workdir.measurements({"class": "One"}).pin(2, "ndcg", 0.5)
    assert resolve(f"{workdir}@best").step == 2
    workdir.measurements({"class": "Other"}).pin(2, "recall", 0.5)
    assert resolve(f"{workdir}@best").step == 2
    workdir.measurements({"class": "Third"}).pin(3, "recall", 0.5)
    with pytest.raises(CheckpointError, match=r"\[2, 3\]: give one"):
        resolve(f"{workdir}@best")


def test_classifiers_without_a_scale_or_a_sample_inherit_alike(tmp_path):
    task = replace(CLASSES, classifier=DotClassifier(), loss=FullSoftmax())
    workdir = saved(tmp_path, fresh(task, seed=1, classes=9))
    new, lines = begin(workdir, fresh(task, seed=2, classes=12), task)
    assert lines[1:] == [f"{KERNEL}: 9 rows are taken, 3 drawn anew"]
    assert int(new["state"]["classes"]["count"]) == 12
