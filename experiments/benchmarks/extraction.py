"""How fast videos become features: `python -m experiments.benchmarks.extraction --backbones B`.

The limit is the sum of decoding and of the bare call of onnxruntime on as many frames and windows,
both by one process with one thread, in the same rounds. Extraction has one worker and one thread,
and its time is that of all its processes together (processor seconds), so that overlap is no gain.
Target: at most 1.5 times the limit, and at least 10 seconds of 320 x 240 video per processor second
with the default network for frames. Memory: the largest process, for short and for long files.
"""

import contextlib
import multiprocessing
import resource
import statistics
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import tyro

from experiments.benchmarks.bench import Row, in_rounds, measure, report
from vidembed.media.backbone import BATCH, Backbone
from vidembed.media.extracting import extract
from vidembed.media.feature_store import FeatureStore
from vidembed.media.layout import arranged
from vidembed.media.videos import VideoFile, video_files
from vidembed.progress import Progress

RATE, SOUND_RATE = 25, 44_100
"""Frames and samples per second of the videos that are made."""


def main(
    *,
    backbones: str,
    videos: str = "",
    count: int = 6,
    seconds: int = 60,
    height: int = 240,
    width: int = 320,
    rounds: int = 5,
) -> None:
    """Measure, print the table, write runs/benchmarks/extraction.json.

    Args:
        backbones: the folder that `vidembed extract --backbones` made.
        videos: a folder of videos; default: made ones.
        count: number of made videos.
        seconds: length of each.
        height: of the made videos, in pixels.
        width: of the made videos, in pixels.
        rounds: rounds of all cases.
    """
    every = [Backbone.open(path) for path in sorted(Path(backbones).glob("*.json"))]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for number in range(0 if videos else count):
            made_video(folder / f"made{number}.mp4", seconds, height, width, seed=number)
        files = video_files([videos or name])
        rows = []
        for chosen in (*([backbone] for backbone in every), *([every] if every[1:] else [])):
            rows += _rows(chosen, files, folder, rounds)
        for length in (seconds, 10 * seconds):
            path = made_video(folder / f"{length}.mp4", length, height, width, seed=99)
            rows.append(_memory(every, VideoFile(f"of {length} s", str(path)), folder, length))
    report("extraction", rows)


def _rows(
    backbones: list[Backbone], files: list[VideoFile], folder: Path, rounds: int
) -> list[Row]:
    """Extraction with these backbones against decoding and bare calls."""
    label = " + ".join(backbone.name for backbone in backbones)
    shapes = {}
    for backbone in backbones:
        blocks = [b for file in files for b in backbone.input.blocks(file.path, [])]
        shapes[backbone.name] = np.concatenate([block.values for block in blocks])
    length = sum(_seconds(file.path) for file in files)

    def decode() -> None:
        for file in files:
            for backbone in backbones:
                for _ in backbone.input.blocks(file.path, []):
                    pass

    runners = [(backbone.runner(threads=1), shapes[backbone.name]) for backbone in backbones]
    bare = [bare_call(backbone, shapes[backbone.name]) for backbone in backbones]
    turn = iter(range(10**6))

    def whole() -> None:
        place = folder / f"features{next(turn)}-{label}"
        stores = {b.name: FeatureStore(place, {"space": b.space}) for b in backbones}
        made = extract(
            files, {b.name: b for b in backbones}, stores, workers=1, threads=1,
            progress=Progress(quiet=True),
        )  # fmt: skip
        if made.failures:
            raise RuntimeError(f"{made.failures[0]}")

    used: dict[str, list[float]] = {"decode": [], "bare": [], "network": [], "whole": []}
    works = {
        "decode": _counted(decode, used["decode"]),
        "bare": _counted(lambda: [call() for call in bare], used["bare"]),
        "network": _counted(lambda: [run(values) for run, values in runners], used["network"]),
        "whole": _counted(whole, used["whole"]),
    }
    in_rounds(works, rounds=rounds)
    counted = {name: values[1:] for name, values in used.items()}  # the first round warms up
    ratios = [w / (d + b) for w, d, b in zip(*(counted[n] for n in ("whole", "decode", "bare")))]
    took = {name: statistics.median(values) for name, values in counted.items()}
    note = (
        f"ratio {min(ratios):.2f} to {max(ratios):.2f}; decoding {took['decode']:.2f} s, bare "
        f"{took['bare']:.2f} s, network {took['network']:.2f} s; "
        f"{length / took['whole']:.1f} x real time per processor"
    )
    limit = took["whole"] / statistics.median(ratios)
    return [Row(case=label, seconds=took["whole"], limit_seconds=limit, note=note)]


def _memory(backbones: list[Backbone], file: VideoFile, folder: Path, seconds: int) -> Row:
    """Bytes that extraction of one file adds here, and the size of its largest worker."""
    stores = {b.name: FeatureStore(folder / file.id, {"space": b.space}) for b in backbones}
    largest, over = 0, threading.Event()

    def watch() -> None:
        nonlocal largest
        while not over.wait(0.02):
            for child in multiprocessing.active_children():
                with contextlib.suppress(OSError, IndexError):
                    status = Path(f"/proc/{child.pid}/status").read_text()
                    largest = max(largest, 1024 * int(status.split("VmRSS:")[1].split()[0]))

    def work() -> None:
        extract(
            [file], {b.name: b for b in backbones}, stores, workers=1, threads=1,
            progress=Progress(quiet=True),
        )  # fmt: skip

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        took, added = measure(work, repeats=1)
    finally:
        over.set()
        watcher.join()
    note = f"added here {added / 1e6:.0f} MB; its worker had {largest / 1e6:.0f} MB"
    case = f"memory: a video of {seconds} s"
    return Row(case=case, seconds=took, limit_seconds=took, peak_bytes=added + largest, note=note)


def bare_call(backbone: Backbone, values: np.ndarray) -> Callable[[], object]:
    """A call of onnxruntime on prepared inputs of this number, batch by batch, on one thread."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(
        backbone.path, options, providers=["CPUExecutionProvider"]
    )
    given = arranged(
        values, backbone.layout, backbone.input, mean=backbone.mean, scale=backbone.scale,
        dtype="float32",
    )  # fmt: skip
    batches = [given[start : start + BATCH] for start in range(0, len(given), BATCH)]
    name = backbone.input_name
    return lambda: [session.run([backbone.output], {name: batch}) for batch in batches]


def made_video(path: Path, seconds: int, height: int, width: int, *, seed: int) -> Path:
    """A video of moving, textured patches with sound, as a camera's detail and motion cost."""
    random = np.random.default_rng(seed)
    texture = random.integers(0, 256, (height // 4, width // 4, 3), dtype=np.uint8)
    picture = texture.repeat(4, 0).repeat(4, 1)
    with av.open(str(path), "w") as out:
        stream = out.add_stream("libx264", rate=RATE, options={"crf": "28", "preset": "veryfast"})
        stream.height, stream.width, stream.pix_fmt = height, width, "yuv420p"
        audio = out.add_stream("aac", SOUND_RATE, layout="mono")
        for number in range(seconds * RATE):
            moved = np.roll(picture, (number, 2 * number), axis=(0, 1))
            out.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(moved))))
        out.mux(stream.encode())
        noise = random.normal(scale=0.1, size=(1, seconds * SOUND_RATE)).astype(np.float32)
        frame = av.AudioFrame.from_ndarray(noise, "fltp", "mono")
        frame.sample_rate = SOUND_RATE
        out.mux([*audio.encode(frame), *audio.encode()])
    return path


def _seconds(path: str) -> float:
    with av.open(path) as container:
        return float(container.duration or 0) / av.time_base


def _counted(work: Callable[[], object], used: list[float]) -> Callable[[], None]:
    """The work, which notes its processor seconds, those of ended child processes included."""

    def counted() -> None:
        before = _processor_seconds()
        work()
        used.append(_processor_seconds() - before)

    return counted


def _processor_seconds() -> float:
    own, children = (
        resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    )
    return own.ru_utime + own.ru_stime + children.ru_utime + children.ru_stime


if __name__ == "__main__":
    tyro.cli(main)
