import re
from dataclasses import replace

import jax
import pytest

from experiments.cdml import recipe as cdml
from vidembed.cli.imagined import Imagined
from vidembed.cli.show import as_bytes, collective_lines, show
from vidembed.corpora.watched import CorpusPaths
from vidembed.distributed.mesh import MeshShape
from vidembed.engine.compiled_cost import StepCost
from vidembed.engine.compiled_text import Collective
from vidembed.feeds.triplets import Triplets
from vidembed.models.blocks import Blocks
from vidembed.models.fusion import LateFusion, Layers
from vidembed.recipes import annotation
from vidembed.tasks.metric_learning import MetricLearning

TASK = MetricLearning(model=LateFusion(layers=Layers(hidden=(16,), size=8)))


def columns(line):
    return re.split(r"\s{2,}", line.strip())


def cost_of(devices, kind="TPU v5 lite", **changes):
    pool = Collective(
        kind="all-gather", operands="f32[3,112,256]", put=344_064, devices=devices, times=1,
        asynchronous=False,
    )  # fmt: skip
    small = Collective(
        kind="all-reduce", operands="f32[]", put=4, devices=devices, times=1,
        asynchronous=False,
    )  # fmt: skip
    given = {
        "mesh": {"data": devices, "model": 1}, "device_kind": kind, "examples": 7168,
        "arguments": {"state": 80e6, "constants": 144e6, "batch": 3e4}, "temporaries": 27e6,
        "operations": 11.8e9, "products": {"float32": 11.5e9}, "traffic": 1.7e9,
        "collectives": (pool, small), "unknown_loops": 0, "compile_seconds": 1.0,
    }  # fmt: skip
    return StepCost(**{**given, **changes})


def test_a_step_is_compiled_for_the_devices_here(corpus_paths, capsys):
    show(replace(cdml, corpus=corpus_paths, task=TASK, feed=Triplets(batch_triplets=64)))
    text = capsys.readouterr().out
    assert f"data: {corpus_paths.table}, 300 videos" in text
    # Two towers: (8 + 4) inputs to 16, twice 16 to 8, and the biases.
    assert f"parameters: {(12 + 2) * 16 + 2 * (16 + 1) * 8:,}" in text
    rows = {name: values for name, *values in map(columns, text.splitlines())}
    assert rows["one step, per device"] == ["8 × cpu"]
    assert rows["mesh"] == ["data 8 × model 1"]
    # 300 rows padded to 304 over eight devices, 12 bytes each.
    assert rows["share of the table"] == ["456 bytes"]
    # No data sheet of a CPU, so no times: only the compilation took milliseconds.
    assert "no times are given" in text
    assert " ms" not in text
    assert rows["feature table"] == ["3.6 kB"]


def test_slices_are_columns_and_an_uneven_batch_is_exchanged(monkeypatch, capsys):
    devices = {"v5e:2x2": jax.devices()[:4], "v5e:2x4": jax.devices()}
    monkeypatch.setattr("vidembed.cli.show.slice_devices", devices.__getitem__)
    monkeypatch.setattr(
        "vidembed.cli.show.step_cost", lambda recipe, arguments, mesh: cost_of(mesh.size)
    )
    recipe = replace(cdml, task=TASK, feed=Triplets(batch_triplets=7164))
    show(recipe, tuple(devices), Imagined(videos=1000, degree=4))
    text = capsys.readouterr().out
    assert (
        "v5e:2x4: 7,164 triplets cannot be divided evenly over 8 chips; compiled with 7,160" in text
    )
    assert "v5e:2x2: 7,164" not in text
    rows = {name: values for name, *values in map(columns, text.splitlines())}
    assert rows["one step, per device"] == ["v5e:2x2", "v5e:2x4"]
    assert rows["in all"] != ["251.0 MB of 16.0 GB"] * 2  # the last one is that of the hosts
    assert "251.0 MB of 16.0 GB" in text
    assert rows["products"] == [f"{11.5e9 / (197e12 / 6) * 1e3:.3f} ms"] * 2
    assert rows["memory, at most"] == [f"{1.7e9 / 819e9 * 1e3:.3f} ms"] * 2
    assert "from the data sheet, at peak rates; not measured" in text


def test_collectives_are_listed_with_bytes_and_data_sheet_times():
    pool, small = collective_lines(cost_of(64))
    sent = 63 * 344_064
    assert pool == (
        f"all-gather of f32[3,112,256] among 64 devices: 22.0 MB, sends {as_bytes(sent)}, "
        f"{sent / 200e9 * 1e3:.3f} ms by the data sheet, synchronous"
    )
    assert small == "smaller collectives: 1, sending 8 bytes in total"
    [line, *_] = collective_lines(cost_of(64, kind="cpu"))
    assert line.endswith("sends 21.7 MB, synchronous")
    alone = cost_of(1, collectives=(), unknown_loops=2)
    assert collective_lines(alone) == [
        "nothing is sent between devices",
        "loops of unknown length, counted as one iteration: 2",
    ]


def test_a_mesh_of_other_devices_is_not_compiled_here(capsys):
    feed, mesh = Triplets(batch_triplets=64), MeshShape(data=16, model=2)
    recipe = replace(cdml, task=TASK, feed=feed, mesh=mesh)
    show(recipe, (), Imagined(videos=1000, degree=4))
    text = capsys.readouterr().out
    assert "not compiled: mesh data 16 × model 2 does not match the 8 devices here" in text
    assert "memory per host" in text


def test_a_refusal_comes_alone(capsys):
    with pytest.raises(ValueError, match="choose 56 or 64"):
        show(replace(cdml, task=TASK, feed=Triplets(batch_triplets=60)))
    with pytest.raises(ValueError, match="nowhere"):
        show(replace(cdml, corpus=CorpusPaths(table="nowhere", edges="nowhere")))
    assert capsys.readouterr().out == ""


def test_an_annotation_step_is_compiled_for_imagined_labels(capsys):
    feed = replace(annotation.recipe.feed, batch_videos=64)
    task = replace(annotation.recipe.task, model=Blocks(components=8))
    show(replace(annotation.recipe, task=task, feed=feed), (), Imagined(videos=1000))
    text = capsys.readouterr().out
    assert "IMAGINED, because no table is given: 1,000 videos of YouTube-8M's widths" in text
    assert "one of 3,862 labels each" in text
    # Projections, experts and biases of 3,862 classes padded to 4,096, and gates.
    parameters = 8 * (1024 + 128) + 4096 * (2 * 17 + 3 * 16)
    assert f"parameters: {parameters:,}" in text
    assert "in all" in text


def test_without_the_compiler_it_says_what_to_install(monkeypatch, capsys):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"pip install -e '.\[tpu\]'"):
        show(cdml, ("v5e:8x8",))
    assert capsys.readouterr().out == ""
