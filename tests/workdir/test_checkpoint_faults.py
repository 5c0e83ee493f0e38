"""Kills, full disks and flipped bits, on real checkpoints."""

import contextlib
import errno
import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import pytest

from vidembed.workdir.checkpoints.record import CheckpointError, DigestError, MismatchError
from vidembed.workdir.checkpoints.store import Checkpoints


def _noise(step, rows=400_000):
    return {"x": jax.random.normal(jax.random.key(step), (rows,)), "step": jnp.int32(step)}


def _like(rows=400_000):
    return {
        "x": jax.ShapeDtypeStruct((rows,), jnp.float32),
        "step": jax.ShapeDtypeStruct((), "int32"),
    }


def _assert_is_step(tree, step):
    assert int(tree["step"]) == step
    np.testing.assert_array_equal(tree["x"], _noise(step, tree["x"].size)["x"])


# ---- flipped bits


def _flip(path, bit):
    data = bytearray(path.read_bytes())
    data[bit // 8] ^= 1 << bit % 8
    path.write_bytes(data)


def _array_data(folder):
    """The large files, which hold most of the array data."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    return [path for path in files if path.stat().st_size > 10_000]


def _flips_found(folder, flips, seed):
    """Count the single flipped bits in the array data of step 2 that are detected."""
    draw = random.Random(seed)
    with Checkpoints(folder) as checkpoints:
        checkpoints.save(1, _noise(1, 20_000), {})
        checkpoints.save(2, _noise(2, 20_000), {})
    reader = Checkpoints(folder, read_only=True)
    like = _like(20_000)
    files = _array_data(folder / "2")
    assert sum(file.stat().st_size for file in files) > 60_000
    detected = 0
    for _ in range(flips):
        file = draw.choice(files)
        bit = draw.randrange(8 * file.stat().st_size)
        _flip(file, bit)
        with contextlib.suppress(DigestError):
            reader.restore(2, like)
            detected -= 1
        detected += 1
        _flip(file, bit)
    _assert_is_step(reader.restore(2, like), 2)
    return detected


@pytest.mark.fault(
    "Runs: one host reads a checkpoint wrongly",
    "all hosts skip the step, or all end",
)
def test_damage_that_one_host_finds_is_for_all_hosts(tmp_path, monkeypatch):
    """This host's copy is intact; each decision about the step is made by all hosts together."""
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, _noise(1, 20), {})
    calls = []

    def together(work, *errors):
        result = work()
        calls.append(errors)
        if len(calls) == 3:
            raise DigestError("process 1: the bits of x are not those that were saved")
        return result

    monkeypatch.setattr("vidembed.workdir.checkpoints.store.together", together)
    reader = Checkpoints(tmp_path, read_only=True)
    with pytest.raises(DigestError, match="process 1: the bits of x"):
        reader.restore_newest(_like(20))


@pytest.mark.fault(
    "Runs: bits flipped in a checkpoint",
    "warning, the previous step is used, the damaged one is renamed to `{step}.damaged`; if no "
    "step is intact 1, with a remedy, and nothing is renamed",
)
def test_flipped_bits_of_arrays_are_found(tmp_path):
    assert _flips_found(tmp_path, flips=6, seed=0) == 6


@pytest.mark.fault("Runs: bits flipped in a checkpoint")
@pytest.mark.long
def test_sixty_flipped_bits_of_arrays_are_found(tmp_path):
    assert _flips_found(tmp_path, flips=60, seed=1) == 60


@pytest.mark.long
def test_a_flipped_bit_anywhere_is_found_or_harmless(tmp_path):
    """In every file of a checkpoint, also the small ones: never a wrong number, never a crash."""
    draw = random.Random(2)
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, _noise(1, 500), {"data": "abc"})
    reader = Checkpoints(tmp_path, read_only=True)
    for file in sorted(path for path in (tmp_path / "1").rglob("*") if path.is_file()):
        for bit in draw.sample(range(8 * file.stat().st_size), min(20, 8 * file.stat().st_size)):
            _flip(file, bit)
            with contextlib.suppress(DigestError, MismatchError):
                _assert_is_step(reader.restore(1, _like(500)), 1)
                assert reader.meta(1) == {"data": "abc"}
            _flip(file, bit)


def test_an_array_exchanged_for_another_is_found_by_name(tmp_path):
    """Well-formed files with other numbers: only the digest detects them."""
    for folder, value in ((tmp_path / "a", 1.0), (tmp_path / "b", 2.0)):
        with Checkpoints(folder) as checkpoints:
            checkpoints.save(1, {"same": jnp.ones(8), "deep": {"kernel": jnp.full(8, value)}}, {})
    shutil.rmtree(tmp_path / "a" / "1" / "arrays")
    shutil.copytree(tmp_path / "b" / "1" / "arrays", tmp_path / "a" / "1" / "arrays")
    reader = Checkpoints(tmp_path / "a", read_only=True)
    with pytest.raises(DigestError, match=r"the bits of deep/kernel are not .* no older step"):
        reader.restore(1, {"same": jnp.ones(8), "deep": {"kernel": jnp.ones(8)}})


def test_a_tampered_record_is_found(tmp_path):
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, _noise(1, 10), {"data": "abc"})
    reader = Checkpoints(tmp_path, read_only=True)
    file = tmp_path / "1" / "meta" / "metadata"
    good = file.read_text()
    for bad in (good.replace("abc", "abd"), good[:-5], "[]", "", '{"format": 1}', "\x00\xff"):
        file.write_bytes(bad.encode("latin-1"))
        with pytest.raises(DigestError, match=r"step 1 is damaged: .*metadata"):
            reader.meta(1)
        with pytest.raises(DigestError):
            reader.restore(1, _like(10))
    file.unlink()
    with pytest.raises(DigestError):
        reader.meta(1)
    file.write_text(good)
    (tmp_path / "1").rename(tmp_path / "2")
    with pytest.raises(DigestError, match="step 2 is damaged"):
        reader.meta(2)


def test_a_later_format_is_refused_by_number(tmp_path):
    from vidembed.workdir.checkpoints import record

    later = record.write_record(3, {}, {}, {})
    later["format"] = 2
    later["digest"] = record._digest({k: v for k, v in later.items() if k != "digest"})
    with pytest.raises(CheckpointError, match=r"step 3 has format 2, .* reads 1"):
        record.read_record(json.dumps(later), 3)


def test_the_newest_intact_step_is_restored_with_warnings(tmp_path):
    like = _like(20_000)
    with Checkpoints(tmp_path) as checkpoints:
        for step in (1, 2, 3):
            checkpoints.save(step, _noise(step, 20_000), {})
        checkpoints.wait()
        step, tree, troubles = checkpoints.restore_newest(like)
        assert (step, troubles) == (3, [])
        for bad in (3, 2):
            file = max(_array_data(tmp_path / str(bad)), key=lambda path: path.stat().st_size)
            _flip(file, 4 * file.stat().st_size)
        step, tree, troubles = checkpoints.restore_newest(like)
        _assert_is_step(tree, 1)
        assert step == 1
        assert [words[:17] for words in troubles] == ["step 3 is damaged", "step 2 is damaged"]
        shutil.rmtree(tmp_path / "1" / "arrays")
        with pytest.raises(DigestError, match="step 3 is damaged"):
            checkpoints.restore_newest(like)


# ---- disks that fail


@pytest.mark.fault(
    "Runs: a disk fault, missing permissions or lack of memory while an intact checkpoint is read",
    "1: the system's own error, on all hosts; nothing is called damaged or renamed, and the same "
    "command resumes from it",
)
@pytest.mark.parametrize("how", ["raised", "in words", "as a number", "in a file's bytes"])
def test_a_disk_that_fails_is_not_called_damage(how, tmp_path, monkeypatch):
    """The disk's own error is raised, nothing is renamed, and the step can be read next time."""
    with Checkpoints(tmp_path) as checkpoints:
        for step in (1, 2):
            checkpoints.save(step, _noise(step, 20), {})
    fired = []
    words = {
        "raised": OSError(errno.EIO, "Input/output error", "/disk"),
        "in words": ValueError('UNKNOWN: Error reading "x/.zarray": Input/output error'),
        "as a number": ValueError("UNKNOWN: Error reading x [os_error_code='5']"),
        "in a file's bytes": Exception("Encountered error while reading array index"),
    }[how]

    def failing(*_, **__):
        fired.append("restore")
        raise RuntimeError("read") from words

    def unreadable(path, *mode, **options):
        fired.append("bytes")
        raise OSError(errno.EIO, "Input/output error", path)

    with monkeypatch.context() as patch:
        patch.setattr(ocp.CompositeCheckpointHandler, "restore", failing)
        patch.setattr("vidembed.workdir.checkpoints.unreadable.open", unreadable, raising=False)
        with (
            Checkpoints(tmp_path) as checkpoints,
            pytest.raises(OSError, match="Input/output error; the checkpoint stays as it is") as e,
        ):
            checkpoints.restore_newest(_like(20))
    assert e.value.errno == errno.EIO
    assert fired == (["restore", "bytes"] if how == "in a file's bytes" else ["restore"])
    assert _names(tmp_path) == ["1", "2"]
    assert Checkpoints(tmp_path, read_only=True).restore_newest(_like(20))[0] == 2


@pytest.mark.fault(
    "Runs: a disk fault, missing permissions or lack of memory while an intact checkpoint is read",
)
@pytest.mark.parametrize("error", [MemoryError(), jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED")])
def test_lack_of_memory_is_not_called_damage(error, tmp_path, monkeypatch):
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, _noise(1, 20), {})

    def failing(*_, **__):
        raise error

    monkeypatch.setattr(ocp.CompositeCheckpointHandler, "restore", failing)
    with pytest.raises(type(error)):
        Checkpoints(tmp_path, read_only=True).restore_newest(_like(20))


@pytest.mark.fault(
    "Runs: a disk fault, missing permissions or lack of memory while an intact checkpoint is read",
)
def test_a_checkpoint_whose_files_may_not_be_read():
    """Real files, each in turn; as another user if the tests run as root."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)  # pytest's own folders are closed to others
        with Checkpoints(folder) as checkpoints:
            checkpoints.save(1, _noise(1, 20), {})
        reader, refused = Checkpoints(folder, read_only=True), 0
        for file in sorted(path for path in folder.rglob("*") if path.is_file()):
            file.chmod(0)
            os.geteuid() or os.seteuid(65534)
            try:
                reader.restore_newest(_like(20))  # not every file is needed
            except PermissionError:
                refused += 1
            finally:
                os.getuid() or os.seteuid(0)
                file.chmod(0o644)
    assert refused > 4


# ---- disks that are full


@contextlib.contextmanager
def _small_disk(folder, size):
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)], capture_output=True
    )
    if mounted.returncode:
        pytest.skip(f"needs the right to mount a small disk: {mounted.stderr.decode().strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


@contextlib.contextmanager
def _small_files(size):
    """Limit the file size of this process: larger writes fail, for any user."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def _names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_lack_of_space_is_detected_before_the_save(tmp_path):
    with Checkpoints(tmp_path, free_space_factor=1e12) as checkpoints:
        with pytest.raises(CheckpointError, match=r"needs 44,000(,000)+ bytes, the disk of") as e:
            checkpoints.save(1, {"x": jnp.zeros(11_000)}, {})
        assert "Nothing was written; the newest good step is none" in str(e.value)
    assert _names(tmp_path) == []


def test_a_full_disk_keeps_the_last_good_step(tmp_path):
    with _small_disk(tmp_path, "4m"), Checkpoints(tmp_path, free_space_factor=0) as checkpoints:
        checkpoints.save(1, _noise(1), {})
        checkpoints.wait()
        checkpoints.save(2, _noise(2, 1_000_000), {})
        with pytest.raises(CheckpointError, match="save of step 2 failed: the disk is full: ") as e:
            checkpoints.wait()
        leftovers = f"Its leftovers in {tmp_path} were removed; the newest good step is 1."
        assert leftovers in str(e.value)
        assert "Free some space, keep fewer checkpoints, and start again" in str(e.value)
        assert _names(tmp_path) == ["1"]
        _assert_is_step(checkpoints.restore(1, _like()), 1)
        checkpoints.save(2, _noise(2, 1000), {})
        checkpoints.wait()
        assert checkpoints.steps() == [1, 2]


def _failing_save(checkpoints):
    """A save of step 2 that fails in the background, after `save` has returned."""
    with _small_files(100_000):
        checkpoints.save(2, _noise(2), {})
        checkpoints._orbax._async_manager._thread.join()


def test_a_failure_in_the_background_is_raised_at_the_next_call(tmp_path):
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, _noise(1, 100), {})
        for call in (
            checkpoints.check,
            checkpoints.wait,
            lambda: checkpoints.save(3, _noise(3, 100), {}),
        ):
            _failing_save(checkpoints)
            with pytest.raises(
                CheckpointError, match=r"the save of step 2 failed: .*newest .* is 1"
            ):
                call()
            assert _names(tmp_path) == ["1"]
            checkpoints.check()
        checkpoints.save(4, _noise(4, 100), {})
    assert _names(tmp_path) == ["1", "4"]


def test_a_failure_is_raised_at_the_end_but_hides_no_other(tmp_path):
    with (
        pytest.raises(CheckpointError, match="the save of step 2 failed"),
        Checkpoints(tmp_path) as checkpoints,
    ):
        _failing_save(checkpoints)
    with pytest.raises(ZeroDivisionError), Checkpoints(tmp_path) as checkpoints:
        _failing_save(checkpoints) or 1 / 0
    assert _names(tmp_path) == []


# ---- kills

_WRITER = """
import sys, jax, jax.numpy as jnp
from vidembed.workdir.checkpoints.store import Checkpoints
noise = jax.random.normal(jax.random.key(0), (1_000_000,))
with Checkpoints(sys.argv[1]) as checkpoints:
    step = checkpoints.latest() or 0
    print("started", flush=True)
    while True:
        step += 1
        checkpoints.save(step, {"x": noise + step}, {"step": step})
        checkpoints.delete(checkpoints.steps()[:-2])
        checkpoints.wait()
        print(step, flush=True)
"""


def _kill_savers(folder, delays):
    """Kill writers, and check that no partial step counts and no durable step is lost.

    delays: seconds from start to kill; if negative, from the first save. Returns how many kills
    left unfinished folders.
    """
    noise = jax.random.normal(jax.random.key(0), (1_000_000,))
    unfinished = newest = 0
    for delay in delays:
        writer = subprocess.Popen(
            [sys.executable, "-c", _WRITER, str(folder)], stdout=subprocess.PIPE, text=True
        )
        lines = [writer.stdout.readline()]
        if delay < 0:
            lines.append(writer.stdout.readline())
        time.sleep(abs(delay))
        writer.send_signal(signal.SIGKILL)
        lines += writer.communicate()[0].splitlines()
        assert lines[0] == "started\n"
        newest = max([newest, *(int(word) for word in lines[1:])])
        unfinished += any(not name.isdecimal() for name in _names(folder))
        with Checkpoints(folder) as checkpoints:
            assert all(name.isdecimal() for name in _names(folder))
            steps = checkpoints.steps()
            # One more step may have become durable without being printed.
            assert max(steps, default=0) in (newest, newest + 1)
            newest = max(steps, default=0)
            for step in steps:
                restored = checkpoints.restore(step, {"x": noise})
                np.testing.assert_array_equal(restored["x"], noise + step)
                assert checkpoints.meta(step) == {"step": step}
    return unfinished


@pytest.mark.fault(
    "Runs: SIGKILL in a save",
    "the previous step is used; leftovers are removed",
)
def test_killed_while_saving(tmp_path):
    _kill_savers(tmp_path, [0.2, -0.03])


@pytest.mark.long
def test_killed_while_saving_many_times(tmp_path):
    draw = random.Random(4)
    first = [draw.uniform(0, 0.5) for _ in range(5)]
    later = [-draw.uniform(0, 0.2) for _ in range(20)]
    assert _kill_savers(tmp_path, first + later) > 0


def test_a_deletion_cut_short_leaves_no_step(tmp_path, monkeypatch):
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, _noise(1, 10), {})
        checkpoints.save(2, _noise(2, 10), {})
        checkpoints.wait()

        def die(*_, **__):
            raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr(type(checkpoints.folder), "rmtree", die)
            with pytest.raises(KeyboardInterrupt):
                checkpoints.delete([1])
        assert checkpoints.steps() == [2]
    assert _names(tmp_path) == ["1.deleted", "2"]
    with Checkpoints(tmp_path):
        assert _names(tmp_path) == ["2"]


# ---- noise

_NOISY = """
import resource, sys, warnings
import jax, jax.numpy as jnp
from vidembed.workdir.checkpoints.store import Checkpoints, CheckpointError
tree = {"x": jax.random.normal(jax.random.key(0), (400_000,))}
with Checkpoints(sys.argv[1]) as checkpoints:
    checkpoints.save(1, tree, {})
    checkpoints.wait()
    assert checkpoints.restore_newest(tree)[0] == 1
    hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    checkpoints.save(2, tree, {})
    try:
        checkpoints.wait()
        sys.exit("no failure")
    except CheckpointError:
        pass
list(Checkpoints(sys.argv[1], read_only=True).follow(lambda: True))
"""


def test_nothing_is_written_to_the_terminal(tmp_path):
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", _NOISY, str(tmp_path)], capture_output=True, text=True
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_orbax_still_uses_the_known_names():
    from vidembed.workdir.checkpoints import step_folder

    assert step_folder._UNFINISHED == ocp.utils.TMP_DIR_SUFFIX
    assert step_folder._FINISHED == ocp.path.atomicity.COMMIT_SUCCESS_FILE
