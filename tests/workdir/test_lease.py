import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time

import pytest

from vidembed.files import write_text
from vidembed.workdir.lease import (
    Lease,
    LeaseHeldError,
    LeaseLostError,
    heartbeat,
    process_lives,
    this_process,
)

BEAT = 0.05
_HOLDER = """
import sys
from vidembed.workdir.lease import Lease, LeaseHeldError
try:
    with Lease(sys.argv[1], beat_seconds=0.05).held(steal="--steal" in sys.argv) as lease:
        print("holds", lease.notice, flush=True)
        sys.stdin.read()
        lease.check(now=True)
        print("held to the end", flush=True)
except LeaseHeldError as error:
    print("refused", error, flush=True)
"""


@contextlib.contextmanager
def _holder(file, *options):
    """Another process that takes the lease and prints the outcome."""
    process = subprocess.Popen(
        [sys.executable, "-c", _HOLDER, str(file), *options],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def _lease(file, **options):
    return Lease(file, beat_seconds=BEAT, **options)


def _stored(file, **changes):
    """Write a lease as left by another process."""
    owner = {**this_process(), "token": "other", "beat": time.time(), **changes}
    file.write_text(json.dumps(owner))
    return owner


def test_held_renewed_and_released(tmp_path):
    file = tmp_path / "lease.json"
    with _lease(file).held() as lease:
        shown = json.loads(file.read_text())
        assert shown["pid"] == os.getpid()
        assert shown["host"]
        assert lease.notice == ""
        time.sleep(4 * BEAT)
        assert json.loads(file.read_text())["beat"] > shown["beat"]
        lease.check(now=True)
    assert not file.exists()
    with _lease(file).held() as again:
        assert again.notice == ""


def test_a_second_run_is_refused_with_the_owner(tmp_path):
    file = tmp_path / "lease.json"
    with _holder(file) as holder:
        assert holder.stdout.readline().strip() == "holds"
        with pytest.raises(LeaseHeldError) as refusal:
            _lease(file).take()
        words = str(refusal.value)
        assert f"{tmp_path} is in use by process {holder.pid} on " in words
        assert "--steal" in words
        assert holder.communicate("")[0] == "held to the end\n"
    _lease(file).take()


def test_a_single_look_shows_whether_an_owner_is_alive(tmp_path):
    lease = Lease(tmp_path / "lease.json", stale_seconds=60)
    assert lease.why_not_held()
    with Lease(tmp_path / "lease.json").held():
        assert not lease.why_not_held()
    assert lease.why_not_held()
    gone = {**this_process(), "pid": 2**22 + 1, "started": "1", "token": "t", "beat": time.time()}
    elsewhere = {**gone, "host": "other", "machine": "other"}
    silent = {**elsewhere, "beat": time.time() - 61}
    for owner, held in ((gone, False), (elsewhere, True), (silent, False), ({}, False)):
        (tmp_path / "lease.json").write_text(json.dumps(owner))
        assert bool(lease.why_not_held()) is not held


def test_a_stolen_lease_stops_its_owner(tmp_path):
    file = tmp_path / "lease.json"
    with _lease(file).held() as lease:
        with _holder(file, "--steal") as thief:
            assert thief.stdout.readline().startswith("holds stole ")
            with pytest.raises(LeaseLostError, match=rf"taken by process {thief.pid} on .*--steal"):
                lease.check()
            with pytest.raises(LeaseLostError):
                lease.check(now=True)
            assert thief.communicate("")[0] == "held to the end\n"
        assert not file.exists()
        time.sleep(3 * BEAT)
        assert not file.exists()


def test_a_former_owner_does_not_touch_a_stolen_lease(tmp_path):
    file = tmp_path / "lease.json"
    with _lease(file).held() as lease:
        _stored(file)
        with pytest.raises(LeaseLostError):
            lease.check(now=True)
    assert json.loads(file.read_text())["token"] == "other"


def test_check_sees_at_the_next_beat_or_now(tmp_path):
    file = tmp_path / "lease.json"
    lease = _lease(file)
    lease.take()
    _stored(file)
    lease.check()
    lease.beat()
    with pytest.raises(LeaseLostError):
        lease.check()
    assert json.loads(file.read_text())["token"] == "other"


def test_a_lease_never_taken_is_never_lost(tmp_path):
    """Hosts other than the first do not hold the lease."""
    _stored(tmp_path / "lease.json")
    _lease(tmp_path / "lease.json").check(now=True)


def test_a_deleted_lease_is_written_again(tmp_path):
    file = tmp_path / "lease.json"
    lease = _lease(file)
    lease.take()
    file.unlink()
    lease.beat()
    lease.check(now=True)
    assert file.exists()


def test_a_lease_of_a_killed_owner_is_taken_over_at_once_with_a_notice(tmp_path):
    file = tmp_path / "lease.json"
    with _holder(file) as holder:
        assert holder.stdout.readline().strip() == "holds"
        holder.send_signal(signal.SIGKILL)
        holder.wait()
        assert file.exists()
        with _lease(file).held() as lease:
            assert lease.notice.startswith(f"took over from process {holder.pid} on ")
            assert lease.notice.endswith("which is gone")


def test_a_suspended_owner_is_alive_however_old_its_heartbeat(tmp_path):
    """On the same machine a suspended process counts as alive: it could wake up and write."""
    file = tmp_path / "lease.json"
    with _holder(file) as holder:
        holder.stdout.readline()
        holder.send_signal(signal.SIGSTOP)
        time.sleep(3 * BEAT)
        with pytest.raises(LeaseHeldError):
            _lease(file, stale_seconds=BEAT).take()
        holder.send_signal(signal.SIGCONT)


def test_processes_that_are_gone():
    me = this_process()
    assert process_lives(me)
    assert not process_lives({**me, "started": "1"}), "the pid was given to another process"
    assert not process_lives({**me, "pid": 2**22 + 1})
    assert process_lives({**me, "machine": "another", "pid": 2**22 + 1}), "nothing is known of it"


def test_a_zombie_is_gone(tmp_path):
    """A zombie is a killed process whose parent has not waited for it; its pid is still in use."""
    file = tmp_path / "lease.json"
    with _holder(file) as holder:
        holder.stdout.readline()
        owner = json.loads(file.read_text())
        assert process_lives(owner)
        holder.send_signal(signal.SIGKILL)
        os.waitid(os.P_PID, holder.pid, os.WEXITED | os.WNOWAIT)
        assert not process_lives(owner)


def test_an_owner_on_another_machine_is_replaced_only_if_silent(tmp_path):
    file = tmp_path / "lease.json"
    _stored(file, machine="another", host="far", beat=time.time() - 30)
    with pytest.raises(LeaseHeldError, match=r"process \d+ on far, since .*heard of 30 s ago"):
        _lease(file).take()
    _stored(file, machine="another", host="far", beat=time.time() - 90)
    with _lease(file).held() as lease:
        assert re.fullmatch(r"took over from process \d+ on far, .* 90 s ago", lease.notice)


def test_a_heartbeat_outlives_any_error():
    """Object-storage clients raise their own exceptions, which are not OSErrors."""
    beats = threading.Semaphore(0)

    def beat():
        beats.release()
        raise ValueError("no such bucket")

    with heartbeat(beat, 0.01):
        for _ in range(3):
            assert beats.acquire(timeout=30)


def test_a_changing_heartbeat_is_alive_whatever_its_clock_says(tmp_path):
    file = tmp_path / "lease.json"
    owner = _stored(file, machine="another", beat=time.time() - 4000)

    def late_beat():
        owner["beat"] += BEAT
        write_text(file, json.dumps(owner))

    with heartbeat(late_beat, BEAT), pytest.raises(LeaseHeldError, match="is in use"):
        _lease(file).take()


@pytest.mark.parametrize("text", ["", "[1]", "{}", '{"token": "x"', "\x00"])
def test_an_unreadable_lease_is_watched_then_taken(tmp_path, text):
    file = tmp_path / "lease.json"
    file.write_text(text)
    with _lease(file).held() as lease:
        assert "unreadable" in lease.notice


def test_only_one_of_many_processes_takes_over_a_dead_lease(tmp_path):
    file = tmp_path / "lease.json"
    _stored(file, started="1")
    with contextlib.ExitStack() as stack:
        holders = [stack.enter_context(_holder(file)) for _ in range(5)]
        words = [holder.stdout.readline().split()[0] for holder in holders]
    assert sorted(words) == ["holds", *["refused"] * 4]


def test_reading_and_taking_are_atomic(tmp_path, monkeypatch):
    """However long the write takes, no other process reads in between."""
    file = tmp_path / "lease.json"

    def slowly(path, text):
        time.sleep(0.1)
        write_text(path, text)

    monkeypatch.setattr("vidembed.files.write_text", slowly)
    outcomes = []

    def take():
        try:
            _lease(file).take()
            outcomes.append("holds")
        except LeaseHeldError:
            outcomes.append("refused")

    threads = [threading.Thread(target=take) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == ["holds", "refused", "refused", "refused"]


def test_the_heartbeat_survives_a_full_disk(tmp_path, monkeypatch):
    file = tmp_path / "lease.json"
    with _lease(file).held() as lease:
        with monkeypatch.context() as patch:
            patch.setattr("vidembed.files.write_text", _full)
            time.sleep(3 * BEAT)
        before = json.loads(file.read_text())["beat"]
        time.sleep(4 * BEAT)
        assert json.loads(file.read_text())["beat"] > before
        lease.check(now=True)


def _full(*_):
    raise OSError(28, "No space left on device")
