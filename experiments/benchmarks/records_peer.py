"""The records benchmark's peer: tf.data on the same files, in an environment made for it.

TensorFlow is no dependency of this project, so it gets a virtual environment of its own, once, from
the package index: 300 MB to download and 1.5 GB on disk. Only where that was asked for.
"""

import json
import os
import subprocess
import sys
import venv
from pathlib import Path

ENVIRONMENT = Path("runs/benchmarks/tensorflow-env")
READER = Path(__file__).with_name("tensorflow_reader.py")
TENSORFLOW = "tensorflow-cpu>=2.20"


def environment(folder: Path = ENVIRONMENT) -> Path:
    """The Python of an environment with TensorFlow, which is made where it is not there yet."""
    python, made = folder / "bin" / "python", folder / "made"
    if not made.exists():
        print(f"making {folder} with {TENSORFLOW} (minutes)", file=sys.stderr)
        venv.create(folder, with_pip=True, clear=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", TENSORFLOW], check=True)
        made.touch()
    return python


def read(python: Path, level: str, paths: list[Path], *, repeats: int = 5) -> tuple[float, int]:
    """(best seconds of reading all files once by tf.data, records); on the caller's cores."""
    command: list[str | Path] = [python, READER, level, str(repeats), *paths]
    quiet = os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(command, env=quiet, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"tf.data failed on {len(paths)} files: {done.stderr[-1000:]}")
    found = json.loads(done.stdout.splitlines()[-1])
    return found["seconds"], found["records"]
