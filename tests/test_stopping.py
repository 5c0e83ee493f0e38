import os
import signal
import socket
import subprocess
import sys
import threading
import time

import pytest

from vidembed.stopping import EXIT_STOPPED, StopFlag


def _send(number):
    os.kill(os.getpid(), number)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_is_a_flag_until_the_end(number):
    before = signal.getsignal(number)
    with StopFlag() as stop:
        assert not stop.asked
        assert not stop.reached(1)
        _send(number)
        assert stop.asked
        assert stop.reached(2)
        assert stop.reached(3)
    assert signal.getsignal(number) is before
    with stop:
        assert not stop.reached(4)


def test_more_sigterms_change_nothing():
    with StopFlag() as stop:
        for _ in range(3):
            _send(signal.SIGTERM)
        assert stop.asked


def test_the_second_interrupt_is_one():
    with StopFlag() as stop:
        _send(signal.SIGTERM)
        _send(signal.SIGINT)
        assert stop.asked
        with pytest.raises(KeyboardInterrupt):
            _send(signal.SIGINT)
    with stop:
        _send(signal.SIGINT)
        assert stop.asked


def test_waits_end_when_asked():
    with StopFlag() as stop:
        assert not stop.sleep(0.01)
        main = threading.main_thread().ident
        timer = threading.Timer(0.1, signal.pthread_kill, (main, signal.SIGTERM))
        timer.start()
        began = time.monotonic()
        assert stop.sleep(30)
        assert time.monotonic() - began < 20
        timer.join()


def test_a_process_that_is_asked_saves_and_says_so():
    code = """
import sys, time
from vidembed.stopping import EXIT_STOPPED, StopFlag
with StopFlag() as stop:
    print("runs", flush=True)
    for step in range(10**6):
        if stop.reached(step):
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
from vidembed.stopping import StopFlag
with StopFlag() as stop:
    print("runs", flush=True)
    for step in range(10**6):
        if stop.reached(step):
            print("stops", step, flush=True)
            break
        time.sleep(0.01 * (1 + int(sys.argv[2])))
"""


def _free_address():
    with socket.socket() as free:
        free.bind(("localhost", 0))
        return f"localhost:{free.getsockname()[1]}"


@pytest.mark.long
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_two_hosts_stop_at_the_same_step(number):
    """Only one is asked; the slower one sets the step."""
    address = _free_address()
    hosts = [
        subprocess.Popen(
            [sys.executable, "-c", _HOST, address, str(index)],
            env=os.environ | {"XLA_FLAGS": "", "JAX_PLATFORMS": "cpu"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for index in range(2)
    ]
    try:
        first = [host.stdout.readline() for host in hosts]
        time.sleep(0.3)
        hosts[1].send_signal(number)
    finally:
        # JAX catches SIGTERM: nothing but this ends a host that does not poll.
        watchdog = threading.Timer(60, lambda: [host.kill() for host in hosts])
        watchdog.start()
        told = [host.communicate() for host in hosts]
        watchdog.cancel()
    assert first == ["runs\n", "runs\n"], told
    assert told[0][0].startswith("stops "), told
    assert told[0][0] == told[1][0], told
    assert [host.returncode for host in hosts] == [0, 0], told
