"""Collapse warnings, from invented journals and from small trainings that do collapse."""

import json
import re
import typing
from dataclasses import replace

import jax
import pytest

from vidembed.distributed.stopping import StopFlag
from vidembed.engine.optimiser import Optimiser
from vidembed.engine.recipe import Recipe, Retention
from vidembed.engine.train import train
from vidembed.feeds.triplets import Triplets
from vidembed.losses.triplet import Hinge
from vidembed.mining import Miner
from vidembed.mining.miners import Hardest
from vidembed.models.fusion import LateFusion, Layers
from vidembed.progress import Progress
from vidembed.recipes.cdml import OFFERED
from vidembed.tasks.cluster_labels import ClusterLabels
from vidembed.tasks.collapse import REMEDY
from vidembed.tasks.metric_learning import MetricLearning
from vidembed.workdir.diagnosis import MOST_LINES, Diagnosis, HopelessError
from vidembed.workdir.layout import Workdir

TASK = MetricLearning()
SOUND = {"loss": 0.06, "active": 0.8, "spread": 0.85, "trained": 1.0}
SHRUNK = {"loss": 0.0995, "active": 1.0, "spread": 0.2, "trained": 1.0}
POINT = SHRUNK | {"spread": 0.02}


def journal(*parts, every=10):
    """Journal lines from consecutive (steps, measures)."""
    lines = []
    for steps, measures in parts:
        begin = lines[-1]["step"] if lines else 0
        lines += [{"step": s, **measures} for s in range(begin + every, begin + steps + 1, every)]
    return lines


@pytest.mark.fault(
    "Runs: the training collapses: all embeddings nearly one point, a loss that stays at "
    "the margin, hardly a triplet that trains",
)
@pytest.mark.parametrize("every", [1, 10])
@pytest.mark.parametrize("first", [SHRUNK, POINT])
def test_the_first_steps_of_every_network_give_no_warning(every, first):
    lines = journal((80, first), (120, SOUND), every=every)
    for length in range(len(lines) + 1):
        assert TASK.diagnose(lines[:length], finished=False) == {}
    assert TASK.diagnose(lines, finished=True) == {}


@pytest.mark.fault(
    "Runs: the training collapses: all embeddings nearly one point, a loss that stays at "
    "the margin, hardly a triplet that trains",
    "a WARNING from `train` while it runs, from `evaluate` and on the report: the numbers "
    "and what to try; the first steps of every network, which shrink too, are no collapse",
)
def test_a_lasting_sign_gives_a_warning():
    shrunk = journal((300, SHRUNK))
    [(name, message)] = TASK.diagnose(shrunk, finished=False).items()
    assert name == "at the margin"
    assert "from step 100 to 300 the loss is 0.0995" in message
    assert (
        "far as negatives (0.1000), 1 of the triplets have a loss, and the spread is 0.2" in message
    )
    assert "--optimiser.learning-rate" in message
    assert "task.miner:semi-hard-random" in message
    # It is also at the margin, but that adds no information.
    [(name, message)] = TASK.diagnose(journal((300, POINT)), finished=False).items()
    assert name == "one point"
    assert "their spread is 0.02 (0: all videos are one point)" in message
    dropped = TASK.diagnose(journal((300, SOUND | {"trained": 0.004})), finished=False)
    assert list(dropped) == ["nothing trains"]
    assert "0.004 of the triplets have a negative" in dropped["nothing trains"]


def test_a_sign_must_hold_throughout_and_long_enough():
    # Within the last quarter, one healthy line.
    lines = journal((900, SHRUNK), (10, SOUND), (90, SHRUNK))
    assert TASK.diagnose(lines, finished=True) == {}
    # 200 steps, but only four lines; a finished run need not wait for more.
    few = journal((300, SHRUNK), every=75)
    assert TASK.diagnose(few, finished=False) == {}
    assert "at the margin" in TASK.diagnose(few, finished=True)
    assert TASK.diagnose(journal((40, SHRUNK)), finished=True) == {}
    assert TASK.diagnose([], finished=True) == {}
    # A later collapse, after a healthy start.
    lines = journal((1000, SOUND), (400, POINT))
    assert "one point" in TASK.diagnose(lines, finished=False)


def test_a_loss_at_the_margin_without_shrinking_gives_no_warning():
    """Among many candidates the nearest farther negative is hardly farther than the positive."""
    lines = journal((400, SHRUNK | {"spread": 0.6}))
    assert TASK.diagnose(lines, finished=True) == {}
    wide = replace(TASK, loss=Hinge(margin=0.5))
    assert wide.diagnose(journal((400, SHRUNK)), finished=True) == {}
    shrunk = journal((400, SHRUNK | {"loss": 0.4995}))
    assert list(wide.diagnose(shrunk, finished=True)) == ["at the margin"]


def test_missing_or_nan_measures_give_no_warning():
    lines = journal((300, {"loss": None, "spread": None}), (300, {"hits": 0.5}))
    assert TASK.diagnose(lines, finished=True) == {}
    labels = ClusterLabels()
    assert labels.diagnose(lines, finished=True) == {}
    [message] = labels.diagnose(journal((300, {"spread": 0.01})), finished=True).values()
    assert "--feed.level" in message


def test_each_warning_is_given_once_and_lines_do_not_pile_up():
    messages = []
    diagnosis = Diagnosis(TASK.diagnose, messages.append, steps=5000)
    diagnosis.read(journal((100, SOUND), every=1))
    for line in journal((500, SHRUNK), (1000, POINT), every=1):
        diagnosis.see(line | {"step": line["step"] + 100})
        diagnosis.see({"kind": "evaluation", "step": line["step"], "map": 0.5})
    assert [message.split(":")[1] for message in messages] == [
        " the training does not leave the margin", " the embeddings have collapsed",
    ]  # fmt: skip
    assert len(diagnosis._lines) <= MOST_LINES


def test_a_warning_of_stop_at_ends_a_running_training_but_not_its_last_step():
    said = []

    def diagnosis(steps):
        return Diagnosis(
            lambda lines, *, finished: {"gone": "all is gone"} if lines[-1]["bad"] else {},
            said.append,
            steps=steps,
            stop_at={"gone": "go on with --anyway"},
        )

    running = diagnosis(20)
    running.see({"step": 5, "bad": False})
    with pytest.raises(HopelessError, match=r"all is gone.* step 10, .*, or go on with --anyway"):
        running.see({"step": 10, "bad": True})
    assert said == []
    diagnosis(10).see({"step": 10, "bad": True})
    assert said == ["WARNING: all is gone"]


@pytest.mark.fault(
    "Runs: the training collapses: all embeddings nearly one point, a loss that stays at "
    "the margin, hardly a triplet that trains",
)
def test_a_training_that_collapses_warns(corpus_paths, corpus, tmp_path):
    """The hardest negatives at a high learning rate pull all videos into one point.

    `test_quality.py` checks that a healthy training does not warn.
    """
    model = LateFusion(layers=Layers(hidden=(16,), size=8))
    recipe = Recipe(
        corpus=corpus_paths,
        task=MetricLearning(model=model, miner=Hardest(), loss=Hinge(margin=0.5)),
        feed=Triplets(batch_triplets=64, read_threads=0, prefetch_batches=0),
        optimiser=Optimiser(learning_rate=0.1),
        checkpoints=Retention(every_steps=60),
        steps=60,
        log_every=5,
    )
    workdir, progress, messages = Workdir(tmp_path), Progress(quiet=True), []
    progress.say = messages.append
    with StopFlag() as stop, workdir.lease() as lease:
        options = {"lease": lease, "stop": stop, "progress": progress}
        train(recipe, workdir, corpus=corpus, devices=jax.devices()[:1], **options)
    [warning] = [line for line in messages if "WARNING" in line]
    assert "the embeddings have collapsed: from step 45 to 60" in warning
    edges = corpus.train_graph.edges
    words = f"60 steps of 64 triplets are {60 * 64 / edges:.1f} passes over {edges} train relations"
    assert words in messages
    lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
    assert json.loads(lines[-1])["passes"] == pytest.approx(60 * 64 / edges)


def test_the_remedy_names_existing_miners():
    named = re.findall(r"task\.miner:([a-z-]+)", REMEDY)
    names = (kind.__name__ for kind in typing.get_args(OFFERED[Miner]))
    assert named
    assert set(named) <= {re.sub(r"\B([A-Z])", r"-\1", name).lower() for name in names}
