import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from tests.jobs import free_port
from vidembed.distributed.stopped import EXIT_STOPPED
from vidembed.distributed.stopping import StopFlag, StoppedError


def _send(number):
    os.kill(os.getpid(), number)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_is_a_flag_until_the_end(number):
    before = signal.getsignal(number)
    with StopFlag() as stop:
        assert not stop.asked
        assert not stop.reached()
        _send(number)
        assert stop.asked
        assert stop.reached()
        assert stop.reached()
    assert signal.getsignal(number) is before
    with stop:
        assert not stop.reached()


def test_more_sigterms_change_nothing():
    with StopFlag() as stop:
        for _ in range(3):
            _send(signal.SIGTERM)
        assert stop.asked


def test_the_second_interrupt_raises():
    with StopFlag() as stop:
        _send(signal.SIGTERM)
        _send(signal.SIGINT)
        assert stop.asked
        with pytest.raises(KeyboardInterrupt):
            _send(signal.SIGINT)
    with stop:
        _send(signal.SIGINT)
        assert stop.asked


def test_waits_end_on_a_stop_request():
    with StopFlag() as stop:
        assert not stop.sleep(0.01)
        main = threading.main_thread().ident
        timer = threading.Timer(0.1, signal.pthread_kill, (main, signal.SIGTERM))
        timer.start()
        began = time.monotonic()
        assert stop.sleep(30)
        assert time.monotonic() - began < 20
        timer.join()


def _raising(stop, work):
    with stop.raising():
        return work()


def test_a_stop_request_raises_at_once_while_there_is_nothing_to_save():
    def work():
        _send(signal.SIGTERM)
        pytest.fail("continued")

    with StopFlag() as stop:
        assert _raising(stop, lambda: 7) == 7
        with pytest.raises(StoppedError, match="stopped as asked"):
            _raising(stop, work)
        with pytest.raises(StoppedError):
            _raising(stop, lambda: pytest.fail("started, though asked to stop"))


def test_outside_the_block_the_signal_is_a_flag():
    with StopFlag() as stop:
        _raising(stop, lambda: _raising(stop, lambda: None))
        _send(signal.SIGTERM)
        assert stop.reached()


def test_a_second_signal_does_not_interrupt_the_unwinding():
    unwound = []

    def work():
        try:
            _send(signal.SIGTERM)
        finally:
            _send(signal.SIGTERM)
            unwound.append(True)

    with StopFlag() as stop, pytest.raises(StoppedError):
        _raising(stop, work)
    assert unwound


class _Noisy:
    def __del__(self):
        _send(signal.SIGTERM)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_an_exception_swallowed_by_python_is_raised_at_the_end():
    continued = []

    def swallowed():
        _Noisy()  # Python swallows an exception in a destructor
        continued.append(True)

    with StopFlag() as stop, pytest.raises(StoppedError):
        _raising(stop, swallowed)
    assert continued


def test_except_exception_does_not_catch_it():
    assert not issubclass(StoppedError, Exception)


def test_a_process_saves_and_exits_on_a_stop_request():
    code = """
import sys, time
from vidembed.distributed.stopped import EXIT_STOPPED
from vidembed.distributed.stopping import StopFlag
with StopFlag() as stop:
    print("runs", flush=True)
    for step in range(10**6):
        if stop.reached():
            print("saved", flush=True)
            sys.exit(EXIT_STOPPED)
        time.sleep(0.01)
"""
    child = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert child.stdout.readline() == "runs\n"
    child.terminate()
    assert child.communicate()[0] == "saved\n"
    assert child.returncode == EXIT_STOPPED == 143


_HOST = """
import sys, time, jax
jax.distributed.initialize(sys.argv[1], 2, int(sys.argv[2]))
from vidembed.distributed.stopping import StopFlag
with StopFlag() as stop:
    print("runs", flush=True)
    for step in range(10**6):
        if stop.reached():
            print("stops", step, flush=True)
            break
        time.sleep(0.01 * (1 + int(sys.argv[2])))
"""


def _two_hosts(program):
    """Start two processes of a program, each with a common address and its index."""
    address = f"localhost:{free_port()}"
    return [
        subprocess.Popen(
            [sys.executable, "-c", program, address, str(index)],
            env=os.environ | {"XLA_FLAGS": "", "JAX_PLATFORMS": "cpu"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for index in range(2)
    ]


@pytest.mark.long
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_two_hosts_stop_at_the_same_step(number):
    """Only one host gets the signal; the slower one determines the step."""
    hosts = _two_hosts(_HOST)
    try:
        first = [host.stdout.readline() for host in hosts]
        time.sleep(0.3)
        hosts[1].send_signal(number)
    finally:
        # JAX catches SIGTERM, so only this ends a host that does not poll.
        watchdog = threading.Timer(60, lambda: [host.kill() for host in hosts])
        watchdog.start()
        outputs = [host.communicate() for host in hosts]
        watchdog.cancel()
    assert first == ["runs\n", "runs\n"], outputs
    assert outputs[0][0].startswith("stops "), outputs
    assert outputs[0][0] == outputs[1][0], outputs
    assert [host.returncode for host in hosts] == [0, 0], outputs


_READER = """
import sys, time, jax
from pathlib import Path
jax.distributed.initialize(sys.argv[1], 2, int(sys.argv[2]))
from vidembed.distributed.agree import meet
from vidembed.distributed.stopping import StopFlag, StoppedError
with StopFlag() as stop:
    try:
        with stop.raising():
            print("reads", flush=True)
            while not Path(sys.argv[3]).exists():
                time.sleep(0.05)
            meet("both have read")
            print("read", flush=True)
        for step in range(500, 600):
            if stop.reached():
                print("stops at", step, flush=True)
                break
            time.sleep(0.05)
    except StoppedError:
        print("stops after reading", flush=True)
"""


@pytest.mark.long
def test_two_hosts_with_a_stop_request_while_reading_stop_before_training(tmp_path):
    """Whatever step they would have resumed from."""
    address, gate = f"localhost:{free_port()}", tmp_path / "gate"
    logs = [tmp_path / f"log{index}" for index in range(2)]
    written = [log.open("w") for log in logs]
    hosts = [
        subprocess.Popen(
            [sys.executable, "-c", _READER, address, str(index), str(gate)],
            env=os.environ | {"XLA_FLAGS": "", "JAX_PLATFORMS": "cpu", "TF_CPP_MIN_LOG_LEVEL": "0"},
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )
        for index, log in enumerate(written)
    ]
    for log in written:
        log.close()
    try:
        first = [host.stdout.readline() for host in hosts]
        hosts[1].send_signal(signal.SIGTERM)
        # JAX's log shows when the hosts have agreed; without it they would stop at a later poll.
        deadline = time.monotonic() + 60
        while not all("Preemption sync counter is set" in log.read_text() for log in logs):
            assert time.monotonic() < deadline, [log.read_text() for log in logs]
            time.sleep(0.05)
        gate.touch()
    finally:
        watchdog = threading.Timer(60, lambda: [host.kill() for host in hosts])
        watchdog.start()
        outputs = [host.communicate() for host in hosts]
        watchdog.cancel()
    assert first == ["reads\n", "reads\n"], outputs
    assert all(out.endswith("read\nstops after reading\n") for out, _ in outputs), outputs
    assert [host.returncode for host in hosts] == [0, 0], outputs


_INTERRUPTED = """
import os, signal, sys, time, jax
jax.distributed.initialize(sys.argv[1], 2, int(sys.argv[2]))
from vidembed.cli.command_line import guarded
from vidembed.distributed.stopping import StopFlag

def run():
    with StopFlag():
        print("runs", flush=True)
        if jax.process_index() == 1:
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGINT)
        time.sleep(600)

sys.exit(guarded(run))
"""


@pytest.mark.long
def test_a_second_interrupt_ends_a_host_at_once():
    """And not only when the other hosts end, which wait for it."""
    hosts = _two_hosts(_INTERRUPTED)
    try:
        _, errors = hosts[1].communicate(timeout=60)
        code_of_first = hosts[0].poll()
    finally:
        for host in hosts:
            host.kill()
        hosts[0].communicate()
    assert hosts[1].returncode == 130, errors
    assert errors.endswith("interrupted\n")
    assert code_of_first is None
