"""The estimated rounding error of a dtype, against rounding all rows and measuring."""

import ml_dtypes
import numpy as np
import pytest

from vidembed.records.bytecode import dequantise, quantise
from vidembed.records.checks import ModalityChecks
from vidembed.records.importing import Importing, RefusedError, import_videos
from vidembed.records.inspecting import inspect
from vidembed.records.rounding import Rounding
from vidembed.records.table import FeatureTable
from vidembed.records.writer import write_videos

RNG = np.random.default_rng(0)
SPREAD = RNG.uniform(-1.5, 1.5, (300, 16)).astype(np.float32)


WIDE = RNG.uniform(-1.5, 1.5, (400, 1)).astype(np.float32)


def unit(width, length=1.0):
    """400 vectors of equal length, in clusters."""
    rows = RNG.normal(size=(40, width))[RNG.integers(0, 40, 400)] + RNG.normal(size=(400, width))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True) * length).astype(np.float32)


def measured(rows, dtype):
    stored = dequantise(quantise(rows)) if dtype == "uint8" else rows.astype(ml_dtypes.bfloat16)
    wrong = np.square(stored.astype(np.float64) - rows).mean()
    return np.sqrt(wrong / rows.astype(np.float64).var(0).mean())


@pytest.mark.fault(
    "Records: features that a dtype rounds by much of their spread, or makes identical",
)
@pytest.mark.parametrize("rows", [SPREAD, unit(64), unit(512), SPREAD / 40 + 1], ids=range(4))
@pytest.mark.parametrize("dtype", ["uint8", "bfloat16"])
def test_the_share_is_what_rounding_all_gives(rows, dtype):
    seen = Rounding(rows.shape[1])
    for start in range(0, len(rows), 37):
        seen.add(rows[start : start + 37])
    assert seen.share(dtype) == pytest.approx(measured(rows, dtype), rel=0.05)
    assert seen.share("float32") == 0
    many = Rounding(rows.shape[1])
    for _ in range(50):  # only a few hundred of these rows are sampled
        many.add(rows)
    assert many.share(dtype) == pytest.approx(measured(rows, dtype), rel=0.1)


def test_a_dtype_that_clips_is_not_proposed():
    for factor, fitting in ((1, "uint8"), (2, "bfloat16")):
        seen = ModalityChecks(16)
        seen.add(SPREAD * factor, np.ones(300, bool), np.full(300, b"v"))
        assert seen.fitting == fitting


def test_features_all_alike_and_none_are_rounded_by_nothing():
    seen = Rounding(3)
    assert (seen.share("uint8"), seen.coarse("uint8"), seen.fitting()) == (0, 0, "uint8")
    seen.add(np.full((5, 3), 0.123, np.float32))
    assert seen.alike
    assert (seen.share("uint8"), seen.coarse("uint8"), seen.fitting()) == (0, 0, "uint8")


@pytest.mark.fault(
    "Records: features that a dtype rounds by much of their spread, or makes identical",
    "above 3 % a warning, above 10 % 1: the share, and a dtype that preserves them",
)
@pytest.mark.parametrize(
    ("rows", "refused", "fitting"),
    [
        (SPREAD, False, "uint8"),
        (unit(128), False, "bfloat16"),  # warned of
        (unit(2048), True, "bfloat16"),
        (unit(8, 1e-3), True, "bfloat16"),
        (unit(8, 1e-3) + np.float32(1), True, "float32"),
        # One wide dimension does not hide narrow ones.
        (np.hstack([unit(8, 1e-3), WIDE]), True, "bfloat16"),
    ],
    ids=["spread", "unit 128", "unit 2048", "small", "small beside 1", "narrow"],
)  # fmt: skip
def test_an_import_refuses_warns_and_proposes(tmp_path, rows, refused, fitting):
    path, width = tmp_path / "a.tfrecord", rows.shape[1]
    write_videos(path, [f"v{i}" for i in range(len(rows))], {"v": rows})
    options = {"modalities": (f"v:v:{width}",), "labels_key": ""}
    command = inspect(path).command
    assert command.endswith(f"--dtype {fitting}") == (fitting != "uint8")
    if refused:
        with pytest.raises(RefusedError, match=rf"of their spread.*\(--dtype {fitting}\)"):
            import_videos(path, tmp_path / "t", Importing(**options))
    accepted = Importing(**options, max_rounding=99.0) if refused else Importing(**options)
    if not refused:
        report = import_videos(path, tmp_path / "t", accepted)
        assert len(report["warnings"]) == (fitting != "uint8")
    report = import_videos(path, tmp_path / "b", Importing(**options, dtype=fitting))
    assert report["warnings"] == []
    assert len(FeatureTable.open(tmp_path / "b")) == len(rows)
