"""Export a run to files that need none of this code: StableHLO, safetensors and explanatory JSON.

`model.stablehlo` is a `jax.export` artefact for any number of videos, on CPU, GPU and TPU. It takes
the weights as an argument, so they are stored once. `model.onnx` (optional) is the same program for
other runtimes, with the weights inside. `model.json` is written last: a folder without it is an
interrupted export.
"""

import os
from collections.abc import Callable, Collection
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import xxhash
from etils import epath
from jax import export as jax_export

from vidembed import files
from vidembed.deploy import onnx_program
from vidembed.deploy.composite import rows_of
from vidembed.deploy.loading import class_names
from vidembed.deploy.run import Run
from vidembed.deploy.traced import traced
from vidembed.records import safetensors
from vidembed.records.export_folder import (
    ABOUT,
    KIND,
    PROGRAM,
    VERSION,
    WEIGHTS,
    Exported,
    digest_of,
    needs_flatbuffers,
)
from vidembed.records.outputs import check_apart
from vidembed.workdir.versions import versions

ONNX = "model.onnx"
PLATFORMS = ("cpu", "cuda", "tpu")
CALL = (
    "jax.export.deserialize(bytearray(program)).call(weights, features, present) -> "
    "float32[N, size]; weights: name -> array, as in the safetensors; features: modality -> "
    "float32[N, width]; present: modality -> bool[N], false where a video lacks it (its features "
    "are then ignored)"
)
UINT8 = (
    "a byte b of a YouTube-8M record or a uint8 table stands for b * 4/255 + 4/512 - 2, "
    "unless the table gives a modality a range of its own"
)
TRIED, CLOSE = 5, 1e-4
"""Number of made-up videos that test an export, and the tolerance of their vectors."""


LABELS = "labels"
"""The output of an annotation run: probabilities instead of vectors."""


def export(
    path: str | os.PathLike[str],
    out: str | os.PathLike[str],
    step: str | int = "best",
    *,
    output: str = "video",
    onnx: bool = False,
    classes: Collection[type] = (),
) -> dict[str, Any]:
    """Write the run to a folder, local or gs://; return the contents of model.json.

    First, the program is compared with the model on made-up videos. path, step, output, classes: as
    for `load`. onnx: also write ONNX. Raises ValueError if `out` is already an export or holds
    other files, if a program's vectors differ from the model's, or if the network cannot be
    converted to ONNX; ImportError if flatbuffers, or the ONNX converter, is missing.
    """
    check_apart(out, [path])
    needs_flatbuffers()
    if onnx:
        onnx_program.check_installed()
    folder = epath.Path(out)
    refuse_others(folder)
    run, weights, program = traced(path, step, output, classes)
    (videos,) = jax_export.symbolic_shape("videos")
    shapes = (
        {name: jax.ShapeDtypeStruct(a.shape, a.dtype) for name, a in weights.items()},
        {m: jax.ShapeDtypeStruct((videos, w), jnp.float32) for m, w in run.widths.items()},
        {m: jax.ShapeDtypeStruct((videos,), jnp.bool_) for m in run.widths},
    )
    content = bytes(jax_export.export(jax.jit(program), platforms=PLATFORMS)(*shapes).serialize())
    unit = _check_equal(Exported(content, weights).vectors, run)
    stored = {PROGRAM: content, WEIGHTS: safetensors.to_bytes(weights, {"space": run.space})}
    if onnx:
        stored[ONNX] = onnx_program.to_onnx(partial(program, weights), run.widths)
        _check_equal(partial(onnx_program.run_onnx, stored[ONNX]), run)
    about = {
        "kind": KIND,
        "version": VERSION,
        "run": run.name,
        "step": run.step,
        "output": output,
        "space": run.space,
        "rows": rows_of(path),
        "features": {
            m: {"width": w, "dtype": "float32", "space": run.inputs.get(m)}
            for m, w in run.widths.items()
        },
        "imported": run.imported,
        "split": run.split,
        "normalisation": "features go in as they are: the program standardises them by the train "
        f"split's mean and deviation. {UINT8}",
        "vector": {"size": run.size, "dtype": "float32", "unit_length": unit},
        "call": CALL,
        "platforms": list(PLATFORMS),
        **({"labels": list(class_names(path))} if output == LABELS else {}),
        **({"onnx": onnx_program.described(run.widths, run.size)} if onnx else {}),
        "files": {name: xxhash.xxh3_128_hexdigest(content) for name, content in stored.items()},
        "versions": versions(),
    }
    about["digest"] = digest_of(about)
    for name, content in stored.items():
        files.write_bytes(folder / name, content)
    files.write_json(folder / ABOUT, about)
    return about


def refuse_others(folder: epath.Path, *ours: str) -> None:
    """Raise ValueError unless the folder is empty or holds an interrupted export. ours: names of
    further files of it."""
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"{folder} is a file: an export needs a folder, choose another")
    names = {path.name for path in folder.iterdir()} if folder.exists() else set()
    if ABOUT in names:
        raise ValueError(f"{folder} is an export already: choose another folder, or remove it")
    others = [name for name in sorted(names - {PROGRAM, WEIGHTS, ONNX, *ours}) if name[0] != "."]
    if others:
        raise ValueError(f"{folder} holds other files ({others[0]}): choose an empty folder")


def _check_equal(vectors: Callable[..., np.ndarray], run: Run) -> bool:
    """Compare `vectors(features, present)` with the run's vectors; return whether they have unit
    length. Raises ValueError if they differ."""
    rng = np.random.default_rng(0)
    features = {m: rng.normal(size=(TRIED, w)).astype(np.float32) for m, w in run.widths.items()}
    present = {m: np.arange(TRIED) != number for number, m in enumerate(run.widths)}
    if len(run.widths) == 1:
        present = {m: np.ones(TRIED, np.bool_) for m in run.widths}
    expected, exported = run.embed(features, present=present), vectors(features, present)
    if not np.allclose(expected, exported, atol=CLOSE):
        difference = np.abs(expected - exported).max()
        raise ValueError(
            f"the exported program differs from the run by {difference:.2g}: "
            "nothing was written; please report it with the recipe"
        )
    return bool(np.allclose(np.linalg.norm(expected, axis=1), 1, atol=1e-3))
