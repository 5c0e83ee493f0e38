"""An input whose files are named by what happens when they are decoded."""

import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vidembed.media.inputs import Block
from vidembed.media.videos import VideoFile


@dataclass(frozen=True)
class Told:
    """Yields a block f32[1, 3] of the length of the file's name, and then does what it says."""

    def blocks(self, path, trouble):
        name = os.path.basename(path)
        yield Block(np.zeros(1), np.full((1, 3), len(name), np.float32))
        if name == "hang":
            time.sleep(600)
        if name == "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        if name == "crash":
            os.kill(os.getpid(), signal.SIGSEGV)
        if name == "exit":
            os._exit(3)
        if name == "bug":
            raise KeyError("what")
        if name == "long":
            for number in range(1, 40):
                Path(path).write_text(str(number))
                yield Block(np.zeros(1), np.zeros((1, 100_000), np.float32))


def files(folder, *names):
    return [VideoFile(name, str(folder / name)) for name in names]
