"""`python -m vidembed export`: a trained run as files that need none of this code."""

from typing import Annotated

import tyro

from vidembed.deploy.exporting import PLATFORMS, export
from vidembed.progress import Progress


def main(
    run: Annotated[str, tyro.conf.arg(metavar="RUN")],
    out: Annotated[str, tyro.conf.arg(metavar="OUT")],
    *,
    step: str = "best",
    onnx: bool = False,
) -> None:
    """A trained run as a program (model.stablehlo), weights (model.safetensors) and model.json.

    model.json says which features go in, how wide and of which space, what comes out, and how the
    program is called; `jax.export` runs it without vidembed. The program is tried before it is
    written. Needs the extra serve.

    Args:
        run: the work directory of a run, local or gs://.
        out: the folder to write, local or gs://.
        step: best (by the run's evaluations), latest, or a number.
        onnx: also as ONNX (model.onnx, weights inside); needs the extra onnx.
    """
    progress = Progress()
    with progress.stage(f"exporting {run}"):
        about = export(run, out, step, onnx=onnx)
    reads = ", ".join(f"{m} f32[{entry['width']}]" for m, entry in about["features"].items())
    size = about["vector"]["size"]
    progress.say(f"{out}: step {about['step']}, {reads} to f32[{size}], for {', '.join(PLATFORMS)}")
    if onnx:
        said = about["onnx"]
        progress.say(f"model.onnx: {', '.join(said['inputs'])} to vectors, opset {said['opset']}")
    progress.say(f"space: {about['space']}")
