"""SIGTERM while a run starts: an intact checkpoint is never taken for a damaged one."""

import asyncio
import random
import signal
import threading
import time

import jax
import jax.numpy as jnp
import pytest

from vidembed.distributed.stopping import StopFlag, StoppedError, unbroken
from vidembed.engine.start import first_state
from vidembed.progress import Progress
from vidembed.workdir.checkpoints.store import Checkpoints

TREE = {f"x{i}": jnp.arange(64.0) for i in range(12)}


def after(seconds):
    """Send SIGTERM to this process after some seconds."""
    main = threading.main_thread().ident
    timer = threading.Timer(seconds, signal.pthread_kill, (main, signal.SIGTERM))
    timer.start()
    return timer


def test_a_stop_request_ends_the_wait_but_not_the_work():
    begun, asked, ended = threading.Event(), threading.Event(), threading.Event()

    async def loop():
        begun.set()
        while not asked.is_set():
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.05)
        ended.set()

    def ask():
        begun.wait()
        signal.pthread_kill(threading.main_thread().ident, signal.SIGTERM)
        asked.set()

    asking = threading.Thread(target=ask)
    asking.start()
    with StopFlag() as stop, pytest.raises(StoppedError), stop.raising():
        unbroken(lambda: asyncio.run(loop()))
    asking.join()
    assert ended.is_set()


@pytest.mark.long
def test_work_that_hangs_does_not_keep_the_process():
    never = threading.Event()
    with StopFlag() as stop:
        timer = after(0.1)
        with pytest.raises(StoppedError), stop.raising():
            unbroken(never.wait)
        timer.join()
    never.set()


def test_results_and_exceptions_of_the_work_are_passed_on():
    assert unbroken(lambda: (threading.current_thread() is threading.main_thread(), 7)) == (
        False,
        7,
    )
    with pytest.raises(OSError, match="full"):
        unbroken(lambda: (_ for _ in ()).throw(OSError("full")))


@pytest.mark.fault(
    "Runs: SIGTERM while a run starts",
    "143; no checkpoint is called damaged or renamed because of it",
)
@pytest.mark.parametrize(
    "trials", [pytest.param(20, id="few"), pytest.param(400, id="many", marks=pytest.mark.long)]
)
# A stop between opening and closing a file leaves closing to the garbage collector.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_stop_while_a_run_starts_leaves_its_checkpoints_alone(trials, tmp_path, capsys):
    rng, stopped = random.Random(trials), 0
    before = signal.signal(signal.SIGTERM, lambda *_: None)  # for signals that come too late
    with Checkpoints(tmp_path) as checkpoints:
        for step in (1, 2):
            checkpoints.save(step, TREE, {})
        checkpoints.wait()

        def start(stop):
            with stop.raising():
                return first_state(None, None, None, checkpoints, TREE, Progress(), stop)

        for _ in range(2):
            began = time.monotonic()
            assert start(StopFlag())[0] == 2
            took = time.monotonic() - began
        for _ in range(trials):
            with StopFlag() as stop:
                timer = after(rng.uniform(0, took))
                try:
                    start(stop)
                except StoppedError:
                    stopped += 1
                timer.join()
            assert checkpoints.steps() == [1, 2]
    signal.signal(signal.SIGTERM, before)
    output = capsys.readouterr()
    assert "WARNING" not in output.out
    assert "Traceback" not in output.err
    # Fewer if another process slowed the timed start.
    assert stopped > trials / 10


@pytest.mark.fault("Runs: SIGTERM while a run starts")
def test_after_a_stop_request_nothing_is_called_damaged(tmp_path, capsys):
    """The newest step is damaged, but a stopping run leaves that to the next run."""
    with Checkpoints(tmp_path) as checkpoints, StopFlag() as stop:
        for step in (1, 2):
            checkpoints.save(step, TREE, {})
        checkpoints.wait()
        record = tmp_path / "2" / "meta" / "metadata"
        record.write_text(record.read_text().replace('"step": 2', '"step": 3'))
        signal.raise_signal(signal.SIGTERM)
        with pytest.raises(StoppedError):
            first_state(None, None, None, checkpoints, TREE, Progress(), stop)
        assert sorted(path.name for path in tmp_path.iterdir()) == ["1", "2"]
        step, _ = first_state(None, None, None, checkpoints, TREE, Progress(), StopFlag())
        assert step == 1
        assert (tmp_path / "2.damaged").exists()
    assert capsys.readouterr().out.count("WARNING") == 1


def test_checkpoints_are_read_independently_of_the_callers_mesh(tmp_path):
    mesh = jax.make_mesh((8,), ("data",), (jax.sharding.AxisType.Auto,))
    with Checkpoints(tmp_path) as checkpoints, jax.set_mesh(mesh):
        checkpoints.save(1, TREE, {})
        checkpoints.wait()
        with jax.transfer_guard("disallow"):
            restored = checkpoints.restore(1, TREE)
        assert restored["x0"].sharding == TREE["x0"].sharding
