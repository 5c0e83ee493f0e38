"""Real processes over `jax.distributed` (gloo on this machine) against one process.

Tolerances: at equal parameters the loss of a step agrees to a relative 1e-6 and the gradient to
2e-5, with largest entries of about 0.1; the only difference is the order of sums.
"""

import json
import shutil

import jax
import numpy as np
import pytest

from tests.jobs import SYSTEMS, data, ends, start
from vidembed.distributed.mesh import MeshShape, make_mesh
from vidembed.engine.phases import open_feeds
from vidembed.engine.recipe import Recipe
from vidembed.engine.step import state_shape
from vidembed.workdir.checkpoints.store import Checkpoints
from vidembed.workdir.layout import Workdir

RATE = 0.1
# With plain SGD the change of the parameters is the gradient times the rate.
PLAIN = [
    "optimiser.rule:sgd", "--optimiser.rule.momentum", "0", "--optimiser.learning-rate", str(RATE),
    "--checkpoints.every-steps", "1", "--checkpoints.keep-last", "9",
]  # fmt: skip


@pytest.fixture(scope="module")
def train(clustered_paths):
    def train(
        workdir,
        *,
        processes,
        steps,
        system="cdml",
        devices_each=1,
        placement="device",
        parts=(),
    ):
        """Train to `steps`; returns the lines of the journal."""
        small = SYSTEMS[system][1]
        options = [*data(clustered_paths), *PLAIN, *parts, *small, "--feed.placement", placement]
        jobs = start(
            "train",
            workdir,
            [*options, "--steps", str(steps)],
            processes=processes,
            system=system,
            devices_each=devices_each,
        )
        codes, outputs = ends(jobs)
        assert set(codes) == {0}, outputs
        return [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]

    return train


@pytest.fixture(scope="module")
def alone(train, tmp_path_factory):
    """A read-only run of two steps, by one process with one device."""
    workdir = tmp_path_factory.mktemp("alone") / "run"
    train(workdir, processes=1, steps=2)
    return workdir


def copied(workdir, to):
    shutil.copytree(workdir, to)
    return to


def parameters(workdir, corpus, step):
    run = Workdir(workdir)
    recipe = Recipe.from_json(run.read_recipe()["recipe"])
    mesh = make_mesh(MeshShape(), jax.devices()[:1])
    shape = state_shape(recipe, open_feeds(recipe, corpus)[0].spec, mesh)
    state = Checkpoints(run.checkpoints, read_only=True).restore(step, shape)
    return {name: np.asarray(value) for name, value in state["parameters"].items()}


def line(workdir, step):
    lines = (workdir / "metrics.jsonl").read_text().splitlines()
    return next(r for r in map(json.loads, lines) if r["step"] == step)


MEASURES = ("mined", "active", "sampled_survive", "gradient_norm", "spread")


def assert_same_step(first, second, corpus, step, measures=MEASURES):
    """Assert equal loss and gradient of a step that both runs took from equal parameters."""
    before = parameters(first, corpus, step - 1)
    jax.tree.map(np.testing.assert_array_equal, before, parameters(second, corpus, step - 1))
    # A small mean of differences of float32 distances near 1, each of which rounds at 1.2e-7.
    expected = pytest.approx(line(first, step)["loss"], rel=1e-6, abs=2e-7)
    assert line(second, step)["loss"] == expected
    # Counts over the batch: the same batch with the same mining.
    for name in measures:
        assert line(second, step)[name] == pytest.approx(line(first, step)[name], rel=1e-5), name
    after, after_second = parameters(first, corpus, step), parameters(second, corpus, step)
    for name, value in after.items():
        gradient = (before[name] - value) / RATE
        np.testing.assert_allclose((before[name] - after_second[name]) / RATE, gradient, atol=2e-5)
        assert np.abs(gradient).max() > 0


@pytest.mark.parametrize(
    ("processes", "devices_each", "placement"),
    [
        (2, 1, "device"),
        pytest.param(2, 2, "host", marks=pytest.mark.long),
        pytest.param(4, 1, "device", marks=pytest.mark.long),
    ],
)
def test_a_step_equals_that_of_one_process(
    processes, devices_each, placement, train, alone, corpus, tmp_path
):
    workdir = tmp_path / "run"
    train(workdir, processes=processes, devices_each=devices_each, steps=1, placement=placement)
    assert_same_step(alone, workdir, corpus, 1)
    assert line(workdir, 1).get("gather_overflow") == (0 if placement == "device" else None)


@pytest.mark.long
@pytest.mark.parametrize(
    "parts",
    [
        ("task.miner:hardest", "task.loss:log"),
        ("task.miner:semi-hard-random", "task.loss:exponential"),
        ("task.miner:no-mining", "task.loss:hinge"),
        ("task.miner:semi-hard", "task.loss:log"),
    ],
)
def test_a_step_with_any_miner_and_loss_equals_that_of_one_process(parts, train, corpus, tmp_path):
    for processes in (1, 2):
        train(tmp_path / str(processes), processes=processes, steps=1, parts=parts)
    assert_same_step(tmp_path / "1", tmp_path / "2", corpus, 1)


@pytest.mark.fault(
    "Runs: resumed on another number of processes",
    "resumes",
)
@pytest.mark.long
def test_a_run_resumes_with_another_number_of_processes(train, alone, corpus, tmp_path):
    two = tmp_path / "two"
    train(two, processes=2, steps=2)
    resumed = {
        "alone, then 1": (alone, 1),
        "alone, then 2": (alone, 2),
        "two, then 1": (two, 1),
        "two, then 2": (two, 2),
        "two, then 4": (two, 4),
    }
    for name, (workdir, processes) in resumed.items():
        journal = train(copied(workdir, tmp_path / name), processes=processes, steps=3)
        assert [r["step"] for r in journal] == [1, 2, 3]
    assert_same_step(tmp_path / "alone, then 1", tmp_path / "alone, then 2", corpus, 3)
    assert_same_step(tmp_path / "two, then 2", tmp_path / "two, then 1", corpus, 3)
    assert_same_step(tmp_path / "two, then 2", tmp_path / "two, then 4", corpus, 3)


@pytest.mark.fault("Runs: resumed on another number of processes")
@pytest.mark.long
@pytest.mark.parametrize(
    ("system", "layout", "measures"),
    [
        ("gcml", {}, (*MEASURES, "survive_at/0", "drawn_at/0")),
        (
            "gcl",
            {"devices_each": 2, "parts": ("--mesh.model", "2")},
            ("accuracy", "hits", "scale", "gradient_norm", "spread"),
        ),
    ],
    ids=["gcml", "gcl"],
)
def test_one_process_and_two_learn_the_same_from_clusters(
    system, layout, measures, train, clustered, tmp_path
):
    """Each also resumes from the other's checkpoint; `gcl` has its classes on two devices."""
    alone, two = tmp_path / "alone", tmp_path / "two"
    train(alone, system=system, processes=1, steps=2)
    train(two, system=system, processes=2, steps=2, **layout)
    assert_same_step(alone, two, clustered, 1, measures)
    for made, processes, options in ((alone, 2, layout), (two, 1, {})):
        resumed = copied(made, tmp_path / f"{made.name}, then {processes}")
        shutil.rmtree(Workdir(resumed).checkpoints / "2")
        train(resumed, system=system, processes=processes, steps=2, **options)
        assert_same_step(made, resumed, clustered, 2, measures)


@pytest.mark.long
def test_several_processes_measure_the_same_as_one(alone, tmp_path):
    results = {}
    for processes in (1, 2, 4):
        workdir = copied(alone, tmp_path / str(processes))
        codes, outputs = ends(start("evaluate", workdir, [], processes=processes))
        assert set(codes) == {0}, outputs
        (measured,) = Workdir(workdir).all_measurements()
        results[processes] = measured.read(2)
        assert measured.best()["step"] == 2
    for processes in (2, 4):
        assert results[processes]["scores"].keys() == results[1]["scores"].keys()
        for name, score in results[1]["scores"].items():
            assert results[processes]["scores"][name] == pytest.approx(score, abs=1e-6), name
    assert len({result["fingerprints"]["corpus"] for result in results.values()}) == 1
