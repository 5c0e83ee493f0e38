"""The table of SCALE.md, without a compiler."""

from dataclasses import asdict, replace
from types import SimpleNamespace

import jax
import pytest

from experiments import scale
from experiments.scale_cases import cases
from tests.cli.test_arguments import given
from vidembed.engine.compiled_cost import StepCost
from vidembed.engine.compiled_text import Collective


@pytest.fixture
def compiled(monkeypatch):
    """The (batch, devices) of each step that was compiled."""
    steps = []

    def cost(recipe, arguments, mesh):
        steps.append((recipe.feed.examples, mesh.size))
        features = Collective(
            kind="all-to-all", operands="u8[4,25,1024]", put=1_024_000, devices=4,
            times=1, asynchronous=True,
        )  # fmt: skip
        return StepCost(
            mesh={"data": mesh.size, "model": 1}, device_kind="TPU v5 lite",
            examples=recipe.feed.examples, arguments={"state": 8e7, "constants": 1.44e8},
            temporaries=27e6, operations=11.8e9, products={"bfloat16": 197e9}, traffic=819e6,
            collectives=(features, features, replace(features, kind="all-gather")),
            unknown_loops=0, compile_seconds=70.4,
        )  # fmt: skip

    monkeypatch.setattr(scale, "step_cost", cost)
    monkeypatch.setattr(scale, "step_arguments", lambda *_: None)
    monkeypatch.setattr(scale, "known_data", lambda *_: SimpleNamespace(data=None))
    monkeypatch.setattr(scale, "slice_devices", lambda name: jax.devices()[: int(name[-1])])
    return steps


def test_rows_are_compiled_once_and_read_again(compiled, tmp_path, capsys):
    options = {"workdir": str(tmp_path), "recipes": ("cdml", "gcl")}
    assert scale.main(**options, slices=("v5e:1x7",)) == 0
    assert compiled == [(7203, 7), (28798, 7)]
    capsys.readouterr()
    assert scale.main(**options, slices=("v5e:1x7", "v5e:1x8")) == 0
    assert compiled[2:] == [(7200, 8), (28800, 8)]
    text = capsys.readouterr().out
    assert "## cdml, float32" in text
    assert "nothing here was run on a TPU" in text
    row = (
        "| v5e:1x8 | 7,200 | 70 s | 224 MB | 27 MB | 11.8 GFLOP | 819 MB | 6.14 MB | "
        "all-gather u8[4,25,1024]: 3.1 MB, asynchronous; "
        "all-to-all u8[4,25,1024] × 2: 1.5 MB, asynchronous | 1.00 | 1.00 | 0.02 |"
    )
    assert row in text.splitlines()


@pytest.mark.parametrize(
    ("case", "command", "preset"),
    [("jemc-sentences", "jemc", "recommended"), ("provico-clips", "provico", "clips")],
)
def test_variants_are_those_of_presets(case, command, preset, monkeypatch):
    words = ("--workdir", "w", "--preset", preset)
    made = given(f"train {command}", *words, monkeypatch=monkeypatch).recipe
    recipe = cases()[case].recipe
    assert asdict(recipe.task) == asdict(made.task)
    assert asdict(recipe.feed) == asdict(made.feed)


def test_other_names_are_refused(tmp_path, capsys):
    assert scale.main(workdir=str(tmp_path), recipes=("gmcl",)) == 2
    assert "choose from ['cdml'" in capsys.readouterr().err
