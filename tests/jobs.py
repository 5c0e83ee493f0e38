"""Starting the real commands as processes of their own, and watching them: for tests of faults."""

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import weakref
from pathlib import Path

# Compiled with little effort: what is tested is what runs, not how fast.
QUICK = "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"
NETWORK = [
    "--task.model.layers.hidden", "16", "--task.model.layers.size", "8",
    "--task.model.layers.input-dropout", "0.2", "--log-every", "1",
]  # fmt: skip
SMALL = [*NETWORK, "--feed.batch-triplets", "32"]
# System → the words after `python -m` that train it, and the options that make it small.
SYSTEMS = {
    "cdml": (["experiments.cdml"], SMALL),
    "gcml": (["experiments.gcml", "gcml"], SMALL),
    "gcl": (
        ["experiments.gcml", "gcl"],
        [*NETWORK, "--feed.batch-videos", "32", "--task.loss.samples", "16"],
    ),
}


def data(corpus_paths):
    found = ["--corpus.table", corpus_paths.table, "--corpus.edges", corpus_paths.edges]
    clusters = corpus_paths.hierarchy
    return [*found, "--corpus.hierarchy", clusters] if clusters else found


class Job:
    """A process of `python -m experiments.cdml` (or gcml); what it says goes to a file."""

    def __init__(self, verb, workdir, options, *, system="cdml", devices=1, environment=None):
        flags = f"{QUICK} --xla_force_host_platform_device_count={devices}"
        self.log = Path(tempfile.mkdtemp(prefix="job", dir=Path(workdir).parent)) / "output.txt"
        with self.log.open("w") as file:
            self.process = subprocess.Popen(
                [sys.executable, "-m", *SYSTEMS[system][0], verb, "--workdir", workdir, *options],
                env=os.environ | {"XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"} | (environment or {}),
                stdout=file,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
            )
        # A test that fails leaves no process behind.
        weakref.finalize(self, _kill, self.process)

    @property
    def output(self):
        return self.log.read_text(errors="replace")

    @property
    def ended(self):
        return self.process.poll() is not None

    def send(self, number):
        self.process.send_signal(number)

    def end(self, seconds=180):
        """The exit code; the process is killed when it takes longer."""
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"it still ran after {seconds:.0f} s: {self.output}") from None
        finally:
            _kill(self.process)


def _kill(process):
    process.kill()
    process.wait()


def free_port():
    with socket.socket() as listener:
        listener.bind(("localhost", 0))
        return listener.getsockname()[1]


def cluster(count, number, port, *, timeout):
    return [
        "--coordinator", f"localhost:{port}", "--processes", str(count), "--process", str(number),
        "--host-timeout-seconds", str(timeout),
    ]  # fmt: skip


def start(
    verb, workdir, options, *, processes, system="cdml", devices_each=1, own=None, timeout=40
):
    """The processes of one job, started; `own`: further options of one of them, by its number."""
    if processes == 1:
        return [Job(verb, workdir, options, system=system, devices=devices_each)]
    port = free_port()
    return [
        Job(
            verb,
            workdir,
            [
                *options,
                *(own or {}).get(number, []),
                *cluster(processes, number, port, timeout=timeout),
            ],
            system=system,
            devices=devices_each,
        )
        for number in range(processes)
    ]


def ends(jobs, seconds=180):
    """Exit codes and outputs; what still runs at the end of the time is killed."""
    deadline = time.monotonic() + seconds
    codes = [job.end(max(0.1, deadline - time.monotonic())) for job in jobs]
    return codes, [job.output for job in jobs]


def wait_for(condition, jobs, seconds=180):
    deadline = time.monotonic() + seconds
    while not condition():
        if any(job.ended for job in jobs) or time.monotonic() > deadline:
            raise AssertionError([job.output for job in jobs])
        time.sleep(0.05)


def signal_name(number):
    return signal.Signals(number).name
