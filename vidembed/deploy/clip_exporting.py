"""Export the encoder of a run on clips: a program from clips of frames to vectors and deviations.

The folder holds a description, too, by which `vidembed extract --backbones OUT` takes the encoder
as a backbone. See `deploy.exporting` for the other files.
"""

import os
from collections.abc import Collection
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import xxhash
from etils import epath
from jax import export as jax_export

from vidembed import files
from vidembed.deploy.clip_outputs import ClipOutputs
from vidembed.deploy.composite import rows_of
from vidembed.deploy.exporting import CLOSE, PLATFORMS, refuse_others
from vidembed.deploy.loading import load
from vidembed.records import safetensors
from vidembed.records.export_folder import (
    ABOUT,
    CLIPS,
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

BACKBONE = "clip.json"
"""The description of the backbone."""
CALL = (
    "jax.export.deserialize(bytearray(program)).call(weights, clips) -> {output: float32[N, size]};"
    " weights: name -> array, as in the safetensors; clips: uint8[N, frames, height, width, 3]"
)
PIXELS = "RGB bytes from 0 to 255: the program resizes and standardises them itself"
TRIED = 3
"""Random clips that test an export."""


def export_clips(
    path: str | os.PathLike[str],
    out: str | os.PathLike[str],
    step: str | int = "best",
    *,
    classes: Collection[type] = (),
) -> dict[str, Any]:
    """Write the encoder to a folder; return the contents of model.json.

    First, the program is compared with the model on random clips. Its outputs are those of clips:
    `clip`, the means, of length 1, and `clip_deviation`. path, step, classes: as for `load`. Raises
    ValueError for a run on windows of stored features, if `out` is an export or holds other files,
    and if the program differs from the model; ImportError if flatbuffers is missing.
    """
    check_apart(out, [path])
    needs_flatbuffers()
    folder = epath.Path(out)
    refuse_others(folder, BACKBONE)
    run = load(path, step, classes=classes)
    outputs = run.clips
    assert outputs is not None, "the run reads no clips"
    if not outputs.of_files:
        raise ValueError(
            f"{path} reads windows of stored features, which no backbone takes: embed videos with "
            "the run itself (vidembed embed)"
        )
    cut = outputs.cut
    clip = {"frames": cut.frames, "stride": cut.stride, "rate": cut.rate}
    clip |= {"height": cut.height, "width": cut.width, "fit": cut.fit}
    shape = (cut.frames, cut.height, cut.width, 3)
    weights, program = outputs.program()
    (number,) = jax_export.symbolic_shape("clips")
    shapes = (
        {name: jax.ShapeDtypeStruct(a.shape, a.dtype) for name, a in weights.items()},
        jax.ShapeDtypeStruct((number, *shape), jnp.uint8),
    )
    content = bytes(jax_export.export(jax.jit(program), platforms=PLATFORMS)(*shapes).serialize())
    _check_equal(Exported(content, weights), outputs, shape)
    first = outputs.of_clips[0]
    stored = {PROGRAM: content, WEIGHTS: safetensors.to_bytes(weights, {"space": run.space})}
    about = {
        "kind": KIND,
        "version": VERSION,
        "run": run.name,
        "step": run.step,
        "output": first,
        "space": outputs.spaces[first],
        "rows": rows_of(path),
        "features": {},
        CLIPS: {**clip, "pixels": PIXELS},
        "vector": {"size": outputs.widths[first], "dtype": "float32"},
        "outputs": {name: outputs.widths[name] for name in outputs.of_clips},
        "call": CALL,
        "platforms": list(PLATFORMS),
        "files": {name: xxhash.xxh3_128_hexdigest(content) for name, content in stored.items()},
        "versions": versions(),
    }
    about["digest"] = digest_of(about)
    backbone = {
        "name": folder.name,
        "export": ".",
        "input": {"kind": "clip", **clip},
        "layout": "NTHWC",
        "output": first,
        "modality": first,
    }
    for name, content in stored.items():
        files.write_bytes(folder / name, content)
    files.write_json(folder / ABOUT, about)
    files.write_json(folder / BACKBONE, backbone)
    return about


def _check_equal(exported: Exported, outputs: ClipOutputs, shape: tuple[int, ...]) -> None:
    clips = np.random.default_rng(0).integers(0, 256, (TRIED, *shape)).astype(np.uint8)
    expected, made = outputs.of_single(clips), exported.run(clips)
    for name, vectors in expected.items():
        difference = float(np.abs(vectors - made[name]).max())
        if not difference <= CLOSE:
            raise ValueError(
                f"the exported program differs from the run by {difference:.2g} in {name}: nothing "
                "was written; please report it with the recipe"
            )
