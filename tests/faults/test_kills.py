"""SIGKILL and SIGTERM in every phase of a run lose at most the steps since the last checkpoint.

Nothing is put into the program for this: what it is doing is seen from outside, by what it prints
(with JAX's own log of compilations), by its journal and by the folder of its checkpoints. A kill
waits for the phase that it is meant for, and a random moment more.
"""

import contextlib
import json
import random
import re
import shutil
import signal
import time
from collections import Counter

import jax
import numpy as np
import pytest

from tests.jobs import SMALL, SYSTEMS, Job, data, signal_name
from vidembed.distributed.mesh import MeshShape, make_mesh
from vidembed.engine.phases import open_feeds
from vidembed.engine.recipe import Recipe
from vidembed.engine.step import state_shape
from vidembed.workdir.checkpoints.store import Checkpoints
from vidembed.workdir.layout import Workdir

EVERY, MEASURE, POLL_SECONDS, ATTEMPTS = 10, 20, 0.01, 3
KILL, TERM = signal.SIGKILL, signal.SIGTERM
# Phase → the longest that a kill waits after the phase is seen, in seconds.
DELAYS = {
    "start": 1.0,
    "read": 0.05,
    "data": 0.0,
    "compile": 0.8,
    "step": 0.05,
    "save": 0.03,
    "evaluate": 0.0,
}
COME_AGAIN = {"compile", "step", "save", "evaluate"}
TEMPORARY = re.compile(r"\.orbax-checkpoint-tmp|\.deleted$|^\..+\.\d+\.\d+$")


MEASURED = re.compile(r"^evaluating step \d+: ", re.M)


def training(workdir, corpus_paths, steps, system):
    options = [
        *data(corpus_paths), *SYSTEMS[system][1], "--steps", str(steps),
        "--checkpoints.every-steps", str(EVERY), "--evaluate-every", str(MEASURE),
    ]  # fmt: skip
    return Job("train", workdir, options, system=system, environment={"JAX_LOG_COMPILES": "1"})


def temporary(workdir):
    """What no reader should ever look at, told apart from a new file of the same name."""
    found = set()
    for path in [
        *workdir.iterdir(),
        *workdir.glob("checkpoints/*"),
        *workdir.glob("evaluation/**/*"),
    ]:
        if TEMPORARY.search(path.name):
            with contextlib.suppress(FileNotFoundError):  # the job is at work
                status = path.stat()
                found.add((str(path), status.st_ino, status.st_ctime_ns))
    return found


def saving(workdir):
    folder = Workdir(workdir).checkpoints
    return folder.exists() and any(
        ".orbax-checkpoint-tmp" in path.name for path in folder.iterdir()
    )


def phases(output, workdir):
    """What the process is doing, by what it has said last and what lies on disk."""
    found = {"save"} if saving(workdir) else set()
    begun = re.findall(r"Compiling jit\((\w+)\)", output)
    finished = re.findall(r"Finished XLA compilation of jit\((\w+)\)", output)
    if not re.search("^(reading the data|training|evaluating step)", output, re.M):
        found.add("start")
    elif Counter(begun) - Counter(finished):
        found.add("compile")
    elif "training ..." not in output:
        found.add("read")
    elif "update" not in begun:
        found.add("data")
    evaluated = re.findall(r"^evaluating step (\d+)( \.\.\.|:)", output, re.M)
    if evaluated and evaluated[-1][1] == " ...":
        found.add("evaluate")
    elif "update" in finished:
        found.add("step")
    return found


def journal(workdir):
    """Its lines without what is measured by the clock; the last may be torn by a kill."""
    file = Workdir(workdir).metrics_file
    lines = file.read_text().split("\n")[:-1] if file.exists() else []
    clock = ("time", "triplets_per_second", "videos_per_second", "waiting_share")
    return [{k: v for k, v in json.loads(line).items() if k not in clock} for line in lines]


def trained(workdir):
    return [line["step"] for line in journal(workdir) if line["kind"] == "train"]


def evaluations(workdir):
    """Of each evaluator: its results without the seconds they took, and the best."""
    found = {}
    for measured in Workdir(workdir).all_measurements():
        results = {step: measured.read(step) for step in measured.steps()}
        for result in results.values():
            del result["seconds"]
        # What is measured was compared with the best before.
        assert measured.best() or not results
        found[measured.folder.name] = results, measured.best()
    return found


def state_of(workdir, corpus, step):
    recipe = Recipe.from_json(Workdir(workdir).read_recipe()["recipe"])
    mesh = make_mesh(MeshShape(), jax.devices()[:1])
    shape = state_shape(recipe, open_feeds(recipe, corpus)[0].spec, mesh)
    return Checkpoints(Workdir(workdir).checkpoints, read_only=True).restore(step, shape)


def newest(workdir):
    """The newest durable step, whatever else lies in the work directory, which must be readable."""
    run = Workdir(workdir)
    if run.read_recipe() is None:
        return None
    assert run.done() is None
    journal(workdir)
    evaluations(workdir)
    return Checkpoints(run.checkpoints, read_only=True).latest()


def live_and_die(job, workdir, phase, number, rng, rubbish):
    """Ends the job in a phase; its exit code, the phases it was in, the rubbish still there."""
    steps = len(trained(workdir)) + rng.randrange(1, 2 * EVERY)
    deadline, delay = time.monotonic() + 180, rng.uniform(0, DELAYS[phase])
    while True:
        output = job.output
        if rubbish and "training ..." in output:
            assert not rubbish & temporary(workdir), "what a killed run left is still there"
            rubbish = set()
        reached = phase != "step" or len(trained(workdir)) >= steps
        if job.ended:
            break
        if reached and phase in phases(output, workdir):
            time.sleep(delay)
            # Too late? These come again, then without delay; the others are seen once.
            if phase not in COME_AGAIN or phase in phases(job.output, workdir):
                break
            delay = 0.0
        assert time.monotonic() < deadline, output
        time.sleep(POLL_SECONDS)
    hit = phases(job.output, workdir)
    job.send(number)
    code = job.end(60)
    if number == KILL and code == -KILL:
        # Nothing was said or written since: this is where it was.
        hit = phases(job.output, workdir)
    return code, hit, rubbish


def kill_and_resume(workdir, corpus_paths, steps, schedule, seed, system):
    """Lives through the schedule of (phase, signal); how often each phase was hit by each."""
    rng, hits, rubbish, durable = random.Random(seed), Counter(), set(), None
    for phase, number in _lives(schedule, hits):
        job = training(workdir, corpus_paths, steps, system)
        code, hit, rubbish = live_and_die(job, workdir, phase, number, rng, rubbish)
        output = job.output
        # By the signal itself where Python had not begun to listen; a shell shows 143 for both.
        assert code == -KILL if number == KILL else code in (143, -TERM), (phase, code, output)
        hits.update((signal_name(number), name) for name in hit)
        assert "WARNING: step" not in output, output
        if durable is not None and "training ..." in output:
            assert f"going on from step {durable}\n" in output
        now = newest(workdir)
        assert durable is None or now >= durable
        done = max(trained(workdir), default=0)
        if "stopped and saved at step" in output:
            assert f"stopped and saved at step {now};" in output
            assert done == now
        # A checkpoint is durable before the next one is begun.
        assert done - (now or 0) <= 2 * EVERY, (done, now)
        durable, rubbish = now, rubbish | (temporary(workdir) if number == KILL else set())
    last = training(workdir, corpus_paths, steps, system)
    assert last.end() == 0, last.output
    assert Workdir(workdir).done() == steps
    assert not temporary(workdir)
    return hits


def _lives(schedule, hits):
    """The schedule; what was missed, as a phase ends before the signal comes, is tried again."""
    for phase, number in schedule:
        before = hits[signal_name(number), phase]
        for _ in range(ATTEMPTS):
            yield phase, number
            if hits[signal_name(number), phase] > before:
                break


def compare(killed, whole, corpus, steps):
    assert journal(killed) == journal(whole)
    assert trained(killed) == list(range(1, steps + 1))
    assert evaluations(killed) == evaluations(whole)
    jax.tree.map(
        np.testing.assert_array_equal,
        state_of(killed, corpus, steps),
        state_of(whole, corpus, steps),
    )


FEW = [("compile", KILL), ("save", KILL), ("step", TERM), ("evaluate", KILL)]


@pytest.mark.fault("Runs: SIGTERM, SIGKILL")
@pytest.mark.long
@pytest.mark.parametrize(
    ("system", "steps", "schedule"),
    [
        pytest.param("gcl", 80, FEW, id="few of gcl"),
        pytest.param(
            "cdml",
            400,
            [(phase, number) for phase in DELAYS for number in (KILL, TERM)]
            + [(phase, KILL) for phase in ("compile", "data", "step", "save", "evaluate")] * 2,
            id="many",
        ),
    ],
)
def test_a_run_killed_in_every_phase_ends_like_one_that_was_not(
    system, steps, schedule, clustered_paths, clustered, tmp_path
):
    killed, whole = tmp_path / "killed", tmp_path / "whole"
    schedule = random.Random(1).sample(schedule, len(schedule))
    hits = kill_and_resume(killed, clustered_paths, steps, schedule, seed=2, system=system)
    print(f"{len(schedule)} kills fell into: {dict(sorted(hits.items()))}")
    for phase, number in set(schedule):
        assert hits[signal_name(number), phase] >= 1, (phase, hits)
    job = training(whole, clustered_paths, steps, system)
    assert job.end() == 0, job.output
    compare(killed, whole, clustered, steps)


@pytest.mark.fault("Runs: SIGTERM, SIGKILL")
@pytest.mark.long
def test_a_follower_killed_at_random_moments_measures_all(corpus_paths, tmp_path):
    options = [
        *data(corpus_paths), *SMALL, "--steps", "60",
        "--checkpoints.every-steps", "5", "--checkpoints.keep-last", "99",
    ]  # fmt: skip
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    job = Job("train", whole, options)
    assert job.end() == 0, job.output
    shutil.copytree(whole, killed)
    rng, hits = random.Random(3), Counter()
    for number in [KILL, TERM] * 5:
        job = Job("evaluate", killed, ["--follow"], environment={"JAX_LOG_COMPILES": "1"})
        phase, after = rng.choice([("start", 0), ("compile", 0), ("evaluate", 0), ("evaluate", 1)])
        deadline = time.monotonic() + 120
        while not job.ended:
            output = job.output
            if phase in phases(output, killed) and len(re.findall(MEASURED, output)) >= after:
                break
            assert time.monotonic() < deadline, output
            time.sleep(POLL_SECONDS)
        time.sleep(rng.uniform(0, DELAYS[phase] / (1 + 9 * after)))
        hits.update((signal_name(number), name) for name in phases(job.output, killed))
        job.send(number)
        code = job.end(60)
        assert code == -KILL if number == KILL else code in (143, -TERM), (code, job.output)
        evaluations(killed)
    print(f"10 kills fell into: {dict(sorted(hits.items()))}")
    assert min(hits["SIGKILL", "evaluate"], hits["SIGTERM", "evaluate"]) >= 1, hits
    for workdir in (killed, whole):
        job = Job("evaluate", workdir, ["--follow"])
        assert job.end() == 0, job.output
    assert evaluations(killed) == evaluations(whole)
    ((results, _),) = evaluations(killed).values()
    assert sorted(results) == list(range(0, 61, 5))
    assert not temporary(killed)
    assert not list((killed / "evaluation").rglob("follower.json"))
