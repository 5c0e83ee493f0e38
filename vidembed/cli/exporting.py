"""`python -m vidembed export`: write a trained run as files that run without vidembed."""

from typing import Annotated

import tyro

from vidembed.deploy.clip_exporting import export_clips
from vidembed.deploy.exporting import PLATFORMS, export
from vidembed.deploy.loading import class_names, reads_clips
from vidembed.progress import Progress
from vidembed.records.export_folder import CLIPS


def main(
    run: Annotated[str, tyro.conf.arg(metavar="RUN")],
    out: Annotated[str, tyro.conf.arg(metavar="OUT")],
    *,
    step: str = "best",
    output: str = "",
    onnx: bool = False,
) -> None:
    """Export a run: a program (model.stablehlo), weights (model.safetensors) and model.json.

    model.json describes the input features with their widths and embedding space, the output, and
    how to call the program; `jax.export` runs it without vidembed. The program is tested before it
    is written. Needs the extra serve.

    Of a run on clips (provico) it is the encoder, from clips of frames to clip and clip_deviation,
    with clip.json beside it: OUT is then a folder of backbones for extract.

    Args:
        run: the work directory of a run, local or gs://.
        out: the folder to write, local or gs://.
        step: best (by the run's evaluations), latest, or a number.
        output: video (vectors) or labels (probabilities of an annotation run's classes, whose names
            are in model.json); by default labels if the run has them.
        onnx: also write ONNX (model.onnx, weights inside); needs the extra onnx.
    """
    progress = Progress()
    if reads_clips(run):
        if onnx or output:
            raise ValueError(
                "--onnx and --output are not for runs on clips, whose encoder is exported as it is"
            )
        with progress.stage(f"exporting {run}"):
            about = export_clips(run, out, step)
        taken = ", ".join(f"{name} {value}" for name, value in about[CLIPS].items())
        made = ", ".join(f"{name} f32[{size}]" for name, size in about["outputs"].items())
        progress.say(f"{out}: step {about['step']}, clips to {made}, for {', '.join(PLATFORMS)}")
        progress.say(f"clips: {taken}")
        progress.say(f"to extract features with it: --backbones {out}")
        progress.say(f"space: {about['space']}")
        return
    output = output or ("labels" if class_names(run) else "video")
    with progress.stage(f"exporting {run}"):
        about = export(run, out, step, output=output, onnx=onnx)
    reads = ", ".join(f"{m} f32[{entry['width']}]" for m, entry in about["features"].items())
    size = about["vector"]["size"]
    made = f"{reads} to {output} f32[{size}]"
    progress.say(f"{out}: step {about['step']}, {made}, for {', '.join(PLATFORMS)}")
    if onnx:
        entry = about["onnx"]
        progress.say(f"model.onnx: {', '.join(entry['inputs'])} to vectors, opset {entry['opset']}")
    progress.say(f"space: {about['space']}")
